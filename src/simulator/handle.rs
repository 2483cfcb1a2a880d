//! The simulator seen from the process it runs in: looking, editing behind the client's back, adding faults, waiting.
//!
//! Owns: the in-process interface. Must not know: HTTP.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::broadcast;

use super::clock::monotonic;
use super::counters::{Counters, EndpointCounters, Violation};
use super::endpoint::{Command, Endpoint, Service};
use super::faults::{Rule, RuleId};
use super::model::Change;
use super::recording::Record;
use super::shared::Shared;
use super::wire::{self, AccountError, Request};

/// A call as it was recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Call {
    /// Counts from 0 in the order of arrival.
    pub id: u64,
    /// Milliseconds since the start of the simulator.
    pub at_millis: u128,
    /// Such as `timpush/set_attr`.
    pub endpoint: String,
    /// What the call carried, in order; empty for a body that cannot be read.
    pub users: Vec<CallUser>,
    /// The body as it came.
    pub body: String,
    /// The error code answered; none when the answer was not the vendor's JSON, or has not been given.
    pub code: Option<i64>,
    /// What was answered instead of the vendor's JSON: `http`, `html`, `cut`, `close`, `garbage` or `huge`.
    pub broken: Option<&'static str>,
    /// Carried out, wholly or but for `errors`.
    pub applied: bool,
    /// Accounts that `timpush` did not apply.
    pub errors: Vec<AccountError>,
    /// The caller went away before the answer.
    pub given_up: bool,
}

/// A user of a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CallUser {
    pub account: String,
    /// Attribute and value; no value where the attribute is removed. Empty for a call that reads.
    pub attributes: Vec<(String, Option<String>)>,
}

/// Looks into a simulator and edits it. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

impl Handle {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// All users that have attributes, with their attributes by name.
    pub fn users(&self) -> BTreeMap<String, BTreeMap<String, String>> {
        self.shared.world().model.users()
    }

    /// One user's attributes by name; empty for a user without any.
    pub fn user(&self, account: &str) -> BTreeMap<String, String> {
        self.shared.world().model.user(account)
    }

    /// Make a user's attributes exactly these, behind the client's back and whatever the limits.
    ///
    /// Errors: the name of an attribute that is not set in the app.
    pub fn set_user(&self, account: &str, attributes: &BTreeMap<String, String>) -> Result<(), String> {
        let mut world = self.shared.world();
        let result = self.shared.publishing(&mut world, |model| model.replace_user(account, attributes));
        drop(world);
        self.shared.progress();
        result
    }

    /// Take all attributes from a user, behind the client's back.
    pub fn drop_user(&self, account: &str) {
        // No attribute, so none whose name is not set.
        let _ = self.set_user(account, &BTreeMap::new());
    }

    /// The app's attribute names by number.
    pub fn names(&self) -> BTreeMap<u8, String> {
        self.shared.world().model.names()
    }

    /// Replace the app's attribute names, numbered from 0; at most ten count.
    pub fn set_names(&self, names: &[String]) {
        self.shared.world().model.replace_names(names);
    }

    /// Make an account exist or not, when the simulator was started with a list of imported accounts.
    pub fn import(&self, account: &str, exists: bool) {
        self.shared.world().model.import(account, exists);
    }

    /// The calls that are kept in the log, oldest first.
    pub fn calls(&self) -> Vec<Call> {
        self.last_calls(usize::MAX)
    }

    /// The last `count` calls in the log, oldest first.
    pub fn last_calls(&self, count: usize) -> Vec<Call> {
        let world = self.shared.world();
        let mut calls: Vec<_> = world.recorder.records().rev().take(count).map(decode).collect();
        calls.reverse();
        calls
    }

    pub fn counters(&self) -> Counters {
        let world = self.shared.world();
        world.recorder.counters(world.model.users_with_attributes())
    }

    /// Counts of one address.
    pub fn endpoint(&self, service: Service, command: Command) -> EndpointCounters {
        self.shared.world().recorder.endpoint(Endpoint { service, command })
    }

    /// When calls of one address arrived, since the start (the last two hundred thousand).
    pub fn arrivals(&self, service: Service, command: Command) -> Vec<Duration> {
        self.shared.world().recorder.arrivals(Endpoint { service, command })
    }

    /// What callers did that the vendor asks them not to do.
    pub fn violations(&self) -> Vec<Violation> {
        self.shared.world().recorder.violations(monotonic())
    }

    /// Forget calls, counts and violations; users, names and faults stay.
    pub fn clear_records(&self) {
        self.shared.world().recorder.clear();
        self.shared.progress();
    }

    /// Misbehave by one more rule from now on.
    pub fn add_fault(&self, rule: Rule) -> RuleId {
        self.shared.world().faults.add(rule)
    }

    /// Remove a rule; the calls it holds go on. False: there is no such rule.
    pub fn remove_fault(&self, id: RuleId) -> bool {
        self.shared.world().faults.remove(id)
    }

    /// Remove all rules; the calls they hold go on.
    pub fn clear_faults(&self) {
        self.shared.world().faults.clear();
    }

    /// The rules in force, with how often each has fired.
    pub fn faults(&self) -> Vec<(RuleId, Rule, u64)> {
        self.shared.world().faults.list()
    }

    /// Let the calls that a rule holds now go on; later ones are held as before. False: there is no such rule.
    pub fn release(&self, id: RuleId) -> bool {
        self.shared.world().faults.release(id)
    }

    /// Every change of a user's attributes from now on, by calls and by direct edits, in order.
    pub fn subscribe(&self) -> broadcast::Receiver<Change> {
        self.shared.subscribe()
    }

    /// The calls a second of one address above which 60007 is answered; 0: no limit.
    pub fn set_calls_per_second(&self, limit: u32) {
        self.shared.set_calls_per_second(limit);
    }

    /// Set the vendor's wall clock wrong by so many seconds (it decides whether a UserSig has expired).
    pub fn set_clock_offset(&self, seconds: i64) {
        self.shared.clock.set_offset(seconds);
    }

    /// Wait until the counters satisfy `condition`; give it a time limit of your own.
    pub async fn wait_until(&self, mut condition: impl FnMut(&Counters) -> bool) {
        let counted =
            |world: &super::shared::World| condition(&world.recorder.counters(world.model.users_with_attributes()));
        self.shared.wait_until(counted).await;
    }
}

/// A record with what its body carried, read only now: recording keeps the body as it came.
fn decode(record: &Record) -> Call {
    let users = match wire::parse(record.endpoint, &record.body, usize::MAX) {
        Ok(Request::Set(users)) => {
            let user = |user: wire::SetUser<'_>| CallUser {
                account: owned(&user.account),
                attributes: user.attributes.0.iter().map(|(name, value)| (owned(name), Some(owned(value)))).collect(),
            };
            users.into_iter().map(|wire::Object(set)| user(set)).collect()
        }
        Ok(Request::Remove(users)) => {
            let user = |user: wire::RemoveUser<'_>| CallUser {
                account: owned(&user.account),
                attributes: user.attributes.iter().map(|name| (owned(name), None)).collect(),
            };
            users.into_iter().map(|wire::Object(removed)| user(removed)).collect()
        }
        Ok(Request::Get(accounts)) => {
            accounts.iter().map(|account| CallUser { account: owned(account), attributes: Vec::new() }).collect()
        }
        Ok(Request::SetNames { .. } | Request::GetNames) | Err(_) => Vec::new(),
    };
    Call {
        id: record.id,
        at_millis: record.at.as_millis(),
        endpoint: record.endpoint.to_string(),
        users,
        body: String::from_utf8_lossy(&record.body).into_owned(),
        code: record.code,
        broken: record.broken,
        applied: record.applied,
        errors: record.errors.clone(),
        given_up: record.given_up,
    }
}

fn owned(text: &wire::Text<'_>) -> String {
    text.get().unwrap_or_default().to_owned()
}
