//! `imsync simulate`: the simulator as a separate process.
//!
//! Owns: its arguments and output. Must not know: how the simulator works.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::exit::{CommandFailure, CommandResult, Exit};
use super::options::GlobalOptions;
use super::output::{calls, print_line, thousands};
use crate::clock::Shutdown;
use crate::service::signals::{self, OnHangup};
use crate::simulator::{FAULT_FORMS, FaultRule, Simulator, SimulatorOptions};

/// The arguments of `imsync simulate`.
#[derive(Clone, Debug)]
pub struct SimulateArgs {
    /// The address to listen on. Port 0 picks a free port.
    pub listen: SocketAddr,
    /// The SDKAppID of the simulated app.
    pub app: u32,
    /// The secret key of the app.
    pub key: String,
    /// The administrator of the app, the only user that may call the API.
    pub identifier: String,
    /// The attribute names of the app, at most ten.
    pub attributes: Vec<String>,
    /// The delay before a call is applied.
    pub latency: Duration,
    /// The maximum number of calls per second of each API command; 0 means no limit.
    pub rate: u32,
    /// A file with the accounts that exist, one a line; without it, every account exists.
    pub imported_accounts: Option<PathBuf>,
    /// The faults, in the syntax that [`print_fault_syntax`] shows.
    pub faults: Vec<String>,
}

/// Prints the syntax of `--fault`.
pub fn print_fault_syntax() -> CommandResult {
    print_line(format!(
        "\
The syntax of `imsync simulate --fault SPEC`, a repeatable flag.
SPEC is an action with its argument, followed by conditions. A colon separates
all parts.

{FAULT_FORMS}

Examples:
  --fault refuse:70107:account=u17
  --fault slow:200ms
  --fault hold:10s:command=set_attr:times=1
  --fault throttle:30"
    ))?;
    Ok(Exit::Done)
}

/// Serves the simulated IM service until a stop is requested.
pub async fn run(global: GlobalOptions, args: SimulateArgs) -> CommandResult {
    global.start_logging();
    let SimulateArgs { listen, app, key, identifier, attributes, latency, rate, imported_accounts, faults } = args;
    let faults: Vec<FaultRule> = faults
        .iter()
        .map(|text| text.parse().map_err(|error| CommandFailure::usage(format!("--fault {text}: {error}"))))
        .collect::<Result<_, _>>()?;
    let imported_accounts = match imported_accounts {
        None => None,
        Some(file) => {
            let text = std::fs::read_to_string(&file)
                .map_err(|error| CommandFailure::usage(format!("--imported-accounts {}: {error}", file.display())))?;
            Some(text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect())
        }
    };
    let shutdown = Shutdown::default();
    signals::listen(&shutdown, OnHangup::Stop)?;
    let options = SimulatorOptions {
        listen,
        sdk_app_id: app,
        secret_key: key,
        identifier: identifier.clone(),
        attribute_names: attributes.clone(),
        imported_accounts,
        latency,
        calls_per_second: rate,
        faults,
        ..SimulatorOptions::default()
    };
    let running = Simulator::start(options).await.map_err(|error| {
        CommandFailure::failed(format!("cannot listen on {listen}: {error}; choose another address with --listen"))
    })?;
    print_line(format!("simulated IM at {}, app {app}, identifier \"{identifier}\"", running.base_url()))?;
    if attributes.is_empty() {
        print_line("the app has no attribute names yet: use --attributes, or set them with im_set_attr_name")?;
    } else {
        print_line(format!("attribute names: {}", attributes.join(", ")))?;
    }
    print_line("press Ctrl-C to stop")?;
    shutdown.wait().await;
    let counters = running.handle().counters();
    running.stop().await;
    print_line(format!(
        "{} received, {} users with attributes, {} violations of the vendor's rules",
        calls(counters.arrived),
        thousands(counters.users),
        thousands(counters.violations),
    ))?;
    Ok(Exit::Done)
}
