//! Each command as people and scripts know it: exit codes, what it prints, what it leaves alone.
//!
//! Owns: what these tests share: a table of people, a look at the state tables, a database role, an HTTP question.
//! Must not know: imsync's code.

#![expect(clippy::unwrap_used, reason = "a test that meets what it did not expect has failed")]

mod backfill;
mod binding;
mod check;
mod daemon;
mod http;
mod lease;
mod migrate;
mod preview;
mod read_only;
mod rejected;
mod secrets;
mod signals;
mod status;
mod usage;

use std::collections::BTreeMap;

use serde_json::Value;
use sqlx::AssertSqlSafe;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Database, TestEnvironment};

/// Makes people `u0001` to the given number; every third one is a "pro", every second one has a gender.
fn people(count: u32) -> String {
    format!(
        "INSERT INTO users (id, city, plan, gender)
         SELECT 'u' || lpad(g::text, greatest(4, length(g::text)), '0'), 'city ' || g % 7, CASE g % 3 WHEN 0 THEN 'pro' ELSE 'free' END,
                CASE g % 4 WHEN 0 THEN 'm' WHEN 1 THEN 'f' END
         FROM generate_series(1, {count}) g"
    )
}

/// Every row of every state table as text; empty when there are none.
async fn state_tables(database: &Database) -> BTreeMap<String, Vec<String>> {
    let mut connection = database.connect().await;
    let tables: Vec<String> =
        sqlx::query_scalar("SELECT tablename::text FROM pg_tables WHERE schemaname = 'imsync' ORDER BY 1")
            .fetch_all(&mut connection)
            .await
            .expect("a plain query");
    let mut dump = BTreeMap::new();
    for table in tables {
        let rows = AssertSqlSafe(format!("SELECT t::text FROM imsync.\"{table}\" AS t ORDER BY 1"));
        let rows = sqlx::query_scalar(rows).fetch_all(&mut connection).await.expect("a plain query");
        dump.insert(table, rows);
    }
    dump
}

async fn has_state_schema(env: &TestEnvironment) -> bool {
    env.number("SELECT count(*) FROM pg_namespace WHERE nspname = 'imsync'").await > 0
}

/// The object has at least these keys; it may gain others.
#[track_caller]
fn assert_keys(object: &Value, keys: &[&str]) {
    for key in keys {
        assert!(object.get(key).is_some(), "no key {key:?} in {object:#}");
    }
}

/// RFC 3339 in UTC.
#[track_caller]
fn assert_time(value: &Value) {
    let text = value.as_str().unwrap_or_else(|| panic!("{value} is no time"));
    chrono::DateTime::parse_from_rfc3339(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    assert!(text.ends_with('Z') || text.ends_with("+00:00"), "{text} is not in UTC");
}

/// A role that may log in and nothing else, with a password of its own; `url` logs it in to the test's database.
struct Role {
    name: String,
    url: String,
}

impl Role {
    const PASSWORD: &str = "pw-Zebra-4711";

    async fn make(env: &TestEnvironment) -> Self {
        let mut url = url::Url::parse(env.database.url()).expect("the test database has a URL");
        let name = format!("role_of_{}", url.path().trim_start_matches('/'));
        env.execute(&format!("CREATE ROLE {name} LOGIN PASSWORD '{}'", Self::PASSWORD)).await;
        url.set_username(&name).expect("a URL with a host takes a user");
        url.set_password(Some(Self::PASSWORD)).expect("a URL with a host takes a password");
        Self { name, url: url.to_string() }
    }

    /// Lets the env's configuration log in as this role.
    fn put_into(&self, env: &TestEnvironment) {
        env.edit(env.database.url(), &self.url);
    }

    /// Roles belong to the server: where it is a developer's own, nothing shall stay behind.
    async fn drop(self, env: &TestEnvironment) {
        env.execute(&format!("DROP OWNED BY {0} CASCADE; DROP ROLE {0}", self.name)).await;
    }
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("it is bound").port()
}

/// Asks a daemon; `None` while nobody listens.
async fn ask(port: u16, path: &str) -> Option<(u16, String)> {
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    let code = answer.split(' ').nth(1)?.parse().ok()?;
    let (_, body) = answer.split_once("\r\n\r\n")?;
    Some((code, body.to_owned()))
}

/// The value of one metric, with its labels as they are printed.
pub(crate) async fn metric(port: u16, name: &str) -> Option<f64> {
    let (_, text) = ask(port, "/metrics").await?;
    let line = text.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')))?;
    line.rsplit(' ').next()?.parse().ok()
}
