//! A vendor whose limit falls and comes back: how fast imsync follows it down and up, and how calm it is between.
//!
//! Owns: the table of calls for each second, and what is asked of it. Must not know: how the pace is kept.

use std::time::Duration;

use imsync::clock::monotonic;
use imsync::simulator::{SimulatedCommand, SimulatedService};

use super::stage_of;
use crate::support::{Setup, ended, signal};

/// When the vendor's limit falls from 100 calls a second to [`LOW`], when it returns, when the test ends: whole seconds.
const FALLS: u64 = 15;
const RETURNS: u64 = 35;
const ENDS: u64 = 60;
const LOW: u32 = 30;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a minute and measures: make bench"]
async fn bench_a_limit_that_falls_and_returns() {
    let mut setup = Setup {
        im: "calls_per_second = 95\nusers_per_call = 5\ntimeout = \"5s\"\nretry_for = \"60s\"\n".to_owned(),
        ..Setup::default()
    };
    setup.simulator.latency = Duration::from_millis(50);
    // More than a minute of calls.
    let env = stage_of(30_000, setup).await;
    let mut daemon = env.start("run", &["run"]);
    env.handle().wait_until(|counters| counters.arrived > 0).await;
    let begun = monotonic();
    let first = env.handle().arrival_times(SimulatedService::AllMemberPush, SimulatedCommand::SetAttr)[0];
    for (second, limit) in [(FALLS, LOW), (RETURNS, 100)] {
        tokio::time::sleep_until(begun + Duration::from_secs(second)).await;
        env.handle().set_calls_per_second(limit);
    }
    tokio::time::sleep_until(begun + Duration::from_secs(ENDS)).await;
    let calls = env.handle().calls();
    assert!(env.handle().users().len() < 30_000, "there was something to send all the time");
    env.handle().set_calls_per_second(0);
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));

    let mut seconds = vec![(0_u32, 0_u32); usize::try_from(ENDS).expect("small")];
    for call in &calls {
        let since = call.at_millis.saturating_sub(first.as_millis()) / 1000;
        if let Some((all, refused)) = seconds.get_mut(usize::try_from(since).expect("small")) {
            *all += 1;
            *refused += u32::from(call.code == Some(60007));
        }
    }
    println!("\n| second | limit | calls | \"slow down\" |\n|---:|---:|---:|---:|");
    for (second, (all, refused)) in (0..).zip(&seconds) {
        let limit = if (FALLS..RETURNS).contains(&second) { LOW } else { 100 };
        println!("| {second} | {limit} | {all} | {refused} |");
    }
    let range = |from: u64, to: u64| {
        let range = usize::try_from(from).expect("small")..usize::try_from(to).expect("small");
        seconds[range].iter()
    };
    let down = range(FALLS, RETURNS).position(|(all, _)| *all <= LOW + 2);
    let settled = range(FALLS + 5, RETURNS);
    let (least, most) = (settled.clone().map(|s| s.0).min(), settled.clone().map(|s| s.0).max());
    let refused: u32 = range(FALLS, RETURNS).map(|s| s.1).sum();
    let refused_settled: u32 = settled.clone().map(|s| s.1).sum();
    let used: u32 = settled.map(|s| s.0 - s.1).sum();
    let back = range(RETURNS, ENDS).position(|(all, _)| *all >= 85);
    println!(
        "\nat the lower limit after {down:?} s; {refused} refused in {} s, {refused_settled} of them after 5 s; between {least:?} and {most:?} \
         calls a second then, {used} accepted where {} were allowed; 90 % of 95 a second {back:?} s after the limit returned",
        RETURNS - FALLS,
        (RETURNS - FALLS - 5) * u64::from(LOW)
    );
}
