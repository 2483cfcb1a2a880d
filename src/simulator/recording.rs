//! What happened: calls, counts, arrivals, violations of what the vendor asks of a caller.
//!
//! Owns: the records and the judgement of what a caller must not do. Must not know: HTTP, users' attributes, faults.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use axum::body::Bytes;
use tokio::time::Instant;

use super::counters::{Counters, EndpointCounters, Violation, ViolationKind};
use super::endpoint::Endpoint;
use super::window::SlidingSecond;
use super::wire::{AccountError, Request};

/// A `random` seen again within this many calls is a repetition. Not for ever: among 32-bit numbers two honest ones
/// meet after some ten thousand calls, while a caller that repeats itself does it at once or with the next retry.
const RANDOMS_REMEMBERED: usize = 1_000;
/// A caller that gives up may call again before the end of its connection is seen here; an overlap that ends by giving
/// up within this time is none.
const GIVING_UP_TAKES: Duration = Duration::from_millis(500);
const VIOLATIONS_KEPT: usize = 10_000;
const ARRIVALS_KEPT: usize = 200_000;

/// A call as it was recorded.
pub(super) struct Record {
    pub(super) id: u64,
    /// Since the start of the simulator.
    pub(super) at: Duration,
    pub(super) endpoint: Endpoint,
    pub(super) body: Bytes,
    /// The code answered; none when the answer was not the vendor's JSON, or has not been given.
    pub(super) code: Option<i64>,
    /// What was answered instead of the vendor's JSON.
    pub(super) broken: Option<&'static str>,
    pub(super) applied: bool,
    pub(super) errors: Vec<AccountError>,
    pub(super) given_up: bool,
}

#[derive(Default)]
struct PerEndpoint {
    counters: EndpointCounters,
    arrived: SlidingSecond,
    admitted: SlidingSecond,
    arrivals: VecDeque<Duration>,
}

/// A call whose caller waits.
struct Flight {
    accounts: Vec<u64>,
    /// Later calls that carried an account of this one, and whom.
    overlaps: Vec<(Instant, Violation)>,
}

/// All records of one simulator.
pub(super) struct Recorder {
    started: Instant,
    log_limit: usize,
    log: VecDeque<Record>,
    next_call: u64,
    endpoints: [PerEndpoint; Endpoint::COUNT],
    totals: Counters,
    hasher: RandomState,
    /// Account (hashed) → the call in flight that carries it, and whether it writes.
    busy: HashMap<u64, (u64, bool)>,
    flights: HashMap<u64, Flight>,
    randoms: (VecDeque<u32>, HashSet<u32>),
    violations: Vec<Violation>,
}

impl Recorder {
    pub(super) fn new(log_limit: usize) -> Self {
        Self {
            started: super::clock::monotonic(),
            log_limit,
            log: VecDeque::new(),
            next_call: 0,
            endpoints: Default::default(),
            totals: Counters::default(),
            hasher: RandomState::new(),
            busy: HashMap::new(),
            flights: HashMap::new(),
            randoms: (VecDeque::new(), HashSet::new()),
            violations: Vec::new(),
        }
    }

    /// A call has arrived; gives its id.
    pub(super) fn arrive(&mut self, endpoint: Endpoint, now: Instant, random: Option<u32>, body: Bytes) -> u64 {
        let id = self.next_call;
        self.next_call += 1;
        let at = now.saturating_duration_since(self.started);
        let per = &mut self.endpoints[endpoint.index()];
        per.counters.arrived += 1;
        let in_last_second = u64::try_from(per.arrived.add(now)).unwrap_or(u64::MAX);
        per.counters.max_in_one_second = per.counters.max_in_one_second.max(in_last_second);
        push_bounded(&mut per.arrivals, at, ARRIVALS_KEPT);
        self.totals.arrived += 1;
        self.totals.in_flight += 1;
        self.totals.max_in_flight = self.totals.max_in_flight.max(self.totals.in_flight);
        self.flights.insert(id, Flight { accounts: Vec::new(), overlaps: Vec::new() });
        if let Some(random) = random {
            self.check_random(id, random);
        }
        let record = Record {
            id,
            at,
            endpoint,
            body,
            code: None,
            broken: None,
            applied: false,
            errors: Vec::new(),
            given_up: false,
        };
        push_bounded(&mut self.log, record, self.log_limit);
        id
    }

    fn check_random(&mut self, id: u64, random: u32) {
        let (order, known) = &mut self.randoms;
        if !known.insert(random) {
            self.violate(id, ViolationKind::RandomRepeated, format!("random {random} was used before"));
            return;
        }
        order.push_back(random);
        if order.len() > RANDOMS_REMEMBERED
            && let Some(oldest) = order.pop_front()
        {
            known.remove(&oldest);
        }
    }

    /// Note the accounts that the call carries, and overlaps with calls still in flight.
    pub(super) fn carry(&mut self, id: u64, endpoint: Endpoint, request: &Request<'_>, now: Instant) {
        let writes = endpoint.command.writes_users();
        let mut accounts = Vec::new();
        for account in request.accounts() {
            let hash = self.hasher.hash_one(account);
            match self.busy.get(&hash).copied() {
                Some((other, _)) if other == id => {
                    if writes {
                        let text = format!("account {account} is in the call twice");
                        self.violate(id, ViolationKind::AccountTwiceInCall, text);
                    }
                    continue;
                }
                Some((other, other_writes)) => {
                    if (writes || other_writes)
                        && let Some(flight) = self.flights.get_mut(&other)
                    {
                        let text = format!("account {account} is in call {other} and in call {id} at once");
                        let kind = ViolationKind::AccountInFlightTwice;
                        flight.overlaps.push((now, Violation { call: id, kind, text }));
                    }
                    if other_writes && !writes {
                        // A reader does not hide the writer from the next writer.
                        continue;
                    }
                }
                None => {}
            }
            self.busy.insert(hash, (id, writes));
            accounts.push(hash);
        }
        if let Some(flight) = self.flights.get_mut(&id) {
            flight.accounts = accounts;
        }
    }

    /// Whether the rate limit lets the call through. Assumed: calls that were refused for the rate do not count.
    pub(super) fn admit(&mut self, id: u64, endpoint: Endpoint, now: Instant, calls_per_second: u32) -> bool {
        let admitted = &mut self.endpoints[endpoint.index()].admitted;
        if calls_per_second == 0 || admitted.add_below(now, calls_per_second as usize) {
            return true;
        }
        let text = format!("more than {calls_per_second} calls of {endpoint} within one second");
        self.violate(id, ViolationKind::RateExceeded, text);
        false
    }

    pub(super) fn applied(&mut self, id: u64, endpoint: Endpoint, errors: &[AccountError]) {
        self.endpoints[endpoint.index()].counters.applied += 1;
        self.totals.applied += 1;
        if let Some(record) = self.record(id) {
            record.applied = true;
            record.errors = errors.to_vec();
        }
    }

    /// The answer is known: a code, or what is sent instead of one. The caller may be gone.
    pub(super) fn answered(&mut self, id: u64, endpoint: Endpoint, code: Option<i64>, broken: Option<&'static str>) {
        let counters = &mut self.endpoints[endpoint.index()].counters;
        match code {
            Some(super::code::OK) => counters.succeeded += 1,
            Some(_) => counters.failed += 1,
            None => {}
        }
        if let Some(record) = self.record(id) {
            (record.code, record.broken) = (code, broken);
        }
    }

    /// The caller waits no longer: it was answered, or has gone away.
    pub(super) fn land(&mut self, id: u64, given_up: bool, now: Instant) {
        let Some(flight) = self.flights.remove(&id) else { return };
        self.totals.in_flight -= 1;
        for hash in flight.accounts {
            if self.busy.get(&hash).is_some_and(|(carrier, _)| *carrier == id) {
                self.busy.remove(&hash);
            }
        }
        for (since, violation) in flight.overlaps {
            if !given_up || now.saturating_duration_since(since) > GIVING_UP_TAKES {
                self.record_violation(violation);
            }
        }
        if given_up {
            self.totals.given_up += 1;
            if let Some(record) = self.record(id) {
                record.given_up = true;
            }
        }
    }

    pub(super) fn hold(&mut self) {
        self.totals.held += 1;
    }

    pub(super) fn release(&mut self) {
        self.totals.held -= 1;
    }

    pub(super) fn wrong_url(&mut self) {
        self.totals.wrong_urls += 1;
    }

    fn violate(&mut self, call: u64, kind: ViolationKind, text: String) {
        self.record_violation(Violation { call, kind, text });
    }

    fn record_violation(&mut self, violation: Violation) {
        self.totals.violations += 1;
        if self.violations.len() < VIOLATIONS_KEPT {
            self.violations.push(violation);
        }
    }

    /// The record of a call, while it is kept: ids are consecutive, so its place is known.
    fn record(&mut self, id: u64) -> Option<&mut Record> {
        let first = self.log.front()?.id;
        let place = usize::try_from(id.checked_sub(first)?).ok()?;
        self.log.get_mut(place)
    }

    pub(super) fn records(&self) -> impl DoubleEndedIterator<Item = &Record> {
        self.log.iter()
    }

    /// Violations so far (the first ten thousand), with overlaps that have lasted too long to be a caller giving up.
    pub(super) fn violations(&self, now: Instant) -> Vec<Violation> {
        let lasting = self.flights.values().flat_map(|flight| &flight.overlaps);
        let lasting = lasting.filter(|(since, _)| now.saturating_duration_since(*since) > GIVING_UP_TAKES);
        self.violations.iter().chain(lasting.map(|(_, violation)| violation)).cloned().collect()
    }

    /// When calls of an address arrived, since the start (the last two hundred thousand).
    pub(super) fn arrivals(&self, endpoint: Endpoint) -> Vec<Duration> {
        self.endpoints[endpoint.index()].arrivals.iter().copied().collect()
    }

    pub(super) fn endpoint(&self, endpoint: Endpoint) -> EndpointCounters {
        self.endpoints[endpoint.index()].counters.clone()
    }

    pub(super) fn counters(&self, users: usize) -> Counters {
        let called = Endpoint::all().map(|endpoint| (endpoint.to_string(), self.endpoint(endpoint)));
        Counters {
            endpoints: called.filter(|(_, counters)| counters.arrived > 0).collect(),
            users: u64::try_from(users).unwrap_or(u64::MAX),
            ..self.totals.clone()
        }
    }

    /// Forget calls, counts and violations, but not the calls in flight.
    pub(super) fn clear(&mut self) {
        self.log.clear();
        self.violations.clear();
        for per in &mut self.endpoints {
            per.counters = EndpointCounters::default();
            per.arrivals.clear();
        }
        let Counters { in_flight, held, .. } = self.totals;
        self.totals = Counters { in_flight, held, max_in_flight: in_flight, ..Counters::default() };
    }
}

fn push_bounded<T>(queue: &mut VecDeque<T>, item: T, limit: usize) {
    if queue.len() >= limit {
        queue.pop_front();
    }
    if limit > 0 {
        queue.push_back(item);
    }
}
