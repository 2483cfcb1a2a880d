//! Intents: what is about to be sent, stored before the first call, so that a killed process leaves doubts and no lies.
//!
//! Owns: the table `intent`. Must not know: how deliveries are batched.

use std::collections::HashMap;
use std::time::Duration;

use sqlx::Row as _;

use super::account::{AccountRecord, RetryDue};
use super::record::write_accounts;
use super::{StateError, StateWriter};
use crate::crash;
use crate::model::{Account, AcknowledgedValue, AttributeIndex, Change};

/// Slots that fit the bit masks of an intent (a bigint without its sign).
pub const MAX_ATTRIBUTE_NAMES: usize = 63;

fn mask(attributes: impl Iterator<Item = AttributeIndex>) -> i64 {
    attributes.fold(0, |mask, attribute| mask | (1 << attribute.0))
}

fn attributes(mask: i64) -> impl Iterator<Item = usize> {
    (0..MAX_ATTRIBUTE_NAMES).filter(move |attribute| mask & (1 << attribute) != 0)
}

impl StateWriter {
    /// Stores what a delivery is about to send. One statement, committed when it returns.
    pub async fn store_intent(&self, changes: &[&Change]) -> Result<i64, StateError> {
        let accounts: Vec<&str> = changes.iter().map(|change| change.account.as_str()).collect();
        let sets: Vec<i64> =
            changes.iter().map(|change| mask(change.set.iter().map(|(attribute, _)| *attribute))).collect();
        let removals: Vec<i64> = changes.iter().map(|change| mask(change.remove.iter().copied())).collect();
        sqlx::query_scalar(
            "WITH lease AS (SELECT id FROM sync WHERE id = $1 AND epoch = $2 FOR SHARE) \
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

    /// Turns intents that nobody will answer any more (all but the `live` ones) into unknowns. `late_write`: so long their
    /// calls may still land. Returns the accounts touched.
    pub async fn settle_intents(&self, live: &[i64], late_write: Duration) -> Result<u64, StateError> {
        // A poll that finds nothing must cost nothing: look before a transaction is begun.
        let left: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM intent WHERE sync_id = $1 AND id <> ALL ($2))")
            .bind(self.sync_id())
            .bind(live)
            .fetch_one(self.pool())
            .await?;
        if !left {
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
        for intent in intents {
            let accounts: Vec<String> = intent.try_get("accounts")?;
            let sets: Vec<i64> = intent.try_get("set_attributes")?;
            let removals: Vec<i64> = intent.try_get("remove_attributes")?;
            let accounts: Vec<Account> = accounts.into_iter().map(Account::new).collect();
            let mut stored: HashMap<Account, Vec<AcknowledgedValue>> =
                super::account::read_accounts(&mut transaction, self.sync_id(), self.generation(), &accounts).await?;
            let records: Vec<AccountRecord> = accounts
                .into_iter()
                .zip(sets.into_iter().zip(removals))
                .map(|(account, (set, remove))| {
                    let before = stored.remove(&account);
                    let exists = before.is_some();
                    let mut acknowledged = before.unwrap_or_default();
                    for attribute in attributes(set | remove) {
                        if acknowledged.len() <= attribute {
                            acknowledged.resize(attribute + 1, AcknowledgedValue::Absent);
                        }
                        acknowledged[attribute] = AcknowledgedValue::Unknown;
                    }
                    AccountRecord { account, exists, acknowledged, due: RetryDue::Now, late_write: Some(late_write) }
                })
                .collect();
            touched += records.len() as u64;
            write_accounts(&mut transaction, self, &records).await?;
        }
        crash::point("intents: settled, not committed");
        transaction.commit().await?;
        crash::point("intents: settled");
        Ok(touched)
    }
}
