//! What the demo runs on: a private PostgreSQL with generated users, the simulator, and a configuration file.
//!
//! Owns: the set-up, and the configuration that a user would have written. Must not know: what happens afterwards.

use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use sqlx::{Connection, Executor, PgConnection};
use tokio::fs::OpenOptions;
use tokio::io::AsyncWriteExt;

use super::users;
use crate::cluster::{Cluster, ClusterOptions};
use crate::simulator::{self, Simulator};

const SDK_APP_ID: u32 = 1_400_000_000;
const SECRET_KEY: &str = "the-secret-key-of-a-simulated-app";
const ATTRIBUTE_NAMES: [&str; 7] = ["name", "city", "language", "plan", "sex", "level", "vip"];
/// The latency of a call, as of a data centre on the same continent.
const LATENCY: Duration = Duration::from_millis(30);
/// How many of the daemon's last log lines an error message shows.
const LOG_TAIL_LINES: usize = 5;

/// The running parts. Dropping them removes every file and process.
#[derive(Debug)]
pub(super) struct DemoEnvironment {
    pub(super) cluster: Cluster,
    /// The simulated IM service.
    pub(super) im: simulator::RunningSimulator,
    /// The URL of the database with the table `users`.
    pub(super) url: String,
    /// The path of the configuration file.
    pub(super) configuration: PathBuf,
    /// The path of the file that receives the daemon's log.
    pub(super) daemon_log: PathBuf,
}

impl DemoEnvironment {
    /// Starts PostgreSQL and the simulator, and writes `users` generated users and the configuration.
    pub(super) async fn set_up(user_count: u32, seed: u64) -> anyhow::Result<Self> {
        let cluster = tokio::task::spawn_blocking(|| Cluster::start(ClusterOptions::default())).await??;
        let url = cluster.create_database("app").await?;
        let mut connection = PgConnection::connect(&url).await.context("cannot connect to the private PostgreSQL")?;
        connection.execute(users::TABLE).await.context("cannot create the table")?;
        users::insert(&mut connection, seed, 1..user_count + 1, true)
            .await
            .context("cannot insert the generated users")?;
        connection.execute("ANALYZE users").await?;
        connection.close().await?;

        let im = Simulator::start(simulator::SimulatorOptions {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            sdk_app_id: SDK_APP_ID,
            secret_key: SECRET_KEY.to_owned(),
            attribute_names: ATTRIBUTE_NAMES.map(str::to_owned).to_vec(),
            latency: LATENCY,
            logged_calls: 100,
            ..simulator::SimulatorOptions::default()
        })
        .await
        .context("cannot start the simulated IM service")?;

        // The file holds a password. The cluster's directory is removed however this process ends.
        let configuration = cluster.directory().join("imsync.toml");
        let text = configuration_text(&url, &im.base_url(), user_count);
        write_private(&configuration, &text).await.context("cannot write the configuration file")?;
        let daemon_log = cluster.directory().join("imsync.log");
        Ok(Self { cluster, im, url, configuration, daemon_log })
    }

    /// The last lines of the daemon's log, as the end of an error message. Empty when there is no log.
    pub(super) async fn daemon_log_tail(&self) -> String {
        let log = tokio::fs::read_to_string(&self.daemon_log).await.unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        if lines.is_empty() {
            return String::new();
        }
        let tail = &lines[lines.len().saturating_sub(LOG_TAIL_LINES)..];
        format!("; its last log lines:\n  {}", tail.join("\n  "))
    }
}

/// Writes a file that only its owner can read.
async fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(path).await?;
    file.write_all(text.as_bytes()).await?;
    file.flush().await
}

/// Seconds between two full passes. Only a full pass finds deleted rows, and the default of 24 hours is too long for a
/// demo. A larger table gets more time.
fn full_pass_interval(user_count: u32) -> u32 {
    4 + user_count / 20_000
}

fn configuration_text(url: &str, base_url: &str, user_count: u32) -> String {
    format!(
        r#"# Written by `imsync demo`.
name = "demo"

[source]
url = "{url}"
table = "public.users"
account_column = "id"
watermark_column = "updated_at"
deleted_column = "deleted_at"

[im]
base_url = "{base_url}"
sdk_app_id = {SDK_APP_ID}
identifier = "administrator"
secret_key = "{SECRET_KEY}"

[attributes]
name = "name"
city = "city"
language = "language"
plan = "plan"
level = "level"

[attributes.sex]
column = "gender"
values = {{ m = "male", f = "female" }}

[attributes.vip]
column = "vip"
values = {{ true = "yes", false = "no" }}

[schedule]
interval = "200ms"
full_every = "{}s"

[log]
level = "warn"
format = "text"
"#,
        full_pass_interval(user_count)
    )
}
