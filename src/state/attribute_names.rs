//! The attribute names of a sync: a list that only grows. Stored values refer to positions in it.
//!
//! Owns: `sync.attribute_names` and its limit. Must not know: the mapping.

use std::sync::Arc;

use super::error::StateError;
use super::other_syncs::{announce_to_other_syncs, lock_announcements};
use super::writer::StateWriter;
use crate::crash;
use crate::model::AttributeIndex;

/// The most names that a sync can use over time: the bits of an intent's mask (a bigint without its sign).
pub const MAX_ATTRIBUTE_NAMES: usize = 63;

/// Appends the `wanted` names that are not in the list yet. Returns the new list and the index of each wanted name.
pub fn append_names(known: &[Arc<str>], wanted: &[Arc<str>]) -> (Vec<Arc<str>>, Vec<AttributeIndex>) {
    let mut names = known.to_vec();
    let mut indexes = Vec::with_capacity(wanted.len());
    for name in wanted {
        let index = names.iter().position(|known| known == name).unwrap_or_else(|| {
            names.push(name.clone());
            names.len() - 1
        });
        indexes.push(AttributeIndex(u16::try_from(index).unwrap_or(u16::MAX)));
    }
    (names, indexes)
}

impl StateWriter {
    /// The index of each `wanted` name. New names are appended to the stored list.
    ///
    /// # Errors
    ///
    /// [`StateError::Unsuitable`] when the list would exceed [`MAX_ATTRIBUTE_NAMES`].
    pub async fn assign_attribute_indexes(&mut self, wanted: &[Arc<str>]) -> Result<Vec<AttributeIndex>, StateError> {
        let (names, indexes) = append_names(self.names(), wanted);
        if names.len() > MAX_ATTRIBUTE_NAMES {
            return Err(StateError::Unsuitable(format!(
                "this sync has used {} attribute names over time, at most {MAX_ATTRIBUTE_NAMES} are possible; choose another `name` to start a new sync",
                names.len(),
            )));
        }
        if names.len() > self.names().len() {
            let texts: Vec<&str> = names.iter().map(|name| &**name).collect();
            let mut transaction = self.pool().begin().await?;
            lock_announcements(&mut transaction).await?;
            let done = sqlx::query("UPDATE sync SET attribute_names = $3 WHERE id = $1 AND lease_epoch = $2")
                .bind(self.sync_id())
                .bind(self.epoch())
                .bind(&texts)
                .execute(&mut *transaction)
                .await?;
            Self::expect_one(done.rows_affected())?;
            announce_to_other_syncs(&mut transaction, self.sync_id()).await?;
            transaction.commit().await?;
            crash::point("start: the attribute names are stored");
            self.set_names(names.into());
        }
        Ok(indexes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_names_are_appended_and_known_ones_stay() {
        let list = |names: &[&str]| names.iter().map(|name| Arc::from(*name)).collect::<Vec<Arc<str>>>();
        let (names, indexes) = append_names(&list(&["city", "sex"]), &list(&["plan", "city", "plan"]));
        assert_eq!(names, list(&["city", "sex", "plan"]));
        assert_eq!(indexes, [AttributeIndex(2), AttributeIndex(0), AttributeIndex(2)]);
    }
}
