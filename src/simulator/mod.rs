//! The vendor's side, for tests and for trying things out: a local server that behaves, and misbehaves, as the IM
//! service does towards callers of its user-attribute commands.
//!
//! Owns: everything about the pretended vendor. Must not know: anything of the rest of this crate. It imports nothing
//! of ours, has its own JSON types and its own check of signatures, so that client and fake cannot be wrong together.
//! What the vendor's documentation leaves open is marked `Assumed:` where it is decided.
//!
//! A call's way: `connection` accepts, `call` leads it, `query` and `usersig` check its URL, `wire` reads its body,
//! `recording` notes it, `faults` may spoil it, `model` applies it, `reply` answers it. `handle` is the interface for the
//! process the simulator runs in, `control` the same over HTTP.

mod call;
mod clock;
mod code;
mod connection;
mod control;
mod counters;
mod endpoint;
mod faults;
mod handle;
mod model;
mod query;
mod recording;
mod reply;
mod shared;
mod usersig;
mod window;
mod wire;

#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub use counters::{Counters, EndpointCounters, Violation, ViolationKind};
pub use endpoint::{Command, Endpoint, Service};
pub use faults::{Action, FORMS as FAULT_FORMS, Matcher, Rule, RuleError, RuleId, Wrong};
pub use handle::{Call, CallUser, Handle};
pub use model::{Change, Limits};
pub use wire::AccountError;

/// How long a stopping simulator waits for answers to leave.
const STOP_WITHIN: Duration = Duration::from_secs(2);

/// What a simulator is like. The default is an app nobody has, on a free port of this machine, without attributes.
#[derive(Clone)]
pub struct Options {
    /// Where to listen; port 0 takes a free one. The control interface is open to whoever can connect.
    pub listen: SocketAddr,
    pub sdk_app_id: u32,
    pub secret_key: String,
    /// The app's admin, who alone may call.
    pub identifier: String,
    /// The app's attribute names, numbered from 0; at most ten.
    pub attribute_names: Vec<String>,
    /// When given, only these accounts exist; others are refused with 70107.
    pub imported_accounts: Option<Vec<String>>,
    /// Every call waits this long before it is applied.
    pub latency: Duration,
    /// Calls of one address in any one second; those above are answered with 60007. 0: no limit.
    pub calls_per_second: u32,
    pub limits: Limits,
    /// Misbehaviour from the start. A rule is parsed from text; [`FAULT_FORMS`] lists the forms.
    pub faults: Vec<Rule>,
    /// Calls kept in the log, with their bodies.
    pub logged_calls: usize,
    /// Seconds by which the vendor's wall clock is ahead of this machine's.
    pub clock_offset_seconds: i64,
}

impl Default for Options {
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
            limits: Limits::default(),
            faults: Vec::new(),
            logged_calls: 10_000,
            clock_offset_seconds: 0,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("listen", &self.listen)
            .field("sdk_app_id", &self.sdk_app_id)
            .field("identifier", &self.identifier)
            .field("attribute_names", &self.attribute_names)
            .field("latency", &self.latency)
            .field("calls_per_second", &self.calls_per_second)
            .finish_non_exhaustive()
    }
}

/// Starts simulators.
#[derive(Debug)]
pub struct Simulator;

impl Simulator {
    /// Listen and serve in the background of the current tokio runtime.
    ///
    /// Errors: the address cannot be listened on, or there are more than ten attribute names.
    pub async fn start(options: Options) -> io::Result<Running> {
        let Options {
            listen,
            sdk_app_id,
            secret_key,
            identifier,
            attribute_names,
            imported_accounts,
            latency,
            calls_per_second,
            limits,
            faults: rules,
            logged_calls,
            clock_offset_seconds,
        } = options;
        if attribute_names.len() > 10 {
            let problem = format!("{} attribute names given; an app has at most 10", attribute_names.len());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
        }
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let mut faults = faults::Faults::default();
        for rule in rules {
            faults.add(rule);
        }
        let world = shared::World {
            model: model::Model::new(limits, &attribute_names, imported_accounts.as_deref()),
            recorder: recording::Recorder::new(logged_calls),
            faults,
        };
        let keys = query::Keys { sdk_app_id, identifier, secret_key };
        let clock = clock::Clock::new(clock_offset_seconds);
        let shared = Arc::new(shared::Shared::new(keys, limits, latency, clock, calls_per_second, world));
        let router = control::routes().fallback(call::call).with_state(Arc::clone(&shared));
        let service = router.into_make_service_with_connect_info::<connection::Door>();
        let stopping = Arc::clone(&shared);
        let server = axum::serve(connection::Doorway(listener), service)
            .with_graceful_shutdown(async move { stopping.stopping().await });
        let serving = tokio::spawn(async move {
            // Ends with the graceful stop; `axum::serve` itself never fails.
            let _ = server.await;
        });
        Ok(Running { address, handle: Handle::new(Arc::clone(&shared)), shared, serving: Some(serving) })
    }
}

/// A simulator at work. Dropping it stops it too, without waiting.
pub struct Running {
    address: SocketAddr,
    handle: Handle,
    shared: Arc<shared::Shared>,
    serving: Option<JoinHandle<()>>,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Running {
    /// Where it listens, with the port it was given.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What a caller puts before `/v4/…`, without a slash at the end.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Looks into the simulator and edits it; goes on working after the stop.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Take no new connections, let held calls go on, answer what is under way within two seconds, and end.
    pub async fn stop(mut self) {
        self.shared.stop();
        if let Some(mut serving) = self.serving.take()
            && tokio::time::timeout(STOP_WITHIN, &mut serving).await.is_err()
        {
            serving.abort();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.stop();
    }
}
