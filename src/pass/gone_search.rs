//! The search of a full pass for stored accounts that the table no longer has.
//!
//! Owns: which stored accounts are looked up in the source, and in what steps. Must not know: what is done about an account
//! that has no row.
//!
//! A pass that has read the whole table looks up the accounts of those buckets in which it has not met every stored
//! account (`met_accounts`). One that resumed after an interruption does not know what the earlier attempt has met, and
//! looks up all of them.

use super::error::PassError;
use super::met_accounts::{BucketSums, DifferingBuckets, MetAccounts};
use super::pages::{PageReader, PageScan, ReadPage};
use crate::model::Account;

/// Rows of `account` that one step reads. It takes the state database 5 ms.
const ROWS_A_STEP: i64 = 20_000;

/// The accounts that a full pass looks up after the table, and how far it is.
#[derive(Debug)]
pub(super) enum GoneSearch {
    /// All stored accounts.
    All(PageScan),
    /// Not known yet: the stored accounts are compared with those that were met.
    Compare { after: String, stored: BucketSums },
    /// The stored accounts of some buckets.
    Differing(DifferingAccounts),
    /// The accounts that have a rejection or owe a removal, and no row in `account`. The others have been compared.
    RejectedOrOwed { after: Option<Account> },
}

/// The stored accounts of buckets in which an account may be stored that was not met.
#[derive(Debug)]
pub(super) struct DifferingAccounts {
    buckets: DifferingBuckets,
    after: String,
    /// Accounts to look up.
    found: Vec<Account>,
    /// All rows of `account` have been read.
    is_last: bool,
}

/// The result of one step.
#[derive(Debug)]
pub(super) enum GoneStep {
    /// Accounts were looked up. The page has those that are missing.
    LookedUp(ReadPage),
    /// There is more to do.
    More,
    /// The search is over.
    End,
}

impl GoneSearch {
    /// The search of a pass that reads the table from its first row. `stored`: empty sums.
    pub(super) fn of_whole_pass(stored: BucketSums) -> Self {
        Self::Compare { after: String::new(), stored }
    }

    /// The search of a pass that resumed. `scan`: all stored accounts.
    pub(super) fn of_resumed_pass(scan: PageScan) -> Self {
        Self::All(scan)
    }

    /// Takes a step: one statement on the state, or the look-up of one page.
    pub(super) async fn step(&mut self, reader: &mut PageReader, met: &MetAccounts) -> Result<GoneStep, PassError> {
        match self {
            Self::All(scan) => Ok(scan.next(reader).await?.map_or(GoneStep::End, GoneStep::LookedUp)),
            Self::Compare { after, stored } => {
                let accounts = reader.accounts_with_values_after(after, ROWS_A_STEP).await?;
                for account in &accounts {
                    stored.add(account);
                }
                if let Some(last) = accounts.into_iter().max() {
                    met.note_read_up_to(&last);
                    *after = last;
                } else {
                    *self = Self::after_comparison(met.differing(stored));
                }
                Ok(GoneStep::More)
            }
            Self::Differing(accounts) => {
                let step = accounts.step(reader).await?;
                if matches!(step, GoneStep::End) {
                    *self = Self::RejectedOrOwed { after: None };
                    return Ok(GoneStep::More);
                }
                Ok(step)
            }
            Self::RejectedOrOwed { after } => {
                let accounts = reader.rejected_or_owed_after(after.as_ref()).await?;
                let Some((last, _)) = accounts.last() else { return Ok(GoneStep::End) };
                *after = Some(last.clone());
                let apart: Vec<Account> =
                    accounts.into_iter().filter(|(_, has_row)| !has_row).map(|(account, _)| account).collect();
                if apart.is_empty() {
                    return Ok(GoneStep::More);
                }
                reader.look_up_missing(apart).await.map(GoneStep::LookedUp)
            }
        }
    }

    fn after_comparison(buckets: DifferingBuckets) -> Self {
        let (differing, all) = (buckets.len(), buckets.all());
        tracing::debug!(differing, all, "compared the stored accounts with those that the pass has met");
        if differing == 0 {
            return Self::RejectedOrOwed { after: None };
        }
        Self::Differing(DifferingAccounts { buckets, after: String::new(), found: Vec::new(), is_last: false })
    }
}

impl DifferingAccounts {
    async fn step(&mut self, reader: &mut PageReader) -> Result<GoneStep, PassError> {
        let page_size = reader.page_size();
        if self.found.len() >= page_size || (self.is_last && !self.found.is_empty()) {
            let page = self.found.drain(..page_size.min(self.found.len())).collect();
            return reader.look_up_missing(page).await.map(GoneStep::LookedUp);
        }
        if self.is_last {
            return Ok(GoneStep::End);
        }
        let accounts = reader.accounts_with_values_after(&self.after, ROWS_A_STEP).await?;
        let differing = accounts.iter().filter(|account| self.buckets.contain(account));
        self.found.extend(differing.map(|account| Account::new(account.as_str())));
        match accounts.into_iter().max() {
            Some(last) => self.after = last,
            None => self.is_last = true,
        }
        Ok(GoneStep::More)
    }
}
