//! Tests the guarantees of the design with the imsync binary, a real PostgreSQL server and a simulated IM with faults.
//!
//! Owns: the functions that these tests share. Must not know: how imsync keeps a guarantee.

mod account_order;
mod call_budget;
mod call_order;
mod clock;
mod first_call;
mod gateway;
mod gone;
mod gone_search;
mod hidden_changes;
mod late_writes;
mod lease;
mod many_rejections;
mod mapping;
mod notifications;
mod outages;
mod owed_removals;
mod probes;
mod rate;
mod refused_share;
mod regressions;
mod regressions_full_pass;
mod regressions_rejections;
mod rejection_retries;
mod rejections;
mod removal_guard;
mod removal_guard_24h;
mod repairs;
mod resume;
mod source_changes;
mod stamps_not_moved;
pub(crate) mod state_truth;
mod systemic;
mod takeovers;
mod throttling;
mod two_syncs;
mod unknown_accounts;
mod unknown_outcomes;
mod unreadable_rows;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use imsync::simulator::{FaultRuleId, Simulator, SimulatorOptions, Violation, ViolationKind};
use serde_json::Value;

use crate::support::{Setup, TestEnvironment};

/// Inserts rows from `u00001` on, with three attributes each.
fn people(count: u32) -> String {
    format!(
        "INSERT INTO users (id, city, plan, gender)
         SELECT 'u' || lpad(g::text, 5, '0'), 'city ' || g % 7, CASE g % 3 WHEN 0 THEN 'pro' ELSE 'free' END,
                CASE g % 2 WHEN 0 THEN 'm' ELSE 'f' END
         FROM generate_series(1, {count}) g;"
    )
}

/// The account of the row with this number.
fn account(number: u32) -> String {
    format!("u{number:05}")
}

/// An environment whose table has this number of rows.
async fn environment_of(count: u32, setup: Setup) -> TestEnvironment {
    let env = TestEnvironment::set_up(setup).await;
    env.execute(&people(count)).await;
    env
}

/// Adds a fault rule to the simulator.
fn fault(env: &TestEnvironment, rule: &str) -> FaultRuleId {
    env.handle().add_fault(rule.parse().expect("the fault rule is valid"))
}

/// Where IM listened before it stopped, and what it holds.
struct StoppedIm {
    listen: SocketAddr,
    users: BTreeMap<String, BTreeMap<String, String>>,
}

/// Stops IM. Nothing listens at its address until [`start_im`].
async fn stop_im(env: &mut TestEnvironment) -> StoppedIm {
    let listen = env.im.address();
    let spare = Simulator::start(SimulatorOptions::default()).await.expect("another simulator starts");
    let running = std::mem::replace(&mut env.im, spare);
    let handle = running.handle().clone();
    running.stop().await;
    StoppedIm { listen, users: handle.users() }
}

/// Starts IM again with the users that it held. It accepts calls only after these are restored.
async fn start_im(env: &mut TestEnvironment, stopped: StoppedIm) {
    let faults = vec!["http:503".parse().expect("the fault rule is valid")];
    let options = SimulatorOptions { listen: stopped.listen, faults, ..Setup::default().simulator };
    env.im = Simulator::start(options).await.expect("the simulator starts again");
    for (account, attributes) in &stopped.users {
        env.handle().set_user(account, attributes).expect("the simulator knows the attributes");
    }
    env.handle().clear_faults();
}

fn attributes(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

async fn status(env: &TestEnvironment) -> Value {
    env.imsync(&["status", "--json"]).await.expect_code(0).json()
}

/// The lines of `rejected --json`.
async fn rejected(env: &TestEnvironment) -> Vec<Value> {
    let listed = env.imsync(&["rejected", "--json"]).await.expect_code(0);
    listed.stdout.lines().map(|line| serde_json::from_str(line).expect("each line is a JSON object")).collect()
}

/// All violations of the vendor's rules that the simulator has recorded.
fn violations(env: &TestEnvironment) -> Vec<Violation> {
    env.handle().violations()
}

/// The violations in which an account is in two calls at the same time, or twice in one call.
fn in_flight_twice(env: &TestEnvironment) -> Vec<Violation> {
    let twice = |violation: &Violation| {
        matches!(violation.kind, ViolationKind::AccountInFlightTwice | ViolationKind::AccountTwiceInCall)
    };
    violations(env).into_iter().filter(twice).collect()
}
