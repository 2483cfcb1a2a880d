//! Within the limits: the call rate, the users of a call, slower when IM says so.

use std::time::Duration;

use imsync::simulator::{SimulatedCommand, SimulatedService};

use crate::support::{Setup, ended, signal};

use super::{fault, in_flight_twice, stage_of, violations};

#[tokio::test(flavor = "multi_thread")]
async fn never_over_the_configured_rate_nor_over_the_users_of_a_call() {
    let im = "calls_per_second = 50\nusers_per_call = 60\ntimeout = \"30s\"\n".to_owned();
    let mut setup = Setup { im, ..Setup::default() };
    // Calls start 20.1 ms apart, so a second never sees more than 50 of them start; that is tested with a paused clock. Here
    // they are counted where they arrive, and on a busy machine some are half a second longer on their way than others.
    let most = 75;
    setup.simulator.calls_per_second = most;
    let env = stage_of(10_000, setup).await;
    // Two processes in succession share the budget of the second in which one follows the other.
    let mut first = env.start("run", &["backfill"]);
    env.handle().wait_until(|counters| counters.arrived >= 70).await;
    signal(&first, "TERM");
    assert_eq!(ended(&mut first).await, Some(1));
    env.imsync(&["backfill"]).await.expect_code(0);
    let counters = env.handle().endpoint_counters(SimulatedService::AllMemberPush, SimulatedCommand::SetAttr);
    assert!(counters.max_in_one_second <= u64::from(most), "{counters:?}");
    let calls = env.handle().calls();
    assert!(calls.iter().all(|call| call.users.len() <= 60));
    assert_eq!(calls.iter().map(|call| call.users.len()).sum::<usize>(), 10_000, "nobody is sent twice");
    // 167 full calls, and one that is not full for each delivery and for the interruption.
    assert!(counters.arrived <= 175, "{counters:?}");
    assert_eq!(violations(&env), vec![]);
    assert_eq!(env.handle().users(), env.wanted_of_users().await);

    // Over a longer time that evens out: 50 a second, and at most half a second's worth of bunching.
    let arrivals = env.handle().arrival_times(SimulatedService::AllMemberPush, SimulatedCommand::SetAttr);
    let took = arrivals.last().expect("calls were made").saturating_sub(arrivals[0]).as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a few hundred calls")]
    let count = arrivals.len() as f64;
    assert!(count <= 50.0 * took + 25.0, "{count} calls in {took:.2} s where 50 a second are allowed");
}

#[tokio::test(flavor = "multi_thread")]
async fn throttled_it_slows_down_and_nobody_is_lost() {
    let setup = Setup {
        im: "calls_per_second = 90\nusers_per_call = 20\nretry_for = \"20s\"\n".to_owned(),
        ..Setup::default()
    };
    let env = stage_of(3_000, setup).await;
    let rule = fault(&env, "throttle:40");
    let daemon_began = imsync::clock::monotonic();
    let mut daemon = env.start("run", &["run"]);
    env.handle().wait_until(|counters| counters.users >= 2_000).await;
    let refused_early = refused(&env);
    assert!(refused_early > 0, "the throttle was felt");
    env.handle().remove_fault(rule);
    env.converges(Duration::from_secs(20)).await;
    let counters = env.handle().endpoint_counters(SimulatedService::AllMemberPush, SimulatedCommand::SetAttr);
    // Without slowing down every call over the throttle would be refused: about as many as are let through.
    assert!(counters.failed * 2 < counters.succeeded, "{counters:?} after {:?}", daemon_began.elapsed());
    assert_eq!(in_flight_twice(&env), vec![]);
    assert_eq!(super::rejected(&env).await, Vec::<serde_json::Value>::new());
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
}

fn refused(env: &crate::support::TestEnvironment) -> usize {
    env.handle().calls().iter().filter(|call| call.code == Some(60007)).count()
}
