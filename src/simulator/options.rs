//! The settings of a simulator.
//!
//! Owns: the settings and their defaults. Must not know: how a setting takes effect.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::app_state::VendorLimits;
use super::faults::FaultRule;

/// The settings of a simulator. The default is a made-up app without attribute names, served on a free port of the
/// loopback address.
#[derive(Clone)]
pub struct SimulatorOptions {
    /// Address and port to listen on; port 0 takes a free one. The control interface needs no authentication: it is
    /// open to everyone who can connect.
    pub listen: SocketAddr,
    /// The `SDKAppID` of the simulated app.
    pub sdk_app_id: u32,
    /// The key with which a UserSig must be signed.
    pub secret_key: String,
    /// The app's admin account. Only this account may call.
    pub identifier: String,
    /// The app's attribute names, numbered from 0; at most ten.
    pub attribute_names: Vec<String>,
    /// If set, only these accounts exist; calls for other accounts are refused with 70107.
    pub imported_accounts: Option<Vec<String>>,
    /// Delay of every call before it is applied.
    pub latency: Duration,
    /// Number of calls that one endpoint accepts within any one second; further calls are answered with 60007.
    /// 0 means no limit.
    pub calls_per_second: u32,
    /// The vendor's size limits.
    pub limits: VendorLimits,
    /// Fault rules that apply from the start. A rule can be parsed from text; [`FAULT_FORMS`](super::FAULT_FORMS)
    /// lists the forms.
    pub faults: Vec<FaultRule>,
    /// Number of calls that the log keeps, with their bodies.
    pub logged_calls: usize,
    /// Seconds by which the simulator's wall clock is ahead of this machine's clock; negative if it is behind.
    pub clock_offset_seconds: i64,
}

impl Default for SimulatorOptions {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            sdk_app_id: 1_400_000_000,
            secret_key: "simulator-secret-key".to_owned(),
            identifier: "administrator".to_owned(),
            attribute_names: Vec::new(),
            imported_accounts: None,
            latency: Duration::ZERO,
            calls_per_second: 100,
            limits: VendorLimits::default(),
            faults: Vec::new(),
            logged_calls: 10_000,
            clock_offset_seconds: 0,
        }
    }
}

/// Omits the secret key.
impl fmt::Debug for SimulatorOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimulatorOptions")
            .field("listen", &self.listen)
            .field("sdk_app_id", &self.sdk_app_id)
            .field("identifier", &self.identifier)
            .field("attribute_names", &self.attribute_names)
            .field("latency", &self.latency)
            .field("calls_per_second", &self.calls_per_second)
            .finish_non_exhaustive()
    }
}
