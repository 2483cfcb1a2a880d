//! Tests the call rate of two syncs of one app: together they stay within it, and each has what the other does not need.
//!
//! Owns: two daemons with many calls, and counts of these calls at the simulator. Must not know: how the syncs agree.

use std::time::Duration;

use imsync::simulator::{SimulatedCommand, SimulatedService};
use tokio::process::Child;

use super::{environment_of, violations};
use crate::support::{SOURCE, Setup, TestEnvironment, binary, ended, signal};

/// The configured rate.
const RATE: u32 = 60;
/// The first sync has the rows up to this one, the second one the others.
const FIRST_ROWS: u32 = 900;
const ROWS: u32 = 1_400;

async fn two_syncs(second_edit: (&str, &str)) -> TestEnvironment {
    let mut setup = Setup {
        source: format!("{SOURCE}filter = \"kind = 'a'\"\n"),
        im: format!("calls_per_second = {RATE}\nusers_per_call = 1\ntimeout = \"30s\"\n"),
        ..Setup::default()
    };
    // Both together may make 60 calls in a second. On a busy machine some of them take longer to arrive than others.
    setup.simulator.calls_per_second = RATE + RATE / 2;
    let env = environment_of(ROWS, setup).await;
    env.execute(&format!("UPDATE users SET kind = CASE WHEN id <= 'u{FIRST_ROWS:05}' THEN 'a' ELSE 'b' END")).await;
    let first = std::fs::read_to_string(env.config()).expect("the configuration can be read");
    let second = first.replace("\"users\"", "\"second\"").replace("kind = 'a'", "kind = 'b'");
    let second = second.replace(second_edit.0, second_edit.1);
    std::fs::write(env.directory().join("second.toml"), second).expect("the configuration can be written");
    env
}

fn start_second(env: &TestEnvironment) -> Child {
    let log = std::fs::File::create(env.directory().join("second.err")).expect("the log file can be created");
    let mut command = binary(env.directory());
    command.args(["run", "-c", "second.toml"]).stderr(log).spawn().expect("the binary can be executed")
}

/// Calls for accounts of the first sync, and of the second one.
fn calls(env: &TestEnvironment) -> (usize, usize) {
    let first = format!("u{FIRST_ROWS:05}");
    let users: Vec<String> =
        env.handle().calls().into_iter().filter_map(|call| Some(call.users.into_iter().next()?.account)).collect();
    let of_first = users.iter().filter(|user| **user <= first).count();
    (of_first, users.len() - of_first)
}

/// Calls per second over some time: the delays of single calls even out. `from` is a number of calls.
fn expect_rate(env: &TestEnvironment, from: usize) {
    let set = (SimulatedService::AllMemberPush, SimulatedCommand::SetAttr);
    let arrivals = env.handle().arrival_times(set.0, set.1);
    let arrivals = &arrivals[from..];
    let took = arrivals.last().expect("calls were made").saturating_sub(arrivals[0]).as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "some hundred calls")]
    let count = arrivals.len() as f64;
    assert!(count <= f64::from(RATE) * took + f64::from(RATE) / 2.0, "{count} calls in {took:.2} s");
    let counters = env.handle().endpoint_counters(set.0, set.1);
    assert!(counters.max_in_one_second <= u64::from(RATE + RATE / 2), "{counters:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_busy_syncs_share_the_rate_of_their_app() {
    let env = two_syncs(("", "")).await;
    let mut first = env.start("run", &["run"]);
    env.handle().wait_until(|counters| counters.arrived >= 100).await;
    let mut second = start_second(&env);
    env.eventually("the second sync makes calls", async || calls(&env).1 >= 80).await;
    let before = calls(&env);
    env.eventually("both have made calls", async || calls(&env).0 + calls(&env).1 >= before.0 + before.1 + 200).await;
    let now = calls(&env);
    let (of_first, of_second) = (now.0 - before.0, now.1 - before.1);
    assert!(of_first >= 60 && of_second >= 60, "a fair part for each: {of_first} and {of_second}");
    expect_rate(&env, 0);

    // One is killed: the other one has the whole rate within seconds.
    first.kill().await.expect("the daemon can be killed");
    let at_kill = calls(&env).1;
    let killed = imsync::clock::monotonic();
    env.eventually("the second sync has sent everything", async || calls(&env).1 >= (ROWS - FIRST_ROWS) as usize).await;
    let rest = (ROWS - FIRST_ROWS) as usize - at_kill;
    // With half of the rate, the rest alone would take this long.
    let at_half =
        Duration::from_secs_f64(2.0 * f64::from(u32::try_from(rest).expect("a few hundred calls")) / f64::from(RATE));
    let took = killed.elapsed();
    assert!(took < at_half || took < Duration::from_secs(4), "{rest} calls took {took:?}");

    // It is started again beside an idle one, and has what that one does not need.
    let mut first = env.start("run", &["run"]);
    env.converges(Duration::from_secs(30)).await;
    expect_rate(&env, 0);
    assert_eq!(violations(&env), vec![]);
    for daemon in [&mut first, &mut second] {
        signal(daemon, "TERM");
        assert_eq!(ended(daemon).await, Some(0));
    }
}

/// The lower one of two configured rates applies to both while both run.
#[tokio::test(flavor = "multi_thread")]
async fn the_lowest_configured_rate_limits_both() {
    let env = two_syncs(("calls_per_second = 60", "calls_per_second = 20")).await;
    let mut first = env.start("run", &["run"]);
    env.handle().wait_until(|counters| counters.arrived >= 60).await;
    let mut second = start_second(&env);
    env.eventually("the second sync makes calls", async || calls(&env).1 >= 1).await;
    let from = env.handle().arrival_times(SimulatedService::AllMemberPush, SimulatedCommand::SetAttr).len();
    env.eventually("both go on", async || calls(&env).1 >= 60).await;
    let arrivals = env.handle().arrival_times(SimulatedService::AllMemberPush, SimulatedCommand::SetAttr);
    let arrivals = &arrivals[from..];
    let took = arrivals.last().expect("calls were made").saturating_sub(arrivals[0]);
    let allowed = 20.0 * took.as_secs_f64() + 10.0;
    assert!(
        f64::from(u32::try_from(arrivals.len()).expect("a few hundred calls")) <= allowed,
        "{} calls in {took:?}",
        arrivals.len()
    );
    for daemon in [&mut first, &mut second] {
        signal(daemon, "TERM");
        assert_eq!(ended(daemon).await, Some(0));
    }
}

/// Syncs of another schema of the same database count as well.
#[tokio::test(flavor = "multi_thread")]
async fn syncs_of_two_state_schemas_share_the_rate() {
    let env = two_syncs(("[im]", "[state]\nschema = \"other\"\n[im]")).await;
    let mut first = env.start("run", &["run"]);
    let mut second = start_second(&env);
    env.eventually("both have made calls", async || calls(&env).0 >= 150 && calls(&env).1 >= 150).await;
    expect_rate(&env, 0);
    for daemon in [&mut first, &mut second] {
        signal(daemon, "TERM");
        assert_eq!(ended(daemon).await, Some(0));
    }
}
