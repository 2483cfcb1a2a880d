//! Recording of calls: a log, counters, arrival times, and violations of the vendor's rules.
//!
//! Owns: the records, and deciding what is a violation. Must not know: HTTP, users' attributes, faults.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use axum::body::Bytes;
use tokio::time::Instant;

use super::answer::RefusedAccount;
use super::clock;
use super::counters::{Counters, EndpointCounters, Violation, ViolationKind};
use super::endpoint::SimulatedEndpoint;
use super::error_code;
use super::in_flight::CallsInFlight;
use super::request::ParsedRequest;
use super::sliding_window::SlidingWindow;

/// Number of calls for which a `random` is remembered. There is a limit because correct callers also produce equal
/// 32-bit numbers, after some ten thousand calls. A faulty caller repeats a number at once or in its next retry.
const MAX_REMEMBERED_RANDOMS: usize = 1_000;
/// Further violations are only counted.
const MAX_KEPT_VIOLATIONS: usize = 10_000;
/// Number of arrival times kept per endpoint.
const MAX_KEPT_ARRIVALS: usize = 200_000;

/// The record of one call.
pub(super) struct CallRecord {
    pub(super) id: u64,
    /// Time of arrival, since the start of the simulator.
    pub(super) at: Duration,
    pub(super) endpoint: SimulatedEndpoint,
    pub(super) body: Bytes,
    /// The code of the answer; `None` if the answer is not the vendor's JSON or has not been sent.
    pub(super) code: Option<i64>,
    /// The kind of an answer that is not the vendor's JSON.
    pub(super) broken: Option<&'static str>,
    pub(super) applied: bool,
    pub(super) refused: Vec<RefusedAccount>,
    /// The caller disconnected before the answer.
    pub(super) given_up: bool,
}

#[derive(Default)]
struct EndpointRecords {
    counters: EndpointCounters,
    arrived: SlidingWindow,
    accepted: SlidingWindow,
    arrival_times: VecDeque<Duration>,
}

/// The most recent values of `random`, in order of arrival and as a set.
#[derive(Default)]
struct RecentRandoms {
    order: VecDeque<u32>,
    known: HashSet<u32>,
}

/// All records of one simulator.
pub(super) struct Recorder {
    started: Instant,
    log_limit: usize,
    log: VecDeque<CallRecord>,
    next_call: u64,
    endpoints: [EndpointRecords; SimulatedEndpoint::COUNT],
    totals: Counters,
    in_flight: CallsInFlight,
    randoms: RecentRandoms,
    violations: Vec<Violation>,
}

impl Recorder {
    /// `log_limit` is the number of calls that the log keeps.
    pub(super) fn new(log_limit: usize) -> Self {
        Self {
            started: clock::monotonic(),
            log_limit,
            log: VecDeque::new(),
            next_call: 0,
            endpoints: Default::default(),
            totals: Counters::default(),
            in_flight: CallsInFlight::default(),
            randoms: RecentRandoms::default(),
            violations: Vec::new(),
        }
    }

    /// Records that a call has arrived. Returns its number. `now` must not go backwards.
    pub(super) fn record_arrival(
        &mut self,
        endpoint: SimulatedEndpoint,
        now: Instant,
        random: Option<u32>,
        body: Bytes,
    ) -> u64 {
        let id = self.next_call;
        self.next_call += 1;
        let at = now.saturating_duration_since(self.started);
        let records = &mut self.endpoints[endpoint.index()];
        records.counters.arrived += 1;
        let in_last_second = u64::try_from(records.arrived.add(now)).unwrap_or(u64::MAX);
        records.counters.max_in_one_second = records.counters.max_in_one_second.max(in_last_second);
        push_bounded(&mut records.arrival_times, at, MAX_KEPT_ARRIVALS);
        self.totals.arrived += 1;
        self.totals.in_flight += 1;
        self.totals.max_in_flight = self.totals.max_in_flight.max(self.totals.in_flight);
        self.in_flight.start(id);
        if let Some(random) = random {
            self.check_random(id, random);
        }
        let record = CallRecord {
            id,
            at,
            endpoint,
            body,
            code: None,
            broken: None,
            applied: false,
            refused: Vec::new(),
            given_up: false,
        };
        push_bounded(&mut self.log, record, self.log_limit);
        id
    }

    fn check_random(&mut self, id: u64, random: u32) {
        let RecentRandoms { order, known } = &mut self.randoms;
        if !known.insert(random) {
            self.add_violation(id, ViolationKind::RandomRepeated, format!("random {random} was used before"));
            return;
        }
        order.push_back(random);
        if order.len() > MAX_REMEMBERED_RANDOMS
            && let Some(oldest) = order.pop_front()
        {
            known.remove(&oldest);
        }
    }

    /// Records the accounts of a writing call, and its overlaps with others in flight.
    pub(super) fn record_accounts(
        &mut self,
        id: u64,
        endpoint: SimulatedEndpoint,
        request: &ParsedRequest<'_>,
        now: Instant,
    ) {
        if endpoint.command.writes_users() {
            for violation in self.in_flight.add_accounts(id, request.accounts(), now) {
                self.keep_violation(violation);
            }
        }
    }

    /// Checks the rate limit of the endpoint. Returns whether the call is within it; 0 means no limit. Assumed: a call
    /// that exceeds the limit does not count against it.
    pub(super) fn check_rate_limit(
        &mut self,
        id: u64,
        endpoint: SimulatedEndpoint,
        now: Instant,
        calls_per_second: u32,
    ) -> bool {
        let accepted = &mut self.endpoints[endpoint.index()].accepted;
        if calls_per_second == 0 || accepted.try_add(now, calls_per_second as usize) {
            return true;
        }
        let text = format!("more than {calls_per_second} calls of {endpoint} within one second");
        self.add_violation(id, ViolationKind::RateExceeded, text);
        false
    }

    /// Records that a call was applied, except for the accounts in `refused`.
    pub(super) fn record_applied(&mut self, id: u64, endpoint: SimulatedEndpoint, refused: &[RefusedAccount]) {
        self.endpoints[endpoint.index()].counters.applied += 1;
        self.totals.applied += 1;
        if let Some(record) = self.find_record(id) {
            record.applied = true;
            record.refused = refused.to_vec();
        }
    }

    /// Records the answer of a call: its code, or the kind of an answer without one. The caller may have disconnected.
    pub(super) fn record_answer(
        &mut self,
        id: u64,
        endpoint: SimulatedEndpoint,
        code: Option<i64>,
        broken: Option<&'static str>,
    ) {
        let counters = &mut self.endpoints[endpoint.index()].counters;
        match code {
            Some(error_code::OK) => counters.succeeded += 1,
            Some(_) => counters.failed += 1,
            None => {}
        }
        if let Some(record) = self.find_record(id) {
            (record.code, record.broken) = (code, broken);
        }
    }

    /// Records that the caller no longer waits: it has its answer, or it has disconnected (`given_up`).
    pub(super) fn record_end(&mut self, id: u64, given_up: bool, now: Instant) {
        let Some(overlaps) = self.in_flight.end(id, given_up, now) else { return };
        self.totals.in_flight -= 1;
        for violation in overlaps {
            self.keep_violation(violation);
        }
        if given_up {
            self.totals.given_up += 1;
            if let Some(record) = self.find_record(id) {
                record.given_up = true;
            }
        }
    }

    /// Records that a fault has begun to hold a call.
    pub(super) fn record_hold(&mut self) {
        self.totals.held += 1;
    }

    /// Records that a held call is no longer held.
    pub(super) fn record_release(&mut self) {
        self.totals.held -= 1;
    }

    /// Counts a request whose URL names no endpoint.
    pub(super) fn count_wrong_url(&mut self) {
        self.totals.wrong_urls += 1;
    }

    fn add_violation(&mut self, call: u64, kind: ViolationKind, text: String) {
        self.keep_violation(Violation { call, kind, text });
    }

    fn keep_violation(&mut self, violation: Violation) {
        self.totals.violations += 1;
        if self.violations.len() < MAX_KEPT_VIOLATIONS {
            self.violations.push(violation);
        }
    }

    /// The record of a call, if the log still has it. Numbers are consecutive, so they give the position.
    fn find_record(&mut self, id: u64) -> Option<&mut CallRecord> {
        let first = self.log.front()?.id;
        let position = usize::try_from(id.checked_sub(first)?).ok()?;
        self.log.get_mut(position)
    }

    /// The calls in the log, oldest first.
    pub(super) fn records(&self) -> impl DoubleEndedIterator<Item = &CallRecord> {
        self.log.iter()
    }

    /// The violations so far, at most ten thousand. They include overlaps of calls in flight that have lasted too long
    /// to come from a caller that disconnected.
    pub(super) fn violations(&self, now: Instant) -> Vec<Violation> {
        self.violations.iter().chain(self.in_flight.violations(now)).cloned().collect()
    }

    /// The arrival times of an endpoint's last two hundred thousand calls, since the start of the simulator.
    pub(super) fn arrival_times(&self, endpoint: SimulatedEndpoint) -> Vec<Duration> {
        self.endpoints[endpoint.index()].arrival_times.iter().copied().collect()
    }

    /// The counters of one endpoint.
    pub(super) fn endpoint_counters(&self, endpoint: SimulatedEndpoint) -> EndpointCounters {
        self.endpoints[endpoint.index()].counters.clone()
    }

    /// All counters. `users` is the number of users that have attributes.
    pub(super) fn counters(&self, users: usize) -> Counters {
        let endpoints =
            SimulatedEndpoint::all().map(|endpoint| (endpoint.to_string(), self.endpoint_counters(endpoint)));
        Counters {
            endpoints: endpoints.filter(|(_, counters)| counters.arrived > 0).collect(),
            users: u64::try_from(users).unwrap_or(u64::MAX),
            ..self.totals.clone()
        }
    }

    /// Deletes the log, the counters and the violations, but not the calls in flight.
    pub(super) fn clear(&mut self) {
        self.log.clear();
        self.violations.clear();
        for records in &mut self.endpoints {
            records.counters = EndpointCounters::default();
            records.arrival_times.clear();
        }
        let Counters { in_flight, held, .. } = self.totals;
        self.totals = Counters { in_flight, held, max_in_flight: in_flight, ..Counters::default() };
    }
}

/// Adds an item, and drops the oldest one if there are already `limit` items.
fn push_bounded<T>(queue: &mut VecDeque<T>, item: T, limit: usize) {
    if queue.len() >= limit {
        queue.pop_front();
    }
    if limit > 0 {
        queue.push_back(item);
    }
}
