//! Measures how fast imsync follows a vendor limit that falls and rises again, and how steady its rate is in between.
//!
//! Owns: the table of calls for each second, and its evaluation. Must not know: how the rate is computed.

use std::time::Duration;

use imsync::clock::monotonic;
use imsync::simulator::{SimulatedCommand, SimulatedService};

use super::environment_of;
use crate::support::{Setup, ended, signal};

/// The second in which the vendor's limit falls from 100 calls a second to [`LOW`].
const FALLS: u64 = 15;
/// The second in which the limit rises to 100 calls a second again.
const RETURNS: u64 = 35;
/// The length of the test in seconds.
const ENDS: u64 = 60;
/// The lower limit, in calls a second.
const LOW: u32 = 30;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a benchmark of one minute, run by `make bench-tests`"]
async fn bench_a_limit_that_falls_and_rises_again() {
    let mut setup = Setup {
        im: "calls_per_second = 95\nusers_per_call = 5\ntimeout = \"5s\"\nretry_for = \"60s\"\n".to_owned(),
        ..Setup::default()
    };
    setup.simulator.latency = Duration::from_millis(50);
    // These rows need more than a minute of calls.
    let env = environment_of(30_000, setup).await;
    let mut daemon = env.start("run", &["run"]);
    env.handle().wait_until(|counters| counters.arrived > 0).await;
    let started = monotonic();
    let first = env.handle().arrival_times(SimulatedService::AllMemberPush, SimulatedCommand::SetAttr)[0];
    for (second, limit) in [(FALLS, LOW), (RETURNS, 100)] {
        tokio::time::sleep_until(started + Duration::from_secs(second)).await;
        env.handle().set_calls_per_second(limit);
    }
    tokio::time::sleep_until(started + Duration::from_secs(ENDS)).await;
    let calls = env.handle().calls();
    assert!(env.handle().users().len() < 30_000, "there are changes to send during the whole test");
    env.handle().set_calls_per_second(0);
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));

    let mut seconds = vec![(0_u32, 0_u32); usize::try_from(ENDS).expect("the number is small")];
    for call in &calls {
        let since = call.at_millis.saturating_sub(first.as_millis()) / 1000;
        if let Some((all, refused)) = seconds.get_mut(usize::try_from(since).expect("the number is small")) {
            *all += 1;
            *refused += u32::from(call.code == Some(60007));
        }
    }
    println!("\n| second | limit | calls | throttled |\n|---:|---:|---:|---:|");
    for (second, (all, refused)) in (0..).zip(&seconds) {
        let limit = if (FALLS..RETURNS).contains(&second) { LOW } else { 100 };
        println!("| {second} | {limit} | {all} | {refused} |");
    }
    let range = |from: u64, to: u64| {
        let range =
            usize::try_from(from).expect("the number is small")..usize::try_from(to).expect("the number is small");
        seconds[range].iter()
    };
    let down = range(FALLS, RETURNS).position(|(all, _)| *all <= LOW + 2);
    let steady = range(FALLS + 5, RETURNS);
    let (least, most) = (steady.clone().map(|s| s.0).min(), steady.clone().map(|s| s.0).max());
    let refused: u32 = range(FALLS, RETURNS).map(|s| s.1).sum();
    let refused_steady: u32 = steady.clone().map(|s| s.1).sum();
    let accepted: u32 = steady.map(|s| s.0 - s.1).sum();
    let back = range(RETURNS, ENDS).position(|(all, _)| *all >= 85);
    println!(
        "\nlower limit reached after {down:?} s; {refused} calls throttled in {} s, {refused_steady} of them after 5 s; from then on \
         {least:?} to {most:?} calls a second, {accepted} of {} possible calls accepted; 90 % of 95 calls a second reached {back:?} s \
         after the limit rose",
        RETURNS - FALLS,
        (RETURNS - FALLS - 5) * u64::from(LOW)
    );
}
