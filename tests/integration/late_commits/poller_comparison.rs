//! Twelve writers that commit late, and five pollers that read the same table every 200 ms: four of the usual kinds, and
//! our daemon.
//!
//! Owns: the comparison at the end, and its table. Must not know: how any of them decides what to read.
//!
//! The short run belongs to every test run; the long one (`make soak`) takes `IMSYNC_SOAK_SECONDS`, 45 by default.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::{join, join_all};
use imsync::clock;

use super::daemon::Daemon;
use super::pollers::Poller;
use super::writers::{Writers, table};
use super::{setup, soak};
use crate::support::{Setup, TestEnvironment};

const POLL: Duration = Duration::from_millis(200);
/// However slow the machine: with fewer polls among the writers nobody would lose anything.
const POLLS_AT_LEAST: u32 = 20;

#[tokio::test(flavor = "multi_thread")]
async fn five_pollers_for_a_while() {
    compare(6).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes as long as it is told to: make soak"]
async fn soak_five_pollers() {
    compare(soak::seconds()).await;
}

async fn compare(seconds: u64) {
    // A call that a busy machine leaves unanswered for a second is no fault here.
    let im = "timeout = \"10s\"\nretry_for = \"30s\"\n".to_owned();
    let env = TestEnvironment::set_up(Setup { sql: table(), im, ..setup("") }).await;
    let mut daemon = Daemon::start(&env);
    daemon.comes_to_rest().await;
    let mut others = Poller::all(&env).await;

    let writers = Writers::start(&env).await;
    let began = clock::monotonic();
    let mut polls = 0;
    while began.elapsed() < Duration::from_secs(seconds) || polls < POLLS_AT_LEAST {
        poll(&mut others).await;
        polls += 1;
    }
    writers.stop();
    while writers.at_work() {
        poll(&mut others).await;
    }
    let transactions = writers.end().await;
    // Without a further full pass, which would find everything.
    let arrived = tokio::time::timeout(Duration::from_mins(1), async {
        daemon.polls(3).await;
        while !stale(&cities(&env).await, &held(&env)).is_empty() {
            poll(&mut others).await;
        }
    });
    let _ = arrived.await;
    poll(&mut others).await;
    poll(&mut others).await;

    let table = cities(&env).await;
    let changed = table.values().filter(|city| *city != "old").count();
    println!("\n12 writers, {transactions} transactions in {seconds} s; every poller polls every 200 ms\n");
    println!("| poller | rule | changed rows | stale at the end | share | rows read |");
    println!("|---|---|---:|---:|---:|---:|");
    for Poller { name, rule, copy, rows_read, .. } in &others {
        println!("{}", line(name, rule, changed, stale(&table, copy).len(), *rows_read as u64));
    }
    let ours = stale(&table, &held(&env));
    let read = daemon.incremental().iter().map(|pass| pass.rows_read).sum();
    let rule = "fences of virtual transaction ids (this program, IM compared)";
    println!("{}", line("imsync", rule, changed, ours.len(), read));

    assert_eq!(ours, Vec::<String>::new(), "{}", daemon.log());
    assert!(!stale(&table, &others[0].copy).is_empty(), "the writers committed too early: nobody could lose a row");
    daemon.has_made_no_further_full_pass();
    assert_eq!(env.handle().violations(), vec![]);
    daemon.stop().await;
}

/// One poll of each of the others, 200 ms or more after the last.
async fn poll(others: &mut [Poller]) {
    join(tokio::time::sleep(POLL), join_all(others.iter_mut().map(Poller::poll))).await;
}

fn line(name: &str, rule: &str, changed: usize, stale: usize, read: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "some thousand rows")]
    let share = 100.0 * stale as f64 / changed.max(1) as f64;
    format!("| {name} | {rule} | {changed} | {stale} | {share:.1} % | {read} |")
}

/// What the table says.
async fn cities(env: &TestEnvironment) -> BTreeMap<String, String> {
    let rows: Vec<(String, String)> = sqlx::query_as("SELECT id, city FROM users")
        .fetch_all(&mut env.database.connect().await)
        .await
        .expect("a plain query");
    rows.into_iter().collect()
}

/// What IM holds.
fn held(env: &TestEnvironment) -> BTreeMap<String, String> {
    let users = env.handle().users().into_iter();
    users.filter_map(|(account, mut attributes)| Some((account, attributes.remove("city")?))).collect()
}

fn stale(table: &BTreeMap<String, String>, copy: &BTreeMap<String, String>) -> Vec<String> {
    let differs = |(account, city): &(&String, &String)| copy.get(*account) != Some(*city);
    table.iter().filter(differs).map(|(account, _)| account.clone()).collect()
}
