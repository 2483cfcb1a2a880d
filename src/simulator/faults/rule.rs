//! Fault rules as data.
//!
//! Owns: what a rule can express. Must not know: how a rule is written as text, how it is applied.

use std::time::Duration;

use crate::simulator::endpoint::{SimulatedCommand, SimulatedService};

/// The calls that a rule applies to. A call must meet all conditions that are set. The default matches every call.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CallMatcher {
    /// The call is sent to this service.
    pub service: Option<SimulatedService>,
    /// The call is this command.
    pub command: Option<SimulatedCommand>,
    /// The call contains at least one of these accounts. An empty list matches every call.
    pub accounts: Vec<String>,
    /// The call contains this attribute: as a name to set, or to set or remove for at least one user.
    pub attribute: Option<String>,
    /// The body contains this text, as it was received. JSON escapes are not decoded.
    pub contains: Option<String>,
    /// The body has more bytes than this.
    pub larger_than: Option<usize>,
    /// Number of matching calls to skip first.
    pub after: u64,
    /// Only every nth matching call.
    pub every: Option<u64>,
    /// Number of calls after which the rule no longer applies.
    pub times: Option<u64>,
    /// Probability with which the rule applies to a matching call, from 0 to 1.
    pub chance: Option<f64>,
    /// Seed of the random numbers for `chance`. The same seed gives the same sequence.
    pub seed: u64,
}

/// What the simulator does to a call that a rule applies to.
#[derive(Clone, Debug, PartialEq)]
pub enum FaultAction {
    /// Apply nothing and answer with an error code.
    Refuse {
        /// The error code.
        code: i64,
        /// Refuse only the accounts that the rule names. A `timpush` call lists them in `ErrorList` and applies to the
        /// other accounts; an `all_member_push` call fails as a whole.
        per_account: bool,
    },
    /// Apply nothing and answer wrongly.
    Fail(FaultyAnswer),
    /// Apply the call, then answer wrongly.
    ApplyThenFail(FaultyAnswer),
    /// Wait before applying, until the call is released or this time has passed.
    Hold(Option<Duration>),
    /// Apply at once, but delay the answer until the call is released or this time has passed.
    ApplyThenHold(Option<Duration>),
    /// Wait before applying. The delays of several rules add up.
    Slow(Duration),
    /// Accept at most this number of matching calls per second and endpoint; answer further calls with 60007.
    Throttle(u32),
    /// Never answer. Apply the call this long after the caller has closed the connection. The text form is `late`.
    ApplyAfterDisconnect(Duration),
}

/// An answer other than the one the vendor would send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FaultyAnswer {
    /// The vendor's JSON with this error code.
    Code(i64),
    /// An HTTP error with plain text, as a gateway sends it.
    Http {
        /// The HTTP status.
        status: u16,
        /// The value of a `Retry-After` header.
        retry_after_seconds: Option<u64>,
    },
    /// HTTP 200 with an HTML page.
    Html,
    /// The first half of the right answer; then the connection ends.
    Cut,
    /// The connection is closed without an answer.
    Close,
    /// HTTP 200 with JSON that is not the vendor's.
    Garbage,
    /// An answer of this many bytes.
    Huge(u64),
}

/// A fault rule. It can be parsed from text; [`FAULT_FORMS`](crate::simulator::FAULT_FORMS) lists the forms.
#[derive(Clone, Debug, PartialEq)]
pub struct FaultRule {
    /// The calls that the rule applies to.
    pub matcher: CallMatcher,
    /// What happens to them.
    pub action: FaultAction,
}

/// Identifies a rule of a running simulator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FaultRuleId(pub u64);
