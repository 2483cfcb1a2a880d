//! Intents: which attributes of which accounts a delivery is about to change, stored before its first call.
//!
//! Owns: the table `intent`. Must not know: how changes are grouped into deliveries.
//!
//! The transaction that records the outcomes deletes the intent. An intent that remains belongs to a process that was
//! killed, or to a commit whose answer was lost: its attributes become unknown.

use std::collections::HashMap;
use std::time::Duration;

use sqlx::postgres::PgRow;
use sqlx::{PgTransaction, Row as _};

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

impl StateWriter {
    /// Stores the intent of a delivery in one statement, which is committed when this returns. Returns its id.
    pub async fn store_intent(&self, changes: &[&Change]) -> Result<i64, StateError> {
        let accounts: Vec<&str> = changes.iter().map(|change| change.account.as_str()).collect();
        let sets: Vec<i64> =
            changes.iter().map(|change| mask_of(change.set.iter().map(|(attribute, _)| *attribute))).collect();
        let removals: Vec<i64> = changes.iter().map(|change| mask_of(change.remove.iter().copied())).collect();
        sqlx::query_scalar(
            "WITH lease AS (SELECT id FROM sync WHERE id = $1 AND lease_epoch = $2 FOR SHARE) \
             INSERT INTO intent (sync_id, accounts, set_attributes, remove_attributes) SELECT id, $3, $4, $5 FROM lease RETURNING id",
        )
        .bind(self.sync_id())
        .bind(self.epoch())
        .bind(&accounts)
        .bind(&sets)
        .bind(&removals)
        .fetch_optional(self.pool())
        .await?
        .ok_or(StateError::LeaseLost)
    }

    /// Deletes every intent except the `live` ones and marks its attributes as unknown. Returns how many accounts that
    /// concerns.
    ///
    /// `late_write` is the time for which the calls of an abandoned delivery may still be applied by IM.
    pub async fn mark_abandoned_intents_unknown(&self, live: &[i64], late_write: Duration) -> Result<u64, StateError> {
        // Without this query, every idle poll would begin a transaction that locks the row of the sync.
        let abandoned: bool =
            sqlx::query_scalar("SELECT EXISTS (SELECT FROM intent WHERE sync_id = $1 AND id <> ALL ($2))")
                .bind(self.sync_id())
                .bind(live)
                .fetch_one(self.pool())
                .await?;
        if !abandoned {
            return Ok(0);
        }
        let mut touched: u64 = 0;
        let mut transaction = self.begin().await?;
        let intents = sqlx::query(
            "DELETE FROM intent WHERE sync_id = $1 AND id <> ALL ($2) RETURNING accounts, set_attributes, remove_attributes",
        )
        .bind(self.sync_id())
        .bind(live)
        .fetch_all(&mut *transaction)
        .await?;
        for intent in &intents {
            touched += self.mark_intent_unknown(&mut transaction, intent, late_write).await?;
        }
        crash::point("intents: resolved, not committed");
        transaction.commit().await?;
        crash::point("intents: resolved");
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
