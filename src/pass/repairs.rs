//! Repairs: rows of a full pass whose change no incremental pass has seen, because their stamp did not move.
//!
//! Owns: their number and examples, also over interruptions, and the sentence about them. Must not know: the passes.
//!
//! Where the pass was due because the differences are expected (the first pass, an edited mapping, another source), nothing
//! is counted. A row whose stamp an incremental pass is still to read is not a repair either.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::Config;
use crate::finding::Finding;
use crate::model::{Account, Rows};
use crate::source::Source;
use crate::state::sync_row::SyncRow;

/// The number of accounts that are named.
const MAX_EXAMPLES: usize = 5;

/// The repairs of one full pass, as `sync.full_pass_repairs` stores them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundRepairs {
    /// The number of accounts.
    pub repaired: u64,
    /// The first of them.
    pub examples: Vec<String>,
}

impl FoundRepairs {
    /// The stored repairs of the last full pass. None if nothing is stored.
    pub fn stored(document: Option<&Value>) -> Self {
        document.and_then(|document| Self::deserialize(document).ok()).unwrap_or_default()
    }

    /// A sentence about them; `None` if there are none.
    pub fn message(&self, column: &str) -> Option<String> {
        let (is_one, number) = (self.repaired == 1, self.repaired);
        let accounts = if is_one { "1 account".to_owned() } else { format!("{number} accounts") };
        let their = if is_one { "its" } else { "their" };
        (number > 0).then(|| {
            format!("{accounts} changed without {their} `{column}` moving, for example {}", self.examples.join(", "))
        })
    }

    fn add(&mut self, accounts: &[Account]) {
        self.repaired += accounts.len() as u64;
        let room = MAX_EXAMPLES.saturating_sub(self.examples.len());
        self.examples.extend(accounts.iter().take(room).map(|account| account.as_str().to_owned()));
    }
}

/// What the last full pass has found; `None` if it has found nothing.
pub fn repairs_finding(config: &Config, source: &Source, row: &SyncRow) -> Option<Finding> {
    let column = config.source.watermark_column.as_deref()?;
    let message = FoundRepairs::stored(row.full_pass_repairs.as_ref()).message(column)?;
    let finding = Finding::warning("source.unmoved_stamps", format!("{message}; only the last full pass found them"));
    let remedy = source.stamp_remedy();
    Some(match remedy.split_once("run: ") {
        Some((_, statements)) => finding.sql(statements),
        None => finding.remedy(remedy),
    })
}

/// What an unfinished full pass has counted, as `sync.full_pass_repairs_so_far` stores it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct CountedRepairs {
    /// When the first attempt of the pass began, which identifies it.
    began_at: DateTime<Utc>,
    /// Rows up to the one with this account text are counted.
    after: String,
    /// The number of rows up to there.
    done: u64,
    #[serde(flatten)]
    found: FoundRepairs,
}

/// The repairs of the full pass that is running or was interrupted.
#[derive(Debug, Default)]
pub(super) struct RepairCount {
    counts: bool,
    began_at: DateTime<Utc>,
    found: FoundRepairs,
    /// Rows of a resumed pass up to here were counted before it was interrupted.
    counted_before: Option<(String, u64)>,
    saved: Option<CountedRepairs>,
}

impl RepairCount {
    pub(super) fn from_row(so_far: Option<&Value>) -> Self {
        Self { saved: so_far.and_then(|saved| CountedRepairs::deserialize(saved).ok()), ..Self::default() }
    }

    /// A full pass begins, or resumes. `counts`: its differences count as repairs.
    pub(super) fn begin(&mut self, counts: bool, began_at: DateTime<Utc>) {
        let saved = self.saved.take().filter(|saved| counts && saved.began_at == began_at);
        self.counted_before = saved.as_ref().map(|saved| (saved.after.clone(), saved.done));
        self.found = saved.as_ref().map(|saved| saved.found.clone()).unwrap_or_default();
        self.saved = saved;
        (self.counts, self.began_at) = (counts, began_at);
    }

    /// Whether the running full pass counts repairs.
    pub(super) fn counts(&self) -> bool {
        self.counts
    }

    /// What the full pass has found.
    pub(super) fn found(&self) -> &FoundRepairs {
        &self.found
    }

    /// The account texts of the rows of a page that were counted before an interruption. `done`: rows up to the end of the
    /// page. The row at the end of what was counted may have been deleted since; its number decides then.
    pub(super) fn counted_rows<'a>(&mut self, rows: &'a Rows, done: u64) -> HashSet<&'a str> {
        let Some((after, counted)) = &self.counted_before else { return HashSet::new() };
        let at = rows.iter().rposition(|row| row.account == Some(after));
        let beyond = usize::try_from(done.saturating_sub(*counted)).unwrap_or(usize::MAX);
        let end = at.map_or_else(|| rows.len().saturating_sub(beyond), |at| at + 1);
        if at.is_some() || done >= *counted {
            self.counted_before = None;
        }
        rows.iter().take(end).filter_map(|row| row.account).collect()
    }

    /// Adds the repairs of a page whose last row has the account text `after`. Returns what is to be stored.
    pub(super) fn add(&mut self, accounts: &[Account], after: String, done: u64) -> Value {
        self.found.add(accounts);
        let saved = CountedRepairs { began_at: self.began_at, after, done, found: self.found.clone() };
        let document = serde_json::to_value(&saved).unwrap_or_default();
        self.saved = Some(saved);
        document
    }
}
