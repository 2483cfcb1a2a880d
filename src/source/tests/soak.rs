//! Writers that commit late, against a poller that counts what it holds: `cargo test --lib soak -- --ignored`.

use std::collections::HashMap;
use std::time::Duration;

use rand::RngExt;
use sqlx::PgConnection;

use super::{Database, PgUrl, Source, WatermarkBound, changed, execute};
use crate::clock;
use crate::source::watermark::WatermarkTracker;

const WRITERS: u32 = 12;
const USERS: u32 = 3_000;

/// Transactions of up to two seconds and a half, a fifth of them two-phase, a fifth with savepoints, until `seconds`
/// are over. Each writer has users of its own, so that none waits for another. Returns the rows it changed.
async fn write(url: String, database: String, writer: u32, seconds: u64) -> u64 {
    let mut session = <PgConnection as sqlx::Connection>::connect(&url).await.unwrap();
    let until = clock::monotonic() + Duration::from_secs(seconds);
    let mut number = 0_u32;
    while clock::monotonic() < until {
        number += 1;
        let pause = |most: f64| format!("SELECT pg_sleep({})", rand::rng().random_range(0.0..most));
        let user = writer + WRITERS * rand::rng().random_range(0..USERS / WRITERS);
        let style = rand::rng().random_range(0..10_u32);
        execute(&mut session, "BEGIN").await;
        execute(&mut session, &pause(1.0)).await;
        if style < 2 {
            execute(&mut session, "SAVEPOINT a").await;
        }
        execute(&mut session, &format!("UPDATE users SET city = 'c{number}', updated_at = now() WHERE id = {user}"))
            .await;
        if style < 2 {
            execute(&mut session, "RELEASE a").await;
        }
        execute(&mut session, &pause(1.5)).await;
        if (2..4).contains(&style) {
            let gid = format!("{database}_{writer}_{number}");
            execute(&mut session, &format!("PREPARE TRANSACTION '{gid}'")).await;
            execute(&mut session, &pause(0.5)).await;
            execute(&mut session, &format!("COMMIT PREPARED '{gid}'")).await;
        } else {
            execute(&mut session, "COMMIT").await;
        }
    }
    u64::from(number)
}

/// What a poller holds that remembers the newest stamp it has seen.
struct Naive {
    newest: String,
    holds: HashMap<i32, String>,
}

impl Naive {
    async fn poll(&mut self, session: &mut PgConnection) {
        let rows: Vec<(i32, String, String)> = sqlx::query_as(
            "SELECT id, city, updated_at::text FROM users WHERE updated_at > $1::text::timestamptz ORDER BY updated_at",
        )
        .bind(&self.newest)
        .fetch_all(session)
        .await
        .unwrap();
        for (id, city, stamp) in rows {
            self.holds.insert(id, city);
            self.newest = stamp;
        }
    }
}

async fn stale(session: &mut PgConnection, holds: &HashMap<i32, String>) -> usize {
    let rows: Vec<(i32, String)> =
        sqlx::query_as("SELECT id, city FROM users WHERE city <> 'new'").fetch_all(session).await.unwrap();
    rows.iter().filter(|(id, city)| holds.get(id) != Some(city)).count()
}

/// One pass; the rows it read. A failed one reads half a page and records nothing.
async fn pass(
    source: &mut Source,
    tracker: &mut WatermarkTracker,
    holds: &mut HashMap<i32, String>,
    fails: bool,
) -> usize {
    tracker.observe(&source.transactions().await.unwrap());
    if fails {
        return source.changed_since(tracker.read_from(), None).await.unwrap().rows.len();
    }
    let mut read = 0;
    for page in changed(source, tracker.read_from()).await {
        for row in page.rows {
            read += 1;
            holds.insert(row.account.unwrap().parse().unwrap(), row.values[0].as_deref().unwrap().to_owned());
        }
    }
    tracker.complete();
    *tracker =
        WatermarkTracker::restore(serde_json::from_str(&serde_json::to_string(&tracker.save()).unwrap()).unwrap());
    read
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes as long as it is told to: IMSYNC_SOAK_SECONDS, 15 by default"]
async fn no_row_is_stale_after_writers_that_commit_late() {
    let database = Database::create().await;
    let seconds = std::env::var("IMSYNC_SOAK_SECONDS").ok().map_or(15, |text| text.parse().unwrap());
    let role = format!("{}_role", database.name);
    database
        .run(&format!(
            "CREATE TABLE users (id int PRIMARY KEY, city text, updated_at timestamptz);
             INSERT INTO users SELECT n, 'new', now() - interval '1 hour' FROM generate_series(0, {USERS} - 1) AS n;
             CREATE INDEX ON users (updated_at, id); CREATE ROLE {role} LOGIN PASSWORD 'role'; GRANT SELECT ON users TO {role}"
        ))
        .await;
    let mut config = database.config("users");
    config.source.watermark_column = Some("updated_at".to_owned());
    config.source.watermark_grace = Duration::ZERO;
    // Without the right to see when a transaction began: only transaction lists tell.
    config.source.url = PgUrl(database.url_of(&role).0);
    let mut source = database.open(&config, &["city"]).await.unwrap();
    let mut tracker = WatermarkTracker::begin(&source.transactions().await.unwrap());
    assert!(tracker.read_from() > WatermarkBound::Beginning);

    let mut session = database.session().await;
    let mut idle = database.session().await;
    execute(&mut idle, "BEGIN; SELECT now()").await;
    let newest = sqlx::query_scalar("SELECT now()::text").fetch_one(&mut session).await.unwrap();
    let mut naive = Naive { newest, holds: HashMap::new() };
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| tokio::spawn(write(database.url.clone(), database.name.clone(), writer, seconds)))
        .collect();
    let (mut holds, mut read, mut polls) = (HashMap::new(), 0, 0_u32);
    while writers.iter().any(|writer| !writer.is_finished()) {
        read += pass(&mut source, &mut tracker, &mut holds, polls % 7 == 3).await;
        polls += 1;
        naive.poll(&mut session).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let mut written = 0;
    for writer in writers {
        written += writer.await.unwrap();
    }
    read += pass(&mut source, &mut tracker, &mut holds, false).await;
    naive.poll(&mut session).await;
    let (ours, theirs) = (stale(&mut session, &holds).await, stale(&mut session, &naive.holds).await);
    println!(
        "{written} rows written, {polls} polls, {read} rows read; stale: {ours}, with > max(updated_at): {theirs}"
    );
    assert!(tracker.held_back_by().is_some(), "the idle session is open all the while");
    assert_eq!(ours, 0);
    // Each row some times while it is young (the slack, and until what overlapped it has ended), never the whole table.
    assert!(read < 30 * usize::try_from(written).unwrap(), "{read} rows read for {written} written");
    assert!(theirs > 0, "the writers did not commit late");
}
