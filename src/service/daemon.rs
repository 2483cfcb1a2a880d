//! The daemon: when passes run, who leads, what happens when an end is unreachable.
//!
//! Owns: the loop over passes, standing by, reloading, stopping. Must not know: what a pass does.
//! It never ends for anything that only database or IM can tell: it says why it is not ready, and tries again.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::signal::unix::Signal;
use tokio::time::Instant;

use super::connect::{self, ConnectError, Resources};
use super::readiness::Readiness;
use super::systemd;
use crate::clock::{self, Shutdown};
use crate::config::{self, Config};
use crate::metrics::Metrics;
use crate::pass::{Engine, FullOptions, FullPassStep, PassError, PassKind, PassProgress, PassReport};
use crate::source::Source;
use crate::state::Lease;

/// A standby asks for the lease this often.
const ASK_FOR_LEASE: Duration = Duration::from_secs(1);
/// After trouble: the first pause, doubling up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// The longest pause between passes while something stands in the way that only a person can mend. The vendor asks for
/// a minute after too many bad signatures (70050).
const LONGEST_PATIENCE: Duration = Duration::from_mins(1);
/// A graceful stop takes at most this long.
pub const GRACE: Duration = Duration::from_secs(25);

/// Everything of the daemon that outlives a lease.
pub struct Daemon {
    pub config: Arc<Config>,
    pub metrics: Arc<Metrics>,
    pub readiness: Arc<Readiness>,
    pub shutdown: Shutdown,
    pub hangups: Signal,
    /// Reads the configuration again, from the same place as at start.
    pub read_config: Box<dyn Fn() -> Result<Config, String> + Send + Sync>,
    /// Warnings about the source that were given already: once each, not at every connection.
    pub warned: BTreeSet<String>,
    /// A SIGHUP in the middle of a full pass has brought another configuration.
    pub reloaded: bool,
}

impl std::fmt::Debug for Daemon {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Daemon").field("config", &self.config.path).finish_non_exhaustive()
    }
}

/// Why leading ended.
enum Ended {
    Shutdown,
    /// Try again from the start, after a pause if there was trouble.
    Trouble(String),
    LeaseLost,
    Reload,
}

impl Daemon {
    /// Runs until the shutdown is requested. A graceful stop that takes longer than [`GRACE`] is cut off; what was in
    /// flight then becomes unknown and is settled at the next start.
    pub async fn run(mut self) {
        let shutdown = self.shutdown.clone();
        let late = async {
            shutdown.wait().await;
            systemd::stopping();
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            () = self.live() => tracing::info!("stopped"),
            () = late => tracing::warn!("stopped after {} s with calls still in flight; the next start settles them", GRACE.as_secs()),
        }
    }

    async fn live(&mut self) {
        let mut pause = FIRST_PAUSE;
        let mut said = String::new();
        while !self.shutdown.requested() {
            let began = clock::monotonic();
            match Box::pin(self.open_and_lead()).await {
                Ended::Shutdown => break,
                Ended::Reload => {}
                Ended::LeaseLost => {
                    tracing::warn!("the lease was lost; asking for it again");
                    said.clear();
                    self.sleep(ASK_FOR_LEASE).await;
                }
                Ended::Trouble(why) => {
                    self.readiness.trouble(why.clone());
                    if began.elapsed() > LONGEST_PAUSE {
                        pause = FIRST_PAUSE;
                        said.clear();
                    }
                    // The same sentence once, not every second for an hour.
                    if said == why {
                        tracing::debug!("{why}");
                    } else {
                        tracing::error!("{why}; trying again by itself");
                        systemd::status(&format!("not ready: {why}"));
                        said = why;
                    }
                    self.sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
            self.metrics.lead(false);
        }
    }

    /// Sleeps until the time is over, the shutdown is requested, or a SIGHUP has brought another configuration.
    async fn sleep(&mut self, duration: Duration) -> bool {
        let until = clock::monotonic() + duration;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(until) => return false,
                () = self.shutdown.wait() => return false,
                _ = self.hangups.recv() => if self.reload() { return true },
            }
        }
    }

    /// A SIGHUP: true when there is a new configuration in force.
    fn reload(&mut self) -> bool {
        let refused = |why: String| {
            tracing::error!("the configuration was not reloaded, the old one stays in force: {why}");
            self.metrics.config_last_reload_successful.set(0);
            false
        };
        let new = match (self.read_config)() {
            Ok(new) => new,
            Err(why) => return refused(why),
        };
        let mut fixed = config::differs_in_fixed_keys(&self.config, &new);
        // The state is bound to them: another app is accepted by `migrate --rebind`, not in passing.
        if new.im.sdk_app_id != self.config.im.sdk_app_id {
            fixed.push("im.sdk_app_id");
        }
        if new.im.service != self.config.im.service {
            fixed.push("im.service");
        }
        if !fixed.is_empty() {
            return refused(format!("{} cannot change while the daemon runs; restart it", fixed.join(", ")));
        }
        tracing::info!(file = %new.path.display(), "configuration reloaded");
        crate::logging::set_level(new.log.level);
        for sentence in new.not_yet_in_force() {
            tracing::warn!("{sentence}");
        }
        self.readiness.set_interval(new.schedule.interval);
        self.config = Arc::new(new);
        self.metrics.config_last_reload_successful.set(1);
        true
    }

    async fn open_and_lead(&mut self) -> Ended {
        let mut ground = match connect::ground(&self.config).await {
            Ok(ground) => ground,
            Err(error) => return Ended::Trouble(error.to_string()),
        };
        for warning in ground.source.warnings() {
            if self.warned.insert(warning.clone()) {
                tracing::warn!("{warning}");
            }
        }
        let mut told = None;
        let (lease, writer) = loop {
            match ground.take_lease().await {
                Ok(Ok(taken)) => break taken,
                Ok(Err(holder)) => {
                    self.readiness.standing_by();
                    let holder = holder.to_string();
                    if told.as_ref() != Some(&holder) {
                        tracing::info!("standing by: {holder} holds the lease");
                        systemd::status(&format!("standing by: {holder} holds the lease"));
                        told = Some(holder);
                    }
                }
                Err(error) => return Ended::Trouble(error.to_string()),
            }
            if self.sleep(ASK_FOR_LEASE).await {
                return Ended::Reload;
            }
            if self.shutdown.requested() {
                return Ended::Shutdown;
            }
        };
        self.readiness.leading();
        self.metrics.lead(true);
        tracing::info!(table = %ground.source.resolved_table(), "leading");
        systemd::status("leading");
        let ended = Box::pin(lease.while_held(self.lead(ground, &lease, writer))).await.unwrap_or(Ended::LeaseLost);
        lease.release().await;
        ended
    }

    async fn lead(&mut self, ground: Resources, lease: &Lease, writer: crate::state::StateWriter) -> Ended {
        let fresh = Freshness::from_row(&ground);
        let mut engine = match ground.engine(lease, writer, &self.metrics, &self.shutdown).await {
            Ok(engine) => engine,
            Err(ConnectError::Pass(error)) if error.lease_lost() => return Ended::LeaseLost,
            Err(error) => return Ended::Trouble(error.to_string()),
        };
        let gauge = tokio::spawn(keep_lag(self.metrics.clone(), fresh.clone()));
        let ended = self.passes(&mut engine, lease, &fresh).await;
        gauge.abort();
        if matches!(ended, Ended::Shutdown | Ended::Reload) {
            // The next holder waits a whole second where this is not known.
            let _ = engine.store_last_call().await;
        }
        ended
    }

    async fn passes(&mut self, engine: &mut Engine, lease: &Lease, fresh: &Freshness) -> Ended {
        // What only a person can mend (credentials, a missing attribute name) is asked again ever more slowly.
        let mut patience = self.config.schedule.interval;
        let mut full_failed = false;
        loop {
            if self.shutdown.requested() {
                return Ended::Shutdown;
            }
            if !lease.held() {
                return Ended::LeaseLost;
            }
            let began = clock::monotonic();
            let full = engine.full_pass_due().or_else(|| {
                (!engine.has_watermark())
                    .then(|| "there is no watermark column: every pass compares the whole table".to_owned())
            });
            // A full pass that keeps failing must not keep fresh changes from going.
            let first = if full.is_some() && full_failed && engine.has_watermark() {
                self.incremental(engine, fresh).await
            } else {
                None
            };
            let error = match (first, full) {
                (Some(error), _) => Some(error),
                (None, Some(why)) => {
                    if engine.has_watermark() || !full_failed {
                        tracing::info!("a full pass begins: {why}");
                    }
                    let error = self.full(engine, fresh).await;
                    full_failed = error.is_some();
                    error
                }
                (None, None) => self.incremental(engine, fresh).await,
            };
            if self.reloaded {
                self.reloaded = false;
                return Ended::Reload;
            }
            if let Some(error) = &error
                && let Some(ended) = self.after_trouble(engine, error).await
            {
                return ended;
            }
            let hopeless = error.as_ref().is_some_and(PassError::needs_a_person);
            patience = if hopeless { (patience * 2).min(LONGEST_PATIENCE) } else { self.config.schedule.interval };
            let next = began + patience.max(self.config.schedule.interval);
            if self.sleep(next.saturating_duration_since(clock::monotonic())).await {
                return Ended::Reload;
            }
        }
    }

    /// What a failed pass means for the connections.
    async fn after_trouble(&mut self, engine: &mut Engine, error: &PassError) -> Option<Ended> {
        if error.lease_lost() {
            return Some(Ended::LeaseLost);
        }
        match error {
            PassError::Source(_) => {
                // A new connection also looks at the table anew: a column may have come or gone.
                let mapping = crate::mapping::Mapping::new(&self.config);
                match Source::connect(&self.config, mapping.columns()).await {
                    Ok(source) => engine.replace_source(source),
                    Err(error) => return Some(Ended::Trouble(error.to_string())),
                }
                None
            }
            PassError::State(error) => Some(Ended::Trouble(error.to_string())),
            PassError::Stop(_) | PassError::NoWatermark => None,
        }
    }

    async fn incremental(&mut self, engine: &mut Engine, fresh: &Freshness) -> Option<PassError> {
        let tally = Arc::new(PassProgress::new(PassKind::Incremental));
        let watch = self.watch(&tally);
        let (report, error) = engine.incremental(tally).await;
        watch.abort();
        self.note(&report, fresh);
        error
    }

    /// A full pass in steps; incremental passes go between them.
    async fn full(&mut self, engine: &mut Engine, fresh: &Freshness) -> Option<PassError> {
        let tally = Arc::new(PassProgress::new(PassKind::Full));
        // Without a watermark this is what every poll is.
        tally.set_routine(!engine.source().has_watermark());
        let watch = self.watch(&tally);
        let mut full = match engine.begin_full(FullOptions::default(), tally).await {
            Ok(full) => full,
            Err((report, error)) => {
                watch.abort();
                self.note(&report, fresh);
                return Some(error);
            }
        };
        let mut last_incremental = clock::monotonic();
        let error = loop {
            if let FullPassStep::Done(report, error) = engine.step_full(&mut full).await {
                self.note(&report, fresh);
                break error;
            }
            if self.hangups.recv().now_or_never().is_some() && self.reload() {
                // What has been compared stays compared: if the mapping is the same, the pass goes on from there.
                let (report, _) = engine.interrupt_full(&mut full).await;
                self.note(&report, fresh);
                self.reloaded = true;
                break None;
            }
            if engine.has_watermark() && last_incremental.elapsed() >= self.config.schedule.interval {
                last_incremental = clock::monotonic();
                if let Some(error) = self.incremental(engine, fresh).await {
                    // Its trouble is this pass's too; nothing of it may be in flight when the connections are replaced.
                    let (report, _) = engine.interrupt_full(&mut full).await;
                    report.log();
                    self.readiness.pass_finished(Some(error.to_string()));
                    break Some(error);
                }
            }
        };
        watch.abort();
        error
    }

    fn note(&self, report: &PassReport, fresh: &Freshness) {
        report.log();
        let failed =
            (report.ending == crate::pass::PassOutcome::Failed).then(|| report.row.error.clone().unwrap_or_default());
        if report.fresh {
            fresh.set(report.began);
            fresh.show(&self.metrics);
        }
        if let Some(error) = &failed {
            systemd::status(&format!("the last pass failed: {error}"));
        } else {
            systemd::status(&format!("leading; last pass: {} {}", report.row.kind, report.row.outcome));
        }
        self.readiness.pass_finished(failed);
    }

    /// Tells readiness of a pass under way and of what it records.
    fn watch(&self, tally: &Arc<PassProgress>) -> tokio::task::JoinHandle<()> {
        self.readiness.pass_started();
        let readiness = self.readiness.clone();
        let tally = tally.clone();
        tokio::spawn(async move {
            let mut seen = 0;
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                let recorded = tally.recorded();
                if recorded > seen {
                    seen = recorded;
                    readiness.pass_recorded_something();
                }
            }
        })
    }
}

/// When the newest complete pass began; what `imsync_lag_seconds` counts from.
#[derive(Clone, Debug, Default)]
struct Freshness(Arc<Mutex<Option<Instant>>>);

impl Freshness {
    fn from_row(ground: &Resources) -> Self {
        let fresh = Self::default();
        if let Some(as_of) = ground.row.current_as_of {
            let ago = (ground.row.read_at - as_of).to_std().unwrap_or_default();
            if let Some(moment) = clock::monotonic().checked_sub(ago) {
                fresh.set(moment);
            }
        }
        fresh
    }

    fn set(&self, moment: Instant) {
        if let Ok(mut fresh) = self.0.lock() {
            // A full pass that ends began long before the incremental ones that went between its steps.
            *fresh = (*fresh).max(Some(moment));
        }
    }

    fn show(&self, metrics: &Metrics) {
        if let Some(moment) = self.0.lock().ok().and_then(|fresh| *fresh) {
            metrics.show_lag(moment.elapsed().as_secs_f64());
        }
    }
}

async fn keep_lag(metrics: Arc<Metrics>, fresh: Freshness) {
    loop {
        fresh.show(&metrics);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
