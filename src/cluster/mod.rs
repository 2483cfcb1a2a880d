//! A private, throw-away PostgreSQL for the demo and the tests.
//!
//! Owns: a server in a temporary directory, from `initdb` to the removal of the last file.
//! Must not know: what is kept in it, imsync's tables, IM.
//!
//! The server listens on 127.0.0.1 (with a password) and on a Unix socket inside its own directory, nowhere else.
//! A small shell script (`supervisor.sh`) stands between us and the server. It reads its orders from a pipe that we
//! hold open, so it sees every end of ours (return, panic, Ctrl-C, `kill -9`), stops the server and removes the
//! directory. A parent-death signal would do less (no removal) and would need `unsafe` or a helper program.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use rand::RngExt;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tempfile::TempDir;

mod binaries;
#[cfg(test)]
mod tests;

use binaries::{Binaries, OLDEST, Unprivileged};

const SUPERVISOR: &str = include_str!("supervisor.sh");

/// Between two looks at a file of the supervisor's.
const POLL: Duration = Duration::from_millis(10);
/// Looks before a start or a stop counts as failed: about a minute, for machines under heavy load.
const PATIENCE: u32 = 6_000;
/// A Unix socket's path has at most 107 bytes on Linux, "/.s.PGSQL.65535" included.
const LONGEST_DIRECTORY: usize = 90;

/// Fast, because nothing in it has to survive the machine. Commits still reach the operating system one by one
/// (`synchronous_commit` stays on), so that a killed server comes back with everything it acknowledged.
const SETTINGS: [(&str, &str); 12] = [
    ("listen_addresses", "127.0.0.1"),
    ("fsync", "off"),
    ("full_page_writes", "off"),
    ("wal_level", "minimal"),
    ("max_wal_senders", "0"),
    ("max_wal_size", "1GB"),
    ("checkpoint_timeout", "1h"),
    ("max_connections", "200"),
    ("shared_buffers", "128MB"),
    // In the data directory instead of /dev/shm, so that nothing stays there when the server is killed.
    ("dynamic_shared_memory_type", "mmap"),
    ("jit", "off"),
    ("timezone", "UTC"),
];

/// What can go wrong. Each displays as a sentence that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    #[error(
        "PostgreSQL's server programs (initdb, postgres) are neither on PATH nor in /usr/lib/postgresql: install them, on Debian and Ubuntu with `apt-get install postgresql`"
    )]
    NotInstalled,
    #[error(
        "the PostgreSQL found here is version {major}, imsync needs {OLDEST} or newer: install a newer one, on Debian and Ubuntu with `apt-get install postgresql`"
    )]
    TooOld { major: u32 },
    #[error(
        "PostgreSQL refuses to run as root, and there is neither a user `postgres` nor `nobody` to run it as: create one, or do not run this as root"
    )]
    NoUnprivilegedUser,
    #[error("no directory for a private PostgreSQL could be made in {}: {source}", .directory.display())]
    Directory { directory: PathBuf, source: std::io::Error },
    #[error("the private PostgreSQL could not be supervised (`sh`): {0}")]
    Supervisor(std::io::Error),
    #[error("initdb did not make a private PostgreSQL; its last words: {log}")]
    Initdb { log: String },
    #[error("pg_basebackup did not make a standby of the private PostgreSQL; its last words: {log}")]
    Standby { log: String },
    #[error("the private PostgreSQL did not start; its last words: {log}")]
    Start { log: String },
    #[error("the private PostgreSQL did not stop within a minute; its last words: {log}")]
    Stop { log: String },
    #[error("`{0}` is no name for a database here: use a to z, 0 to 9 and _, a letter first, at most 63")]
    Name(String),
    #[error("the private PostgreSQL refused a statement: {0}")]
    Refused(#[from] sqlx::Error),
}

/// What a cluster may be asked for.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// A port on 127.0.0.1; `None` takes a free one.
    pub port: Option<u16>,
    /// For `PREPARE TRANSACTION`; PostgreSQL's own default is 0, which refuses it.
    pub max_prepared_transactions: u32,
    /// Further lines of `postgresql.conf`, which win over ours.
    pub settings: Vec<(String, String)>,
}

/// Whether a cluster can be had here at all: the programs are installed. A start may still fail.
pub fn available() -> Result<(), ClusterError> {
    Binaries::find().map(drop)
}

/// A running (or stopped) private PostgreSQL. Its end stops the server and removes its directory.
#[derive(Debug)]
pub struct Cluster {
    options: Options,
    major: u32,
    port: u16,
    password: String,
    /// How often the server was started.
    starts: u32,
    supervisor: Child,
    /// `None` only while it is dropped: closing it is the order to end.
    orders: Option<ChildStdin>,
    // Last, so that it is removed by us when the supervisor was kept from it.
    directory: TempDir,
}

impl Cluster {
    /// Makes a cluster and starts it; blocks for a second or two.
    pub fn start(options: Options) -> Result<Self, ClusterError> {
        let mut cluster = Self::make(options, random_password(), "")?;
        cluster.wait_for("initialised", "refused").map_err(|log| ClusterError::Initdb { log })?;
        cluster.start_on_a_port()?;
        Ok(cluster)
    }

    /// A hot standby that streams from this one, with its databases, roles and settings; blocks for a second or two.
    /// Needs `wal_level` replica and two free `max_wal_senders`, which are not among our settings.
    pub fn standby(&self) -> Result<Self, ClusterError> {
        let options = Options { port: None, ..self.options.clone() };
        // Over the socket, where nobody but the same user gets in and no password is asked for.
        let primary = format!("host={} port={} user=imsync", self.directory().display(), self.port);
        let mut cluster = Self::make(options, self.password.clone(), &primary)?;
        cluster.wait_for("initialised", "refused").map_err(|log| ClusterError::Standby { log })?;
        cluster.start_on_a_port()?;
        Ok(cluster)
    }

    /// A directory and its supervisor, which begins to fill it: from `primary`, or as a new cluster where that is empty.
    fn make(options: Options, password: String, primary: &str) -> Result<Self, ClusterError> {
        let binaries = Binaries::find()?;
        let root = is_root();
        let unprivileged = if root { Some(Unprivileged::find()?) } else { None };
        let directory = make_directory(root)?;
        let failed = |source| ClusterError::Directory { directory: directory.path().to_path_buf(), source };
        if let Some(user) = unprivileged {
            chown(directory.path(), Some(user.uid), Some(user.gid)).map_err(failed)?;
        }
        fs::write(directory.path().join("password"), &password).map_err(failed)?;
        let mut supervisor = supervise(&binaries, directory.path(), primary, unprivileged)?;
        let orders = supervisor.stdin.take();
        Ok(Self { options, major: binaries.major, port: 0, password, starts: 0, supervisor, orders, directory })
    }

    /// A URL for one of its databases, password included. `postgres` always exists. There is no TLS to ask for, and
    /// saying so keeps a `PGSSLMODE` of the environment out.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://imsync:{}@127.0.0.1:{}/{database}?sslmode=disable", self.password, self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The server's major version.
    pub fn major(&self) -> u32 {
        self.major
    }

    /// Where everything of it lies: the Unix socket too.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Creates an empty database and gives its URL.
    pub async fn create_database(&self, name: &str) -> Result<String, ClusterError> {
        create_database(&self.url("postgres"), name, "template0").await
    }

    /// Stops the server in order (a fast shutdown): open sessions are ended. Nothing to do when it is stopped.
    pub fn stop(&mut self) -> Result<(), ClusterError> {
        self.halt("INT")
    }

    /// Stops the server at once, as a crash would: the next start recovers from the log.
    pub fn kill(&mut self) -> Result<(), ClusterError> {
        self.halt("QUIT")
    }

    /// Starts the server again, on the same port; stops it before when it runs.
    pub fn restart(&mut self) -> Result<(), ClusterError> {
        self.stop()?;
        self.launch().map_err(|log| ClusterError::Start { log })
    }

    fn start_on_a_port(&mut self) -> Result<(), ClusterError> {
        let mut attempts = 0;
        loop {
            self.port = match self.options.port {
                Some(port) => port,
                None => free_port().map_err(ClusterError::Supervisor)?,
            };
            attempts += 1;
            match self.launch() {
                Ok(()) => return Ok(()),
                // Somebody else took the port between our look and the server's start.
                Err(log) if self.options.port.is_none() && attempts < 5 && log.contains("could not bind") => {}
                Err(log) => return Err(ClusterError::Start { log }),
            }
        }
    }

    fn launch(&mut self) -> Result<(), String> {
        let path = self.directory.path();
        fs::write(path.join("settings.conf"), self.settings()).map_err(|error| error.to_string())?;
        self.starts += 1;
        self.order(&format!("start {}", self.starts)).map_err(|error| error.to_string())?;
        self.wait_for("ready", &format!("exited {}", self.starts))
    }

    fn halt(&mut self, signal: &str) -> Result<(), ClusterError> {
        self.order(signal).map_err(ClusterError::Supervisor)?;
        self.wait_for(&format!("exited {}", self.starts), "never").map_err(|log| ClusterError::Stop { log })
    }

    fn order(&mut self, order: &str) -> std::io::Result<()> {
        match &mut self.orders {
            Some(pipe) => writeln!(pipe, "{order}"),
            None => Ok(()),
        }
    }

    /// Waits until the state is `good`; on `bad`, or when that takes too long, the server's last words.
    fn wait_for(&self, good: &str, bad: &str) -> Result<(), String> {
        for _ in 0..PATIENCE {
            match self.state() {
                Some(state) if state == good => return Ok(()),
                Some(state) if state == bad => break,
                _ => std::thread::sleep(POLL),
            }
        }
        Err(self.last_words())
    }

    /// The supervisor's word, or `ready` once the server takes connections.
    fn state(&self) -> Option<String> {
        let state = fs::read_to_string(self.directory.path().join("state")).ok()?.trim_end().to_owned();
        // The status is the eighth line of postmaster.pid (`LOCK_FILE_LINE_PM_STATUS` in PostgreSQL's pidfile.h).
        // A file that a killed server left behind says `ready` too; a new server replaces it under its own pid.
        if state == format!("starting {}", self.starts) {
            let pid = fs::read_to_string(self.directory.path().join("pid")).unwrap_or_default();
            let status = fs::read_to_string(self.directory.path().join("data/postmaster.pid")).unwrap_or_default();
            let mut lines = status.lines().map(str::trim);
            if lines.next() == Some(pid.trim()) && lines.nth(6) == Some("ready") {
                return Some("ready".to_owned());
            }
        }
        Some(state)
    }

    fn last_words(&self) -> String {
        let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
        lines[lines.len().saturating_sub(5)..].join(" | ")
    }

    fn settings(&self) -> String {
        let ours = SETTINGS.iter().map(|(key, value)| (*key, (*value).to_owned()));
        let placed = [
            ("port", self.port.to_string()),
            ("unix_socket_directories", self.directory.path().display().to_string()),
            ("max_prepared_transactions", self.options.max_prepared_transactions.to_string()),
        ];
        let asked = self.options.settings.iter().map(|(key, value)| (key.as_str(), value.clone()));
        let mut text = String::new();
        for (key, value) in ours.chain(placed).chain(asked) {
            writeln!(text, "{key} = '{}'", value.replace('\'', "''")).expect("writing to a String cannot fail");
        }
        text
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.orders = None;
        let _ = self.supervisor.wait();
    }
}

/// Creates a database as a copy of `template` on any server, and gives its URL.
pub async fn create_database(server: &str, name: &str, template: &str) -> Result<String, ClusterError> {
    for name in [name, template] {
        let plain = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        if !plain || name.len() > 63 || !name.starts_with(|first: char| first.is_ascii_lowercase()) {
            return Err(ClusterError::Name(name.to_owned()));
        }
    }
    let mut url = url::Url::parse(server).map_err(|error| sqlx::Error::Configuration(error.into()))?;
    let mut connection = PgConnection::connect(url.as_str()).await?;
    connection.execute(AssertSqlSafe(format!("CREATE DATABASE {name} TEMPLATE {template}"))).await?;
    connection.close().await?;
    url.set_path(name);
    Ok(url.into())
}

fn supervise(
    binaries: &Binaries,
    directory: &Path,
    primary: &str,
    unprivileged: Option<Unprivileged>,
) -> Result<Child, ClusterError> {
    let mut command = Command::new("sh");
    command.args(["-c", SUPERVISOR, "imsync-private-postgres"]).arg(&binaries.folder).arg(directory).arg(primary);
    // Our own working directory may be closed to that user.
    command.current_dir("/").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    // A process group of its own: a Ctrl-C in the terminal must not reach the server before us.
    command.process_group(0);
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("PG") || name.starts_with("LC_")) {
            command.env_remove(name);
        }
    }
    command.env("LC_ALL", "C");
    if let Some(user) = unprivileged {
        command.uid(user.uid).gid(user.gid);
    }
    command.spawn().map_err(ClusterError::Supervisor)
}

/// A directory with a path short enough for a socket. When root asks, one that an unprivileged user can reach and, at the
/// end, remove.
fn make_directory(root: bool) -> Result<TempDir, ClusterError> {
    let mut parent = std::env::temp_dir();
    if parent.as_os_str().len() + 20 > LONGEST_DIRECTORY || (root && !open_to_all(&parent)) {
        parent = PathBuf::from("/tmp");
    }
    tempfile::Builder::new()
        .prefix("imsync-pg-")
        .tempdir_in(&parent)
        .map_err(|source| ClusterError::Directory { directory: parent, source })
}

/// Everybody may write into this folder, and go through it and all above it.
fn open_to_all(folder: &Path) -> bool {
    let has = |path: &Path, bits: u32| fs::metadata(path).is_ok_and(|found| found.permissions().mode() & bits == bits);
    let Ok(folder) = folder.canonicalize() else { return false };
    has(&folder, 0o003) && folder.ancestors().all(|each| has(each, 0o001))
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|ourselves| ourselves.uid() == 0)
}

fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

fn random_password() -> String {
    format!("{:032x}", rand::rng().random::<u128>())
}
