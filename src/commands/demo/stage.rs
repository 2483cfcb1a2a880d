//! What the demo plays on: a private PostgreSQL with people in it, a pretended IM, a configuration.
//!
//! Owns: setting it up; the configuration that a user would have written. Must not know: what happens on it.

use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use sqlx::{Connection, Executor, PgConnection};
use tokio::fs::OpenOptions;
use tokio::io::AsyncWriteExt;

use super::people;
use crate::cluster::{Cluster, ClusterOptions};
use crate::simulator::{self, Simulator};

const SDK_APP_ID: u32 = 1_400_000_000;
const SECRET_KEY: &str = "the-secret-key-of-a-pretended-app";
const NAMES: [&str; 7] = ["name", "city", "language", "plan", "sex", "level", "vip"];
/// As far away as a data centre of the same continent.
const LATENCY: Duration = Duration::from_millis(30);

/// The parts. Their end leaves nothing behind.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) cluster: Cluster,
    pub(super) im: simulator::RunningSimulator,
    /// The people's database.
    pub(super) url: String,
    pub(super) configuration: PathBuf,
    /// Where the daemon's log goes.
    pub(super) log: PathBuf,
}

impl Stage {
    pub(super) async fn set_up(users: u32, seed: u64) -> anyhow::Result<Self> {
        let cluster = tokio::task::spawn_blocking(|| Cluster::start(ClusterOptions::default())).await??;
        let url = cluster.create_database("app").await?;
        let mut connection = PgConnection::connect(&url).await.context("the private PostgreSQL takes no connection")?;
        connection.execute(people::TABLE).await.context("the people's table could not be made")?;
        people::settle(&mut connection, seed, 1..users + 1, true).await.context("the people could not settle")?;
        connection.execute("ANALYZE users").await?;
        connection.close().await?;

        let im = Simulator::start(simulator::SimulatorOptions {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            sdk_app_id: SDK_APP_ID,
            secret_key: SECRET_KEY.to_owned(),
            attribute_names: NAMES.map(str::to_owned).to_vec(),
            latency: LATENCY,
            logged_calls: 100,
            ..simulator::SimulatorOptions::default()
        })
        .await
        .context("the pretended IM could not be started")?;

        // In the cluster's directory, which is removed however we end: the file holds a password.
        let configuration = cluster.directory().join("imsync.toml");
        let text = configuration_text(&url, &im.base_url(), users);
        write_private(&configuration, &text).await.context("the configuration could not be written")?;
        let log = cluster.directory().join("imsync.log");
        Ok(Self { cluster, im, url, configuration, log })
    }
}

/// Writes a file that nobody else may read.
async fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(path).await?;
    file.write_all(text.as_bytes()).await?;
    file.flush().await
}

/// A full pass finds those of whom no row remains; a demo has no 24 hours to wait for it. Large tables take their time.
fn full_every(users: u32) -> u32 {
    4 + users / 20_000
}

fn configuration_text(url: &str, base_url: &str, users: u32) -> String {
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
        full_every(users)
    )
}
