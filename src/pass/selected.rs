//! The pass over named accounts.
//!
//! Owns: its steps. Must not know: how the accounts were named.

use super::guard::Withheld;
use super::report::{Report, Tally};
use super::view::{Glance, Retry};
use super::{Consent, Ending, Engine, FullOptions, PassError};
use crate::model::Account;
use std::sync::Arc;

impl Engine {
    /// These accounts only; one that is no longer in the table is treated as gone. Rejections of theirs are tried again.
    pub async fn selected(
        &mut self,
        accounts: &[Account],
        options: FullOptions,
        tally: Arc<Tally>,
    ) -> (Report, Option<PassError>) {
        let course = match self.begin_with(tally.clone()).await {
            Ok(begun) => begun,
            Err(error) => return self.stillborn(&tally, error).await,
        };
        tally.total.store(accounts.len() as u64, std::sync::atomic::Ordering::Relaxed);
        let steps = async {
            let mut withheld = Withheld::default();
            let glance = Glance { retry: Retry::All, force: options.force, ..Glance::default() };
            let size = usize::try_from(self.page_size()).unwrap_or(usize::MAX);
            for chunk in accounts.chunks(size) {
                self.look_up(&course, chunk, glance, &mut withheld).await?;
                Tally::add(&tally.done, chunk.len());
            }
            self.flow.drain(&course).await?;
            let consent =
                if options.allow_removals { Consent::Given } else { Consent::AsGuarded { retry: Retry::All } };
            self.removals(&course, &mut withheld, consent).await?;
            self.ending(Some(accounts)).await
        };
        let result: Result<Ending, PassError> = steps.await;
        let drained = self.flow.drain(&course).await;
        let result = result.and_then(|ending| drained.map(|()| ending));
        let update = self.watermark_update();
        self.finish(&course, result, update, true).await
    }
}
