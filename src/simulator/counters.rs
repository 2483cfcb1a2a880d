//! The words for what was counted and for what a caller did wrong.
//!
//! Owns: the types that handles and the control interface show. Must not know: how they come about.

use std::collections::BTreeMap;

use serde::Serialize;

/// Something the vendor asks callers not to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    pub call: u64,
    pub kind: ViolationKind,
    /// What was seen, for a person.
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ViolationKind {
    /// `random` was used before.
    RandomRepeated,
    /// The call was over the rate limit (and was answered with 60007).
    RateExceeded,
    /// An account was in two calls at once, at least one of them writing: their order cannot be known.
    AccountInFlightTwice,
    /// An account was in one writing call twice.
    AccountTwiceInCall,
}

/// Counts of one address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct EndpointCounters {
    pub arrived: u64,
    /// Answered with code 0, as the vendor answers.
    pub succeeded: u64,
    /// Answered with another code.
    pub failed: u64,
    /// Carried out, wholly or in part, whatever was answered.
    pub applied: u64,
    /// The most calls that arrived within any one second.
    pub max_in_one_second: u64,
}

/// Counts of everything. `Running::handle().wait_until` shows them to a condition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// By address, such as `timpush/set_attr`; addresses never called are absent.
    pub endpoints: BTreeMap<String, EndpointCounters>,
    /// Calls in all.
    pub arrived: u64,
    pub applied: u64,
    /// Calls not yet answered whose caller is still there.
    pub in_flight: u64,
    pub max_in_flight: u64,
    /// Calls that a `hold` or `ghost` fault is keeping now.
    pub held: u64,
    /// Calls whose caller went away before the answer.
    pub given_up: u64,
    pub violations: u64,
    /// Requests to no known address.
    pub wrong_urls: u64,
    /// Users that have attributes now.
    pub users: u64,
}
