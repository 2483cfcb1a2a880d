//! Intents: which attributes of which accounts a delivery is about to change, stored before its first call.
//!
//! Owns: the table `intent`. Must not know: how changes are grouped into deliveries.
//!
//! The transaction that records the outcomes deletes the intent. An intent that remains belongs to a process that was
//! killed, or to a commit whose answer was lost: its attributes become unknown.

use std::collections::HashMap;
use std::time::Duration;

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, PgTransaction, Row as _};

use super::account::{AccountRecord, RetryDue, read_accounts};
use super::account_write::write_accounts;
use super::attribute_names::MAX_ATTRIBUTE_NAMES;
use super::error::StateError;
use super::writer::StateWriter;
use crate::crash;
use crate::model::{Account, AcknowledgedValue, AttributeIndex, Change};

fn mask_of(attributes: impl Iterator<Item = AttributeIndex>) -> i64 {
    attributes.fold(0, |mask, attribute| mask | (1 << attribute.0))
}

fn attributes_in(mask: i64) -> impl Iterator<Item = usize> {
    (0..MAX_ATTRIBUTE_NAMES).filter(move |attribute| mask & (1 << attribute) != 0)
}

/// Changes as the columns of an intent.
#[derive(Debug, Default)]
pub(super) struct IntentColumns<'a> {
    pub(super) accounts: Vec<&'a str>,
    pub(super) sets: Vec<i64>,
    pub(super) removals: Vec<i64>,
}

impl<'a> IntentColumns<'a> {
    /// `removes`: the attributes of the change that are removed.
    pub(super) fn push(&mut self, change: &'a Change, removes: impl Iterator<Item = AttributeIndex>) {
        let (set, remove) = (mask_of(change.set.iter().map(|(attribute, _)| *attribute)), mask_of(removes));
        if set | remove != 0 {
            self.accounts.push(change.account.as_str());
            self.sets.push(set);
            self.removals.push(remove);
        }
    }
}

/// Stores an intent in a transaction. Returns its id; `None` when there is nothing to send.
pub(super) async fn insert_intent(
    connection: &mut PgConnection,
    sync_id: i32,
    columns: &IntentColumns<'_>,
) -> Result<Option<i64>, StateError> {
    if columns.accounts.is_empty() {
        return Ok(None);
    }
    let id = sqlx::query_scalar(
        "INSERT INTO intent (sync_id, accounts, set_attributes, remove_attributes) VALUES ($1, $2, $3, $4) RETURNING id",
    )
    .bind(sync_id)
    .bind(&columns.accounts)
    .bind(&columns.sets)
    .bind(&columns.removals)
    .fetch_one(connection)
    .await?;
    Ok(Some(id))
}

/// The columns of an intent after some of its accounts were recorded.
#[derive(Debug)]
struct IntentLeft {
    accounts: Vec<String>,
    sets: Vec<i64>,
    removals: Vec<i64>,
}

/// What becomes of an intent in the transaction that records outcomes.
#[derive(Debug)]
pub struct IntentUpdate {
    id: i64,
    /// What has no outcome yet; `None` if everything has one.
    left: Option<IntentLeft>,
}

impl IntentUpdate {
    /// Every change of the intent has an outcome: the intent is deleted.
    pub fn delete(id: i64) -> Self {
        Self { id, left: None }
    }

    /// Only these changes have no outcome yet.
    pub fn shrink_to<'a>(id: i64, left: impl Iterator<Item = &'a Change>) -> Self {
        let mut columns = IntentColumns::default();
        for change in left {
            columns.push(change, change.remove.iter().copied());
        }
        let accounts = columns.accounts.into_iter().map(str::to_owned).collect();
        Self { id, left: Some(IntentLeft { accounts, sets: columns.sets, removals: columns.removals }) }
    }
}

/// Deletes or shrinks an intent within a transaction of the writer.
pub(super) async fn update_intent(connection: &mut PgConnection, update: &IntentUpdate) -> Result<(), StateError> {
    let done = match &update.left {
        None => sqlx::query("DELETE FROM intent WHERE id = $1").bind(update.id).execute(connection).await?,
        Some(IntentLeft { accounts, sets, removals }) => {
            let sql = "UPDATE intent SET accounts = $2, set_attributes = $3, remove_attributes = $4 WHERE id = $1";
            let query = sqlx::query(sql).bind(update.id).bind(accounts).bind(sets).bind(removals);
            query.execute(connection).await?
        }
    };
    StateWriter::expect_one(done.rows_affected())
}

impl StateWriter {
    /// Stores an intent in one statement, which is committed when this returns. Returns its id; `None` when another
    /// process has the lease, or when the other syncs are not those of this version any more.
    pub(super) async fn insert_intent_alone(
        &self,
        columns: &IntentColumns<'_>,
        other_syncs_version: i64,
    ) -> Result<Option<i64>, StateError> {
        // FOR SHARE waits for a transaction that increments the version, and compares the version that it left.
        let query = sqlx::query_scalar(
            "WITH lease AS (SELECT id FROM sync WHERE id = $1 AND lease_epoch = $5 AND other_syncs_version = $6 FOR SHARE) \
             INSERT INTO intent (sync_id, accounts, set_attributes, remove_attributes) SELECT id, $2, $3, $4 FROM lease RETURNING id",
        )
        .bind(self.sync_id())
        .bind(&columns.accounts)
        .bind(&columns.sets)
        .bind(&columns.removals);
        Ok(query.bind(self.epoch()).bind(other_syncs_version).fetch_optional(self.pool()).await?)
    }

    /// Deletes every intent except the `live` ones and marks its attributes as unknown. Returns how many accounts that
    /// concerns.
    ///
    /// `late_write` is the time for which the calls of an abandoned delivery may still be applied by IM.
    pub async fn mark_abandoned_intents_unknown(&self, live: &[i64], late_write: Duration) -> Result<u64, StateError> {
        let mut transaction = self.begin().await?;
        let touched = self.mark_intents_unknown(&mut transaction, live, late_write).await?;
        crash::point("intents: resolved, not committed");
        transaction.commit().await?;
        crash::point("intents: resolved");
        Ok(touched)
    }

    /// [`StateWriter::mark_abandoned_intents_unknown`] within a transaction of this writer.
    pub(super) async fn mark_intents_unknown(
        &self,
        transaction: &mut PgTransaction<'static>,
        live: &[i64],
        late_write: Duration,
    ) -> Result<u64, StateError> {
        let mut touched: u64 = 0;
        let intents = sqlx::query(
            "DELETE FROM intent WHERE sync_id = $1 AND id <> ALL ($2) RETURNING accounts, set_attributes, remove_attributes",
        )
        .bind(self.sync_id())
        .bind(live)
        .fetch_all(&mut **transaction)
        .await?;
        for intent in &intents {
            touched += self.mark_intent_unknown(transaction, intent, late_write).await?;
        }
        Ok(touched)
    }

    async fn mark_intent_unknown(
        &self,
        transaction: &mut PgTransaction<'static>,
        intent: &PgRow,
        late_write: Duration,
    ) -> Result<u64, StateError> {
        let accounts: Vec<String> = intent.try_get("accounts")?;
        let sets: Vec<i64> = intent.try_get("set_attributes")?;
        let removals: Vec<i64> = intent.try_get("remove_attributes")?;
        let accounts: Vec<Account> = accounts.into_iter().map(Account::new).collect();
        let mut stored: HashMap<Account, Vec<AcknowledgedValue>> =
            read_accounts(transaction, self.sync_id(), self.generation(), &accounts).await?;
        let records: Vec<AccountRecord> = accounts
            .into_iter()
            .zip(sets.into_iter().zip(removals))
            .map(|(account, (set, remove))| {
                let before = stored.remove(&account);
                let exists = before.is_some();
                let acknowledged = with_unknown(before.unwrap_or_default(), set | remove);
                AccountRecord { account, exists, acknowledged, due: RetryDue::Now, late_write: Some(late_write) }
            })
            .collect();
        write_accounts(transaction, self, &records).await?;
        Ok(records.len() as u64)
    }
}

fn with_unknown(mut acknowledged: Vec<AcknowledgedValue>, mask: i64) -> Vec<AcknowledgedValue> {
    for attribute in attributes_in(mask) {
        if acknowledged.len() <= attribute {
            acknowledged.resize(attribute + 1, AcknowledgedValue::Absent);
        }
        acknowledged[attribute] = AcknowledgedValue::Unknown;
    }
    acknowledged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_holds_every_possible_attribute() {
        let all: Vec<usize> = (0..MAX_ATTRIBUTE_NAMES).collect();
        let mask = mask_of(all.iter().map(|index| AttributeIndex(u16::try_from(*index).expect("63 fits"))));
        assert_eq!(mask, i64::MAX);
        assert_eq!(attributes_in(mask).collect::<Vec<_>>(), all);
        assert_eq!(attributes_in(0b101).collect::<Vec<_>>(), [0, 2]);
    }

    #[test]
    fn only_the_attributes_of_the_mask_become_unknown() {
        let known = vec![AcknowledgedValue::Value("a".into())];
        assert_eq!(
            with_unknown(known, 0b100),
            [AcknowledgedValue::Value("a".into()), AcknowledgedValue::Absent, AcknowledgedValue::Unknown]
        );
    }
}
