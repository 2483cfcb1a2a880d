//! Tests of the rate limiter: it keeps the limit in every second and uses 99 % of it, and follows a lower limit of the
//! vendor without oscillation.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::future::join_all;
use proptest::prelude::*;
use tokio::time::{advance, sleep};

use super::*;

fn limiter(calls_per_second: u32) -> RateLimiter {
    RateLimiter::of_share(calls_per_second, CallShare::unlimited())
}

async fn start(rate_limiter: &RateLimiter) -> Instant {
    rate_limiter.wait_for_turn(false).await.wait_for_start().await.at
}

/// Panics if a second, both ends included, holds more than `limit` starts.
fn assert_any_second(starts: &[Instant], limit: usize) {
    for window in starts.windows(limit + 1) {
        let span = window[limit] - window[0];
        assert!(span > WINDOW, "{} starts within {span:?}", limit + 1);
    }
}

fn paused() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime")
}

#[tokio::test(start_paused = true)]
async fn the_limit_is_used_to_99_percent_and_never_exceeded() {
    for rate in [1_u32, 2, 7, 95, 100, 1000] {
        let rate_limiter = limiter(rate);
        let many = usize::try_from(rate).unwrap() * 20 + 1;
        let starts = join_all((0..many).map(|_| start(&rate_limiter))).await;
        let took = (starts[many - 1] - starts[0]).as_secs_f64();
        assert!(20.0 / took >= 0.99, "{rate} calls per second: the calls of 20 s took {took} s");
        assert_any_second(&starts, usize::try_from(rate).unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn the_call_that_waits_longest_starts_first() {
    let rate_limiter = limiter(50);
    let order = Mutex::new(Vec::new());
    join_all((0..100).map(|number| {
        let (rate_limiter, order) = (&rate_limiter, &order);
        async move {
            start(rate_limiter).await;
            order.lock().unwrap().push(number);
        }
    }))
    .await;
    assert_eq!(*order.lock().unwrap(), (0..100).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_dropped_position_blocks_no_other_call() {
    let rate_limiter = limiter(1);
    start(&rate_limiter).await;
    let given_up = rate_limiter.wait_for_turn(false).await;
    drop(given_up);
    let waiting = tokio::time::timeout(Duration::from_millis(10), start(&rate_limiter)).await;
    assert!(waiting.is_err());
    let begun = monotonic();
    start(&rate_limiter).await;
    assert!(begun.elapsed() < Duration::from_millis(1010));
}

#[tokio::test(start_paused = true)]
async fn no_call_starts_before_the_held_moment() {
    let rate_limiter = Arc::new(limiter(95));
    let moment = monotonic() + Duration::from_secs(1);
    rate_limiter.hold_until(moment);
    assert!(start(&rate_limiter).await >= moment);

    // A call that already waits is held too.
    let moment = monotonic() + Duration::from_secs(3);
    start(&rate_limiter).await;
    let waiting = tokio::spawn({
        let rate_limiter = Arc::clone(&rate_limiter);
        async move { start(&rate_limiter).await }
    });
    tokio::task::yield_now().await;
    rate_limiter.hold_until(moment);
    assert!(waiting.await.unwrap() >= moment);
}

#[tokio::test(start_paused = true)]
async fn the_wait_for_the_limit_is_measured() {
    let rate_limiter = limiter(10);
    assert_eq!(rate_limiter.wait_for_turn(false).await.wait_for_start().await.waited, Duration::ZERO);
    let waited = rate_limiter.wait_for_turn(false).await.wait_for_start().await.waited;
    assert!(waited > Duration::from_millis(90) && waited < Duration::from_millis(110), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_burst_of_slow_downs_cuts_once_and_warns_once() {
    let rate_limiter = limiter(100);
    let calls = async |many: usize| {
        let starts = join_all((0..many).map(|_| start(&rate_limiter))).await;
        for at in &starts {
            rate_limiter.record_call(*at);
        }
        starts
    };
    let starts = calls(120).await;
    let cuts: Vec<RateCut> = starts[100..].iter().filter_map(|started| rate_limiter.slow_down(*started)).collect();
    assert_eq!(cuts.iter().map(|cut| cut.is_notable).collect::<Vec<_>>(), [true]);
    assert!((rate_limiter.rate() - 90.0).abs() < 1.0, "{}", rate_limiter.rate());
    // A further small cut near the same limit is not notable.
    let last = *calls(300).await.last().unwrap();
    let cut = rate_limiter.slow_down(last).expect("a call after the cooldown counts");
    assert!(!cut.is_notable && (75.0..90.0).contains(&cut.rate), "{cut:?}");
}

/// Where fewer calls were made than allowed, the limit is not known, so the cut is larger.
#[tokio::test(start_paused = true)]
async fn a_slow_down_at_few_calls_cuts_by_a_third() {
    let rate_limiter = limiter(100);
    let at = start(&rate_limiter).await;
    rate_limiter.record_call(at);
    assert!((rate_limiter.slow_down(at).unwrap().rate - 67.5).abs() < 0.1);
}

#[tokio::test(start_paused = true)]
async fn the_rate_rises_steadily_to_the_configured_rate() {
    let rate_limiter = limiter(100);
    for _ in 0..50 {
        let at = start(&rate_limiter).await;
        rate_limiter.record_call(at);
        rate_limiter.slow_down(at);
        advance(Duration::from_millis(400)).await;
    }
    let lowest = rate_limiter.rate();
    assert!((2.0..5.0).contains(&lowest), "{lowest}");
    let mut before = lowest;
    let mut seconds = 0;
    while before < 100.0 {
        advance(Duration::from_millis(100)).await;
        let rate = rate_limiter.rate();
        assert!(rate >= before && rate - before <= 2.5, "{before} to {rate} in a tenth of a second");
        before = rate;
        seconds += 1;
    }
    assert!((before - 100.0).abs() < 1e-9, "{before}");
    assert!((100..160).contains(&seconds), "back after {seconds} tenths of a second");
    advance(Duration::from_secs(100)).await;
    assert!((rate_limiter.rate() - 100.0).abs() < 1e-9);
}

/// The limit of a vendor that counts the calls of the second before each call.
struct VendorLimit {
    counted: VecDeque<Instant>,
    /// Refused calls count too.
    strict: bool,
}

impl VendorLimit {
    fn accepts(&mut self, at: Instant, limit: usize) -> bool {
        self.counted.retain(|earlier| at - *earlier < WINDOW);
        let accepts = self.counted.len() < limit;
        if accepts || self.strict {
            self.counted.push_back(at);
        }
        accepts
    }
}

/// The calls, and the refused ones of them, in each of `seconds` seconds. `limit`: the vendor's limit by second;
/// `latency`: how long answers take.
async fn drive(
    rate_limiter: &RateLimiter,
    seconds: u64,
    latency: Duration,
    strict: bool,
    limit: impl Fn(u64) -> usize,
) -> Vec<(usize, usize)> {
    let mut vendor = VendorLimit { counted: VecDeque::new(), strict };
    let mut refusals: VecDeque<Instant> = VecDeque::new();
    let mut table = vec![(0, 0); usize::try_from(seconds).unwrap()];
    let begun = monotonic();
    loop {
        let at = start(rate_limiter).await;
        let second = (at - begun).as_secs();
        let Some((all, refused)) = table.get_mut(usize::try_from(second).unwrap()) else { return table };
        rate_limiter.record_call(at);
        *all += 1;
        if !vendor.accepts(at, limit(second)) {
            *refused += 1;
            refusals.push_back(at);
        }
        while let Some(started) = refusals.pop_front_if(|started| at >= *started + latency) {
            rate_limiter.slow_down(started);
        }
    }
}

fn refused(table: &[(usize, usize)]) -> usize {
    table.iter().map(|(_, refused)| refused).sum()
}

/// The limit falls to less than a third and returns. The rate follows within seconds, stays steady, and rises again.
#[tokio::test(start_paused = true)]
async fn a_limit_that_falls_and_returns_is_followed_steadily() {
    for latency in [20, 200, 500].map(Duration::from_millis) {
        let rate_limiter = limiter(95);
        let table =
            drive(&rate_limiter, 70, latency, false, |second| if (15..45).contains(&second) { 30 } else { 100 }).await;
        assert_eq!(refused(&table[..15]), 0);
        let down = table[15..].iter().position(|(all, _)| *all <= 32).unwrap();
        assert!(down <= 3, "answers after {latency:?}: at the lower limit after {down} s: {table:?}");
        assert!(refused(&table[15..20]) <= 150, "answers after {latency:?}: {table:?}");
        for (all, _) in &table[20..45] {
            assert!((24..=34).contains(all), "answers after {latency:?}: {table:?}");
        }
        assert!(refused(&table[20..45]) <= 25, "answers after {latency:?}: {table:?}");
        let taken: usize = table[20..45].iter().map(|(all, refused)| all - refused).sum();
        assert!(taken >= 25 * 30 * 9 / 10, "answers after {latency:?}: {taken} of {}: {table:?}", 25 * 30);
        let back = table[45..].iter().position(|(all, _)| *all >= 85).unwrap();
        assert!(back <= 17, "answers after {latency:?}: back after {back} s: {table:?}");
        assert!(table[65..].iter().all(|(all, _)| *all >= 94), "{table:?}");
    }
}

/// For different limits, also where the vendor counts the calls that it refuses.
#[tokio::test(start_paused = true)]
async fn every_lower_limit_is_found_and_used() {
    for (allowed, strict) in [(5, false), (10, false), (50, false), (80, false), (90, false), (30, true), (50, true)] {
        let rate_limiter = limiter(95);
        let table = drive(&rate_limiter, 120, Duration::from_millis(50), strict, |_| allowed).await;
        let settled = &table[20..];
        let taken: usize = settled.iter().map(|(all, refused)| all - refused).sum();
        assert!(taken >= allowed * 85, "{allowed}, strict {strict}: {taken} taken in 100 s: {table:?}");
        // One in two seconds. A vendor that counts refused calls refuses the next few too.
        let most = if strict { 150 } else { 50 };
        assert!(refused(settled) <= most, "{allowed}, strict {strict}: {} refused: {table:?}", refused(settled));
        for (all, _) in settled {
            assert!(*all <= allowed + 1 + allowed / 20, "{allowed}, strict {strict}: {table:?}");
            assert!(*all + 1 >= allowed * 85 / 100, "{allowed}, strict {strict}: {table:?}");
        }
    }
}

/// While the vendor accepts nothing, almost nothing is sent.
#[tokio::test(start_paused = true)]
async fn while_all_calls_are_refused_few_are_sent() {
    let rate_limiter = limiter(95);
    let table =
        drive(&rate_limiter, 40, Duration::from_millis(50), false, |second| if second < 20 { 0 } else { 100 }).await;
    assert!(table[6..20].iter().all(|(all, _)| *all <= 3), "{table:?}");
    assert!(table[36..].iter().all(|(all, _)| *all >= 90), "{table:?}");
}

#[derive(Clone, Debug)]
enum LimiterStep {
    Calls(usize),
    Wait(u64),
    SlowDown,
    HoldFor(u64),
}

fn step() -> impl Strategy<Value = LimiterStep> {
    prop_oneof![
        4 => (1_usize..200).prop_map(LimiterStep::Calls),
        4 => (1_u64..2_500_000).prop_map(LimiterStep::Wait),
        1 => Just(LimiterStep::SlowDown),
        1 => (0_u64..1500).prop_map(LimiterStep::HoldFor),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn no_second_holds_more_calls_than_the_limit(
        rate in 1_u32..250,
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let starts = paused().block_on(async {
            let rate_limiter = Arc::new(limiter(rate));
            let mut calls = Vec::new();
            for step in steps {
                match step {
                    LimiterStep::Calls(many) => {
                        for _ in 0..many {
                            let rate_limiter = Arc::clone(&rate_limiter);
                            calls.push(tokio::spawn(async move { start(&rate_limiter).await }));
                        }
                        tokio::task::yield_now().await;
                    }
                    LimiterStep::Wait(micros) => sleep(Duration::from_micros(micros)).await,
                    LimiterStep::SlowDown => {
                        rate_limiter.slow_down(monotonic());
                    }
                    LimiterStep::HoldFor(millis) => rate_limiter.hold_until(monotonic() + Duration::from_millis(millis)),
                }
            }
            let mut starts: Vec<Instant> =
                join_all(calls).await.into_iter().map(|call| call.expect("no call panics")).collect();
            starts.sort();
            starts
        });
        assert_any_second(&starts, usize::try_from(rate).expect("small"));
    }
}

/// Calls of one pass wait for the limit. Urgent calls of another pass come later and start first.
#[tokio::test(start_paused = true)]
async fn urgent_calls_start_next() {
    let rate_limiter = Arc::new(limiter(10));
    let order = Arc::new(Mutex::new(Vec::new()));
    let queue = |name: &'static str, urgent: bool| {
        let (rate_limiter, order) = (Arc::clone(&rate_limiter), Arc::clone(&order));
        tokio::spawn(async move {
            let start = rate_limiter.wait_for_turn(urgent).await.wait_for_start().await;
            order.lock().unwrap().push(name);
            start.at
        })
    };
    let usual: Vec<_> = (0..40).map(|_| queue("usual", false)).collect();
    sleep(Duration::from_millis(1050)).await;
    let before = order.lock().unwrap().len();
    let urgent = [queue("urgent", true), queue("urgent", true), queue("urgent", true)];
    let mut starts =
        join_all(urgent.into_iter().chain(usual)).await.into_iter().map(Result::unwrap).collect::<Vec<_>>();
    let order = order.lock().unwrap();
    let last = order.iter().rposition(|name| *name == "urgent").unwrap();
    // Between two of them a usual call may start, so that no call waits for ever.
    assert!(last < before + 6, "{before} {order:?}");
    starts.sort();
    assert_any_second(&starts, 10);
}

/// An urgent call that is given up must not delay the others.
#[tokio::test(start_paused = true)]
async fn a_dropped_urgent_position_blocks_no_other_call() {
    let rate_limiter = limiter(1);
    start(&rate_limiter).await;
    let given_up = tokio::time::timeout(Duration::from_millis(10), async {
        rate_limiter.wait_for_turn(true).await.wait_for_start().await
    })
    .await;
    assert!(given_up.is_err());
    let begun = monotonic();
    start(&rate_limiter).await;
    assert!(begun.elapsed() < Duration::from_millis(1010));
}

#[tokio::test(start_paused = true)]
async fn a_share_limits_the_calls_and_moves_within_a_second() {
    let (one, other) = (CallShare::new(90), CallShare::new(0));
    let limiters = [RateLimiter::of_share(95, one.clone()), RateLimiter::of_share(95, other.clone())];
    let starts = Mutex::new(Vec::new());
    let send = async |limiter: &RateLimiter| {
        loop {
            let at = start(limiter).await;
            starts.lock().unwrap().push(at);
        }
    };
    let move_share = async {
        sleep(Duration::from_secs(3)).await;
        one.set(30);
        sleep(Duration::from_secs(1)).await;
        other.set(65);
        sleep(Duration::from_secs(3)).await;
        other.set(5);
        sleep(Duration::from_secs(1)).await;
        one.set(90);
        sleep(Duration::from_secs(3)).await;
    };
    tokio::select! {
        () = move_share => {}
        () = send(&limiters[0]) => {}
        () = send(&limiters[1]) => {}
    }
    let mut starts = starts.into_inner().unwrap();
    starts.sort();
    assert!(starts.len() > 850, "{} calls in 11 s", starts.len());
    assert_any_second(&starts, 95);
    assert!(one.take_demand().waited && other.take_demand().started > 150);
}
