//! The interface of a simulator for the process that runs it: reading its state, editing users, fault rules, waiting.
//!
//! Owns: the in-process interface. Must not know: HTTP.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::broadcast;

use super::answer::RefusedAccount;
use super::app_state::AttributeChange;
use super::clock;
use super::counters::{Counters, EndpointCounters, Violation};
use super::endpoint::{SimulatedCommand, SimulatedEndpoint, SimulatedService};
use super::faults::{FaultRule, FaultRuleId};
use super::json::{JsonObject, JsonText};
use super::recorder::CallRecord;
use super::request::{self, ParsedRequest, UserToRemove, UserToSet};
use super::shared_state::{LockedState, SharedState};

/// A call as it was recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RecordedCall {
    /// The number of the call, counted from 0 in the order of arrival.
    pub id: u64,
    /// Milliseconds since the start of the simulator.
    pub at_millis: u128,
    /// The endpoint, such as `timpush/set_attr`.
    pub endpoint: String,
    /// The users in the body, in order; empty if the body cannot be parsed.
    pub users: Vec<RecordedUser>,
    /// The body as it was received.
    pub body: String,
    /// The error code of the answer; `None` if the answer is not the vendor's JSON or has not been sent.
    pub code: Option<i64>,
    /// The kind of an answer that is not the vendor's JSON: `http`, `html`, `cut`, `close`, `garbage` or `huge`.
    pub broken: Option<&'static str>,
    /// The call was applied, except for the accounts in `errors`.
    pub applied: bool,
    /// Accounts to which a `timpush` call was not applied.
    pub errors: Vec<RefusedAccount>,
    /// The caller disconnected before the answer.
    pub given_up: bool,
}

/// A user in the body of a recorded call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RecordedUser {
    /// The account.
    pub account: String,
    /// Attribute names and values; the value is `None` if the call removes the attribute. Empty if the call reads.
    pub attributes: Vec<(String, Option<String>)>,
}

/// Reads and changes the state of a simulator. Cheap to clone.
#[derive(Clone)]
pub struct SimulatorHandle {
    shared: Arc<SharedState>,
}

impl fmt::Debug for SimulatorHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimulatorHandle").finish_non_exhaustive()
    }
}

impl SimulatorHandle {
    pub(super) fn new(shared: Arc<SharedState>) -> Self {
        Self { shared }
    }

    /// All users that have attributes, with their attributes by name.
    pub fn users(&self) -> BTreeMap<String, BTreeMap<String, String>> {
        self.shared.lock().app.users()
    }

    /// The attributes of one user by name; empty if the user has none.
    pub fn user(&self, account: &str) -> BTreeMap<String, String> {
        self.shared.lock().app.user(account)
    }

    /// Replaces all attributes of a user without a call, regardless of the limits.
    ///
    /// # Errors
    /// The first attribute name that is not set in the app. In this case nothing changes.
    pub fn set_user(&self, account: &str, attributes: &BTreeMap<String, String>) -> Result<(), String> {
        let mut state = self.shared.lock();
        let result = self.shared.change_app(&mut state, |app| app.replace_user(account, attributes));
        drop(state);
        self.shared.notify_waiters();
        result
    }

    /// Removes all attributes of a user without a call.
    pub fn remove_user(&self, account: &str) {
        // Without attributes there is no name that could be unknown.
        let _ = self.set_user(account, &BTreeMap::new());
    }

    /// The app's attribute names by number.
    pub fn names(&self) -> BTreeMap<u8, String> {
        self.shared.lock().app.names()
    }

    /// Replaces the app's attribute names. They are numbered from 0; names after the tenth are ignored.
    pub fn set_names(&self, names: &[String]) {
        self.shared.lock().app.replace_names(names);
    }

    /// Makes all attributes belong to devices (type 1), whose accounts are `RegistrationIDs`.
    pub fn set_device_attributes(&self) {
        self.shared.lock().app.set_device_attributes();
    }

    /// Makes an account exist, or not exist. Has no effect on a simulator without a list of imported accounts.
    pub fn set_imported(&self, account: &str, exists: bool) {
        self.shared.lock().app.set_imported(account, exists);
    }

    /// The calls in the log, oldest first.
    pub fn calls(&self) -> Vec<RecordedCall> {
        self.last_calls(usize::MAX)
    }

    /// The last `count` calls in the log, oldest first.
    pub fn last_calls(&self, count: usize) -> Vec<RecordedCall> {
        let state = self.shared.lock();
        let mut calls: Vec<_> = state.recorder.records().rev().take(count).map(decode_record).collect();
        calls.reverse();
        calls
    }

    /// The counters of the whole simulator.
    pub fn counters(&self) -> Counters {
        count(&self.shared.lock())
    }

    /// The counters of one endpoint.
    pub fn endpoint_counters(&self, service: SimulatedService, command: SimulatedCommand) -> EndpointCounters {
        self.shared.lock().recorder.endpoint_counters(SimulatedEndpoint { service, command })
    }

    /// The arrival times of an endpoint's last two hundred thousand calls, since the start of the simulator.
    pub fn arrival_times(&self, service: SimulatedService, command: SimulatedCommand) -> Vec<Duration> {
        self.shared.lock().recorder.arrival_times(SimulatedEndpoint { service, command })
    }

    /// The recorded violations of the vendor's rules, at most ten thousand.
    pub fn violations(&self) -> Vec<Violation> {
        self.shared.lock().recorder.violations(clock::monotonic())
    }

    /// Deletes the log, the counters and the violations. Users, names and fault rules stay.
    pub fn clear_records(&self) {
        self.shared.lock().recorder.clear();
        self.shared.notify_waiters();
    }

    /// Adds a fault rule. It applies to the calls that arrive from now on.
    pub fn add_fault(&self, rule: FaultRule) -> FaultRuleId {
        self.shared.lock().faults.add(rule)
    }

    /// Removes a fault rule and releases the calls that it holds. Returns whether the rule existed.
    pub fn remove_fault(&self, id: FaultRuleId) -> bool {
        self.shared.lock().faults.remove(id)
    }

    /// Removes all fault rules and releases the calls that they hold.
    pub fn clear_faults(&self) {
        self.shared.lock().faults.clear();
    }

    /// The fault rules, each with the number of calls that it was applied to.
    pub fn faults(&self) -> Vec<(FaultRuleId, FaultRule, u64)> {
        self.shared.lock().faults.list()
    }

    /// Releases the calls that a rule holds now; the rule holds later calls as before. Returns whether the rule exists.
    pub fn release_held_calls(&self, id: FaultRuleId) -> bool {
        self.shared.lock().faults.release(id)
    }

    /// Receives every change of a user's attributes from now on, by calls and by direct edits, in order.
    pub fn subscribe(&self) -> broadcast::Receiver<AttributeChange> {
        self.shared.subscribe()
    }

    /// Sets the number of calls per second that one endpoint accepts; further calls are answered with 60007. 0 means no
    /// limit.
    pub fn set_calls_per_second(&self, limit: u32) {
        self.shared.set_calls_per_second(limit);
    }

    /// Replaces the keys with which a UserSig may be signed: one, or two while the app's key is rotated.
    pub fn set_secret_keys(&self, keys: &[&str]) {
        self.shared.credentials.set_secret_keys(keys);
    }

    /// Sets the seconds by which the simulator's wall clock is ahead of this machine's. That clock decides whether a
    /// UserSig has expired.
    pub fn set_clock_offset(&self, seconds: i64) {
        self.shared.clock.set_offset(seconds);
    }

    /// Waits until the counters satisfy `condition`. There is no time limit; the caller sets one.
    pub async fn wait_until(&self, mut condition: impl FnMut(&Counters) -> bool) {
        self.shared.wait_until(|state| condition(&count(state))).await;
    }
}

fn count(state: &LockedState) -> Counters {
    state.recorder.counters(state.app.count_users_with_attributes())
}

/// Parses the body of a record. This is done here and not at the arrival, because most records are never read.
fn decode_record(record: &CallRecord) -> RecordedCall {
    let users = match request::parse(record.endpoint, &record.body, usize::MAX) {
        Ok(ParsedRequest::Set(users)) => users.into_iter().map(|JsonObject(user)| decode_set(&user)).collect(),
        Ok(ParsedRequest::Remove(users)) => users.into_iter().map(|JsonObject(user)| decode_remove(&user)).collect(),
        Ok(ParsedRequest::Get(accounts) | ParsedRequest::ImportAccounts(accounts)) => {
            accounts.iter().map(decode_account).collect()
        }
        Ok(ParsedRequest::CheckAccounts(items)) => {
            items.iter().map(|JsonObject(item)| decode_account(&item.account)).collect()
        }
        Ok(ParsedRequest::SetNames { .. } | ParsedRequest::GetNames) | Err(_) => Vec::new(),
    };
    RecordedCall {
        id: record.id,
        at_millis: record.at.as_millis(),
        endpoint: record.endpoint.to_string(),
        users,
        body: String::from_utf8_lossy(&record.body).into_owned(),
        code: record.code,
        broken: record.broken,
        applied: record.applied,
        errors: record.refused.clone(),
        given_up: record.given_up,
    }
}

fn decode_set(user: &UserToSet<'_>) -> RecordedUser {
    let attributes = user.attributes.0.iter().map(|(name, value)| (to_string(name), Some(to_string(value))));
    RecordedUser { account: to_string(&user.account), attributes: attributes.collect() }
}

fn decode_remove(user: &UserToRemove<'_>) -> RecordedUser {
    let attributes = user.attributes.iter().map(|name| (to_string(name), None));
    RecordedUser { account: to_string(&user.account), attributes: attributes.collect() }
}

fn decode_account(account: &JsonText<'_>) -> RecordedUser {
    RecordedUser { account: to_string(account), attributes: Vec::new() }
}

fn to_string(text: &JsonText<'_>) -> String {
    text.get().unwrap_or_default().to_owned()
}
