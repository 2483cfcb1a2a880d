//! Twelve writers that commit late, our daemon and a poller of the usual kind side by side.
//!
//! Owns: the comparison at the end. Must not know: single interleavings.
//!
//! The short runs belong to every test run; the long ones (`make soak`) take `IMSYNC_SOAK_SECONDS`, 45 by default.

use std::collections::BTreeMap;
use std::time::Duration;

use imsync::simulator::{Action, Matcher, Rule};

use super::daemon::Daemon;
use super::naive::Naive;
use super::writers::Writers;
use super::{Reader, people, setup};
use crate::support::{Setup, Stage, USERS};

const ACCOUNTS: u32 = 3_000;
const POLL: Duration = Duration::from_millis(200);

fn long() -> u64 {
    let seconds = std::env::var("IMSYNC_SOAK_SECONDS").ok();
    seconds.map_or(45, |text| text.parse().expect("IMSYNC_SOAK_SECONDS is a number of seconds"))
}

#[tokio::test(flavor = "multi_thread")]
async fn late_commits_for_a_while() {
    soak(6, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn late_commits_for_a_while_with_failed_passes_and_kills() {
    soak(7, true).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes as long as it is told to: make soak"]
async fn soak_late_commits() {
    soak(long(), false).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes as long as it is told to: make soak"]
async fn soak_late_commits_with_failed_passes_and_kills() {
    soak(long(), true).await;
}

/// Stamps as an application sets them: by a default, and by a trigger.
fn table() -> String {
    format!(
        "{USERS} {}
         CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.updated_at := now(); RETURN NEW; END $$;
         CREATE TRIGGER stamp BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION stamp();",
        people(ACCOUNTS)
    )
}

/// `troubled`: IM is away for half of the time, the daemon is killed every four seconds or so, and its role
/// may not see when a transaction began.
async fn soak(seconds: u64, troubled: bool) {
    let stage = Stage::set_up(Setup { sql: table(), ..setup("") }).await;
    let reader = if troubled { Some(Reader::on(&stage).await) } else { None };
    let mut daemon = Daemon::start(&stage);
    daemon.comes_to_rest().await;
    let mut naive = Naive::new(stage.database.connect().await).await;

    let writers = Writers::start(&stage, ACCOUNTS, seconds).await;
    let mut polls: u64 = 0;
    let mut away = None;
    while writers.at_work() {
        if troubled {
            match polls % 40 {
                2 | 22 => away = Some(stage.handle().add_fault(Rule { matcher: Matcher::default(), action: refuse() })),
                14 | 34 => stage.handle().clear_faults(),
                // Once while all is well, once while IM is away.
                18 | 28 => {
                    daemon.kill().await;
                    daemon.start_again();
                }
                _ => {}
            }
        }
        naive.poll().await;
        tokio::time::sleep(POLL).await;
        polls += 1;
    }
    let transactions = writers.end().await;
    stage.handle().clear_faults();
    // What the last failed pass sent may still have to wait for its turn; rows are asked for at once.
    daemon.polls(3).await;
    naive.poll().await;

    let table = cities(&stage).await;
    let changed = table.values().filter(|city| *city != "old").count();
    let held: BTreeMap<String, String> = stage
        .handle()
        .users()
        .into_iter()
        .filter_map(|(account, mut attributes)| Some((account, attributes.remove("city")?)))
        .collect();
    let (ours, theirs) = (stale(&table, &held), stale(&table, &naive.copy));
    let passes = daemon.passes();
    let read: u64 = daemon.incremental().iter().map(|pass| pass.rows_read).sum();
    let failed = passes.iter().filter(|pass| pass.outcome == "failed").count();
    println!(
        "\n{transactions} transactions of 12 writers in {seconds} s, {} starts of the daemon, {failed} failed passes\n\
         {:<22}{:>14}{:>9}{:>12}\n{:<22}{changed:>14}{:>9}{read:>12}\n{:<22}{changed:>14}{:>9}{:>12}",
        daemon.starts(),
        "poller, every 200 ms",
        "rows changed",
        "stale",
        "rows read",
        "imsync",
        ours.len(),
        "> max(updated_at)",
        theirs.len(),
        naive.rows_read,
    );
    assert_eq!(ours, Vec::<String>::new(), "{}", daemon.log());
    assert!(theirs.len() * 10 > changed, "the writers committed too early: {} of {changed} stale", theirs.len());
    daemon.has_made_no_further_full_pass();
    assert!(!troubled || (away.is_some() && failed > 0 && daemon.starts() > 1));
    assert_eq!(stage.handle().violations(), vec![]);
    daemon.stop().await;
    if let Some(reader) = reader {
        reader.leave(&stage).await;
    }
}

fn refuse() -> Action {
    Action::Refuse { code: 91000, per_account: false }
}

async fn cities(stage: &Stage) -> BTreeMap<String, String> {
    let rows: Vec<(String, String)> = sqlx::query_as("SELECT id, city FROM users")
        .fetch_all(&mut stage.database.connect().await)
        .await
        .expect("a plain query");
    rows.into_iter().collect()
}

fn stale(table: &BTreeMap<String, String>, copy: &BTreeMap<String, String>) -> Vec<String> {
    table
        .iter()
        .filter(|(account, city)| copy.get(*account) != Some(city))
        .map(|(account, _)| account.clone())
        .collect()
}
