//! Prepares a sync for its passes.
//!
//! Owns: what is checked and stored when a process takes the lease.
//! Must not know: the steps of a pass.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use super::compare::{PageComparer, StateRef};
use super::current_passes::CurrentPasses;
use super::deferrals::Deferrals;
use super::delivery_queue::DeliveryQueue;
use super::engine::{Engine, watermark_column};
use super::error::PassError;
use super::full_pass_schedule::FullPassSchedule;
use super::guard::RemovalGuard;
use super::history_trim::HistoryTrim;
use super::pages::{PageReader, PageScan};
use super::read_position::ReadPosition;
use super::repairs::RepairCount;
use super::save_times::SaveTimes;
use super::slow_calls::SlowCalls;
use super::source_change::check_source;
use super::verify::StoredVerification;
use crate::clock::Shutdown;
use crate::config::Config;
use crate::crash;
use crate::mapping::Mapping;
use crate::metrics::Metrics;
use crate::model::Account;
use crate::push::{Pusher, StopReason};
use crate::source::Source;
use crate::state::account_count::AccountCounts;
use crate::state::due_work::DueWork;
use crate::state::server::{is_identified, may_be_same_server};
use crate::state::sync_row::SyncRow;
use crate::state::{State, StateWriter};

/// What an [`Engine`] is made of.
#[derive(Debug)]
pub struct EngineParts {
    /// The configuration.
    pub config: Arc<Config>,
    /// The mapping of this configuration.
    pub mapping: Arc<Mapping>,
    /// An open source.
    pub source: Source,
    /// The state, for reading.
    pub state: State,
    /// Writes to the state while the lease is held.
    pub writer: StateWriter,
    /// The push stage, with its rate limits.
    pub pusher: Arc<Pusher>,
    /// The metrics of this process.
    pub metrics: Arc<Metrics>,
    /// Stops passes.
    pub shutdown: Shutdown,
    /// Whether passes wait for their slowest call.
    pub slow_calls: SlowCalls,
    /// The sync row, read after the lease was taken.
    pub row: SyncRow,
}

impl Engine {
    /// Prepares a sync for its passes: stores new attribute names and the reason for a full pass, and begins a new
    /// generation if the state database is another server than before.
    pub async fn prepare(parts: EngineParts) -> Result<Self, PassError> {
        let EngineParts { config, mapping, source, state, mut writer, pusher, metrics, shutdown, slow_calls, row } =
            parts;
        let attributes = writer.assign_attribute_indexes(mapping.names()).await?;
        let row = check_state_server(&state, &mut writer, row).await?;
        if row.delete_rejections {
            finish_deleting_rejections(&writer, &shutdown).await?;
        }
        let row = check_source(&source, &writer, row).await?;
        let read_position = ReadPosition::from_row(&config, watermark_column(&source), Some(&row));
        let full_passes = FullPassSchedule::from_row(
            config.schedule.full_every,
            &row,
            mapping.fingerprint(),
            read_position.fingerprint(),
        );
        let row = store_what_is_due(&writer, row, &full_passes, mapping.fingerprint()).await?;

        let verified = StoredVerification::read(row.verification.as_ref());
        metrics.drifted_accounts.set(verified.map_or(0, |verified| verified.drifted_now()));
        let sync_id = writer.sync_id();
        writer.read_other_syncs().await?;
        let state_ref = StateRef {
            state: state.clone(),
            sync_id,
            generation: writer.generation(),
            digest_key: writer.digest_key().clone(),
            other_syncs: writer.other_syncs().clone(),
        };
        let calls_per_second = usize::try_from(config.im.calls_per_second).unwrap_or(usize::MAX);
        let comparer = PageComparer::new(&config, mapping, writer.names().clone(), attributes, Some(state_ref));
        let engine = Self {
            met: comparer.met.clone(),
            comparer,
            reader: PageReader { config: config.clone(), source, state: state.clone(), sync_id: Some(sync_id) },
            queue: DeliveryQueue::new(calls_per_second.saturating_mul(config.im.users_per_call)),
            guard: RemovalGuard::new(row.guard, config.removal.max_share),
            outlying: PageScan::outlying(),
            repairs: RepairCount::from_row(row.full_pass_repairs_so_far.as_ref()),
            due_work: DueWork::default(),
            counts: AccountCounts::default(),
            owed_at_most: 0,
            only_met_are_stored: false,
            may_be_rejected: Arc::new(AtomicBool::new(true)),
            retry_rejections_after: row.retry_rejections_after,
            read_position,
            full_passes,
            saves: SaveTimes::default(),
            history_trim: HistoryTrim::new(config.history.keep),
            full_under_way: None,
            deferrals: Deferrals::stored(state.deferred_accounts(sync_id).await?),
            slow_calls,
            detached: Vec::new(),
            current_passes: CurrentPasses::default(),
            backoff: Arc::default(),
            in_doubt_pending: false,
            probes_after: Arc::new(Mutex::new(Account::new(""))),
            config,
            state,
            writer,
            pusher,
            metrics,
            shutdown,
        };
        engine.update_gauges().await?;
        Ok(engine)
    }
}

/// Begins a new generation if the state database is another server than before. Returns the row as it is then.
async fn check_state_server(state: &State, writer: &mut StateWriter, row: SyncRow) -> Result<SyncRow, PassError> {
    let server = state.server_identity().await?;
    match &row.state_server {
        Some(known) if may_be_same_server(known, &server) => {
            if is_identified(known) || !is_identified(&server) {
                return Ok(row);
            }
            writer.save_server_identity(&server).await?;
        }
        Some(known) => {
            tracing::warn!(
                was = %known, now = %server,
                "the state database is another server than before (a restored backup or a promoted standby): \
                 every acknowledged value counts as unknown, and a full pass sends them again"
            );
            writer.start_generation(&server, "the state database is another server than before").await?;
        }
        None => writer.save_server_identity(&server).await?,
    }
    // A new generation has stored its own reason for a full pass.
    Ok(state.sync_row().await?.unwrap_or(row))
}

/// A new generation leaves the rejections of the earlier one to be deleted before the next pass. Millions of them take
/// minutes; a stop ends it, and the next start goes on.
async fn finish_deleting_rejections(writer: &StateWriter, shutdown: &Shutdown) -> Result<(), PassError> {
    let between = || if shutdown.requested() { Err(PassError::Stop(StopReason::Shutdown)) } else { Ok(()) };
    writer.finish_deleting_rejections(between).await
}

/// Stores why a full pass is due, and begins to make all rejections due if the mapping changed. Returns the row as it is
/// then.
async fn store_what_is_due(
    writer: &StateWriter,
    mut row: SyncRow,
    full_passes: &FullPassSchedule,
    mapping: &str,
) -> Result<SyncRow, PassError> {
    if let Some(request) = full_passes.pending_request().filter(|request| request.number != row.full_pass_request) {
        // Otherwise the reason would be lost if the process was killed and then started with the old configuration.
        writer.save_full_pass_due(&request).await?;
        crash::point("start: a full pass is due");
    }
    if row.mapping_fingerprint.as_deref().is_some_and(|stored| stored != mapping) {
        writer.begin_retry_of_all_rejections().await?;
        row.retry_rejections_after.get_or_insert_default();
        crash::point("start: rejections are due");
    }
    Ok(row)
}
