//! Forgets one account: removes from IM what imsync has set, then every trace from the state.
//!
//! Owns: the order of both, and when the second is allowed. Must not know: how removals are sent, which tables name an account.

use std::sync::Arc;
use std::time::Duration;

use super::engine::Engine;
use super::error::PassError;
use super::full_pass_schedule::FullOptions;
use super::progress::PassProgress;
use super::report::PassReport;
use crate::model::{Account, AcknowledgedValue};
use crate::push::unknown_account_code;
use crate::state::account::StoredAccount;

/// How forgetting an account ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forgotten {
    /// No trace is left.
    Completely,
    /// IM may still hold a value, so the state keeps the account. `late_write`: for how long an earlier call may still be
    /// applied.
    NotYet {
        /// `None` if there is no such call.
        late_write: Option<Duration>,
    },
}

impl Engine {
    /// Removes from IM everything that imsync has set for an account without a row, whatever `removal` says, and without
    /// asking the removal guard. A pass over this account.
    pub async fn remove_all_values(
        &mut self,
        account: &Account,
        progress: Arc<PassProgress>,
    ) -> (PassReport, Option<PassError>) {
        self.comparer.rules.remove_gone = true;
        self.comparer.rules.remove_unmapped = true;
        let options = FullOptions { allow_removals: true, ..FullOptions::default() };
        self.selected(std::slice::from_ref(account), options, progress).await
    }

    /// Deletes every trace of the account from the state, unless IM may still hold a value that imsync has set. IM holds
    /// nothing of an account that Chat does not know.
    pub async fn forget(&mut self, account: &Account) -> Result<Forgotten, PassError> {
        let sync_id = self.writer.sync_id();
        let unknown = Some(unknown_account_code());
        let rejections = self.state.rejections_of(sync_id, account).await?;
        let is_unknown = rejections.iter().any(|rejection| rejection.attribute.is_none() && rejection.code == unknown);
        if !is_unknown {
            if self.state.has_intent(sync_id, account).await? {
                return Ok(Forgotten::NotYet { late_write: None });
            }
            let texts = [account.as_str()];
            let stored = self.state.stored_accounts(sync_id, self.writer.generation(), &texts, &[None]).await?.pop();
            if let Some(Some(StoredAccount::Acknowledged { known, late_write, .. })) = stored
                && known.iter().any(|value| *value != AcknowledgedValue::Absent)
            {
                return Ok(Forgotten::NotYet { late_write });
            }
        }
        self.writer.delete_account(account, &self.config.source.texts_of(account)).await?;
        Ok(Forgotten::Completely)
    }
}
