//! The engine: everything that the passes of one sync share while the lease is held.
//!
//! Owns: the data of [`Engine`], and the questions that its owner asks between passes. Must not know: the steps of a pass.
//! Each step is an `impl Engine` in a file of its own.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::account_backoff::AccountBackoff;
use super::compare::PageComparer;
use super::current_passes::CurrentPasses;
use super::deferrals::Deferrals;
use super::delivery_queue::DeliveryQueue;
use super::error::PassError;
use super::full_pass_schedule::FullPassSchedule;
use super::guard::RemovalGuard;
use super::history_trim::HistoryTrim;
use super::met_accounts::MetAccounts;
use super::pages::{PageReader, PageScan};
use super::progress::PassProgress;
use super::read_position::{ReadPosition, WatermarkColumn};
use super::repairs::RepairCount;
use super::save_times::SaveTimes;
use super::slow_calls::{DetachedPass, SlowCalls};
use crate::clock::Shutdown;
use crate::config::Config;
use crate::crash;
use crate::metrics::Metrics;
use crate::model::Account;
use crate::push::Pusher;
use crate::source::Source;
use crate::state::account_count::AccountCounts;
use crate::state::due_work::DueWork;
use crate::state::{State, StateWriter};

/// Everything that the passes of one sync share while the lease is held.
#[derive(Debug)]
pub struct Engine {
    pub(super) config: Arc<Config>,
    pub(super) state: State,
    pub(super) writer: StateWriter,
    pub(super) pusher: Arc<Pusher>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) shutdown: Shutdown,
    pub(super) reader: PageReader,
    pub(super) comparer: PageComparer,
    pub(super) queue: DeliveryQueue,
    pub(super) backoff: Arc<Mutex<AccountBackoff>>,
    pub(super) read_position: ReadPosition,
    pub(super) full_passes: FullPassSchedule,
    pub(super) guard: RemovalGuard,
    pub(super) repairs: RepairCount,
    /// The scans of rows to which no read position leads, and where the next pass goes on.
    pub(super) outlying: [PageScan; 2],
    pub(super) saves: SaveTimes,
    pub(super) history_trim: HistoryTrim,
    /// The progress of the full pass that is under way, possibly beside incremental passes.
    pub(super) full_under_way: Option<Arc<PassProgress>>,
    /// The stored accounts that this full pass has met. The comparer and the deliveries share it.
    pub(super) met: MetAccounts,
    pub(super) deferrals: Deferrals,
    pub(super) slow_calls: SlowCalls,
    /// Passes that ended before their slowest call.
    pub(super) detached: Vec<DetachedPass>,
    pub(super) current_passes: CurrentPasses,
    /// After which account the next probe's account is searched.
    pub(super) probes_after: Arc<Mutex<Account>>,
    /// What was to be done when the newest pass began.
    pub(super) due_work: DueWork,
    /// The numbers of accounts at the end of the newest pass.
    pub(super) counts: AccountCounts,
    /// At most so many removals are owed. Deliveries that end meanwhile make it fewer.
    pub(super) owed_at_most: u64,
    /// The state holds values of no account except those that the full pass under way has met.
    pub(super) only_met_are_stored: bool,
    /// Rejections may be stored. Set before one is recorded.
    pub(super) may_be_rejected: Arc<AtomicBool>,
    /// The account up to which all rejections are due again after an edit of the mapping; `None` when that is done.
    pub(super) retry_rejections_after: Option<String>,
    /// Outcomes are unknown that a later pass retries. Until then IM may not hold everything that was committed.
    pub(super) in_doubt_pending: bool,
}

/// What the watermark column of an open source is.
pub(super) fn watermark_column(source: &Source) -> WatermarkColumn {
    if !source.has_watermark() {
        WatermarkColumn::None
    } else if source.watermark_is_counter() {
        WatermarkColumn::Counter
    } else {
        WatermarkColumn::Timestamp
    }
}

impl Engine {
    /// Why a full pass should run now, if one should.
    pub fn full_pass_due(&self) -> Option<String> {
        self.full_passes.due_now()
    }

    /// Whether there is a position from which an incremental pass can read. If not, only full passes run.
    pub fn has_watermark(&self) -> bool {
        self.read_position.is_known()
    }

    /// Whether outcomes are unknown that a later pass retries. As of the end of the last pass.
    pub fn in_doubt_pending(&self) -> bool {
        self.in_doubt_pending
    }

    /// The removal guard's document while it is tripped; see [`super::guard::message`].
    pub fn guard(&self) -> Option<&Value> {
        self.guard.document()
    }

    /// The numbers of accounts at the end of the newest pass.
    pub fn account_counts(&self) -> AccountCounts {
        self.counts
    }

    /// The accounts whose change only the full pass that has just ended has seen; `None` if it did not count them.
    pub fn missed_changes(&self) -> Option<u64> {
        self.repairs.counts().then(|| self.repairs.found().repaired)
    }

    /// The push stage, with its rate limits.
    pub fn pusher(&self) -> Arc<Pusher> {
        self.pusher.clone()
    }

    /// The state, for reading.
    pub fn state(&self) -> State {
        self.state.clone()
    }

    /// The source.
    pub fn source(&self) -> &Source {
        &self.reader.source
    }

    /// Waits for the first call of this process, also while a pass runs.
    pub fn first_call(&self) -> impl Future<Output = ()> + Send + use<> {
        let pusher = self.pusher.clone();
        async move { pusher.wait_for_first_call().await }
    }

    /// Stores the time of the last call for the next holder of the lease, which keeps the rate limit across processes.
    pub async fn store_last_call(&self) -> Result<(), PassError> {
        let ago = self.pusher.last_call().map(|moment| moment.elapsed().as_secs_f64());
        crash::point("last call: about to be stored");
        self.writer.save_last_call(ago).await?;
        crash::point("last call: stored");
        Ok(())
    }
}
