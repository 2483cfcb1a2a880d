//! Writers that commit late, and passes that must read every row: `cargo test --lib random_writers -- --ignored`.

use std::collections::HashMap;
use std::time::Duration;

use rand::RngExt;
use sqlx::PgConnection;

use super::{Source, TestDatabase, WatermarkPoint, changed, execute};
use crate::clock;
use crate::source::watermark::WatermarkTracker;

const WRITERS: u32 = 12;
const USERS: u32 = 3_000;

/// Runs transactions of up to 2.5 seconds, a fifth of them two-phase and a fifth with savepoints, for `seconds`. Each
/// writer has its own users, so that none waits for another. Returns the number of rows that it changed.
async fn write(url: String, database: String, writer: u32, seconds: u64) -> u64 {
    let mut session = <PgConnection as sqlx::Connection>::connect(&url).await.unwrap();
    let until = clock::monotonic() + Duration::from_secs(seconds);
    let mut number = 0_u32;
    while clock::monotonic() < until {
        number += 1;
        let pause = |max: f64| format!("SELECT pg_sleep({})", rand::rng().random_range(0.0..max));
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

/// A reader that remembers only the newest stamp that it has read.
struct NewestStampReader {
    newest: String,
    cities: HashMap<i32, String>,
}

impl NewestStampReader {
    async fn poll(&mut self, session: &mut PgConnection) {
        let rows: Vec<(i32, String, String)> = sqlx::query_as(
            "SELECT id, city, updated_at::text FROM users WHERE updated_at > $1::text::timestamptz ORDER BY updated_at",
        )
        .bind(&self.newest)
        .fetch_all(session)
        .await
        .unwrap();
        for (id, city, stamp) in rows {
            self.cities.insert(id, city);
            self.newest = stamp;
        }
    }
}

/// The number of changed rows whose present value was not read.
async fn count_stale(session: &mut PgConnection, cities: &HashMap<i32, String>) -> usize {
    let rows: Vec<(i32, String)> =
        sqlx::query_as("SELECT id, city FROM users WHERE city <> 'new'").fetch_all(session).await.unwrap();
    rows.iter().filter(|(id, city)| cities.get(id) != Some(city)).count()
}

/// A pass. Returns the number of rows that it read. A failed pass reads one page and records nothing.
async fn pass(
    source: &mut Source,
    tracker: &mut WatermarkTracker,
    cities: &mut HashMap<i32, String>,
    fails: bool,
) -> usize {
    tracker.observe(&source.transactions().await.unwrap());
    if fails {
        return source.changed_since(tracker.read_from(), None).await.unwrap().rows.len();
    }
    let mut read = 0;
    for page in changed(source, tracker.read_from()).await {
        for row in page.rows.iter() {
            read += 1;
            cities.insert(row.account.unwrap().parse().unwrap(), row.value(0).unwrap().to_owned());
        }
    }
    tracker.complete();
    *tracker =
        WatermarkTracker::restore(serde_json::from_str(&serde_json::to_string(&tracker.save()).unwrap()).unwrap());
    read
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs for IMSYNC_SOAK_SECONDS seconds, 15 by default"]
async fn no_row_is_stale_after_writers_that_commit_late() {
    let database = TestDatabase::create().await;
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
    // Without the privilege to see when a transaction began: only the lists give a bound.
    config.source.url = database.url_of(&role);
    let mut source = database.open(&config, &["city"]).await.unwrap();
    let mut tracker = WatermarkTracker::begin(&source.transactions().await.unwrap());
    assert!(tracker.read_from() > WatermarkPoint::Beginning);

    let mut session = database.session().await;
    let mut idle = database.session().await;
    execute(&mut idle, "BEGIN; SELECT now()").await;
    let newest = sqlx::query_scalar("SELECT now()::text").fetch_one(&mut session).await.unwrap();
    let mut newest_stamp_reader = NewestStampReader { newest, cities: HashMap::new() };
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| tokio::spawn(write(database.url.clone(), database.name.clone(), writer, seconds)))
        .collect();
    let (mut cities, mut read, mut polls) = (HashMap::new(), 0, 0_u32);
    while writers.iter().any(|writer| !writer.is_finished()) {
        read += pass(&mut source, &mut tracker, &mut cities, polls % 7 == 3).await;
        polls += 1;
        newest_stamp_reader.poll(&mut session).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let mut written = 0;
    for writer in writers {
        written += writer.await.unwrap();
    }
    read += pass(&mut source, &mut tracker, &mut cities, false).await;
    newest_stamp_reader.poll(&mut session).await;
    let stale = count_stale(&mut session, &cities).await;
    let stale_by_newest_stamp = count_stale(&mut session, &newest_stamp_reader.cities).await;
    println!(
        "{written} rows written, {polls} polls, {read} rows read; stale: {stale}, with > max(updated_at): {stale_by_newest_stamp}"
    );
    assert!(tracker.held_back_by().is_some(), "the idle transaction is still open");
    assert_eq!(stale, 0);
    // A row is read several times while it is recent (the slack, and until overlapping transactions have ended), but
    // the whole table is never read.
    assert!(read < 30 * usize::try_from(written).unwrap(), "{read} rows read for {written} written");
    assert!(stale_by_newest_stamp > 0, "the writers did not commit late");
}
