//! Reads accounts back from IM and compares them with the table.
//!
//! Owns: which accounts are read, and the calls under way. Must not know: why something differs, lease, output.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::task::JoinSet;

use super::compare::{Expectations, Snapshot, has_refusal};
use super::report::{VerifyProgress, VerifyReport};
use crate::mapping::MappedRow;
use crate::model::Account;
use crate::pass::dry_run::DryRun;
use crate::pass::error::PassError;
use crate::pass::pages::{PageScan, ReadPage};
use crate::push::{Pusher, ReadAccount, ReadFailure, StopReason, unknown_account_code};

/// So many accounts that IM refuses to read end a verification that could read none.
const MAX_UNREADABLE: u64 = 100;

/// Which accounts are compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VerifyScope {
    /// So many rows of the table at random.
    Sample(usize),
    /// All rows, and the accounts that have left the table.
    All,
    /// These accounts.
    Accounts(Vec<Account>),
}

/// Who runs passes while accounts are verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PassesRun {
    /// This process, beside the verification.
    Here,
    /// Another process, if one holds the lease.
    ByLeaseHolder,
    /// Nobody: this process holds the lease and only verifies.
    Nowhere,
}

/// The accounts of a call.
enum ReadAccounts {
    /// They are read for the first time.
    First(Vec<(Account, MappedRow)>),
    /// They differed, and are read again. What table and state had before.
    Again(Vec<(Account, Snapshot)>),
}

/// A call under way: the accounts that it reads, and its result.
type ReadTask = (ReadAccounts, Result<Vec<ReadAccount>, ReadFailure>);

/// Compares IM with the table. It reads the source with a connection of its own.
#[derive(Debug)]
pub struct Verifier {
    pub(super) dry_run: DryRun,
    pub(super) pusher: Arc<Pusher>,
    pub(super) passes: PassesRun,
    /// Calls under way at once, at most.
    calls_at_once: usize,
    calls: JoinSet<ReadTask>,
    pub(super) progress: Arc<VerifyProgress>,
    pub(super) report: VerifyReport,
    /// Accounts that are read again at the end, because something changed while they were read.
    pub(super) unsettled: Vec<Account>,
}

impl Verifier {
    /// A verifier with this connection to the source. `calls_at_once`: calls under way, at most.
    pub fn new(dry_run: DryRun, pusher: Arc<Pusher>, passes: PassesRun, calls_at_once: usize) -> Self {
        Self {
            dry_run,
            pusher,
            passes,
            calls_at_once: calls_at_once.max(1),
            calls: JoinSet::new(),
            progress: Arc::default(),
            report: VerifyReport::default(),
            unsettled: Vec::new(),
        }
    }

    /// How far it is.
    pub fn progress(&self) -> Arc<VerifyProgress> {
        self.progress.clone()
    }

    /// What was found, also by a verification that failed.
    pub fn report(&self) -> &VerifyReport {
        &self.report
    }

    /// Compares the accounts.
    ///
    /// # Errors
    /// When the source, the state or IM cannot be read, and when a stop is requested. What was found until then is in the
    /// report.
    pub async fn run(&mut self, scope: VerifyScope) -> Result<(), PassError> {
        // Only a repair needs all accounts that differ.
        self.report = VerifyReport::new(self.passes == PassesRun::Nowhere);
        self.calls = JoinSet::new();
        let mut scans: VecDeque<PageScan> = self.scans(scope).await?.into();
        let mut queue: VecDeque<(Account, MappedRow)> = VecDeque::new();
        let per_call = self.dry_run.reader.config.im.users_per_call.max(1);
        loop {
            while self.calls.len() < self.calls_at_once {
                if queue.len() < per_call
                    && let Some(scan) = scans.front_mut()
                {
                    let page = scan.next(&mut self.dry_run.reader).await?;
                    if page.as_ref().is_none_or(|page| page.is_last) {
                        scans.pop_front();
                    }
                    self.enqueue(page.unwrap_or_default(), &mut queue).await?;
                } else if queue.is_empty() {
                    break;
                } else {
                    let accounts = queue.drain(..per_call.min(queue.len())).collect();
                    self.calls.spawn(read(self.pusher.clone(), ReadAccounts::First(accounts)));
                }
            }
            if !self.finish_call().await? {
                break;
            }
        }
        self.settle().await
    }

    /// Waits for the next call and compares its accounts. False if no call is under way.
    pub(super) async fn finish_call(&mut self) -> Result<bool, PassError> {
        let Some(ended) = self.calls.join_next().await else { return Ok(false) };
        // A task that panicked has printed why.
        let (accounts, read) = ended.map_err(|error| PassError::NotRead(format!("a read has failed: {error}")))?;
        let read = read.map_err(not_read)?;
        match accounts {
            ReadAccounts::First(accounts) => self.compare(accounts, read).await?,
            ReadAccounts::Again(accounts) => self.conclude(accounts, read).await?,
        }
        self.progress.show(&self.report);
        self.check_readable()?;
        Ok(true)
    }

    /// Reads these accounts again. `before`: what table and state have now.
    pub(super) fn read_again(&mut self, before: Vec<(Account, Snapshot)>) {
        if !before.is_empty() {
            self.calls.spawn(read(self.pusher.clone(), ReadAccounts::Again(before)));
        }
    }

    /// Fails if IM refuses to read every account.
    fn check_readable(&self) -> Result<(), PassError> {
        let VerifyReport { checked, unreadable, rejected, unreadable_reason, .. } = &self.report;
        match unreadable_reason {
            // Splitting each batch to the end would only cost calls.
            Some(reason) if *unreadable >= MAX_UNREADABLE && unreadable + rejected == *checked => {
                Err(PassError::NotRead(format!("IM refuses to read all of the first {unreadable} accounts: {reason}")))
            }
            _ => Ok(()),
        }
    }

    async fn scans(&mut self, scope: VerifyScope) -> Result<Vec<PageScan>, PassError> {
        let reader = &mut self.dry_run.reader;
        let (scans, total) = match scope {
            VerifyScope::All => {
                let total = reader.source.estimated_rows().await.unwrap_or(0);
                (PageScan::full(None).into_iter().take(2).collect(), total)
            }
            VerifyScope::Sample(accounts) => {
                let sample = reader.source.random_accounts(accounts).await?;
                let mut accounts: Vec<Account> =
                    sample.texts.iter().map(|text| reader.config.source.account_of(text)).collect();
                accounts.sort();
                accounts.dedup();
                (vec![PageScan::selected(&accounts)], accounts.len() as u64)
            }
            VerifyScope::Accounts(accounts) => (vec![PageScan::selected(&accounts)], accounts.len() as u64),
        };
        self.progress.total.store(total, Ordering::Relaxed);
        Ok(scans)
    }

    /// Adds the accounts of a page. One that cannot be sent at all, or that Chat does not know, is not read.
    async fn enqueue(&mut self, page: ReadPage, queue: &mut VecDeque<(Account, MappedRow)>) -> Result<(), PassError> {
        let (comparer, reader) = (&self.dry_run.comparer, &self.dry_run.reader);
        let outlined = comparer.outline_page(&page.rows, &page.missing, page.unreadable);
        let texts: Vec<&str> = outlined.iter().map(|outlined| &*outlined.account).collect();
        let unknown = match reader.sync_id {
            Some(sync_id) => reader.state.rejected_with(sync_id, &texts, unknown_account_code()).await?,
            None => HashSet::new(),
        };
        for outlined in outlined {
            let account = Account::new(&*outlined.account);
            match comparer.mapping.complete(outlined) {
                MappedRow::NoAccount => {}
                MappedRow::Present(_) if unknown.contains(&account) => self.report.add_rejected(),
                MappedRow::Refused(..) => self.report.add_rejected(),
                row @ (MappedRow::Gone(_) | MappedRow::Present(_)) => queue.push_back((account, row)),
            }
        }
        Ok(())
    }

    /// Compares accounts with what IM held. Those that differ are read again.
    async fn compare(&mut self, accounts: Vec<(Account, MappedRow)>, read: Vec<ReadAccount>) -> Result<(), PassError> {
        let mut differing = Vec::new();
        for ((account, row), read) in accounts.into_iter().zip(read) {
            let expectations = self.expectations();
            match read {
                ReadAccount::Held(actual) if !expectations.may_differ(&row, &actual) => {
                    self.report.checked += 1;
                    if has_refusal(&row) {
                        self.report.rejected += 1;
                    } else {
                        self.report.matching += 1;
                    }
                }
                ReadAccount::Held(_) | ReadAccount::Refused(_) => differing.push(account),
            }
        }
        self.examine(differing).await
    }

    pub(super) fn expectations(&self) -> Expectations<'_> {
        Expectations { rules: &self.dry_run.comparer.rules, names: &self.dry_run.comparer.names }
    }
}

async fn read(pusher: Arc<Pusher>, accounts: ReadAccounts) -> ReadTask {
    let texts: Vec<&str> = match &accounts {
        ReadAccounts::First(accounts) => accounts.iter().map(|(account, _)| account.as_str()).collect(),
        ReadAccounts::Again(accounts) => accounts.iter().map(|(account, _)| account.as_str()).collect(),
    };
    let read = pusher.read_attributes(&texts).await;
    (accounts, read)
}

fn not_read(failure: ReadFailure) -> PassError {
    match failure {
        ReadFailure::Failed(reason) => PassError::NotRead(reason),
        ReadFailure::Stopped => PassError::Stop(StopReason::Shutdown),
    }
}
