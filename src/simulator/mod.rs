//! A simulated IM service: a local HTTP server that behaves towards callers of the user-attribute commands as the
//! vendor's service does, faults included. It serves tests, `imsync simulate` and `imsync demo`.
//!
//! Owns: everything about the simulated vendor. Must not know: the rest of this crate. The simulator imports nothing
//! from it and has its own JSON types and its own signature check. Otherwise the client and the simulator could share
//! a bug. It is written from the vendor's documentation; each decision that the documentation leaves open is marked
//! `Assumed:` in the code.
//!
//! A call passes through these files: `connection` accepts it, `call` directs it, `query` and `usersig` check its URL,
//! `request` parses its body, `recorder` records it, `faults` may change its outcome, `execute` applies it to
//! `app_state`, and `answer` and `reply` build the response. `handle` is the interface for the process that runs the
//! simulator, `control` the same interface over HTTP, `server` starts and stops everything.

mod answer;
mod app_state;
mod call;
mod clock;
mod connection;
mod control;
mod counters;
mod endpoint;
mod error_code;
mod execute;
mod faults;
mod handle;
mod in_flight;
mod json;
mod options;
mod query;
mod recorder;
mod reply;
mod request;
mod server;
mod shared_state;
mod sliding_window;
mod usersig;

#[cfg(test)]
mod tests;

pub use answer::RefusedAccount;
pub use app_state::{AttributeChange, VendorLimits};
pub use counters::{Counters, EndpointCounters, Violation, ViolationKind};
pub use endpoint::{SimulatedCommand, SimulatedEndpoint, SimulatedService};
pub use faults::{CallMatcher, FAULT_FORMS, FaultAction, FaultRule, FaultRuleError, FaultRuleId, FaultyAnswer};
pub use handle::{RecordedCall, RecordedUser, SimulatorHandle};
pub use options::SimulatorOptions;
pub use server::{RunningSimulator, Simulator};
