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
    /// `imsync_drifted_accounts`.
    pub drifted_accounts: IntGauge,
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

/// A metric as `/metrics` describes it.
struct MetricDescription {
    name: &'static str,
    help: &'static str,
}

impl MetricDescription {
    fn options(&self) -> Opts {
        Opts::new(self.name, self.help)
    }
}

const BUILD_INFO: MetricDescription = MetricDescription {
    name: "imsync_build_info",
    help: "The version of imsync, in the label; the value is always 1.",
};
const SYNC_INFO: MetricDescription =
    MetricDescription { name: "imsync_sync_info", help: "The name of this sync, in the label; the value is always 1." };
const READY: MetricDescription =
    MetricDescription { name: "imsync_ready", help: "1 if /readyz answers 200, 0 otherwise." };
const LEASE_HELD: MetricDescription =
    MetricDescription { name: "imsync_lease_held", help: "1 if this instance holds the lease, 0 otherwise." };
const PASSES: MetricDescription =
    MetricDescription { name: "imsync_passes_total", help: "Finished passes by kind and outcome." };
const PASS_DURATION: MetricDescription =
    MetricDescription { name: "imsync_pass_duration_seconds", help: "Duration of passes in seconds." };
const ROWS_READ: MetricDescription =
    MetricDescription { name: "imsync_rows_read_total", help: "Rows read from the source table." };
const ACCOUNTS: MetricDescription =
    MetricDescription { name: "imsync_accounts", help: "Accounts with an acknowledged value." };
const IN_DOUBT_ACCOUNTS: MetricDescription = MetricDescription {
    name: "imsync_in_doubt_accounts",
    help: "Accounts with an attribute whose value in IM is not certain.",
};
const ACCOUNTS_PUSHED: MetricDescription = MetricDescription {
    name: "imsync_accounts_pushed_total",
    help: "Accounts for which IM acknowledged a set or a removal.",
};
const REJECTIONS: MetricDescription = MetricDescription {
    name: "imsync_rejections_total",
    help: "Recorded rejections by error code; code \"local\" for values that imsync refuses.",
};
const REJECTED_ACCOUNTS: MetricDescription =
    MetricDescription { name: "imsync_rejected_accounts", help: "Accounts with a rejection that stands." };
const DRIFTED_ACCOUNTS: MetricDescription = MetricDescription {
    name: "imsync_drifted_accounts",
    help: "Accounts for which IM did not hold what the table says at the end of the last verification.",
};
const REPAIRED: MetricDescription = MetricDescription {
    name: "imsync_full_pass_repairs_total",
    help: "Accounts with a change that a full pass found and no incremental pass had seen.",
};
const IM_CALLS: MetricDescription = MetricDescription {
    name: "imsync_im_calls_total",
    help: "Calls to IM by command and result code; code \"0\" for success.",
};
const IM_CALL_DURATION: MetricDescription = MetricDescription {
    name: "imsync_im_call_duration_seconds",
    help: "Duration of single calls to IM in seconds, without retries.",
};
const IM_RETRIES: MetricDescription =
    MetricDescription { name: "imsync_im_retries_total", help: "Calls to IM that repeated an earlier call." };
const THROTTLE_WAIT: MetricDescription = MetricDescription {
    name: "imsync_throttle_wait_seconds_total",
    help: "Total time in seconds that calls waited for the rate limiter.",
};
const RATE_LIMIT: MetricDescription = MetricDescription {
    name: "imsync_rate_limit_calls_per_second",
    help: "Current rate limit of set calls per second.",
};
const WATERMARK_TIMESTAMP: MetricDescription = MetricDescription {
    name: "imsync_watermark_timestamp_seconds",
    help: "Durable watermark as a Unix timestamp; for a bigint watermark column its value.",
};
const WATERMARK_HELD_BACK: MetricDescription = MetricDescription {
    name: "imsync_watermark_held_back_seconds",
    help: "Seconds for which an open transaction has held the watermark back; 0 if none does.",
};
const LAG: MetricDescription = MetricDescription {
    name: "imsync_lag_seconds",
    help: "Changes committed longer ago than this many seconds are in IM, except for rejected and in-doubt accounts.",
};
const LAST_SUCCESS_TIMESTAMP: MetricDescription = MetricDescription {
    name: "imsync_last_success_timestamp_seconds",
    help: "Unix timestamp of the end of the last pass that did not fail.",
};
const CONFIG_LAST_RELOAD_SUCCESSFUL: MetricDescription = MetricDescription {
    name: "imsync_config_last_reload_successful",
    help: "1 if the last SIGHUP loaded a new configuration (or none was sent), 0 if it was refused.",
};

/// Upper bounds in seconds. An incremental pass takes milliseconds, a full pass of a large table hours.
const PASS_BUCKETS: &[f64] = &[0.005, 0.02, 0.1, 0.5, 1.0, 5.0, 20.0, 60.0, 300.0, 1800.0, 7200.0];
/// Upper bounds in seconds, up to the default of `im.timeout`.
const CALL_BUCKETS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

const KINDS: [&str; 3] = ["incremental", "full", "selected"];
const OUTCOMES: [&str; 5] = ["ok", "rejected", "failed", "guard", "interrupted"];
const COMMANDS: [&str; 7] =
    ["set_attr", "get_attr", "remove_attr", "set_attr_name", "get_attr_name", "account_check", "account_import"];

impl Metrics {
    /// A new registry with all metrics at their initial values. `name` is the name of the sync.
    pub fn new(name: &str) -> Self {
        let registry = Registry::new();
        add_info(&registry, &BUILD_INFO, "version", env!("CARGO_PKG_VERSION"));
        add_info(&registry, &SYNC_INFO, "name", name);
        let metrics = Self {
            ready: int_gauge(&registry, &READY),
            lease_held: int_gauge(&registry, &LEASE_HELD),
            passes: int_counters(&registry, &PASSES, &["kind", "outcome"]),
            pass_duration: histogram(&registry, &PASS_DURATION, &["kind"], PASS_BUCKETS),
            rows_read: int_counters(&registry, &ROWS_READ, &["kind"]),
            accounts: int_gauge(&registry, &ACCOUNTS),
            in_doubt_accounts: int_gauge(&registry, &IN_DOUBT_ACCOUNTS),
            accounts_pushed: int_counters(&registry, &ACCOUNTS_PUSHED, &["op"]),
            rejections: int_counters(&registry, &REJECTIONS, &["code"]),
            rejected_accounts: int_gauge(&registry, &REJECTED_ACCOUNTS),
            drifted_accounts: int_gauge(&registry, &DRIFTED_ACCOUNTS),
            repaired: int_counter(&registry, &REPAIRED),
            im_calls: int_counters(&registry, &IM_CALLS, &["command", "code"]),
            im_call_duration: histogram(&registry, &IM_CALL_DURATION, &["command"], CALL_BUCKETS),
            im_retries: int_counter(&registry, &IM_RETRIES),
            throttle_wait: counter(&registry, &THROTTLE_WAIT),
            rate_limit: gauge(&registry, &RATE_LIMIT),
            watermark_timestamp: gauge(&registry, &WATERMARK_TIMESTAMP),
            watermark_held_back: gauge(&registry, &WATERMARK_HELD_BACK),
            lag: gauge_unregistered(&LAG),
            last_success_timestamp: gauge(&registry, &LAST_SUCCESS_TIMESTAMP),
            config_last_reload_successful: int_gauge(&registry, &CONFIG_LAST_RELOAD_SUCCESSFUL),
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

    /// Calls to IM that have ended so far, however.
    pub fn ended_calls(&self) -> u64 {
        COMMANDS.iter().map(|command| self.im_call_duration.with_label_values(&[*command]).get_sample_count()).sum()
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

/// A gauge that is always 1 and carries its information in a label.
fn add_info(registry: &Registry, description: &MetricDescription, label: &str, value: &str) {
    let metric = IntGaugeVec::new(description.options(), &[label]).expect("fixed name and labels are valid");
    metric.with_label_values(&[value]).set(1);
    add(registry, metric);
}

fn int_gauge(registry: &Registry, description: &MetricDescription) -> IntGauge {
    let metric = IntGauge::with_opts(description.options()).expect("fixed name is valid");
    add(registry, metric.clone());
    metric
}

fn gauge_unregistered(description: &MetricDescription) -> Gauge {
    Gauge::with_opts(description.options()).expect("fixed name is valid")
}

fn gauge(registry: &Registry, description: &MetricDescription) -> Gauge {
    let metric = gauge_unregistered(description);
    add(registry, metric.clone());
    metric
}

fn int_counter(registry: &Registry, description: &MetricDescription) -> IntCounter {
    let metric = IntCounter::with_opts(description.options()).expect("fixed name is valid");
    add(registry, metric.clone());
    metric
}

fn counter(registry: &Registry, description: &MetricDescription) -> Counter {
    let metric = Counter::with_opts(description.options()).expect("fixed name is valid");
    add(registry, metric.clone());
    metric
}

fn int_counters(registry: &Registry, description: &MetricDescription, labels: &[&str]) -> IntCounterVec {
    let metric = IntCounterVec::new(description.options(), labels).expect("fixed name and labels are valid");
    add(registry, metric.clone());
    metric
}

fn histogram(registry: &Registry, description: &MetricDescription, labels: &[&str], buckets: &[f64]) -> HistogramVec {
    let options = HistogramOpts::new(description.name, description.help).buckets(buckets.to_vec());
    let metric = HistogramVec::new(options, labels).expect("fixed name and labels are valid");
    add(registry, metric.clone());
    metric
}
