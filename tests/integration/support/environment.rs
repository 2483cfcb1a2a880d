//! A sync on a env: a table, a simulated IM, a configuration, the real binary.
//!
//! Owns: setting them up and running commands. Must not know: what a test wants to see.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use imsync::simulator::{RunningSimulator, Simulator, SimulatorHandle, SimulatorOptions};
use sqlx::AssertSqlSafe;
use tokio::process::{Child, Command};

use super::Database;

/// How long a test waits for what must come. It costs nothing where that comes early, and machines can be busy.
const PATIENCE: Duration = Duration::from_mins(2);

/// The table most tests use: text ids, three mapped columns.
pub(crate) const USERS: &str = "CREATE TABLE users (
    id text PRIMARY KEY, city text, plan text, gender text, kind text,
    updated_at timestamptz NOT NULL DEFAULT now(), deleted_at timestamptz);
CREATE INDEX ON users (updated_at, id);";

/// The `[source]` keys that go with [`USERS`].
pub(crate) const SOURCE: &str = r#"table = "public.users"
account_column = "id"
watermark_column = "updated_at"
watermark_grace = "1s"
deleted_column = "deleted_at"
"#;

/// The `[attributes]` that go with [`USERS`].
pub(crate) const ATTRIBUTES: &str = r#"city = "city"
plan = "plan"
[attributes.sex]
column = "gender"
values = { m = "male", f = "female" }
"#;

/// What a env is made of; the defaults fit [`USERS`].
pub(crate) struct Setup {
    pub(crate) sql: String,
    pub(crate) source: String,
    /// Further `[im]` keys.
    pub(crate) im: String,
    pub(crate) attributes: String,
    /// Further sections.
    pub(crate) more: String,
    pub(crate) simulator: SimulatorOptions,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            sql: USERS.to_owned(),
            source: SOURCE.to_owned(),
            // A call that a busy machine leaves unanswered for a second or two is not what a test is about.
            im: "timeout = \"10s\"\nretry_for = \"20s\"\n".to_owned(),
            attributes: ATTRIBUTES.to_owned(),
            more: "[schedule]\ninterval = \"200ms\"\n".to_owned(),
            simulator: SimulatorOptions {
                attribute_names: ["city", "plan", "sex"].map(str::to_owned).to_vec(),
                // Above our own 95 by more than the vendor's 100: on a busy machine calls are longer on their way, some
                // longer than others, and arrive in bunches. How far apart they start is tested with a paused clock.
                calls_per_second: 200,
                ..SimulatorOptions::default()
            },
        }
    }
}

/// What a command came to.
#[derive(Debug)]
pub(crate) struct CommandOutput {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl CommandOutput {
    /// The one JSON document on stdout.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// One JSON document a line.
    pub(crate) fn json_lines(&self) -> Vec<serde_json::Value> {
        let line = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {self:?}"));
        self.stdout.lines().map(line).collect()
    }

    /// Each of these texts stands on stdout or stderr.
    pub(crate) fn expect_all(self, texts: &[&str]) -> Self {
        for text in texts {
            assert!(self.stdout.contains(text) || self.stderr.contains(text), "no {text:?} in {self:?}");
        }
        self
    }

    pub(crate) fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }
}

pub(crate) struct TestEnvironment {
    pub(crate) database: Database,
    pub(crate) im: RunningSimulator,
    directory: tempfile::TempDir,
}

impl TestEnvironment {
    pub(crate) async fn set_up(setup: Setup) -> Self {
        Self::set_up_on(Database::fresh().await, setup).await
    }

    pub(crate) async fn set_up_on(database: Database, setup: Setup) -> Self {
        database.execute(&setup.sql).await;
        let im = Simulator::start(setup.simulator.clone()).await.expect("the simulator starts");
        let directory = tempfile::tempdir().expect("a temporary directory");
        let env = Self { database, im, directory };
        env.configure(&setup);
        env
    }

    /// Writes the configuration anew.
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

    pub(crate) fn config(&self) -> PathBuf {
        self.directory.path().join("imsync.toml")
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn handle(&self) -> &SimulatorHandle {
        self.im.handle()
    }

    /// A command with this env's configuration.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = binary(self.directory.path());
        command.args(arguments).arg("-c").arg(self.config());
        command
    }

    /// Replaces a piece of the configuration, which must be there.
    pub(crate) fn edit(&self, old: &str, new: &str) {
        let text = std::fs::read_to_string(self.config()).expect("the configuration can be read");
        assert!(text.contains(old), "no {old:?} in\n{text}");
        std::fs::write(self.config(), text.replacen(old, new, 1)).expect("the configuration can be written");
    }

    /// Runs a command to its end; one that hangs fails the test.
    pub(crate) async fn imsync(&self, arguments: &[&str]) -> CommandOutput {
        run(self.command(arguments)).await
    }

    /// Starts a command in the background; what it prints goes to `NAME.out` and `NAME.err` in the directory.
    pub(crate) fn start(&self, name: &str, arguments: &[&str]) -> Child {
        let file = |extension: &str| {
            std::fs::File::create(self.directory.path().join(format!("{name}.{extension}"))).expect("a log file")
        };
        self.command(arguments).stdout(file("out")).stderr(file("err")).spawn().expect("the binary can be run")
    }

    /// What a background command has printed so far.
    pub(crate) fn printed(&self, name: &str, extension: &str) -> String {
        std::fs::read_to_string(self.directory.path().join(format!("{name}.{extension}"))).unwrap_or_default()
    }

    /// What all background commands have logged so far.
    fn logs(&self) -> String {
        let files = std::fs::read_dir(self.directory.path()).into_iter().flatten().flatten();
        let logs = files.filter(|file| file.file_name().to_string_lossy().ends_with(".err"));
        logs.filter_map(|file| std::fs::read_to_string(file.path()).ok()).collect()
    }

    pub(crate) async fn execute(&self, sql: &str) {
        self.database.execute(sql).await;
    }

    /// One number from the database.
    pub(crate) async fn number(&self, sql: &str) -> i64 {
        let sql = AssertSqlSafe(sql.to_owned());
        sqlx::query_scalar(sql).fetch_one(&mut self.database.connect().await).await.expect("a plain query")
    }

    /// What IM should hold by the table: `sql` gives account, attribute, value (no row for a NULL value).
    pub(crate) async fn wanted(&self, sql: &str) -> BTreeMap<String, BTreeMap<String, String>> {
        let rows: Vec<(String, String, String)> = sqlx::query_as(AssertSqlSafe(sql.to_owned()))
            .fetch_all(&mut self.database.connect().await)
            .await
            .expect("a plain query");
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

    /// IM holds exactly what the table wants, now or within the deadline; two minutes are always allowed.
    pub(crate) async fn converges(&self, within: Duration) {
        let within = within.max(PATIENCE);
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
            panic!("IM and table differ after {within:?}: {differ:#?}, only in IM: {extra:?}\n{}", self.logs());
        }
    }

    /// Runs passes until no full pass is to come by itself: transactions of the server or of other tests that were open
    /// when the sync began ask for one when they have ended. After this, `run --once` is incremental.
    pub(crate) async fn comes_to_rest(&self) {
        self.eventually("no full pass is to come", async || {
            self.imsync(&["run", "--once", "-q"]).await;
            self.no_full_pass_is_to_come().await
        })
        .await;
    }

    /// The end of the first fence and the reason for a full pass are stored in one statement, so no moment lies between.
    pub(crate) async fn no_full_pass_is_to_come(&self) -> bool {
        let at_rest = "SELECT count(*) FROM imsync.sync
            WHERE full_pass_due IS NULL AND watermark_state->>'initial_pending' IS DISTINCT FROM 'true'";
        self.number(at_rest).await == 1
    }

    /// Asks a command to stop and waits until it is stopping; what it has in flight may be held up, it starts nothing new.
    /// It must have been started with `-v`.
    pub(crate) async fn begins_to_stop(&self, child: &Child, name: &str) {
        signal(child, "TERM");
        self.eventually("it begins to stop", async || self.printed(name, "err").contains("stopping: calls in flight"))
            .await;
    }

    /// Waits for a condition, or fails the test with the sentence.
    pub(crate) async fn eventually(&self, what: &str, mut condition: impl AsyncFnMut() -> bool) {
        let result = tokio::time::timeout(PATIENCE, async {
            while !condition().await {
                tokio::time::sleep(Duration::from_millis(25)).await;
            }
        });
        assert!(result.await.is_ok(), "never came: {what}\n{}", self.logs());
    }
}

/// The binary in a directory, with none of our variables around it.
pub(crate) fn binary(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_imsync"));
    command.current_dir(directory).kill_on_drop(true).stdin(Stdio::null()).env_remove("CREDENTIALS_DIRECTORY");
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("IMSYNC_") || name.starts_with("PG")) {
        command.env_remove(name);
    }
    command
}

/// Runs a command to its end; one that hangs fails the test.
pub(crate) async fn run(mut command: Command) -> CommandOutput {
    let output = tokio::time::timeout(2 * PATIENCE, command.output()).await;
    let output = output.unwrap_or_else(|_| panic!("{command:?} has not ended after {:?}", 2 * PATIENCE));
    let output = output.expect("the binary can be run");
    CommandOutput {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Sends a signal to a child.
pub(crate) fn signal(child: &Child, signal: &str) {
    let pid = child.id().expect("the child runs").to_string();
    let sent = std::process::Command::new("kill").args(["-s", signal, &pid]).status().expect("kill can be run");
    assert!(sent.success());
}

/// Waits for a child's end; one that hangs fails the test.
pub(crate) async fn ended(child: &mut Child) -> Option<i32> {
    let status = tokio::time::timeout(PATIENCE, child.wait()).await;
    status.expect("the child ends in time").expect("a child can be waited for").code()
}
