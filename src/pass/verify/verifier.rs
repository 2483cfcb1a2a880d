//! Reads accounts back from IM and compares them with the table.
//!
//! Owns: which accounts are read, and the calls under way. Must not know: why something differs, lease, output.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::task::JoinSet;

use super::compare::{Expectations, has_refusal};
use super::report::{VerifyProgress, VerifyReport};
use crate::mapping::MappedRow;
use crate::model::Account;
use crate::pass::dry_run::DryRun;
use crate::pass::error::PassError;
use crate::pass::pages::{PageScan, ReadPage};
use crate::push::{Pusher, ReadAccount, ReadFailure, StopReason};

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

/// A call under way: the accounts that it reads, and its result.
type ReadTask = (Vec<(Account, MappedRow)>, Result<Vec<ReadAccount>, ReadFailure>);

/// Compares IM with the table. It reads the source with a connection of its own.
#[derive(Debug)]
pub struct Verifier {
    pub(super) dry_run: DryRun,
    pub(super) pusher: Arc<Pusher>,
    /// Calls under way at once, at most.
    calls_at_once: usize,
    pub(super) progress: Arc<VerifyProgress>,
    pub(super) report: VerifyReport,
    /// Accounts that are read again at the end, because something changed while they were read.
    pub(super) unsettled: Vec<Account>,
}

impl Verifier {
    /// A verifier with this connection to the source. `calls_at_once`: calls under way, at most.
    pub fn new(dry_run: DryRun, pusher: Arc<Pusher>, calls_at_once: usize) -> Self {
        Self {
            dry_run,
            pusher,
            calls_at_once: calls_at_once.max(1),
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
        self.report = VerifyReport::default();
        let mut scans: VecDeque<PageScan> = self.scans(scope).await?.into();
        let mut queue: VecDeque<(Account, MappedRow)> = VecDeque::new();
        let mut calls: JoinSet<ReadTask> = JoinSet::new();
        let per_call = self.dry_run.reader.config.im.users_per_call.max(1);
        loop {
            while calls.len() < self.calls_at_once {
                if queue.len() < per_call
                    && let Some(scan) = scans.front_mut()
                {
                    let page = scan.next(&mut self.dry_run.reader).await?;
                    if page.as_ref().is_none_or(|page| page.is_last) {
                        scans.pop_front();
                    }
                    self.enqueue(page.unwrap_or_default(), &mut queue);
                } else if queue.is_empty() {
                    break;
                } else {
                    let accounts = queue.drain(..per_call.min(queue.len())).collect();
                    calls.spawn(read(self.pusher.clone(), accounts));
                }
            }
            let Some(ended) = calls.join_next().await else { break };
            // A task that panicked has printed why.
            let (accounts, read) = ended.map_err(|error| PassError::NotRead(format!("a read has failed: {error}")))?;
            self.compare(accounts, read.map_err(not_read)?).await?;
        }
        self.settle().await
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

    /// Adds the accounts of a page. One that cannot be sent at all is not read.
    fn enqueue(&mut self, page: ReadPage, queue: &mut VecDeque<(Account, MappedRow)>) {
        let comparer = &self.dry_run.comparer;
        for outlined in comparer.outline_page(&page.rows, &page.missing, page.unreadable) {
            let account = Account::new(&*outlined.account);
            match comparer.mapping.complete(outlined) {
                MappedRow::NoAccount => {}
                MappedRow::Refused(..) => {
                    self.report.checked += 1;
                    self.report.rejected += 1;
                }
                row @ (MappedRow::Gone(_) | MappedRow::Present(_)) => queue.push_back((account, row)),
            }
        }
    }

    /// Compares accounts with what IM held. Those that differ are examined.
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
        if !differing.is_empty() {
            self.examine(differing).await?;
        }
        self.progress.show(&self.report);
        let VerifyReport { checked, unreadable, rejected, unreadable_reason, .. } = &self.report;
        match unreadable_reason {
            // Splitting each batch to the end would only cost calls.
            Some(reason) if *unreadable >= MAX_UNREADABLE && unreadable + rejected == *checked => {
                Err(PassError::NotRead(format!("IM refuses to read all of the first {unreadable} accounts: {reason}")))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn expectations(&self) -> Expectations<'_> {
        Expectations { rules: &self.dry_run.comparer.rules, names: &self.dry_run.comparer.names }
    }

    /// Reads these accounts from IM, in calls of the configured size.
    pub(super) async fn read(&self, accounts: &[Account]) -> Result<Vec<ReadAccount>, PassError> {
        let mut read = Vec::with_capacity(accounts.len());
        for part in accounts.chunks(self.dry_run.reader.config.im.users_per_call.max(1)) {
            let texts: Vec<&str> = part.iter().map(Account::as_str).collect();
            read.extend(self.pusher.read_attributes(&texts).await.map_err(not_read)?);
        }
        Ok(read)
    }
}

async fn read(pusher: Arc<Pusher>, accounts: Vec<(Account, MappedRow)>) -> ReadTask {
    let texts: Vec<&str> = accounts.iter().map(|(account, _)| account.as_str()).collect();
    let read = pusher.read_attributes(&texts).await;
    (accounts, read)
}

fn not_read(failure: ReadFailure) -> PassError {
    match failure {
        ReadFailure::Failed(reason) => PassError::NotRead(reason),
        ReadFailure::Stopped => PassError::Stop(StopReason::Shutdown),
    }
}
