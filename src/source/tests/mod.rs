//! The source on a real server. Each test has its own database, so its transaction lists contain no other test.
//!
//! The server is a private one, or that of `IMSYNC_TEST_PG_URL`, the URL of a superuser. It needs
//! `max_prepared_transactions` above 0.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::{Cursor, Page, Source, SourceError, WatermarkPoint};
use crate::cluster::{Cluster, ClusterOptions};
use crate::config::{self, AccountFormat, AttributeConfig, Config, PgUrl, PgVariables};
use crate::model::{Region, Row, Rows, Service};

mod errors;
mod forced_schedules;
mod pages;
mod plans;
mod polls;
mod random_accounts;
mod random_writers;
mod row_texts;
mod transaction_lists;
mod value_types;

/// The URL of a superuser of the server to test on: a private one for this run, or one that the developer provides.
fn server() -> String {
    static PRIVATE: OnceLock<Cluster> = OnceLock::new();
    if let Ok(url) = std::env::var("IMSYNC_TEST_PG_URL") {
        return url;
    }
    // Never dropped; its supervisor stops it when this process has ended.
    let cluster = PRIVATE.get_or_init(|| {
        Cluster::start(ClusterOptions { max_prepared_transactions: 50, ..ClusterOptions::default() })
            .expect("a private PostgreSQL")
    });
    cluster.url("postgres")
}

/// A database that is dropped with its test.
struct TestDatabase {
    server: String,
    url: String,
    name: String,
}

impl TestDatabase {
    async fn create() -> Self {
        Self::create_with("").await
    }

    /// With these options of CREATE DATABASE.
    async fn create_with(options: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let server = tokio::task::spawn_blocking(server).await.unwrap();
        let name = format!("imsync_source_{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let mut url = url::Url::parse(&server).unwrap();
        url.set_path(&name);
        let database = Self { server, url: url.to_string(), name };
        let mut admin = PgConnection::connect(&database.server).await.unwrap();
        // As in the cluster: copying files is quicker.
        let strategy = if admin.server_version_num() >= Some(150_000) { "STRATEGY file_copy" } else { "" };
        execute(&mut admin, &format!("CREATE DATABASE {} {options} {strategy}", database.name)).await;
        database
    }

    async fn session(&self) -> PgConnection {
        PgConnection::connect(&self.url).await.unwrap()
    }

    /// Runs statements in a new session.
    async fn run(&self, sql: &str) {
        let mut session = self.session().await;
        execute(&mut session, sql).await;
        session.close().await.unwrap();
    }

    /// A configuration for this table, with the account column `id`.
    fn config(&self, table: &str) -> Config {
        config(&self.url, table)
    }

    async fn open(&self, config: &Config, columns: &[&str]) -> Result<Source, SourceError> {
        let columns: Vec<String> = columns.iter().map(|column| (*column).to_owned()).collect();
        Source::connect(config, &columns).await
    }

    /// The URL with the login of another role.
    fn url_of(&self, role: &str) -> PgUrl {
        let mut url = url::Url::parse(&self.url).unwrap();
        url.set_username(role).unwrap();
        url.set_password(Some("role")).unwrap();
        parsed(url.as_str())
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let (server, url, name) = (self.server.clone(), self.url.clone(), self.name.clone());
        let clean = async move {
            // A database with prepared transactions cannot be dropped.
            let mut session = PgConnection::connect(&url).await.unwrap();
            let left = sqlx::query_scalar::<_, String>(
                "SELECT quote_literal(gid) FROM pg_prepared_xacts WHERE database = current_database()",
            );
            for gid in left.fetch_all(&mut session).await.unwrap() {
                execute(&mut session, &format!("ROLLBACK PREPARED {gid}")).await;
            }
            drop(session);
            let mut admin = PgConnection::connect(&server).await.unwrap();
            execute(&mut admin, &format!("DROP DATABASE {name} WITH (FORCE)")).await;
            execute(&mut admin, &format!("DROP ROLE IF EXISTS {name}_role")).await;
        };
        // A new runtime, because the one of the test may be shutting down.
        let cleaner = std::thread::spawn(|| {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(clean);
        });
        let _ = cleaner.join();
    }
}

async fn execute(session: &mut PgConnection, sql: &str) {
    use sqlx::Executor;
    session
        .execute(sqlx::raw_sql(AssertSqlSafe(sql.to_owned())))
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
}

fn parsed(url: &str) -> PgUrl {
    PgUrl::parse(url, &PgVariables::default()).unwrap()
}

fn config(url: &str, table: &str) -> Config {
    Config {
        path: "imsync.toml".into(),
        name: "test".to_owned(),
        source: config::SourceConfig {
            url: parsed(url),
            url_file: None,
            table: table.to_owned(),
            account_column: "id".to_owned(),
            account_prefix: String::new(),
            account_format: AccountFormat::Text,
            watermark_column: None,
            watermark_timezone: "UTC".to_owned(),
            watermark_grace: Duration::from_secs(5),
            deleted_column: None,
            filter: None,
            page_size: 100,
        },
        state: config::StateConfig { url: parsed(url), url_file: None, schema: "imsync".to_owned(), migrate: true },
        im: config::ImConfig {
            address: config::ImAddress::Region(Region::Singapore),
            service: Service::AllMemberPush,
            sdk_app_id: 1,
            identifier: "administrator".to_owned(),
            secret_key: None,
            secret_key_file: None,
            usersig_lifetime: Duration::from_hours(24),
            users_per_call: 100,
            calls_per_second: 95,
            max_in_flight: 64,
            timeout: Duration::from_secs(10),
            retry_for: Duration::from_mins(1),
            max_rejected_share: 0.4,
            account_type: crate::model::ImAccountType::UserId,
            unknown_accounts: crate::model::UnknownAccounts::Reject,
        },
        attributes: vec![AttributeConfig {
            name: "city".to_owned(),
            column: "city".to_owned(),
            values: None,
            unlisted: config::Unlisted::Reject,
            too_long: config::TooLong::Reject,
            null: config::Null::Remove,
        }],
        removal: config::RemovalConfig {
            gone: config::KeepOrRemove::Remove,
            unmapped: config::KeepOrRemove::Keep,
            max_share: 0.2,
        },
        schedule: config::ScheduleConfig {
            interval: Duration::from_secs(10),
            notify_channel: None,
            full_every: None,
            rejected_retry: Duration::from_hours(1),
            verify_every: None,
            verify_sample: 1000,
        },
        http: config::HttpConfig { listen: None, public: false, show_accounts: false },
        alerts: config::AlertsConfig { webhook: None, webhook_file: None },
        history: config::HistoryConfig { keep: None },
        log: config::LogConfig { level: config::LogLevel::Info, format: config::LogFormat::Auto },
    }
}

/// All pages of an incremental scan.
async fn changed(source: &mut Source, from: WatermarkPoint) -> Vec<Page> {
    let mut pages = Vec::new();
    let mut after: Option<Cursor> = None;
    loop {
        let page = source.changed_since(from, after.as_ref()).await.unwrap();
        after = page.cursor();
        let last = page.last;
        pages.push(page);
        if last {
            return pages;
        }
        assert!(after.is_some(), "a page that is not the last has a cursor");
    }
}

/// All pages of a full scan.
async fn all(source: &mut Source) -> Vec<Page> {
    let mut pages = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = source.all_after(after.as_deref()).await.unwrap();
        after = page.cursor().and_then(|cursor| cursor.account);
        let last = page.last;
        pages.push(page);
        if last {
            return pages;
        }
    }
}

fn accounts(rows: &Rows) -> Vec<&str> {
    rows.iter().map(|row| row.account.unwrap_or("NULL")).collect()
}

fn accounts_of(pages: &[Page]) -> Vec<&str> {
    pages.iter().flat_map(|page| accounts(&page.rows)).collect()
}

fn values(row: Row<'_>) -> Vec<Option<&str>> {
    row.values().collect()
}
