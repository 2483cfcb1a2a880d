//! What one transaction that stays open costs: what others change meanwhile is read once, and once more when it ends.
//!
//! Owns: counting rows. Must not know: floors.
//!
//! A server of its own, state in another database: nobody else's session is in a fence. Each pass comes when the rows of
//! the one before are older than the slack, so that no row is read again only for being young.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::Value;

use super::first_full_passes::{city, incremental, longer_than_the_slack, settles};
use super::{begun, environment_on, moves, own_server, people, run, setup};
use crate::support::{TestEnvironment, USERS, ended};

/// How the changes come.
struct Workload {
    /// In bulk, a transaction and a pass each.
    bulks: u32,
    bulk: u32,
    /// Late committers: so many times one writes `late` rows, others change `beside` and a pass runs, and then it commits.
    lates: u32,
    late: u32,
    beside: u32,
}

impl Workload {
    fn rows(&self) -> u32 {
        self.bulks * self.bulk + self.lates * (self.late + self.beside)
    }
}

struct Counted<'a> {
    env: &'a TestEnvironment,
    /// The rows up to this one have changed.
    changed: u32,
    read: u64,
    passes: u32,
}

impl Counted<'_> {
    /// The next so many rows change; one in a hundred in a column that is mapped.
    fn changes(&mut self, count: u32) -> String {
        let from = self.changed + 1;
        self.changed += count;
        format!(
            "UPDATE users SET updated_at = now(), kind = 'touched', city = CASE number % 100 WHEN 0 THEN 'new' ELSE city END
             WHERE number BETWEEN {from} AND {}",
            self.changed
        )
    }

    /// A pass after which everything committed is in IM.
    async fn pass(&mut self, newest: u32) -> u64 {
        let read = self.read_by(&incremental(self.env).await);
        assert_eq!(city(self.env, &format!("u{newest}")), "new", "it arrives at once");
        read
    }

    fn read_by(&mut self, pass: &Value) -> u64 {
        let read = pass["rows_read"].as_u64().expect("a pass counts its rows");
        self.read += read;
        self.passes += 1;
        read
    }
}

fn share(read: u64, changed: u32) -> String {
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let share = read as f64 / f64::from(changed);
    format!("{share:.4}")
}

async fn one_open_transaction(rows: u32, course: &Workload) {
    assert!(course.rows() < rows && [course.bulk, course.late, course.beside].iter().all(|count| count % 100 == 0));
    let server = own_server(0, &[("max_wal_size", "4GB")]).await;
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
    settles(&env).await;

    let mut open = begun(&env).await;
    run(&mut open, &moves(&format!("u{rows}"), "new")).await;
    let mut counted = Counted { env: &env, changed: 0, read: 0, passes: 0 };
    for _ in 0..course.bulks {
        let sql = counted.changes(course.bulk);
        env.execute(&sql).await;
        longer_than_the_slack(&env).await;
        counted.pass(counted.changed).await;
    }
    let bulks = counted.read;
    for _ in 0..course.lates {
        let mut late = begun(&env).await;
        let sql = counted.changes(course.late);
        run(&mut late, &sql).await;
        let late_ones = counted.changed;
        let sql = counted.changes(course.beside);
        env.execute(&sql).await;
        longer_than_the_slack(&env).await;
        counted.pass(counted.changed).await;
        assert_eq!(city(&env, &format!("u{late_ones}")), "old");
        run(&mut late, "COMMIT").await;
        counted.pass(late_ones).await;
    }
    let (while_open, changed) = (counted.read, counted.changed);
    run(&mut open, "COMMIT").await;
    let last = incremental(&env).await;
    let when_ended = counted.read_by(&last);
    let after = counted.read_by(&incremental(&env).await);

    let mut table =
        format!("\n| {rows} rows, one transaction open | rows changed | rows read | share |\n|---|---|---|---|\n");
    let bulk_rows = course.bulks * course.bulk;
    for (what, rows_changed, read) in [
        (format!("{} bulk updates, a pass each", course.bulks), bulk_rows, bulks),
        (format!("{} late committers among others", course.lates), changed - bulk_rows, while_open - bulks),
        ("while it is open".to_owned(), changed, while_open),
        ("when it ends".to_owned(), changed + 1, when_ended),
        (format!("together, {} passes", counted.passes), changed + 1, counted.read),
    ] {
        writeln!(table, "| {what} | {rows_changed} | {read} | {} |", share(read, rows_changed))
            .expect("a String takes it");
    }
    println!("{table}");
    assert!(while_open >= u64::from(changed) && while_open * 100 <= u64::from(changed) * 105, "{table}");
    assert!(counted.read * 100 <= u64::from(changed) * 205, "{table}");
    assert_eq!(last["changed"], 1, "nobody else's row is sent again: {last}");
    assert_eq!(after, 0, "nothing is read once more");
    assert_eq!(env.handle().users(), env.wanted_of_users().await);
    drop(server);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_change_beside_an_open_transaction_is_read_once_and_once_more_when_it_ends() {
    let course = Workload { bulks: 3, bulk: 6_000, lates: 2, late: 800, beside: 200 };
    one_open_transaction(20_100, &course).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a million rows: make soak"]
async fn soak_a_million_rows_beside_an_open_transaction() {
    let course = Workload { bulks: 24, bulk: 40_000, lates: 4, late: 7_500, beside: 2_500 };
    one_open_transaction(1_000_100, &course).await;
}
