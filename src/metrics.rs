//! The metrics by name. Owns: registration, labels, the Prometheus text. Must not know: who counts.
//!
//! Names and labels are part of the interface; every counter whose labels are known beforehand begins at 0.

use prometheus::core::Collector;
use prometheus::{
    Counter, Encoder, Gauge, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

/// Everything that `/metrics` shows. One instance a process; share it in an `Arc`.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    pub ready: IntGauge,
    pub lease_held: IntGauge,
    /// Labels: kind, outcome.
    pub passes: IntCounterVec,
    /// Label: kind.
    pub pass_duration: HistogramVec,
    /// Label: kind.
    pub rows_read: IntCounterVec,
    pub accounts: IntGauge,
    pub in_doubt_accounts: IntGauge,
    /// Label: op (set, remove).
    pub accounts_pushed: IntCounterVec,
    /// Label: code; the vendor's, or `local` for a value refused here.
    pub rejections: IntCounterVec,
    pub rejected_accounts: IntGauge,
    pub repaired: IntCounter,
    /// Labels: command, code.
    pub im_calls: IntCounterVec,
    /// Label: command.
    pub im_call_duration: HistogramVec,
    pub im_retries: IntCounter,
    pub throttle_wait: Counter,
    pub rate_limit: Gauge,
    pub watermark_timestamp: Gauge,
    pub watermark_held_back: Gauge,
    /// Registered only while this instance leads: a standby has no lag of its own.
    pub lag: Gauge,
    pub last_success_timestamp: Gauge,
    pub config_last_reload_successful: IntGauge,
}

const KINDS: [&str; 3] = ["incremental", "full", "selected"];
const OUTCOMES: [&str; 5] = ["ok", "rejected", "failed", "guard", "interrupted"];
const COMMANDS: [&str; 5] = ["set_attr", "get_attr", "remove_attr", "set_attr_name", "get_attr_name"];

impl Metrics {
    /// A registry of its own with all metrics at their beginnings, for the sync of this name.
    pub fn new(name: &str) -> Self {
        let registry = Registry::new();
        let build_info =
            IntGaugeVec::new(Opts::new("imsync_build_info", "The running version; always 1."), &["version"])
                .expect("fixed name and labels are valid");
        build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let sync_info = IntGaugeVec::new(Opts::new("imsync_sync_info", "The name of this sync; always 1."), &["name"])
            .expect("fixed name and labels are valid");
        sync_info.with_label_values(&[name]).set(1);
        add(&registry, build_info);
        add(&registry, sync_info);
        let metrics = Self {
            ready: int_gauge(&registry, "imsync_ready", "1 while /readyz answers 200."),
            lease_held: int_gauge(&registry, "imsync_lease_held", "1 while this instance holds the lease."),
            passes: int_counters(&registry, "imsync_passes_total", "Passes finished.", &["kind", "outcome"]),
            pass_duration: histogram(
                &registry,
                "imsync_pass_duration_seconds",
                "How long passes took.",
                &["kind"],
                &[0.005, 0.02, 0.1, 0.5, 1.0, 5.0, 20.0, 60.0, 300.0, 1800.0, 7200.0],
            ),
            rows_read: int_counters(&registry, "imsync_rows_read_total", "Rows read from the table.", &["kind"]),
            accounts: int_gauge(&registry, "imsync_accounts", "Accounts with something acknowledged or in doubt."),
            in_doubt_accounts: int_gauge(
                &registry,
                "imsync_in_doubt_accounts",
                "Accounts with an attribute whose value in IM is not known.",
            ),
            accounts_pushed: int_counters(
                &registry,
                "imsync_accounts_pushed_total",
                "Accounts whose change IM acknowledged.",
                &["op"],
            ),
            rejections: int_counters(&registry, "imsync_rejections_total", "Rejections recorded, by code.", &["code"]),
            rejected_accounts: int_gauge(&registry, "imsync_rejected_accounts", "Accounts with a standing rejection."),
            repaired: int_counter(
                &registry,
                "imsync_full_pass_repairs_total",
                "Accounts that a full pass had to put right.",
            ),
            im_calls: int_counters(
                &registry,
                "imsync_im_calls_total",
                "Calls to IM, by command and code.",
                &["command", "code"],
            ),
            im_call_duration: histogram(
                &registry,
                "imsync_im_call_duration_seconds",
                "How long calls to IM took, one attempt each.",
                &["command"],
                &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0],
            ),
            im_retries: int_counter(&registry, "imsync_im_retries_total", "Calls that repeated an earlier one."),
            throttle_wait: counter(
                &registry,
                "imsync_throttle_wait_seconds_total",
                "Time calls waited for the rate limiter.",
            ),
            rate_limit: gauge(&registry, "imsync_rate_limit_calls_per_second", "The rate in force for set calls."),
            watermark_timestamp: gauge(
                &registry,
                "imsync_watermark_timestamp_seconds",
                "The durable watermark; for a bigint watermark its value.",
            ),
            watermark_held_back: gauge(
                &registry,
                "imsync_watermark_held_back_seconds",
                "For how long an open transaction has held the watermark back; 0 when none does.",
            ),
            lag: gauge_unregistered(
                "imsync_lag_seconds",
                "Everything committed longer ago than this is in IM, rejected accounts aside.",
            ),
            last_success_timestamp: gauge(
                &registry,
                "imsync_last_success_timestamp_seconds",
                "When the newest pass that did not fail ended.",
            ),
            config_last_reload_successful: int_gauge(
                &registry,
                "imsync_config_last_reload_successful",
                "0 when the last SIGHUP brought a configuration that was refused.",
            ),
            registry,
        };
        metrics.begin_at_zero();
        metrics
    }

    fn begin_at_zero(&self) {
        self.config_last_reload_successful.set(1);
        for kind in KINDS {
            for outcome in OUTCOMES {
                self.passes.with_label_values(&[kind, outcome]).inc_by(0);
            }
            self.rows_read.with_label_values(&[kind]).inc_by(0);
            let _ = self.pass_duration.with_label_values(&[kind]);
        }
        for op in ["set", "remove"] {
            self.accounts_pushed.with_label_values(&[op]).inc_by(0);
        }
        self.rejections.with_label_values(&["local"]).inc_by(0);
        for command in COMMANDS {
            self.im_calls.with_label_values(&[command, "0"]).inc_by(0);
            let _ = self.im_call_duration.with_label_values(&[command]);
        }
        #[cfg(target_os = "linux")]
        add(&self.registry, prometheus::process_collector::ProcessCollector::for_self());
    }

    /// This instance leads, or no longer does.
    pub fn lead(&self, leading: bool) {
        self.lease_held.set(i64::from(leading));
        if !leading {
            // Not there unless it was shown.
            let _ = self.registry.unregister(Box::new(self.lag.clone()));
        }
    }

    /// The lag of a leader that knows it: before the first complete pass there is none to show, and 0 would be a lie.
    pub fn show_lag(&self, seconds: f64) {
        self.lag.set(seconds);
        // Registered already but for the first time.
        let _ = self.registry.register(Box::new(self.lag.clone()));
    }

    /// The text exposition format.
    pub fn render(&self) -> String {
        let mut buffer = Vec::new();
        // Writing to a Vec cannot fail; a metric family that cannot be encoded is left out.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut buffer);
        String::from_utf8(buffer).unwrap_or_default()
    }
}

fn add<C: Collector + 'static>(registry: &Registry, collector: C) {
    registry.register(Box::new(collector)).expect("each name is registered once, by this file");
}

fn int_gauge(registry: &Registry, name: &str, help: &str) -> IntGauge {
    let metric = IntGauge::new(name, help).expect("fixed name is valid");
    add(registry, metric.clone());
    metric
}

fn gauge_unregistered(name: &str, help: &str) -> Gauge {
    Gauge::new(name, help).expect("fixed name is valid")
}

fn gauge(registry: &Registry, name: &str, help: &str) -> Gauge {
    let metric = gauge_unregistered(name, help);
    add(registry, metric.clone());
    metric
}

fn int_counter(registry: &Registry, name: &str, help: &str) -> IntCounter {
    let metric = IntCounter::new(name, help).expect("fixed name is valid");
    add(registry, metric.clone());
    metric
}

fn counter(registry: &Registry, name: &str, help: &str) -> Counter {
    let metric = Counter::new(name, help).expect("fixed name is valid");
    add(registry, metric.clone());
    metric
}

fn int_counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    let metric = IntCounterVec::new(Opts::new(name, help), labels).expect("fixed name and labels are valid");
    add(registry, metric.clone());
    metric
}

fn histogram(registry: &Registry, name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> HistogramVec {
    let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
    let metric = HistogramVec::new(options, labels).expect("fixed name and labels are valid");
    add(registry, metric.clone());
    metric
}
