//! Tests each command from outside: its exit codes, its output, and what it does not change.
//!
//! Owns: what these tests share: a table of people, a dump of the state tables, a database role, an HTTP request.
//! Must not know: imsync's code.

#![expect(clippy::unwrap_used, reason = "a missing value fails the test")]

mod attributes;
mod backfill;
mod binding;
mod check;
mod check_rows;
mod completions;
mod connections;
mod daemon;
mod explain;
mod finding_ids;
mod forget;
mod hardened_servers;
mod history;
mod http;
mod http_proxy;
mod init;
mod init_file;
mod lease;
mod login_failures;
mod login_routes;
mod migrate;
mod mistakes;
mod notify;
mod preview;
mod read_only;
mod reference;
mod rejected;
mod reload;
mod secrets;
mod signals;
mod slow_view;
mod status;
mod usage;
mod verify;

use std::collections::BTreeMap;

use serde_json::Value;
use sqlx::AssertSqlSafe;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Database, TestEnvironment};

/// Inserts people from `u0001` to the given number. Every third person has the plan "pro", every second one a gender.
fn people(count: u32) -> String {
    format!(
        "INSERT INTO users (id, city, plan, gender)
         SELECT 'u' || lpad(g::text, greatest(4, length(g::text)), '0'), 'city ' || g % 7, CASE g % 3 WHEN 0 THEN 'pro' ELSE 'free' END,
                CASE g % 4 WHEN 0 THEN 'm' WHEN 1 THEN 'f' END
         FROM generate_series(1, {count}) g"
    )
}

/// Returns every row of every state table as text. The map is empty if there are no state tables.
async fn state_tables(database: &Database) -> BTreeMap<String, Vec<String>> {
    let mut connection = database.connect().await;
    let tables: Vec<String> =
        sqlx::query_scalar("SELECT tablename::text FROM pg_tables WHERE schemaname = 'imsync' ORDER BY 1")
            .fetch_all(&mut connection)
            .await
            .expect("the query succeeds");
    let mut dump = BTreeMap::new();
    for table in tables {
        let rows = AssertSqlSafe(format!("SELECT t::text FROM imsync.\"{table}\" AS t ORDER BY 1"));
        let rows = sqlx::query_scalar(rows).fetch_all(&mut connection).await.expect("the query succeeds");
        dump.insert(table, rows);
    }
    dump
}

async fn has_state_schema(env: &TestEnvironment) -> bool {
    env.number("SELECT count(*) FROM pg_namespace WHERE nspname = 'imsync'").await > 0
}

/// Asserts that the object has at least these keys.
#[track_caller]
fn assert_keys(object: &Value, keys: &[&str]) {
    for key in keys {
        assert!(object.get(key).is_some(), "no key {key:?} in {object:#}");
    }
}

/// Asserts that the value is an RFC 3339 time in UTC.
#[track_caller]
fn assert_time(value: &Value) {
    let text = value.as_str().unwrap_or_else(|| panic!("{value} is not a time"));
    chrono::DateTime::parse_from_rfc3339(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    assert!(text.ends_with('Z') || text.ends_with("+00:00"), "{text} is not in UTC");
}

/// A database role that has a password and may only log in. `url` connects to the database of the test as this role.
struct Role {
    name: String,
    url: String,
}

impl Role {
    const PASSWORD: &str = "pw-Zebra-4711";

    async fn create(env: &TestEnvironment) -> Self {
        let mut url = url::Url::parse(env.database.url()).expect("the test database has a URL");
        let name = format!("role_of_{}", url.path().trim_start_matches('/'));
        env.execute(&format!("CREATE ROLE {name} LOGIN PASSWORD '{}'", Self::PASSWORD)).await;
        url.set_username(&name).expect("a URL with a host can have a user");
        url.set_password(Some(Self::PASSWORD)).expect("a URL with a host can have a password");
        Self { name, url: url.to_string() }
    }

    /// Changes the configuration of the environment so that imsync connects as this role.
    fn configure(&self, env: &TestEnvironment) {
        env.edit(env.database.url(), &self.url);
    }

    /// Drops the role. Roles belong to the server, which may be an existing one that the tests must leave unchanged.
    async fn drop(self, env: &TestEnvironment) {
        env.execute(&format!("DROP OWNED BY {0} CASCADE; DROP ROLE {0}", self.name)).await;
    }
}

/// Returns a port on which nothing listens.
pub(crate) fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
    listener.local_addr().expect("the listener has an address").port()
}

/// Requests a page of a daemon and returns the status code and the body. `None` means that nothing listens yet.
pub(crate) async fn ask(port: u16, path: &str) -> Option<(u16, String)> {
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    let code = answer.split(' ').nth(1)?.parse().ok()?;
    let (_, body) = answer.split_once("\r\n\r\n")?;
    Some((code, body.to_owned()))
}

/// The value of one metric. The name contains the labels in their printed form.
pub(crate) async fn metric(port: u16, name: &str) -> Option<f64> {
    let (_, text) = ask(port, "/metrics").await?;
    let line = text.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')))?;
    line.rsplit(' ').next()?.parse().ok()
}
