//! The limit holds in every second, and is used to 99 %; slowing down neither swings nor sticks.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use futures_util::future::join_all;
use proptest::prelude::*;
use tokio::time::{advance, sleep};

use super::*;

async fn start(pace: &Pace) -> Instant {
    pace.turn(false).await.start().await.at
}

/// Panics where some second, both ends included, holds more than `limit` starts.
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
async fn the_limit_is_used_to_99_percent_and_never_passed() {
    for rate in [1_u32, 2, 7, 95, 100, 1000] {
        let pace = Pace::new(rate);
        let many = usize::try_from(rate).unwrap() * 20 + 1;
        let starts = join_all((0..many).map(|_| start(&pace))).await;
        let took = (starts[many - 1] - starts[0]).as_secs_f64();
        assert!(20.0 / took >= 0.99, "{rate} calls a second: 20 s worth of calls took {took} s");
        assert_any_second(&starts, usize::try_from(rate).unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_longest_starts_first() {
    let pace = Pace::new(50);
    let order = Mutex::new(Vec::new());
    join_all((0..100).map(|number| {
        let (pace, order) = (&pace, &order);
        async move {
            start(pace).await;
            order.lock().unwrap().push(number);
        }
    }))
    .await;
    assert_eq!(*order.lock().unwrap(), (0..100).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_turn_given_up_costs_nothing_and_blocks_nobody() {
    let pace = Pace::new(1);
    start(&pace).await;
    let given_up = pace.turn(false).await;
    drop(given_up);
    let waiting = tokio::time::timeout(Duration::from_millis(10), start(&pace)).await;
    assert!(waiting.is_err());
    let begun = monotonic();
    start(&pace).await;
    assert!(begun.elapsed() < Duration::from_millis(1010));
}

#[tokio::test(start_paused = true)]
async fn nothing_starts_before_the_moment_held_for() {
    let pace = Arc::new(Pace::new(95));
    let moment = monotonic() + Duration::from_secs(1);
    pace.hold_until(moment);
    assert!(start(&pace).await >= moment);

    // Somebody who waits already is held as well.
    let moment = monotonic() + Duration::from_secs(3);
    start(&pace).await;
    let waiting = tokio::spawn({
        let pace = Arc::clone(&pace);
        async move { start(&pace).await }
    });
    tokio::task::yield_now().await;
    pace.hold_until(moment);
    assert!(waiting.await.unwrap() >= moment);
}

#[tokio::test(start_paused = true)]
async fn the_wait_for_the_limit_is_told() {
    let pace = Pace::new(10);
    assert_eq!(pace.turn(false).await.start().await.waited, Duration::ZERO);
    let waited = pace.turn(false).await.start().await.waited;
    assert!(waited > Duration::from_millis(90) && waited < Duration::from_millis(110), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn one_burst_of_slow_downs_cuts_once() {
    let pace = Pace::new(100);
    let starts = join_all((0..20).map(|_| start(&pace))).await;
    let cuts = starts.iter().filter_map(|started| pace.slow_down(*started)).count();
    assert_eq!(cuts, 1);
    assert!((pace.rate() - 70.0).abs() < 0.1, "{}", pace.rate());
}

#[tokio::test(start_paused = true)]
async fn the_rate_is_won_back_steadily_and_only_up_to_the_limit() {
    let pace = Pace::new(100);
    for _ in 0..50 {
        pace.slow_down(start(&pace).await);
        advance(Duration::from_millis(1500)).await;
    }
    let lowest = pace.rate();
    assert!((2.0..5.0).contains(&lowest), "{lowest}");
    let mut before = lowest;
    for _ in 0..120 {
        advance(Duration::from_secs(1)).await;
        let rate = pace.rate();
        assert!(rate >= before && rate - before <= 1.01, "{before} to {rate}");
        before = rate;
    }
    assert!((before - 100.0).abs() < 1e-9, "{before}");
}

/// The vendor allows half of what is configured: the rate must settle near it instead of swinging wildly.
#[tokio::test(start_paused = true)]
async fn a_lower_limit_of_the_vendor_is_found_and_kept() {
    let (pace, allowed) = (Pace::new(95), 50);
    let mut taken: Vec<Instant> = Vec::new();
    let (mut refused, mut all, mut rates) = (0, 0, Vec::new());
    let begun = monotonic();
    while begun.elapsed() < Duration::from_mins(5) {
        let at = start(&pace).await;
        taken.retain(|earlier| at - *earlier < WINDOW);
        let settled = begun.elapsed() > Duration::from_secs(30);
        if taken.len() < allowed {
            taken.push(at);
        } else {
            pace.slow_down(at);
            refused += usize::from(settled);
        }
        if settled {
            all += 1;
            rates.push(pace.rate());
        }
    }
    let lowest = rates.iter().copied().fold(f64::MAX, f64::min);
    let highest = rates.iter().copied().fold(0.0, f64::max);
    assert!(refused * 50 < all, "{refused} of {all} calls were refused");
    assert!(lowest > 30.0 && highest < 55.0, "between {lowest} and {highest}");
    assert!(all > 270 * 38, "only {all} calls in 270 s");
}

#[derive(Clone, Debug)]
enum Step {
    Arrive(usize),
    Pass(u64),
    SlowDown,
    Hold(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1_usize..200).prop_map(Step::Arrive),
        4 => (1_u64..2_500_000).prop_map(Step::Pass),
        1 => Just(Step::SlowDown),
        1 => (0_u64..1500).prop_map(Step::Hold),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn no_second_holds_more_than_the_limit_however_calls_arrive(
        rate in 1_u32..250,
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let starts = paused().block_on(async {
            let pace = Arc::new(Pace::new(rate));
            let mut calls = Vec::new();
            for step in steps {
                match step {
                    Step::Arrive(many) => {
                        for _ in 0..many {
                            let pace = Arc::clone(&pace);
                            calls.push(tokio::spawn(async move { start(&pace).await }));
                        }
                        tokio::task::yield_now().await;
                    }
                    Step::Pass(micros) => sleep(Duration::from_micros(micros)).await,
                    Step::SlowDown => {
                        pace.slow_down(monotonic());
                    }
                    Step::Hold(millis) => pace.hold_until(monotonic() + Duration::from_millis(millis)),
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

/// A stream of calls that wait for the limit, and one of another pass that comes late and goes first.
#[tokio::test(start_paused = true)]
async fn who_is_urgent_starts_next() {
    let pace = Arc::new(Pace::new(10));
    let order = Arc::new(Mutex::new(Vec::new()));
    let stand = |name: &'static str, urgent: bool| {
        let (pace, order) = (Arc::clone(&pace), Arc::clone(&order));
        tokio::spawn(async move {
            let start = pace.turn(urgent).await.start().await;
            order.lock().unwrap().push(name);
            start.at
        })
    };
    let usual: Vec<_> = (0..40).map(|_| stand("usual", false)).collect();
    sleep(Duration::from_millis(1050)).await;
    let before = order.lock().unwrap().len();
    let urgent = [stand("urgent", true), stand("urgent", true), stand("urgent", true)];
    let mut starts =
        join_all(urgent.into_iter().chain(usual)).await.into_iter().map(Result::unwrap).collect::<Vec<_>>();
    let order = order.lock().unwrap();
    let last = order.iter().rposition(|name| *name == "urgent").unwrap();
    // Between two of them a usual one may slip in, so that nobody waits for ever.
    assert!(last < before + 6, "{before} {order:?}");
    starts.sort();
    assert_any_second(&starts, 10);
}

/// Somebody urgent who gives up must not hold up the others.
#[tokio::test(start_paused = true)]
async fn an_urgent_turn_given_up_blocks_nobody() {
    let pace = Pace::new(1);
    start(&pace).await;
    let given_up = tokio::time::timeout(Duration::from_millis(10), async { pace.turn(true).await.start().await }).await;
    assert!(given_up.is_err());
    let begun = monotonic();
    start(&pace).await;
    assert!(begun.elapsed() < Duration::from_millis(1010));
}
