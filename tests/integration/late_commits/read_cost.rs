//! The cost of a transaction that stays open: rows that others change meanwhile are read once, and once more when it
//! ends.
//!
//! Owns: counting rows. Must not know: lower bounds.
//!
//! Uses a private server, with the state in another database, so that no foreign session is in a transaction list. Each
//! pass starts when the rows of the previous one are older than the slack, so that no row is read again only for being
//! young.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::Value;

use super::single_passes::{city, finish_full_passes, incremental, wait_out_slack};
use super::{environment_on, open_transaction, people, private_server, run, setup, update_city};
use crate::support::{TestEnvironment, USERS, ended};

/// The sequence of changes.
struct Workload {
    /// Bulk updates, each with its own transaction and pass.
    bulk_updates: u32,
    bulk: u32,
    /// Late commits: a transaction writes `late` rows, others change `concurrent` rows, a pass runs, and then the
    /// transaction commits. This is repeated `late_commits` times.
    late_commits: u32,
    late: u32,
    concurrent: u32,
}

impl Workload {
    fn rows(&self) -> u32 {
        self.bulk_updates * self.bulk + self.late_commits * (self.late + self.concurrent)
    }
}

struct Counter<'a> {
    env: &'a TestEnvironment,
    /// Rows up to this number have changed.
    changed: u32,
    read: u64,
    passes: u32,
}

impl Counter<'_> {
    /// Changes the next `count` rows; one in a hundred in a column that is mapped.
    fn change_next(&mut self, count: u32) -> String {
        let from = self.changed + 1;
        self.changed += count;
        format!(
            "UPDATE users SET updated_at = now(), kind = 'touched', city = CASE number % 100 WHEN 0 THEN 'new' ELSE city END
             WHERE number BETWEEN {from} AND {}",
            self.changed
        )
    }

    /// A pass after which IM holds every committed change.
    async fn pass(&mut self, newest: u32) -> u64 {
        let read = self.count(&incremental(self.env).await);
        assert_eq!(city(self.env, &format!("u{newest}")), "new", "the change arrives with the next pass");
        read
    }

    fn count(&mut self, pass: &Value) -> u64 {
        let read = pass["rows_read"].as_u64().expect("a pass counts its rows");
        self.read += read;
        self.passes += 1;
        read
    }

    async fn run_bulk_updates(&mut self, workload: &Workload) {
        for _ in 0..workload.bulk_updates {
            let sql = self.change_next(workload.bulk);
            self.env.execute(&sql).await;
            wait_out_slack(self.env).await;
            self.pass(self.changed).await;
        }
    }

    async fn run_late_commits(&mut self, workload: &Workload) {
        for _ in 0..workload.late_commits {
            let mut late = open_transaction(self.env).await;
            let sql = self.change_next(workload.late);
            run(&mut late, &sql).await;
            let last_late = self.changed;
            let sql = self.change_next(workload.concurrent);
            self.env.execute(&sql).await;
            wait_out_slack(self.env).await;
            self.pass(self.changed).await;
            assert_eq!(city(self.env, &format!("u{last_late}")), "old");
            run(&mut late, "COMMIT").await;
            self.pass(last_late).await;
        }
    }
}

fn share(read: u64, changed: u32) -> String {
    #[expect(clippy::cast_precision_loss, reason = "printed with four digits")]
    let share = read as f64 / f64::from(changed);
    format!("{share:.4}")
}

async fn one_open_transaction(rows: u32, workload: &Workload) {
    assert!(
        workload.rows() < rows
            && [workload.bulk, workload.late, workload.concurrent].iter().all(|count| count % 100 == 0)
    );
    let server = private_server(0, &[("max_wal_size", "4GB")]).await;
    let mut setup = setup("");
    setup.sql = format!(
        "{USERS} ALTER TABLE users ADD number int GENERATED ALWAYS AS (substr(id, 2)::int) STORED; {}
         CREATE INDEX ON users (number); ANALYZE users",
        people(rows)
    );
    setup.im += "calls_per_second = 100\n";
    setup.simulator.calls_per_second = 0;
    setup.simulator.logged_calls = 10;
    let env = environment_on(&server, setup).await;
    let mut first = env.start("run", &["backfill"]);
    let all = env.handle().wait_until(|counters| counters.users >= u64::from(rows));
    tokio::time::timeout(Duration::from_mins(10), all).await.expect("the first sync ends");
    assert_eq!(ended(&mut first).await, Some(0), "{}", env.printed("run", "err"));
    finish_full_passes(&env).await;

    let mut open = open_transaction(&env).await;
    run(&mut open, &update_city(&format!("u{rows}"), "new")).await;
    let mut counter = Counter { env: &env, changed: 0, read: 0, passes: 0 };
    counter.run_bulk_updates(workload).await;
    let bulk_updates = counter.read;
    counter.run_late_commits(workload).await;
    let (while_open, changed) = (counter.read, counter.changed);
    run(&mut open, "COMMIT").await;
    let last = incremental(&env).await;
    let when_ended = counter.count(&last);
    let after = counter.count(&incremental(&env).await);

    let mut table =
        format!("\n| {rows} rows, one transaction open | rows changed | rows read | share |\n|---|---|---|---|\n");
    let bulk_rows = workload.bulk_updates * workload.bulk;
    for (what, rows_changed, read) in [
        (format!("{} bulk updates with a pass each", workload.bulk_updates), bulk_rows, bulk_updates),
        (
            format!("{} late commits among other changes", workload.late_commits),
            changed - bulk_rows,
            while_open - bulk_updates,
        ),
        ("while the transaction is open".to_owned(), changed, while_open),
        ("when it ends".to_owned(), changed + 1, when_ended),
        (format!("total, {} passes", counter.passes), changed + 1, counter.read),
    ] {
        writeln!(table, "| {what} | {rows_changed} | {read} | {} |", share(read, rows_changed))
            .expect("writing to a String cannot fail");
    }
    println!("{table}");
    assert!(while_open >= u64::from(changed) && while_open * 100 <= u64::from(changed) * 105, "{table}");
    assert!(counter.read * 100 <= u64::from(changed) * 205, "{table}");
    assert_eq!(last["changed"], 1, "no row of another transaction is sent again: {last}");
    assert_eq!(after, 0, "no row is read a third time");
    assert_eq!(env.handle().users(), env.wanted_of_users().await);
    drop(server);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_transaction_makes_other_changes_be_read_twice() {
    let workload = Workload { bulk_updates: 3, bulk: 6_000, late_commits: 2, late: 800, concurrent: 200 };
    one_open_transaction(20_100, &workload).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "reads a million rows; run with `make soak`"]
async fn soak_a_million_rows_during_an_open_transaction() {
    let workload = Workload { bulk_updates: 24, bulk: 40_000, late_commits: 4, late: 7_500, concurrent: 2_500 };
    one_open_transaction(1_000_100, &workload).await;
}
