//! Four pollers as people write them, each as careful as its method allows.
//!
//! Owns: what each remembers from poll to poll, what it reads again, its copy of the table. Must not know: imsync.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, Encode, PgConnection, Postgres, Type};

use crate::support::TestEnvironment;

pub(super) struct Poller {
    pub(super) name: &'static str,
    pub(super) rule: &'static str,
    /// The city of each account as it was last read.
    pub(super) copy: BTreeMap<String, String>,
    pub(super) rows_read: usize,
    session: PgConnection,
    memory: PollerRule,
}

/// What decides which rows are asked for.
enum PollerRule {
    NewestTimestamp(NewestTimestamp),
    XidGate(XidGate),
    Snapshot(Snapshot),
}

/// A row of the answer: account, city, stamp.
type Row = (String, String, DateTime<Utc>);

impl Poller {
    /// All four, each with a copy of the whole table.
    pub(super) async fn all(env: &TestEnvironment) -> [Self; 4] {
        let memories = [
            ("naive", "`updated_at > max(updated_at)`", PollerRule::NewestTimestamp(NewestTimestamp::new("0"))),
            ("overlap", "the same, less 300 ms", PollerRule::NewestTimestamp(NewestTimestamp::new("300 ms"))),
            (
                "xid gate",
                "`updated_at >=` the start of the oldest transaction that held an id at the last poll",
                PollerRule::XidGate(XidGate { from: DateTime::UNIX_EPOCH, starts: HashMap::new() }),
            ),
            (
                "snapshot",
                "rows whose `xmin` the last poll's snapshot did not see (`pg_visible_in_snapshot`)",
                PollerRule::Snapshot(Snapshot { last: "1:1:".to_owned() }),
            ),
        ];
        let mut pollers = Vec::new();
        for (name, rule, memory) in memories {
            let session = env.database.connect().await;
            let mut poller = Self { name, rule, copy: BTreeMap::new(), rows_read: 0, session, memory };
            poller.poll().await;
            poller.rows_read = 0;
            pollers.push(poller);
        }
        pollers.try_into().unwrap_or_else(|_| unreachable!("as many pollers as memories"))
    }

    pub(super) async fn poll(&mut self) {
        let session = &mut self.session;
        let rows = match &mut self.memory {
            PollerRule::NewestTimestamp(stamp) => stamp.poll(session).await,
            PollerRule::XidGate(gate) => gate.poll(session).await,
            PollerRule::Snapshot(snapshot) => snapshot.poll(session).await,
        };
        self.rows_read += rows.len();
        self.copy.extend(rows.into_iter().map(|(account, city, _)| (account, city)));
    }
}

async fn rows<'a, B>(session: &mut PgConnection, condition: &str, bound: &'a B) -> Vec<Row>
where
    &'a B: Encode<'a, Postgres> + Type<Postgres>,
{
    let sql = format!("SELECT id, city, updated_at FROM users WHERE {condition} ORDER BY updated_at, id");
    sqlx::query_as(AssertSqlSafe(sql)).bind(bound).fetch_all(session).await.expect("a plain query")
}

/// Remembers the newest stamp it has seen, and asks for what is newer; or newer than a little before it.
struct NewestTimestamp {
    newest: DateTime<Utc>,
    condition: String,
}

impl NewestTimestamp {
    fn new(overlap: &str) -> Self {
        let condition = format!("updated_at > $1 - interval '{overlap}'");
        Self { newest: DateTime::UNIX_EPOCH, condition }
    }

    async fn poll(&mut self, session: &mut PgConnection) -> Vec<Row> {
        let rows = rows(session, &self.condition, &self.newest).await;
        if let Some((.., newest)) = rows.last() {
            self.newest = *newest;
        }
        rows
    }
}

/// Remembers when the oldest transaction began that held an id at the last poll, or the clock when none did: whatever
/// commits later is dated after that. Transactions that have taken their time and hold no id yet are not in its lists.
struct XidGate {
    from: DateTime<Utc>,
    /// By transaction id; of a prepared transaction no list says when it began.
    starts: HashMap<String, DateTime<Utc>>,
}

impl XidGate {
    async fn poll(&mut self, session: &mut PgConnection) -> Vec<Row> {
        let clock: DateTime<Utc> =
            sqlx::query_scalar("SELECT now()").fetch_one(&mut *session).await.expect("a plain query");
        let running: Vec<(String, DateTime<Utc>)> = sqlx::query_as(
            "SELECT backend_xid::text, xact_start FROM pg_stat_activity
             WHERE backend_xid IS NOT NULL AND xact_start IS NOT NULL AND datname = current_database()",
        )
        .fetch_all(&mut *session)
        .await
        .expect("a plain query");
        // After the running ones: what is prepared in between is in both lists, not in neither.
        let prepared: Vec<String> =
            sqlx::query_scalar("SELECT transaction::text FROM pg_prepared_xacts WHERE database = current_database()")
                .fetch_all(&mut *session)
                .await
                .expect("a plain query");
        let rows = rows(session, "updated_at >= $1", &self.from).await;
        let mut starts: HashMap<_, _> = running.into_iter().collect();
        for id in prepared {
            let start = self.starts.get(&id).copied().unwrap_or(self.from);
            starts.entry(id).or_insert(start);
        }
        self.from = starts.values().copied().fold(clock, DateTime::min);
        self.starts = starts;
        rows
    }
}

/// Remembers the snapshot before its last read, and asks for rows whose transaction that one did not see as committed:
/// all of the table is looked at each time. A snapshot lists no subtransactions, so the id of one whose parent was in
/// flight counts as seen.
struct Snapshot {
    last: String,
}

impl Snapshot {
    async fn poll(&mut self, session: &mut PgConnection) -> Vec<Row> {
        let now: String = sqlx::query_scalar("SELECT pg_current_snapshot()::text")
            .fetch_one(&mut *session)
            .await
            .expect("a plain query");
        // The 32 bits of `xmin`, completed to the 64 of a snapshot's ids: as long ago as they say.
        let next = "pg_snapshot_xmax(pg_current_snapshot())::text::bigint";
        let id = format!("({next} - (({next} - xmin::text::bigint) & 4294967295))::text::xid8");
        let condition = format!("NOT pg_visible_in_snapshot({id}, $1::pg_snapshot)");
        let rows = rows(session, &condition, &self.last).await;
        self.last = now;
        rows
    }
}
