//! The promises of the design, each tried with the real binary, a real PostgreSQL and a simulated IM that misbehaves.
//!
//! Owns: the words that these tests share. Must not know: how imsync keeps a promise.

mod away;
mod clock;
mod counted;
mod doubts;
mod ghosts;
mod gone;
mod guard;
mod guard_day;
mod lease;
mod mapping;
mod mended;
mod mended_full;
mod mended_rejections;
mod order;
mod rate;
mod refused_share;
mod rejected_again;
mod rejections;
mod resume;
mod systemic;
mod throttled;
pub(crate) mod truth;

use std::collections::BTreeMap;

use imsync::simulator::{FaultRuleId, Violation, ViolationKind};
use serde_json::Value;

use crate::support::{Setup, Stage};

/// Rows `u00001` and on, three attributes each.
fn people(count: u32) -> String {
    format!(
        "INSERT INTO users (id, city, plan, gender)
         SELECT 'u' || lpad(g::text, 5, '0'), 'city ' || g % 7, CASE g % 3 WHEN 0 THEN 'pro' ELSE 'free' END,
                CASE g % 2 WHEN 0 THEN 'm' ELSE 'f' END
         FROM generate_series(1, {count}) g;"
    )
}

fn account(number: u32) -> String {
    format!("u{number:05}")
}

/// A stage with so many people.
async fn stage_of(count: u32, setup: Setup) -> Stage {
    let stage = Stage::set_up(setup).await;
    stage.execute(&people(count)).await;
    stage
}

fn fault(stage: &Stage, rule: &str) -> FaultRuleId {
    stage.handle().add_fault(rule.parse().expect("a form that the simulator knows"))
}

fn attributes(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

async fn status(stage: &Stage) -> Value {
    stage.imsync(&["status", "--json"]).await.expect_code(0).json()
}

/// Each line of `rejected --json`.
async fn rejected(stage: &Stage) -> Vec<Value> {
    let listed = stage.imsync(&["rejected", "--json"]).await.expect_code(0);
    listed.stdout.lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect()
}

/// Violations that no caller on one machine can be innocent of: everything.
fn violations(stage: &Stage) -> Vec<Violation> {
    stage.handle().violations()
}

fn in_flight_twice(stage: &Stage) -> Vec<Violation> {
    let twice = |violation: &Violation| {
        matches!(violation.kind, ViolationKind::AccountInFlightTwice | ViolationKind::AccountTwiceInCall)
    };
    violations(stage).into_iter().filter(twice).collect()
}
