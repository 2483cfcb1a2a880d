//! The statements of the history on a real server: what they list and delete, and which index they read.
//!
//! Owns: a table of 60,000 rows of two syncs. Must not know: how a row comes about.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use super::TRIM;
use crate::cluster::{self, Cluster, ClusterOptions};
use crate::model::Account;
use crate::postgres::{Connector, PgUrl, PgVariables};
use crate::state::history_listing::{
    BEFORE_NEWEST, BEFORE_NEWEST_OF_ACCOUNTS, HistoryRange, HistoryRow, PAGE, PAGE_OF_ACCOUNTS,
};
use crate::state::{Access, Lease, PoolerProbe, State, StateWriter};

/// Three attributes of 10,000 accounts, sent in thirty records of the last thirty days, and the same of another sync.
const FILL: &str = "
    INSERT INTO imsync.sync (name, binding) VALUES ('users', '{}'), ('other', '{}');
    INSERT INTO imsync.history (at, pass_started_at, sync_id, account, attribute, new_value, pass_kind, outcome)
    SELECT statement_timestamp() - make_interval(days => 30 - n / 334, hours => -1), now(), s.id, 'u' || lpad(n::text, 5, '0'), a, 'value ' || n,
           'full', 'acknowledged'
    FROM generate_series(1, 10000) n, unnest('{city,plan,sex}'::text[]) a, imsync.sync s ORDER BY s.id, n;";

const HOUR: Duration = Duration::from_hours(1);

async fn execute(url: &str, script: &str) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    connection.execute(sqlx::raw_sql(AssertSqlSafe(script.to_owned()))).await.unwrap();
}

struct HistoryDatabase {
    url: String,
    state: State,
    writer: StateWriter,
    _lease: Lease,
    /// Stops the server when it is dropped.
    _cluster: Option<Cluster>,
}

impl HistoryDatabase {
    async fn filled() -> Self {
        let mut cluster = None;
        let server = if let Ok(url) = std::env::var("IMSYNC_TEST_PG_URL") {
            url
        } else {
            let started = tokio::task::spawn_blocking(|| Cluster::start(ClusterOptions::default())).await.unwrap();
            cluster.insert(started.unwrap()).url("postgres")
        };
        let name = format!("imsync_history_{}_{:x}", std::process::id(), rand::random::<u32>());
        let url = cluster::create_database(&server, &name, "template0").await.unwrap();
        let connector = Connector::new(&PgUrl::parse(&url, &PgVariables::default()).unwrap(), None, "imsync");
        let of = ("imsync", "users");
        let state = State::open_with(connector, of, Access::ReadWrite, PoolerProbe::Needed).await.unwrap();
        state.migrate().await.unwrap();
        execute(&url, FILL).await;
        let (lease, writer) = state.take_lease(1, "a test").await.unwrap().unwrap();
        Self { url, state, writer, _lease: lease, _cluster: cluster }
    }

    async fn run(&self, script: &str) {
        execute(&self.url, script).await;
    }

    async fn number(&self, query: &'static str) -> i64 {
        let mut connection = PgConnection::connect(&self.url).await.unwrap();
        sqlx::query_scalar(query).fetch_one(&mut connection).await.unwrap()
    }

    async fn range(&self, accounts: &[&str], ago: Duration) -> HistoryRange {
        let (until, since) = self.state.clock_and_time_before(ago).await.unwrap();
        HistoryRange { sync_id: 1, accounts: accounts.iter().map(|id| Account::new(*id)).collect(), since, until }
    }

    /// The rows of a range in pages of this size, from the newest `count` on.
    async fn list(&self, range: &HistoryRange, page_size: i64, count: u64) -> Vec<HistoryRow> {
        let mut after = self.state.history_before_newest(range, count).await.unwrap().unwrap_or_else(|| range.begin());
        let mut rows = Vec::new();
        loop {
            let page = self.state.history_page(range, &after, page_size).await.unwrap();
            let Some(last) = page.last() else { return rows };
            after = last.place();
            rows.extend(page);
        }
    }

    /// The plan of a statement whose first parameters are those of the range.
    async fn plan(&self, statement: &str, range: &HistoryRange, of_page: bool) -> String {
        let explain = AssertSqlSafe(format!("EXPLAIN {statement}"));
        let mut query = sqlx::query_scalar(explain).bind(range.sync_id).bind(range.until).bind(range.since);
        query = if of_page { query.bind("u05000").bind("city").bind(1000_i64) } else { query.bind(1000_i64) };
        if !range.accounts.is_empty() {
            query = query.bind(range.accounts.iter().map(Account::as_str).collect::<Vec<_>>());
        }
        let lines: Vec<String> = query.fetch_all(self.state.pool()).await.unwrap();
        lines.join("\n")
    }

    async fn plan_of_trim(&self, keep: Option<f64>, after: Option<DateTime<Utc>>) -> String {
        let explain = sqlx::query_scalar(AssertSqlSafe(format!("EXPLAIN {TRIM}")));
        let explain = explain.bind(1).bind(self.writer.epoch()).bind(keep).bind(after).bind(5000_i64);
        let lines: Vec<String> = explain.fetch_all(self.state.pool()).await.unwrap();
        lines.join("\n")
    }
}

#[tokio::test]
async fn no_statement_reads_more_than_its_range_of_an_index() {
    let database = HistoryDatabase::filled().await;
    let (all, one) = (database.range(&[], 24 * HOUR).await, database.range(&["u05000", "u00001"], 24 * HOUR).await);
    for statistics in ["", "ANALYZE imsync.history"] {
        database.run(statistics).await;
        let plans = [
            ("history_of_time", database.plan(PAGE, &all, true).await),
            ("history_of_time", database.plan(BEFORE_NEWEST, &all, false).await),
            ("history_of_account", database.plan(PAGE_OF_ACCOUNTS, &one, true).await),
            ("history_of_account", database.plan(BEFORE_NEWEST_OF_ACCOUNTS, &one, false).await),
            ("history_of_time", database.plan_of_trim(Some(86_400.0), None).await),
            ("history_of_time", database.plan_of_trim(None, Some(all.since)).await),
        ];
        for (index, plan) in plans {
            assert!(plan.contains(&format!("using {index} on history")), "{statistics}\n{plan}");
            assert!(!plan.contains("Seq Scan on history"), "{statistics}\n{plan}");
        }
    }
}

#[tokio::test]
async fn pages_of_any_size_list_every_row_once_and_in_order() {
    let database = HistoryDatabase::filled().await;
    let range = database.range(&[], 100 * 24 * HOUR).await;
    let rows = database.list(&range, 4_999, u64::MAX).await;
    assert_eq!(rows.len(), 30_000);
    assert!(
        rows.is_sorted_by(
            |one, next| (one.at, &one.account, &one.attribute) < (next.at, &next.account, &next.attribute)
        )
    );
    let newest = database.list(&range, 7, 20).await;
    assert_eq!(newest, rows[29_980..]);
    let day = database.list(&database.range(&[], 24 * HOUR).await, 1000, u64::MAX).await;
    assert!(!day.is_empty() && day.len() < 3_000 && day == rows[30_000 - day.len()..], "{}", day.len());
    let accounts = database.range(&["u00001", "u09999", "nobody"], 100 * 24 * HOUR).await;
    for page_size in [1, 2, 1000] {
        let of_accounts = database.list(&accounts, page_size, u64::MAX).await;
        let expected: Vec<_> = rows.iter().filter(|row| row.account == "u00001" || row.account == "u09999").collect();
        assert_eq!(of_accounts.iter().collect::<Vec<_>>(), expected, "{page_size}");
        assert_eq!(database.list(&accounts, page_size, 2).await, of_accounts[4..], "{page_size}");
    }
}

#[tokio::test]
async fn old_rows_of_this_sync_are_deleted_in_steps() {
    let database = HistoryDatabase::filled().await;
    let kept =
        "SELECT count(*) FROM imsync.history WHERE sync_id = 1 AND at > statement_timestamp() - interval '10 days'";
    let old = "SELECT count(*) FROM imsync.history WHERE sync_id = 1";
    let (kept, before) = (database.number(kept).await, database.number(old).await);
    let (mut after, mut steps) = (None, 0);
    loop {
        let trimmed = database.writer.trim_history(Some(10 * 24 * HOUR), after).await.unwrap();
        steps += 1;
        assert!(database.number(old).await >= before - steps * 5_000, "a step is bounded");
        after = trimmed.until;
        if trimmed.is_done {
            break;
        }
    }
    assert_eq!((database.number(old).await, steps), (kept, (before - kept) / 5_000 + 1));
    assert!(kept > 0);
    let other = "SELECT count(*) FROM imsync.history WHERE sync_id = 2";
    assert_eq!(database.number(other).await, 30_000, "the rows of another sync stay");

    // Another process has the lease now: nothing is deleted.
    database.run("UPDATE imsync.sync SET lease_epoch = lease_epoch + 1").await;
    assert!(database.writer.trim_history(None, None).await.unwrap().is_done);
    assert_eq!(database.number(old).await, kept);
    database.run("UPDATE imsync.sync SET lease_epoch = lease_epoch - 1").await;
    while !database.writer.trim_history(None, None).await.unwrap().is_done {}
    assert_eq!((database.number(old).await, database.number(other).await), (0, 30_000));
}
