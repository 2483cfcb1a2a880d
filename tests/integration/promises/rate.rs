//! Tests the limits: the call rate, the number of users in a call, and the slow-down when IM throttles.
//!
//! Owns: counts of calls at the simulator. Must not know: how the rate is computed.

use std::time::Duration;

use imsync::simulator::{SimulatedCommand, SimulatedService};

use crate::support::{Setup, ended, signal};

use super::{environment_of, fault, in_flight_twice, violations};

#[tokio::test(flavor = "multi_thread")]
async fn calls_stay_within_the_rate_and_the_users_per_call() {
    let im = "calls_per_second = 50\nusers_per_call = 60\ntimeout = \"30s\"\n".to_owned();
    let mut setup = Setup { im, ..Setup::default() };
    // Calls start 20.1 ms apart, so at most 50 of them start in a second. Another test checks that with a paused clock.
    // This test counts arrivals, and on a busy machine some calls take half a second longer to arrive than others.
    let limit = 75;
    setup.simulator.calls_per_second = limit;
    let env = environment_of(10_000, setup).await;
    // Two processes that run one after the other share the budget of the second in which both make calls.
    let mut first = env.start("run", &["backfill"]);
    env.handle().wait_until(|counters| counters.arrived >= 70).await;
    signal(&first, "TERM");
    assert_eq!(ended(&mut first).await, Some(1));
    env.imsync(&["backfill"]).await.expect_code(0);
    let counters = env.handle().endpoint_counters(SimulatedService::AllMemberPush, SimulatedCommand::SetAttr);
    assert!(counters.max_in_one_second <= u64::from(limit), "{counters:?}");
    let calls = env.handle().calls();
    assert!(calls.iter().all(|call| call.users.len() <= 60));
    assert_eq!(calls.iter().map(|call| call.users.len()).sum::<usize>(), 10_000, "no user is sent twice");
    // 167 calls have 60 users. Each delivery and the interruption add one smaller call.
    assert!(counters.arrived <= 175, "{counters:?}");
    assert_eq!(violations(&env), vec![]);
    assert_eq!(env.handle().users(), env.wanted_of_users().await);

    // Over a longer time the different delays even out: 50 calls a second, plus at most the calls of half a second.
    let arrivals = env.handle().arrival_times(SimulatedService::AllMemberPush, SimulatedCommand::SetAttr);
    let took = arrivals.last().expect("calls were made").saturating_sub(arrivals[0]).as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a few hundred calls")]
    let count = arrivals.len() as f64;
    assert!(count <= 50.0 * took + 25.0, "{count} calls in {took:.2} s where 50 a second are allowed");
}

#[tokio::test(flavor = "multi_thread")]
async fn throttled_calls_slow_down_and_every_user_arrives() {
    let setup = Setup {
        im: "calls_per_second = 90\nusers_per_call = 20\nretry_for = \"20s\"\n".to_owned(),
        ..Setup::default()
    };
    let env = environment_of(3_000, setup).await;
    let rule = fault(&env, "throttle:40");
    let started = imsync::clock::monotonic();
    let mut daemon = env.start("run", &["run"]);
    env.handle().wait_until(|counters| counters.users >= 2_000).await;
    let refused_early = refused(&env);
    assert!(refused_early > 0, "IM has throttled some calls");
    env.handle().remove_fault(rule);
    env.converges(Duration::from_secs(20)).await;
    let counters = env.handle().endpoint_counters(SimulatedService::AllMemberPush, SimulatedCommand::SetAttr);
    // Without a slow-down IM would refuse every call over the limit, which is about as many calls as it accepts.
    assert!(counters.failed * 2 < counters.succeeded, "{counters:?} after {:?}", started.elapsed());
    assert_eq!(in_flight_twice(&env), vec![]);
    assert_eq!(super::rejected(&env).await, Vec::<serde_json::Value>::new());
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
}

fn refused(env: &crate::support::TestEnvironment) -> usize {
    env.handle().calls().iter().filter(|call| call.code == Some(60007)).count()
}
