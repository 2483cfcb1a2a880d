//! The Prometheus metrics of this process.
//!
//! Owns: their names, help texts and labels, the registry, and the text format. Must not know: who sets them.
//!
//! Names and labels are part of the interface. A counter whose label values are known in advance starts at 0, so that
//! `rate()` sees its first increment.

use prometheus::core::Collector;
use prometheus::{
    Counter, Encoder, Gauge, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

/// The metrics of one process. Share it in an `Arc`.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// `imsync_ready`.
    pub ready: IntGauge,
    /// `imsync_lease_held`. Set it with [`Metrics::set_leading`].
    pub lease_held: IntGauge,
    /// `imsync_passes_total{kind,outcome}`.
    pub passes: IntCounterVec,
    /// `imsync_pass_duration_seconds{kind}`.
    pub pass_duration: HistogramVec,
    /// `imsync_rows_read_total{kind}`.
    pub rows_read: IntCounterVec,
    /// `imsync_accounts`.
    pub accounts: IntGauge,
    /// `imsync_in_doubt_accounts`.
    pub in_doubt_accounts: IntGauge,
    /// `imsync_accounts_pushed_total{op}`; `op` is `set` or `remove`.
    pub accounts_pushed: IntCounterVec,
    /// `imsync_rejections_total{code}`; `code` is the vendor's, or `local` for a value that imsync refuses.
    pub rejections: IntCounterVec,
    /// `imsync_rejected_accounts`.
    pub rejected_accounts: IntGauge,
    /// `imsync_full_pass_repairs_total`.
    pub repaired: IntCounter,
    /// `imsync_im_calls_total{command,code}`.
    pub im_calls: IntCounterVec,
    /// `imsync_im_call_duration_seconds{command}`.
    pub im_call_duration: HistogramVec,
    /// `imsync_im_retries_total`.
    pub im_retries: IntCounter,
    /// `imsync_throttle_wait_seconds_total`.
    pub throttle_wait: Counter,
    /// `imsync_rate_limit_calls_per_second`.
    pub rate_limit: Gauge,
    /// `imsync_watermark_timestamp_seconds`.
    pub watermark_timestamp: Gauge,
    /// `imsync_watermark_held_back_seconds`.
    pub watermark_held_back: Gauge,
    /// `imsync_lag_seconds`. Registered only while this instance leads, because a standby has no lag of its own. Set it
    /// with [`Metrics::show_lag`].
    pub lag: Gauge,
    /// `imsync_last_success_timestamp_seconds`.
    pub last_success_timestamp: Gauge,
    /// `imsync_config_last_reload_successful`.
    pub config_last_reload_successful: IntGauge,
}

const KINDS: [&str; 3] = ["incremental", "full", "selected"];
const OUTCOMES: [&str; 5] = ["ok", "rejected", "failed", "guard", "interrupted"];
const COMMANDS: [&str; 5] = ["set_attr", "get_attr", "remove_attr", "set_attr_name", "get_attr_name"];

impl Metrics {
    /// A new registry with all metrics at their initial values. `name` is the name of the sync.
    pub fn new(name: &str) -> Self {
        let registry = Registry::new();
        let build_info = IntGaugeVec::new(
            Opts::new("imsync_build_info", "The version of imsync, in the label; the value is always 1."),
            &["version"],
        )
        .expect("fixed name and labels are valid");
        build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let sync_info = IntGaugeVec::new(
            Opts::new("imsync_sync_info", "The name of this sync, in the label; the value is always 1."),
            &["name"],
        )
        .expect("fixed name and labels are valid");
        sync_info.with_label_values(&[name]).set(1);
        add(&registry, build_info);
        add(&registry, sync_info);
        let metrics = Self {
            ready: int_gauge(&registry, "imsync_ready", "1 if /readyz answers 200, 0 otherwise."),
            lease_held: int_gauge(&registry, "imsync_lease_held", "1 if this instance holds the lease, 0 otherwise."),
            passes: int_counters(
                &registry,
                "imsync_passes_total",
                "Finished passes by kind and outcome.",
                &["kind", "outcome"],
            ),
            pass_duration: histogram(
                &registry,
                "imsync_pass_duration_seconds",
                "Duration of passes in seconds.",
                &["kind"],
                &[0.005, 0.02, 0.1, 0.5, 1.0, 5.0, 20.0, 60.0, 300.0, 1800.0, 7200.0],
            ),
            rows_read: int_counters(&registry, "imsync_rows_read_total", "Rows read from the source table.", &["kind"]),
            accounts: int_gauge(&registry, "imsync_accounts", "Accounts with an acknowledged value."),
            in_doubt_accounts: int_gauge(
                &registry,
                "imsync_in_doubt_accounts",
                "Accounts with an attribute whose value in IM is not certain.",
            ),
            accounts_pushed: int_counters(
                &registry,
                "imsync_accounts_pushed_total",
                "Accounts for which IM acknowledged a set or a removal.",
                &["op"],
            ),
            rejections: int_counters(
                &registry,
                "imsync_rejections_total",
                "Recorded rejections by error code; code \"local\" for values that imsync refuses.",
                &["code"],
            ),
            rejected_accounts: int_gauge(
                &registry,
                "imsync_rejected_accounts",
                "Accounts with a rejection that stands.",
            ),
            repaired: int_counter(
                &registry,
                "imsync_full_pass_repairs_total",
                "Accounts with a change that a full pass found and no incremental pass had seen.",
            ),
            im_calls: int_counters(
                &registry,
                "imsync_im_calls_total",
                "Calls to IM by command and result code; code \"0\" for success.",
                &["command", "code"],
            ),
            im_call_duration: histogram(
                &registry,
                "imsync_im_call_duration_seconds",
                "Duration of single calls to IM in seconds, without retries.",
                &["command"],
                &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0],
            ),
            im_retries: int_counter(&registry, "imsync_im_retries_total", "Calls to IM that repeated an earlier call."),
            throttle_wait: counter(
                &registry,
                "imsync_throttle_wait_seconds_total",
                "Total time in seconds that calls waited for the rate limiter.",
            ),
            rate_limit: gauge(
                &registry,
                "imsync_rate_limit_calls_per_second",
                "Current rate limit of set calls per second.",
            ),
            watermark_timestamp: gauge(
                &registry,
                "imsync_watermark_timestamp_seconds",
                "Durable watermark as a Unix timestamp; for a bigint watermark column its value.",
            ),
            watermark_held_back: gauge(
                &registry,
                "imsync_watermark_held_back_seconds",
                "Seconds for which an open transaction has held the watermark back; 0 if none does.",
            ),
            lag: gauge_unregistered(
                "imsync_lag_seconds",
                "Changes committed longer ago than this many seconds are in IM, except for rejected and in-doubt accounts.",
            ),
            last_success_timestamp: gauge(
                &registry,
                "imsync_last_success_timestamp_seconds",
                "Unix timestamp of the end of the last pass that did not fail.",
            ),
            config_last_reload_successful: int_gauge(
                &registry,
                "imsync_config_last_reload_successful",
                "1 if the last SIGHUP loaded a new configuration (or none was sent), 0 if it was refused.",
            ),
            registry,
        };
        metrics.initialize_labels();
        metrics
    }

    /// Creates the series whose label values are known in advance.
    fn initialize_labels(&self) {
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

    /// Whether this instance holds the lease. When it does not, the lag is no longer shown.
    pub fn set_leading(&self, leading: bool) {
        self.lease_held.set(i64::from(leading));
        if !leading {
            // An error means that it was not registered.
            let _ = self.registry.unregister(Box::new(self.lag.clone()));
        }
    }

    /// Sets the lag and registers it. Before the first complete pass the lag is not known, and 0 would be wrong.
    pub fn show_lag(&self, seconds: f64) {
        self.lag.set(seconds);
        // An error means that it is registered already.
        let _ = self.registry.register(Box::new(self.lag.clone()));
    }

    /// All metrics in the Prometheus text format.
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
