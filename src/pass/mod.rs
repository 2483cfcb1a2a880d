//! One run through the queue: source → mapping → diff → push → state. The only module that names all five.
//!
//! Owns: the order of the steps of a pass, and what a pass begins and ends with.
//! Must not know: when passes run, signals, how a report is shown.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::clock::{self, Shutdown};
use crate::config::Config;
use crate::crash;
use crate::mapping::Mapping;
use crate::metrics::Metrics;
use crate::model::{Account, AcknowledgedValue, AttributeIndex, Row};
use crate::push::{Probe, Pusher, StopReason};
use crate::source::watermark::{HeldBackBy, SavedWatermark, WatermarkTracker};
use crate::source::{Source, SourceError};
use crate::state::sync::{Binding, SyncRow};
use crate::state::{State, StateError, StateWriter};

mod backoff;
pub mod compare;
pub mod dry_run;
mod finish;
mod follow_up;
mod full;
pub mod guard;
mod incremental;
pub mod queue;
mod record_outcome;
pub mod report;
mod selected;

pub use full::{FullOptions, FullPass, FullPassStep};
pub use report::{PassKind, PassOutcome, PassProgress, PassReport};

use backoff::Backoff;
use compare::{CompareOptions, PageComparer, RetryRejections};
use guard::{KnownCount, PendingRemovals};
use queue::{DeliveryQueue, PassContext};

/// Why a pass could not finish.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PassError {
    #[error("{0}")]
    Source(Arc<SourceError>),
    #[error("{0}")]
    State(Arc<StateError>),
    #[error("{0}")]
    Stop(StopReason),
    /// There is no watermark yet: only a full pass can run.
    #[error("this sync has no watermark yet; its first pass must be a full one")]
    NoWatermark,
}

impl From<SourceError> for PassError {
    fn from(error: SourceError) -> Self {
        Self::Source(Arc::new(error))
    }
}

impl From<StateError> for PassError {
    fn from(error: StateError) -> Self {
        Self::State(Arc::new(error))
    }
}

impl PassError {
    /// The lease is gone: only who takes it anew may write.
    pub fn lease_lost(&self) -> bool {
        match self {
            Self::State(error) => matches!(**error, StateError::LeaseLost),
            Self::Stop(stop) => *stop == StopReason::LeaseLost,
            Self::Source(_) | Self::NoWatermark => false,
        }
    }

    /// Trying again at once would only be refused again.
    pub fn needs_a_person(&self) -> bool {
        matches!(
            self,
            Self::Stop(
                StopReason::Credentials { .. } | StopReason::Systemic { .. } | StopReason::TooManyRejected { .. }
            )
        )
    }

    fn ending(&self) -> PassOutcome {
        if matches!(self, Self::Stop(StopReason::Shutdown)) { PassOutcome::Interrupted } else { PassOutcome::Failed }
    }
}

/// An idle daemon brings its watermark and origin up to date in the state tables at most this often.
const IDLE_SAVE: Duration = Duration::from_mins(1);
/// Progress is stored at most this often.
const PROGRESS_SAVE: Duration = Duration::from_secs(1);

/// Everything that the passes of one sync share while the lease is held.
#[derive(Debug)]
pub struct Engine {
    config: Arc<Config>,
    source: Source,
    state: State,
    writer: StateWriter,
    pusher: Arc<Pusher>,
    metrics: Arc<Metrics>,
    shutdown: Shutdown,
    comparer: PageComparer,
    queue: DeliveryQueue,
    patience: Arc<Mutex<Backoff>>,
    /// `None` until the first full pass has begun, and always without a watermark column.
    tracker: Option<WatermarkTracker>,
    guard: Option<Value>,
    /// The guard as it is stored: a pass that changes it stores it at once.
    stored_guard: Option<Value>,
    /// Why a full pass is due.
    full_due: Option<String>,
    /// Counts the reasons: a full pass that began before a reason came up does not answer it.
    full_dues: u64,
    /// When the last full pass ended.
    full_ended: Option<Instant>,
    full_position: Option<Value>,
    /// The mapping was compared with before, so what a full pass finds is something to mend.
    settled: bool,
    saved_at: Option<Instant>,
    progress_saved_at: Option<Instant>,
    known_accounts: i64,
    known_counted: KnownCount,
    /// Who holds the watermark back, as far as the log has told of it.
    told_of_holder: Option<HeldBackBy>,
    /// The pusher was given an acknowledged value, if there was one; from then on it finds its own.
    probe_offered: bool,
    /// Outcomes are unknown that a later pass will record_refusals: until then not everything is in IM.
    in_doubt_pending: bool,
}

/// Who lets removals go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RemovalPolicy {
    /// `--allow-removals`.
    Given,
    /// The guard; removals whose rejection stands are tried again as told.
    AsGuarded { retry: RetryRejections },
}

/// What an [`Engine`] is made of.
#[derive(Debug)]
pub struct EngineParts {
    pub config: Arc<Config>,
    pub mapping: Arc<Mapping>,
    pub source: Source,
    pub state: State,
    pub writer: StateWriter,
    pub pusher: Arc<Pusher>,
    pub metrics: Arc<Metrics>,
    pub shutdown: Shutdown,
    pub row: SyncRow,
}

/// What the state of this configuration is bound to.
pub fn binding(config: &Config, source: &Source) -> Binding {
    Binding {
        table: source.resolved_table().to_owned(),
        account_column: config.source.account_column.clone(),
        account_prefix: config.source.account_prefix.clone(),
        account_format: match config.source.account_format {
            crate::config::AccountFormat::Text => "text".to_owned(),
            crate::config::AccountFormat::Hex => "hex".to_owned(),
        },
        sdk_app_id: config.im.sdk_app_id,
        service: match config.im.service {
            crate::model::Service::AllMemberPush => "all_member_push".to_owned(),
            crate::model::Service::Timpush => "timpush".to_owned(),
        },
    }
}

fn watermark_fingerprint(config: &Config) -> String {
    match &config.source.watermark_column {
        Some(column) => json!([column, config.source.watermark_timezone]).to_string(),
        None => "none".to_owned(),
    }
}

fn saved_tracker(config: &Config, row: &SyncRow) -> Option<WatermarkTracker> {
    if row.watermark_fingerprint.as_deref() != Some(&watermark_fingerprint(config)) {
        return None;
    }
    let saved: SavedWatermark = serde_json::from_value(row.watermark_state.clone()?).ok()?;
    Some(WatermarkTracker::restore(saved))
}

/// Why a full pass is due at the start, from what the sync row remembers.
fn full_due_at_start(config: &Config, mapping: &Mapping, row: &SyncRow) -> Option<String> {
    if let Some(why) = &row.full_pass_due {
        return Some(why.clone());
    }
    match &row.mapping_fingerprint {
        None => return Some("the first pass of this sync".to_owned()),
        Some(fingerprint) if fingerprint != mapping.fingerprint() => {
            return Some("the mapping, the filter or the deleted column changed".to_owned());
        }
        Some(_) => {}
    }
    if row.watermark_fingerprint.as_deref() != Some(&watermark_fingerprint(config)) {
        return Some("the watermark column changed".to_owned());
    }
    None
}

impl Engine {
    /// Readies a sync for its passes: attributes, fingerprints, the server's identity, leftovers of a predecessor.
    pub async fn assemble(parts: EngineParts) -> Result<Self, PassError> {
        let EngineParts { config, mapping, source, state, mut writer, pusher, metrics, shutdown, row } = parts;
        let attributes = writer.attribute_indexes(mapping.names()).await?;
        let server = state.server_identity().await?;
        match &row.state_server {
            None => writer.remember_server(&server).await?,
            Some(known) if *known != server => {
                tracing::warn!(
                    was = %known, now = %server,
                    "the state database is another server than before (a restored backup or a promoted standby): \
                     every acknowledged value counts as unknown, a full pass settles them"
                );
                writer.begin_generation(&server, "the state database is another server than before").await?;
            }
            Some(_) => {}
        }
        // Read again: a new generation has its own reason for a full pass.
        let row =
            if row.state_server.as_deref() == Some(&server) { row } else { state.sync_row().await?.unwrap_or(row) };
        let full_due = full_due_at_start(&config, &mapping, &row);
        if let Some(why) = full_due.as_deref().filter(|why| row.full_pass_due.as_deref() != Some(why)) {
            // Else a crash in the middle, and the old configuration again, would make it forgotten.
            writer.remember_full_pass_due(why).await?;
            crash::point("start: a full pass is due");
        }
        if row.mapping_fingerprint.as_deref().is_some_and(|old| old != mapping.fingerprint()) {
            writer.make_rejections_due().await?;
            crash::point("start: rejections are due");
        }
        let full_ended = row.full_pass_ended_at.map(|ended| {
            let ago = (row.read_at - ended).to_std().unwrap_or_default();
            clock::monotonic().checked_sub(ago).unwrap_or_else(clock::monotonic)
        });
        let ledger = Some((state.clone(), writer.sync_id(), writer.generation()));
        let comparer = PageComparer::new(&config, mapping, writer.names().clone(), attributes, ledger);
        let counts = state.count_accounts(writer.sync_id()).await?;
        let a_second = usize::try_from(config.im.calls_per_second).unwrap_or(usize::MAX);
        let a_second = a_second.saturating_mul(config.im.users_per_call);
        let engine = Self {
            tracker: source.has_watermark().then(|| saved_tracker(&config, &row)).flatten(),
            settled: full_due.is_none(),
            full_due,
            full_dues: 0,
            full_ended,
            full_position: row.full_pass_position,
            stored_guard: row.guard.clone(),
            guard: row.guard,
            saved_at: None,
            progress_saved_at: None,
            known_accounts: i64::try_from(counts.known).unwrap_or(i64::MAX),
            known_counted: None,
            in_doubt_pending: false,
            probe_offered: false,
            told_of_holder: None,
            queue: DeliveryQueue::new(a_second),
            patience: Arc::default(),
            config,
            source,
            state,
            writer,
            pusher,
            metrics,
            shutdown,
            comparer,
        };
        engine.metrics.accounts.set(engine.known_accounts);
        engine.update_gauges().await?;
        Ok(engine)
    }

    /// A full pass falls due, whatever runs now.
    fn ask_for_full(&mut self, why: &str) {
        self.full_dues += 1;
        // The newest reason stands: a position that was stored for an older one no longer serves.
        self.full_due = Some(why.to_owned());
        self.full_position = None;
    }

    /// Why a full pass should run now, if one should.
    pub fn full_pass_due(&self) -> Option<String> {
        if let Some(why) = &self.full_due {
            return Some(why.clone());
        }
        let every = self.config.schedule.full_every?;
        let due = self.full_ended.is_none_or(|ended| ended.elapsed() >= every);
        due.then(|| "schedule.full_every is over".to_owned())
    }

    /// There is a watermark to read from; else only full passes run.
    pub fn has_watermark(&self) -> bool {
        self.tracker.is_some()
    }

    /// Outcomes are unknown that a later pass will record_refusals.
    pub fn in_doubt_pending(&self) -> bool {
        self.in_doubt_pending
    }

    /// The guard's document while it is tripped.
    pub fn guard(&self) -> Option<&Value> {
        self.guard.as_ref()
    }

    pub fn source(&self) -> &Source {
        &self.source
    }

    /// A new connection to the source, after the old one broke.
    pub fn replace_source(&mut self, source: Source) {
        self.source = source;
    }

    /// Stores the time of the last call, for the next holder of the lease.
    pub async fn store_last_call(&self) -> Result<(), PassError> {
        let ago = self.pusher.last_call().map(|moment| moment.elapsed().as_secs_f64());
        crash::point("goodbye: about to be stored");
        self.writer.save_last_call(ago).await?;
        crash::point("goodbye: stored");
        Ok(())
    }

    async fn begin_pass(&mut self, progress: Arc<PassProgress>) -> Result<Arc<PassContext>, PassError> {
        crash::point("pass: begins");
        self.probe_offered = false;
        // Fresh changes go before those of a full pass under way.
        let urgent = progress.kind == PassKind::Incremental;
        let session = self.pusher.begin_pass(self.comparer.names.clone(), urgent);
        let context = PassContext {
            pass: self.queue.next_pass(),
            session,
            progress,
            comparer: self.comparer.clone(),
            writer: self.writer.clone(),
            metrics: self.metrics.clone(),
            retry_after: self.config.schedule.rejected_retry,
            doubt: self.config.im.timeout * 2,
            patience: self.patience.clone(),
            failure: Mutex::default(),
        };
        let live = self.queue.live_intents();
        let live = live.lock().await;
        let answered: Vec<i64> = live.iter().copied().collect();
        let unsettled = self.writer.settle_intents(&answered, context.doubt).await?;
        drop(live);
        if unsettled > 0 {
            tracing::warn!(
                accounts = unsettled,
                "found calls whose outcome was never recorded: their attributes count as unknown and are sent again"
            );
        }
        Ok(Arc::new(context))
    }

    /// An acknowledged value that can be sent again without harm.
    async fn probe(&self) -> Result<Option<Probe>, PassError> {
        let found = self.state.any_acknowledged(self.writer.sync_id(), self.writer.generation()).await?;
        Ok(found.and_then(|(account, acknowledged)| {
            acknowledged.into_iter().zip(0..).find_map(|(known, attribute)| match known {
                AcknowledgedValue::Value(value) => {
                    Some(Probe { account: account.clone(), attribute: AttributeIndex(attribute), value })
                }
                AcknowledgedValue::Absent | AcknowledgedValue::Unknown | AcknowledgedValue::Provisional(_) => None,
            })
        }))
    }

    /// One page of the walk over the table into the queue.
    async fn page(
        &mut self,
        context: &Arc<PassContext>,
        rows: Vec<Row>,
        missing: Vec<Account>,
        options: CompareOptions,
        pending: &mut PendingRemovals,
    ) -> Result<(), PassError> {
        if self.shutdown.requested() {
            return Err(PassError::Stop(StopReason::Shutdown));
        }
        let mut accounts = self.accounts_of(&rows);
        accounts.extend(missing.iter().cloned());
        PassProgress::add(&context.progress.rows_read, rows.len());
        self.queue.note_completed();
        self.queue.wait_until_idle(accounts.iter()).await;
        context.check()?;
        crash::point("page: read");
        let page_diff = self.comparer.compare_page(&rows, missing, options).await?;
        crash::point("page: compared");
        if !options.removals && !pending.on_second_walk() {
            PassProgress::add(&context.progress.without_account, page_diff.without_account);
            // Where removals may go, and on the second walk, accounts were counted when their removals were pending.
            PassProgress::add(
                &context.progress.changed,
                page_diff.diffs.iter().filter(|diff| diff.sends() || diff.pending).count(),
            );
        }
        pending.note(page_diff.diffs.iter().filter(|diff| diff.pending).map(|diff| diff.account().clone()));
        if !self.probe_offered && page_diff.diffs.iter().any(compare::AccountDiff::sends) {
            self.probe_offered = true;
            if !self.pusher.has_probe()
                && let Some(probe) = self.probe().await?
            {
                self.pusher.offer_probe(probe);
            }
        }
        self.queue.take(context, page_diff, options.origin);
        crash::point("page: taken");
        context.check()
    }

    /// Looks accounts up in the source and delivers what differs; those without a row are gone.
    async fn compare_accounts(
        &mut self,
        context: &Arc<PassContext>,
        accounts: &[Account],
        options: CompareOptions,
        pending: &mut PendingRemovals,
    ) -> Result<(), PassError> {
        self.queue.wait_for_capacity().await;
        let rows = self.source.rows_of(accounts).await?;
        let found = self.accounts_of(&rows);
        let missing = accounts.iter().filter(|account| !found.contains(*account)).cloned().collect();
        self.page(context, rows, missing, options, pending).await
    }

    fn accounts_of(&self, rows: &[Row]) -> HashSet<Account> {
        rows.iter().filter_map(|row| row.account.as_deref()).map(|text| self.config.source.account_of(text)).collect()
    }

    fn page_size(&self) -> i64 {
        i64::from(self.config.source.page_size)
    }
}
