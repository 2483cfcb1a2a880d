//! The counters, and the violations of the vendor's rules.
//!
//! Owns: the types that the handle and the control interface show. Must not know: when a counter is incremented.

use std::collections::BTreeMap;

use serde::Serialize;

/// Something in a call that the vendor asks callers not to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// The number of the call.
    pub call: u64,
    /// The rule that was broken.
    pub kind: ViolationKind,
    /// A description for a person.
    pub text: String,
}

/// The rules of which the simulator records violations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ViolationKind {
    /// An earlier call had the same `random`.
    RandomRepeated,
    /// The call exceeded the rate limit and was answered with 60007.
    RateExceeded,
    /// An account was in two writing calls in flight. Their order is undefined.
    AccountInFlightTwice,
    /// A writing call named an account twice.
    AccountTwiceInCall,
}

/// Counters of one endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct EndpointCounters {
    /// Calls that arrived.
    pub arrived: u64,
    /// Calls answered with code 0 in the vendor's JSON.
    pub succeeded: u64,
    /// Calls answered with another code in the vendor's JSON.
    pub failed: u64,
    /// Calls applied to all or some of their accounts, whatever the answer.
    pub applied: u64,
    /// The largest number of calls that arrived within any one second.
    pub max_in_one_second: u64,
}

/// Counters of the whole simulator.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Counters by endpoint, such as `timpush/set_attr`; endpoints without calls are omitted.
    pub endpoints: BTreeMap<String, EndpointCounters>,
    /// Calls that arrived.
    pub arrived: u64,
    /// Calls applied to all or some of their accounts.
    pub applied: u64,
    /// Calls that have not been answered and whose caller is still connected.
    pub in_flight: u64,
    /// The largest value of `in_flight` so far.
    pub max_in_flight: u64,
    /// Calls that a `hold`, `apply-then-hold` or `late` fault holds at the moment.
    pub held: u64,
    /// Calls whose caller disconnected before the answer.
    pub given_up: u64,
    /// Violations of the vendor's rules.
    pub violations: u64,
    /// Requests whose URL names no endpoint.
    pub wrong_urls: u64,
    /// Users that have attributes at the moment.
    pub users: u64,
}
