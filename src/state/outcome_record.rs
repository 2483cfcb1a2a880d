//! The transaction that records the outcomes of a delivery: accounts, rejections, owed removals, the history and the end of
//! its intent together.
//!
//! Owns: [`OutcomeRecord`] and its transaction. Must not know: how an outcome came about.

use std::time::Duration;

use super::account::AccountRecord;
use super::account_write::write_accounts;
use super::error::StateError;
use super::history::{HistoryRecord, write_history};
pub use super::intent::IntentUpdate;
use super::intent::update_intent;
use super::owed_removal::delete_owed_removals;
use super::rejection::{NewRejection, delete_rejections, upsert_rejections};
use super::writer::StateWriter;
use crate::crash;
use crate::model::Account;

/// How often a transaction is repeated that the server rolled back because of a deadlock.
const REPEATS: usize = 3;

/// What one transaction records.
#[derive(Debug, Default)]
pub struct OutcomeRecord {
    /// What becomes of the intent whose outcomes these are; `None` when nothing was sent.
    pub intent: Option<IntentUpdate>,
    /// Rows of `account` to write.
    pub accounts: Vec<AccountRecord>,
    /// Rejections to add or to repeat.
    pub rejected: Vec<NewRejection>,
    /// Rejections to delete: account and attribute name, `None` for the whole account.
    pub resolved: Vec<(Account, Option<String>)>,
    /// Accounts whose removal was sent: none is owed any more.
    pub removal_sent: Vec<Account>,
    /// What was sent, for the history; `None` when no history is kept.
    pub history: Option<HistoryRecord>,
}

impl OutcomeRecord {
    /// Whether there is nothing to record.
    pub fn is_empty(&self) -> bool {
        self.intent.is_none()
            && self.accounts.is_empty()
            && self.rejected.is_empty()
            && self.resolved.is_empty()
            && self.removal_sent.is_empty()
            && self.history.as_ref().is_none_or(|history| history.rows.is_empty())
    }
}

impl StateWriter {
    /// Records in one transaction. `retry_after` is the delay before the first retry of a rejection
    /// (`schedule.rejected_retry`).
    ///
    /// A deadlock is possible because `imsync rejected retry` writes without the lease. The transaction is then
    /// repeated.
    ///
    /// # Errors
    ///
    /// [`StateError::LeaseLost`] when another process has taken the lease; nothing is recorded then.
    pub async fn record(&self, record: &OutcomeRecord, retry_after: Duration) -> Result<(), StateError> {
        for _ in 0..REPEATS {
            match self.try_record(record, retry_after).await {
                Err(StateError::Contended(_)) => {}
                done => return done,
            }
        }
        self.try_record(record, retry_after).await
    }

    async fn try_record(&self, record: &OutcomeRecord, retry_after: Duration) -> Result<(), StateError> {
        let OutcomeRecord { intent, accounts, rejected, resolved, removal_sent, history } = record;
        let mut transaction = self.begin().await?;
        write_accounts(&mut transaction, self, accounts).await?;
        delete_rejections(&mut transaction, self.sync_id(), resolved).await?;
        upsert_rejections(&mut transaction, self.sync_id(), rejected, retry_after).await?;
        delete_owed_removals(&mut transaction, self.sync_id(), removal_sent).await?;
        if let Some(history) = history {
            write_history(&mut transaction, self, history).await?;
        }
        if let Some(intent) = intent {
            update_intent(&mut transaction, intent).await?;
        }
        crash::point("record: not committed");
        transaction.commit().await?;
        crash::point("record: committed");
        let replaced = accounts.iter().filter(|record| record.exists).count();
        self.dead_rows().add(replaced as u64, self.pool());
        Ok(())
    }
}
