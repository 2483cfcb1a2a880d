//! `imsync simulate`: the simulator as a server of its own.
//!
//! Owns: its flags and what it prints. Must not know: how the simulator works.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;

use super::{CommandResult, Exit, Failure, Global, say, thousands};
use crate::clock::Shutdown;
use crate::config::durations;
use crate::service::signals::{self, OnHangup};
use crate::simulator::{FAULT_FORMS, FaultRule, Simulator, SimulatorOptions};

pub const EXAMPLES: &str = "\
Examples:
  imsync simulate --attributes sex,city,plan
  imsync simulate --latency 50ms --rate 100
  imsync simulate --fault refuse:70107:account=u17 --fault hold:10s:command=set_attr:times=1

Put into imsync.toml, if no flag says otherwise:
  [im]
  base_url = \"http://127.0.0.1:8089\"
  sdk_app_id = 1400000000
  identifier = \"administrator\"
  secret_key = \"simulator-secret-key\"

What it holds:
  curl http://127.0.0.1:8089/_simulator/users";

/// The flags.
#[derive(Clone, Debug, Args)]
pub struct Arguments {
    /// Address and port to serve on; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8089")]
    listen: SocketAddr,
    /// The SDKAppID
    #[arg(long, value_name = "ID", default_value_t = 1_400_000_000)]
    app: u32,
    /// The app's secret key
    #[arg(long, value_name = "KEY", default_value = "simulator-secret-key")]
    key: String,
    /// The app's admin, who alone may call
    #[arg(long, value_name = "NAME", default_value = "administrator")]
    identifier: String,
    /// The app's attribute names, at most ten
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    attributes: Vec<String>,
    /// Every call waits this long before it is applied (ms, s, m)
    #[arg(long, value_name = "DURATION", default_value = "0ms", value_parser = duration)]
    latency: Duration,
    /// Calls a second of each command; those above are refused with 60007 (0: no limit)
    #[arg(long, value_name = "CALLS", default_value_t = 100)]
    rate: u32,
    /// Misbehaviour (repeatable); see the forms below
    #[arg(long = "fault", value_name = "SPEC", long_help = FAULT_FORMS)]
    faults: Vec<String>,
}

fn duration(text: &str) -> Result<Duration, String> {
    durations::parse(text).map_err(str::to_owned)
}

pub async fn run(global: Global, arguments: Arguments) -> CommandResult {
    global.start_logging();
    let Arguments { listen, app, key, identifier, attributes, latency, rate, faults } = arguments;
    let faults: Vec<FaultRule> = faults
        .iter()
        .map(|text| text.parse().map_err(|error| Failure::usage(format!("--fault {text}: {error}"))))
        .collect::<Result<_, _>>()?;
    let shutdown = Shutdown::default();
    signals::listen(&shutdown, OnHangup::Stop)?;
    let options = SimulatorOptions {
        listen,
        sdk_app_id: app,
        secret_key: key,
        identifier: identifier.clone(),
        attribute_names: attributes.clone(),
        latency,
        calls_per_second: rate,
        faults,
        ..SimulatorOptions::default()
    };
    let running = Simulator::start(options)
        .await
        .map_err(|error| Failure::failed(format!("cannot serve on {listen}: {error}; choose another --listen")))?;
    say(format!("simulated IM at {}, app {app}, identifier \"{identifier}\"", running.base_url()))?;
    if attributes.is_empty() {
        say("it knows no attribute names yet: give --attributes, or set them by im_set_attr_name")?;
    } else {
        say(format!("attribute names: {}", attributes.join(", ")))?;
    }
    say("Ctrl-C ends it")?;
    shutdown.wait().await;
    let counters = running.handle().counters();
    running.stop().await;
    say(format!(
        "{} calls taken, {} users hold attributes, {} violations of the vendor's rules",
        thousands(counters.arrived),
        thousands(counters.users),
        thousands(counters.violations),
    ))?;
    Ok(Exit::Done)
}
