//! The supervisor of a private PostgreSQL server: the shell process that runs the server and removes its directory.
//!
//! Owns: the cluster's directory, the process, and the commands to it. Must not know: ports, settings, databases.
//!
//! The supervisor (`supervisor.sh`) reads its commands from a pipe that this process holds open. It therefore notices
//! every way in which this process can end (return, panic, Ctrl-C, `kill -9`), stops the server and removes the
//! directory. A parent-death signal would not remove the directory, and would need `unsafe` code or another program.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::binaries::{Binaries, UnprivilegedUser};
use super::error::ClusterError;

const SCRIPT: &str = include_str!("supervisor.sh");

/// Pause between two reads of a file that the supervisor writes.
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// Number of reads after which a start or a stop has failed: about a minute, for machines under heavy load.
pub(super) const MAX_POLLS: u32 = 6_000;
/// The path of a Unix socket has at most 107 bytes on Linux, including "/.s.PGSQL.65535".
const MAX_DIRECTORY_BYTES: usize = 90;
/// Number of log lines in an error message.
const SHOWN_LOG_LINES: usize = 5;

/// The server that a standby will follow. It must be stopped while the standby is created.
#[derive(Debug)]
pub(super) struct StoppedPrimary {
    pub(super) data: PathBuf,
    /// The connection string for the time when it runs again.
    pub(super) connection: String,
}

/// The supervisor process and the directory that it works in. Dropping it stops the server and removes the directory.
#[derive(Debug)]
pub(super) struct Supervisor {
    process: Child,
    /// `None` only during the drop: closing the pipe tells the supervisor to end.
    commands: Option<ChildStdin>,
    /// Number of the latest start of the server. It tells the state after this start from the state after an earlier
    /// one.
    start_number: u32,
    // The last field: if the supervisor could not remove the directory, dropping this field does.
    directory: TempDir,
}

impl Supervisor {
    /// Creates the directory and starts the supervisor. The supervisor fills the directory: with a copy of the primary's
    /// data, or with `initdb` if there is no primary.
    pub(super) fn start(
        binaries: &Binaries,
        password: &str,
        primary: Option<&StoppedPrimary>,
    ) -> Result<Self, ClusterError> {
        let root = is_root();
        let user = if root { Some(UnprivilegedUser::find()?) } else { None };
        let directory = create_directory(root)?;
        let failed = |source| ClusterError::Directory { directory: directory.path().to_path_buf(), source };
        if let Some(user) = user {
            chown(directory.path(), Some(user.uid), Some(user.gid)).map_err(failed)?;
        }
        fs::write(directory.path().join("password"), password).map_err(failed)?;
        let mut process = spawn(binaries, directory.path(), primary, user)?;
        let commands = process.stdin.take();
        Ok(Self { process, commands, start_number: 0, directory })
    }

    pub(super) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Waits until the directory has been filled. The error is the last lines of the log.
    pub(super) fn wait_until_initialised(&self) -> Result<(), String> {
        self.wait_for("initialised", "failed")
    }

    /// Starts the server with this text as its settings file; a running server is stopped first. Waits until it accepts
    /// connections. The error is the last lines of the log.
    pub(super) fn start_server(&mut self, settings: &str) -> Result<(), String> {
        fs::write(self.directory().join("settings.conf"), settings).map_err(|error| error.to_string())?;
        self.start_number += 1;
        self.send(&format!("start {}", self.start_number)).map_err(|error| error.to_string())?;
        self.wait_for("ready", &format!("exited {}", self.start_number))
    }

    /// Stops the server with a signal, INT or QUIT, and waits for its end.
    pub(super) fn stop_server(&mut self, signal: &str) -> Result<(), ClusterError> {
        self.send(signal).map_err(ClusterError::Supervisor)?;
        // No state means failure here, so only the time limit ends the wait.
        self.wait_for(&format!("exited {}", self.start_number), "never").map_err(|log| ClusterError::Stop { log })
    }

    fn send(&mut self, command: &str) -> std::io::Result<()> {
        match &mut self.commands {
            Some(pipe) => writeln!(pipe, "{command}"),
            None => Ok(()),
        }
    }

    /// Waits for the state `success`. The error, after the state `failure` or after the time limit, is the last lines
    /// of the log.
    fn wait_for(&self, success: &str, failure: &str) -> Result<(), String> {
        for _ in 0..MAX_POLLS {
            match self.state() {
                Some(state) if state == success => return Ok(()),
                Some(state) if state == failure => break,
                _ => std::thread::sleep(POLL_INTERVAL),
            }
        }
        Err(self.last_log_lines())
    }

    /// The state that the supervisor has written, or `ready` once the server accepts connections.
    fn state(&self) -> Option<String> {
        let read = |file: &str| fs::read_to_string(self.directory().join(file));
        let state = read("state").ok()?.trim_end().to_owned();
        // The status is the eighth line of postmaster.pid (`LOCK_FILE_LINE_PM_STATUS` in PostgreSQL's pidfile.h). The
        // file of a killed server also says `ready`, so its pid must be the pid of the current server.
        if state == format!("starting {}", self.start_number) {
            let pid = read("pid").unwrap_or_default();
            let status = read("data/postmaster.pid").unwrap_or_default();
            let mut lines = status.lines().map(str::trim);
            if lines.next() == Some(pid.trim()) && lines.nth(6) == Some("ready") {
                return Some("ready".to_owned());
            }
        }
        Some(state)
    }

    /// The last lines of the log, in one line.
    pub(super) fn last_log_lines(&self) -> String {
        let log = fs::read_to_string(self.directory().join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
        lines[lines.len().saturating_sub(SHOWN_LOG_LINES)..].join(" | ")
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.commands = None;
        let _ = self.process.wait();
    }
}

fn spawn(
    binaries: &Binaries,
    directory: &Path,
    primary: Option<&StoppedPrimary>,
    user: Option<UnprivilegedUser>,
) -> Result<Child, ClusterError> {
    let mut command = Command::new("sh");
    command.args(["-c", SCRIPT, "imsync-private-postgres"]).arg(&binaries.directory).arg(directory);
    if let Some(primary) = primary {
        command.arg(&primary.data).arg(&primary.connection);
    }
    // The unprivileged user may have no access to the current working directory.
    command.current_dir("/").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    // A separate process group: a Ctrl-C in the terminal must not stop the server before this process ends.
    command.process_group(0);
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("PG") || name.starts_with("LC_")) {
            command.env_remove(name);
        }
    }
    command.env("LC_ALL", "C");
    if let Some(user) = user {
        command.uid(user.uid).gid(user.gid);
    }
    command.spawn().map_err(ClusterError::Supervisor)
}

/// Creates a directory whose path is short enough for a socket. If this process is root, an unprivileged user must be
/// able to reach it, and to remove it at the end.
fn create_directory(root: bool) -> Result<TempDir, ClusterError> {
    let mut parent = std::env::temp_dir();
    if parent.as_os_str().len() + 20 > MAX_DIRECTORY_BYTES || (root && !is_writable_by_all(&parent)) {
        parent = PathBuf::from("/tmp");
    }
    tempfile::Builder::new()
        .prefix("imsync-pg-")
        .tempdir_in(&parent)
        .map_err(|source| ClusterError::Directory { directory: parent, source })
}

/// Whether every user may write to this directory, and may traverse it and all its ancestors.
fn is_writable_by_all(directory: &Path) -> bool {
    let has_mode =
        |path: &Path, bits: u32| fs::metadata(path).is_ok_and(|found| found.permissions().mode() & bits == bits);
    let Ok(directory) = directory.canonicalize() else { return false };
    has_mode(&directory, 0o003) && directory.ancestors().all(|ancestor| has_mode(ancestor, 0o001))
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}
