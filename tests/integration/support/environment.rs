//! The environment of a test: a table, a simulated IM, a configuration and the imsync binary.
//!
//! Owns: setting these up and running commands. Must not know: what a test asserts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use imsync::simulator::{RunningSimulator, Simulator, SimulatorHandle, SimulatorOptions};
use sqlx::AssertSqlSafe;
use tokio::process::{Child, Command};

use super::Database;

/// How long a test waits for a condition. The limit is high because machines can be busy. A test goes on as soon as the
/// condition holds.
const WAIT_LIMIT: Duration = Duration::from_mins(2);

/// The table that most tests use: text IDs and three mapped columns.
pub(crate) const USERS: &str = "CREATE TABLE users (
    id text PRIMARY KEY, city text, plan text, gender text, kind text,
    updated_at timestamptz NOT NULL DEFAULT now(), deleted_at timestamptz);
CREATE INDEX ON users (updated_at, id);";

/// The `[source]` keys that match [`USERS`].
pub(crate) const SOURCE: &str = r#"table = "public.users"
account_column = "id"
watermark_column = "updated_at"
watermark_grace = "1s"
deleted_column = "deleted_at"
"#;

/// The `[attributes]` that match [`USERS`].
pub(crate) const ATTRIBUTES: &str = r#"city = "city"
plan = "plan"
[attributes.sex]
column = "gender"
values = { m = "male", f = "female" }
"#;

/// The parts of a test environment. The defaults match [`USERS`].
pub(crate) struct Setup {
    /// The statements that create the table.
    pub(crate) sql: String,
    /// The `[source]` keys except `url`.
    pub(crate) source: String,
    /// Additional `[im]` keys.
    pub(crate) im: String,
    /// The `[attributes]` section.
    pub(crate) attributes: String,
    /// Additional sections.
    pub(crate) more: String,
    pub(crate) simulator: SimulatorOptions,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            sql: USERS.to_owned(),
            source: SOURCE.to_owned(),
            // A busy machine can leave a call unanswered for a second or two. Most tests are not about such calls.
            im: "timeout = \"10s\"\nretry_for = \"20s\"\n".to_owned(),
            attributes: ATTRIBUTES.to_owned(),
            more: "[schedule]\ninterval = \"200ms\"\n".to_owned(),
            simulator: SimulatorOptions {
                attribute_names: ["city", "plan", "sex"].map(str::to_owned).to_vec(),
                // This limit exceeds the 95 calls a second of imsync by more than the vendor's 100 does. On a busy
                // machine calls take different times to arrive, and so they arrive in bunches. Another test checks the
                // interval between the starts of calls, with a paused clock.
                calls_per_second: 200,
                ..SimulatorOptions::default()
            },
        }
    }
}

/// The exit code and the output of a command.
#[derive(Debug)]
pub(crate) struct CommandOutput {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl CommandOutput {
    /// Parses stdout as one JSON document.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// Parses each line of stdout as a JSON document.
    pub(crate) fn json_lines(&self) -> Vec<serde_json::Value> {
        let line = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {self:?}"));
        self.stdout.lines().map(line).collect()
    }

    /// Asserts that stdout or stderr contains each of these texts.
    pub(crate) fn expect_all(self, texts: &[&str]) -> Self {
        for text in texts {
            assert!(self.stdout.contains(text) || self.stderr.contains(text), "no {text:?} in {self:?}");
        }
        self
    }

    /// Asserts the exit code.
    pub(crate) fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }
}

/// A database with a table, a running simulator, and a directory with the configuration.
pub(crate) struct TestEnvironment {
    pub(crate) database: Database,
    pub(crate) im: RunningSimulator,
    directory: tempfile::TempDir,
}

impl TestEnvironment {
    /// Creates the environment in a new database.
    pub(crate) async fn set_up(setup: Setup) -> Self {
        Self::set_up_on(Database::fresh().await, setup).await
    }

    /// Creates the environment in the given database.
    pub(crate) async fn set_up_on(database: Database, setup: Setup) -> Self {
        database.execute(&setup.sql).await;
        let im = Simulator::start(setup.simulator.clone()).await.expect("the simulator starts");
        let directory = tempfile::tempdir().expect("a temporary directory can be created");
        let env = Self { database, im, directory };
        env.configure(&setup);
        env
    }

    /// Writes the configuration file and the secret key file.
    pub(crate) fn configure(&self, setup: &Setup) {
        let Setup { source, im, attributes, more, simulator, .. } = setup;
        let text = format!(
            "name = \"users\"\n[source]\nurl = \"{}\"\n{source}\n[im]\nbase_url = \"{}\"\nsdk_app_id = {}\n\
             identifier = \"{}\"\nsecret_key_file = \"secret_key\"\n{im}\n[attributes]\n{attributes}\n{more}\n",
            self.database.url(),
            self.im.base_url(),
            simulator.sdk_app_id,
            simulator.identifier,
        );
        let key = self.directory.path().join("secret_key");
        for (file, text) in [(self.config(), text.as_str()), (key, &simulator.secret_key)] {
            std::fs::write(&file, text).expect("the file can be written");
            let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            std::fs::set_permissions(file, private).expect("the file can be made private");
        }
    }

    /// The path of the configuration file.
    pub(crate) fn config(&self) -> PathBuf {
        self.directory.path().join("imsync.toml")
    }

    /// The directory of the configuration and of the logs.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The handle of the simulator: its users, its recorded calls and its faults.
    pub(crate) fn handle(&self) -> &SimulatorHandle {
        self.im.handle()
    }

    /// A command that uses the configuration of this environment.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = binary(self.directory.path());
        command.args(arguments).arg("-c").arg(self.config());
        command
    }

    /// Replaces a part of the configuration. The configuration must contain the old text.
    pub(crate) fn edit(&self, old: &str, new: &str) {
        let text = std::fs::read_to_string(self.config()).expect("the configuration can be read");
        assert!(text.contains(old), "no {old:?} in\n{text}");
        std::fs::write(self.config(), text.replacen(old, new, 1)).expect("the configuration can be written");
    }

    /// Runs a command until it exits. A command that hangs fails the test.
    pub(crate) async fn imsync(&self, arguments: &[&str]) -> CommandOutput {
        run(self.command(arguments)).await
    }

    /// Starts a command in the background. Its output goes to `NAME.out` and `NAME.err` in the directory.
    pub(crate) fn start(&self, name: &str, arguments: &[&str]) -> Child {
        let file = |extension: &str| {
            std::fs::File::create(self.directory.path().join(format!("{name}.{extension}")))
                .expect("the log file can be created")
        };
        self.command(arguments).stdout(file("out")).stderr(file("err")).spawn().expect("the binary can be executed")
    }

    /// The output of a background command so far. `extension` is `out` for stdout and `err` for stderr.
    pub(crate) fn printed(&self, name: &str, extension: &str) -> String {
        std::fs::read_to_string(self.directory.path().join(format!("{name}.{extension}"))).unwrap_or_default()
    }

    /// The logs of all background commands so far.
    fn logs(&self) -> String {
        let files = std::fs::read_dir(self.directory.path()).into_iter().flatten().flatten();
        let logs = files.filter(|file| file.file_name().to_string_lossy().ends_with(".err"));
        logs.filter_map(|file| std::fs::read_to_string(file.path()).ok()).collect()
    }

    /// Executes statements in the database.
    pub(crate) async fn execute(&self, sql: &str) {
        self.database.execute(sql).await;
    }

    /// Ends the sessions of imsync with the database of this test.
    pub(crate) async fn cut_sessions(&self) {
        self.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE datname = current_database() AND application_name LIKE 'imsync%'",
        )
        .await;
    }

    /// Returns the number that a query selects.
    pub(crate) async fn number(&self, sql: &str) -> i64 {
        let sql = AssertSqlSafe(sql.to_owned());
        sqlx::query_scalar(sql).fetch_one(&mut self.database.connect().await).await.expect("the query succeeds")
    }

    /// The attributes that IM should hold according to the table. `sql` selects account, attribute and value, and no
    /// row for a NULL value.
    pub(crate) async fn wanted(&self, sql: &str) -> BTreeMap<String, BTreeMap<String, String>> {
        let rows: Vec<(String, String, String)> = sqlx::query_as(AssertSqlSafe(sql.to_owned()))
            .fetch_all(&mut self.database.connect().await)
            .await
            .expect("the query succeeds");
        let mut wanted: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        for (account, attribute, value) in rows {
            wanted.entry(account).or_default().insert(attribute, value);
        }
        wanted
    }

    /// [`TestEnvironment::wanted`] for [`USERS`] and [`ATTRIBUTES`].
    pub(crate) async fn wanted_of_users(&self) -> BTreeMap<String, BTreeMap<String, String>> {
        self.wanted(
            "SELECT id, a.name, a.value FROM users, LATERAL (VALUES ('city', city), ('plan', plan), \
             ('sex', CASE gender WHEN 'm' THEN 'male' WHEN 'f' THEN 'female' END)) AS a (name, value) \
             WHERE deleted_at IS NULL AND a.value <> ''",
        )
        .await
    }

    /// Waits until IM holds exactly what the table requires. The limit is `within` or two minutes, whichever is longer.
    pub(crate) async fn converges(&self, within: Duration) {
        let within = within.max(WAIT_LIMIT);
        let result = tokio::time::timeout(within, async {
            while self.handle().users() != self.wanted_of_users().await {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        if result.await.is_err() {
            let (im, table) = (self.handle().users(), self.wanted_of_users().await);
            let differ: Vec<_> = table
                .iter()
                .filter(|(account, attributes)| im.get(*account) != Some(attributes))
                .map(|(account, attributes)| (account, attributes, im.get(account)))
                .take(5)
                .collect();
            let extra: Vec<_> = im.keys().filter(|account| !table.contains_key(*account)).take(5).collect();
            panic!("IM and the table differ after {within:?}: {differ:#?}, only in IM: {extra:?}\n{}", self.logs());
        }
    }

    /// Runs passes until no full pass is due. Transactions of the server or of other tests that were open when the sync
    /// began require a full pass after they end. After this function returns, `run --once` is incremental.
    pub(crate) async fn run_until_no_full_pass_is_due(&self) {
        self.eventually("no full pass is due", async || {
            self.imsync(&["run", "--once", "-q"]).await;
            self.no_full_pass_is_due().await
        })
        .await;
    }

    /// Whether no full pass is due. One statement stores both the end of the first transaction list and the reason for
    /// a full pass, so this query cannot run between the two.
    pub(crate) async fn no_full_pass_is_due(&self) -> bool {
        let not_due = "SELECT count(*) FROM imsync.sync
            WHERE full_pass_due IS NULL AND watermark_state->>'initial_pending' IS DISTINCT FROM 'true'";
        self.number(not_due).await == 1
    }

    /// Sends SIGTERM to a command and waits until it logs that it stops. Calls in flight may continue, but the command
    /// starts no new call. The command must run with `-v`.
    pub(crate) async fn begins_to_stop(&self, child: &Child, name: &str) {
        signal(child, "TERM");
        self.eventually("the command begins to stop", async || {
            self.printed(name, "err").contains("stopping: calls in flight")
        })
        .await;
    }

    /// Waits until a condition holds. If it does not hold in time, the test fails with the description of the
    /// condition.
    pub(crate) async fn eventually(&self, what: &str, mut condition: impl AsyncFnMut() -> bool) {
        let result = tokio::time::timeout(WAIT_LIMIT, async {
            while !condition().await {
                tokio::time::sleep(Duration::from_millis(25)).await;
            }
        });
        assert!(result.await.is_ok(), "this did not happen within {WAIT_LIMIT:?}: {what}\n{}", self.logs());
    }
}

/// A command that runs the imsync binary in a directory, without any imsync or PostgreSQL variable of this process.
pub(crate) fn binary(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_imsync"));
    command.current_dir(directory).kill_on_drop(true).stdin(Stdio::null()).env_remove("CREDENTIALS_DIRECTORY");
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("IMSYNC_") || name.starts_with("PG")) {
        command.env_remove(name);
    }
    command
}

/// Runs a command until it exits. A command that hangs fails the test.
pub(crate) async fn run(mut command: Command) -> CommandOutput {
    let output = tokio::time::timeout(2 * WAIT_LIMIT, command.output()).await;
    let output = output.unwrap_or_else(|_| panic!("{command:?} has not exited after {:?}", 2 * WAIT_LIMIT));
    let output = output.expect("the binary can be executed");
    CommandOutput {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Sends a signal to a child process.
pub(crate) fn signal(child: &Child, signal: &str) {
    let pid = child.id().expect("the child process is running").to_string();
    let sent = std::process::Command::new("kill").args(["-s", signal, &pid]).status().expect("kill can be executed");
    assert!(sent.success());
}

/// Waits until a child process exits, and returns its exit code. A child process that hangs fails the test.
pub(crate) async fn ended(child: &mut Child) -> Option<i32> {
    let status = tokio::time::timeout(WAIT_LIMIT, child.wait()).await;
    status.expect("the child process exits in time").expect("the exit status can be read").code()
}
