//! Counts the repairs of a full pass, page by page.
//!
//! Owns: asking the source which stamps an incremental pass is still to read, storing the count before anything is sent, the
//! log line at the end. Must not know: how a page is compared, how a missing trigger is written.

use std::collections::HashSet;

use super::engine::Engine;
use super::error::PassError;
use super::page_diff::PageDiff;
use crate::model::{Account, Rows};
use crate::source::SourceError;

/// A page of the whole table, as far as repairs depend on it.
pub(super) struct ScannedPage {
    /// Accounts of rows that were counted before.
    counted: HashSet<Account>,
    /// The account text of the last row.
    end: Option<String>,
    done: u64,
}

impl Engine {
    /// To be called for each page of the table in order, before it is compared. `None` where nothing is counted.
    pub(super) fn scanned_page(&mut self, rows: &Rows, end: Option<&str>, done: u64) -> Option<ScannedPage> {
        if !self.repairs.counts() {
            return None;
        }
        let source = &self.reader.config.source;
        let counted = self.repairs.counted_rows(rows, done).into_iter().map(|text| source.account_of(text)).collect();
        Some(ScannedPage { counted, end: end.map(str::to_owned), done })
    }

    /// Counts the repairs of a compared page and stores their number before anything of the page is sent, so that they are
    /// counted once whenever the process is killed. `owed`: accounts whose removal an earlier pass has found.
    pub(super) async fn count_repairs(
        &mut self,
        page: ScannedPage,
        page_diff: &PageDiff,
        owed: impl Fn(&Account) -> bool,
    ) -> Result<(), PassError> {
        let new = page_diff.diffs.iter().filter(|diff| diff.is_unexplained()).map(|diff| diff.account().clone());
        let mut unseen: Vec<Account> =
            new.filter(|account| !page.counted.contains(account) && !owed(account)).collect();
        let Some(next_read) = self.read_position.next_read().filter(|_| !unseen.is_empty()) else { return Ok(()) };
        let to_be_read = match self.reader.source.stamped_since(next_read, &unseen).await {
            Err(SourceError::Raised(_)) => HashSet::new(),
            stamped => stamped?,
        };
        unseen.retain(|account| !to_be_read.contains(account));
        let Some(after) = page.end.filter(|_| !unseen.is_empty()) else { return Ok(()) };
        let so_far = self.repairs.add(&unseen, after, page.done);
        self.writer.save_repairs_so_far(&so_far).await?;
        Ok(())
    }

    /// Logs what a complete full pass has found.
    pub(super) fn log_repairs(&self) {
        let column = self.config.source.watermark_column.as_deref().unwrap_or_default();
        if let Some(message) = self.repairs.found().message(column) {
            let remedy = self.reader.source.stamp_remedy();
            let repaired = self.repairs.found().repaired;
            tracing::warn!(repaired, "{message}; only the full pass found them. {remedy}");
        }
    }
}
