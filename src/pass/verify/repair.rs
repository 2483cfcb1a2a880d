//! Sends what the table says to accounts that a verification found to differ.
//!
//! Owns: how the state is told that IM does not hold what it acknowledged. Must not know: how differences are found, how they
//! are sent.
//!
//! The attributes become unknown first, which is true whatever IM holds; then a pass over these accounts sends them. A
//! process that is killed in between leaves accounts in doubt, which the next pass sends.

use std::sync::Arc;

use super::report::{StoredVerification, VerifyReport};
use crate::model::{Account, AcknowledgedValue};
use crate::pass::engine::Engine;
use crate::pass::error::PassError;
use crate::pass::full_pass_schedule::FullOptions;
use crate::pass::progress::PassProgress;
use crate::pass::report::PassReport;
use crate::state::account::{AccountRecord, RetryDue, StoredAccount};
use crate::state::outcome_record::OutcomeRecord;

/// Accounts of one transaction.
const AT_ONCE: usize = 1_000;

impl Engine {
    /// Sends what the table says for the accounts of this report that differ.
    pub async fn repair(
        &mut self,
        report: &VerifyReport,
        progress: Arc<PassProgress>,
    ) -> Result<(PassReport, Option<PassError>), PassError> {
        for part in report.to_repair.chunks(AT_ONCE) {
            self.make_unknown(part).await?;
        }
        let accounts: Vec<Account> = report.to_repair.iter().map(|(account, _)| account.clone()).collect();
        Ok(self.selected(&accounts, FullOptions::default(), progress).await)
    }

    /// Makes these attributes of the accounts unknown.
    async fn make_unknown(&self, accounts: &[(Account, Vec<String>)]) -> Result<(), PassError> {
        let texts: Vec<&str> = accounts.iter().map(|(account, _)| account.as_str()).collect();
        let (sync_id, generation) = (self.writer.sync_id(), self.writer.generation());
        let stored = self.state.stored_accounts(sync_id, generation, &texts, &vec![None; texts.len()]).await?;
        let mut record = OutcomeRecord::default();
        for ((account, names), stored) in accounts.iter().zip(stored) {
            let exists = stored.is_some();
            let (mut acknowledged, late_write) = match stored {
                Some(StoredAccount::Acknowledged { known, late_write, .. }) => (known, late_write),
                Some(StoredAccount::UpToDate) | None => (Vec::new(), None),
            };
            for name in names {
                let Some(index) = self.writer.names().iter().position(|known| **known == **name) else { continue };
                if acknowledged.len() <= index {
                    acknowledged.resize(index + 1, AcknowledgedValue::Absent);
                }
                acknowledged[index] = AcknowledgedValue::Unknown;
            }
            let account = account.clone();
            record.accounts.push(AccountRecord { account, exists, acknowledged, due: RetryDue::Now, late_write });
        }
        self.writer.record(&record, self.config.schedule.rejected_retry).await?;
        Ok(())
    }

    /// Stores the result of a verification. `after`: the accounts that differed, compared again after they were repaired.
    pub async fn save_verification(
        &self,
        report: &VerifyReport,
        is_sample: bool,
        after: Option<&VerifyReport>,
    ) -> Result<StoredVerification, PassError> {
        let stored = report.stored(is_sample, after);
        self.metrics.drifted_accounts.set(stored.drifted_now());
        self.writer.save_verification(&serde_json::to_value(&stored).unwrap_or_default()).await?;
        Ok(stored)
    }
}
