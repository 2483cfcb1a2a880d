//! The binary as these systems run it: armed to crash, killed, told to stop; and what it may print and end with.
//!
//! Owns: starting, ending and examining processes. Must not know: tables, the vendor.

use std::path::PathBuf;
use std::time::Duration;

use tokio::process::Child;

use super::operation::{Command, ProcessFault};
use super::table;
use crate::support::{TestEnvironment, signal};

/// A command that has not ended by then hangs: several times what time-outs, retries and pauses add up to.
const PATIENCE: Duration = Duration::from_mins(2);

/// A process and where it prints.
pub(super) struct Process {
    pub(super) name: String,
    /// It may crash by itself.
    pub(super) armed: bool,
    child: Child,
    files: [PathBuf; 2],
}

/// What became of a process.
#[derive(Clone, Debug)]
pub(super) struct Ended {
    pub(super) name: String,
    /// None: a signal ended it, ours or that of a crash point.
    pub(super) code: Option<i32>,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

pub(super) fn arguments(command: &Command) -> Vec<String> {
    let mut arguments = match command {
        Command::Once => vec!["run".to_owned(), "--once".to_owned()],
        Command::Backfill { .. } | Command::Accounts(_) => vec!["backfill".to_owned()],
    };
    match command {
        Command::Once => {}
        Command::Backfill { force, allow_removals } => {
            arguments.extend(force.then(|| "--force".to_owned()));
            arguments.extend(allow_removals.then(|| "--allow-removals".to_owned()));
        }
        Command::Accounts(accounts) => {
            for account in accounts {
                arguments.push(format!("--account={}", table::account(*account)));
            }
        }
    }
    arguments.push("--json".to_owned());
    arguments
}

impl Process {
    /// `number` tells its files apart from those of others.
    pub(super) fn start(env: &TestEnvironment, number: u32, arguments: &[String], crash: Option<(&str, u64)>) -> Self {
        let files = ["out", "err"].map(|extension| env.directory().join(format!("{number}.{extension}")));
        let open = |file: &PathBuf| std::fs::File::create(file).expect("a file for what it prints");
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut command = env.command(&arguments);
        if let Some((point, arrival)) = crash {
            command.env("IMSYNC_CRASH_AT", format!("{point}#{arrival}"));
        }
        let child = command.stdout(open(&files[0])).stderr(open(&files[1])).spawn().expect("the binary can be run");
        Self { name: arguments.join(" "), armed: crash.is_some(), child, files }
    }

    /// It has not ended yet.
    pub(super) fn alive(&mut self) -> bool {
        self.child.try_wait().expect("a child can be asked").is_none()
    }

    pub(super) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Sends it a signal, unless it has ended.
    pub(super) fn signal(&mut self, name: &str) {
        if self.alive() {
            signal(&self.child, name);
        }
    }

    /// Waits for the end; a process that hangs is an error, with what it printed.
    pub(super) async fn end(mut self) -> Result<Ended, String> {
        let waited = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        let [stdout, stderr] =
            self.files.map(|file| String::from_utf8_lossy(&std::fs::read(file).unwrap_or_default()).into_owned());
        let Ok(status) = waited else {
            let _ = self.child.kill().await;
            return Err(format!("`{}` has not ended for {PATIENCE:?}\n{stdout}\n{stderr}", self.name));
        };
        let code = status.expect("a child can be waited for").code();
        Ok(Ended { name: self.name, code, stdout, stderr })
    }
}

/// The fault in time: it happens beside what the others do.
pub(super) async fn befall(fault: ProcessFault, process: Option<u32>) {
    let (ProcessFault::Kill(millis) | ProcessFault::Term(millis)) = fault else { return };
    let name = if matches!(fault, ProcessFault::Kill(_)) { "KILL" } else { "TERM" };
    tokio::time::sleep(Duration::from_millis(millis)).await;
    if let Some(pid) = process {
        // Not yet waited for, so the number is still its own; if it has ended there is nobody to tell.
        let _ = std::process::Command::new("kill").args(["-s", name, &pid.to_string()]).output();
    }
}

impl Ended {
    /// Nothing that must not be printed, and an exit code that this command may have.
    pub(super) fn examine(&self, secrets: &[String], may_be_killed: bool) -> Result<(), String> {
        let all =
            || format!("`{}` ended with {:?}\nstdout: {}\nstderr: {}", self.name, self.code, self.stdout, self.stderr);
        for text in [&self.stdout, &self.stderr] {
            for word in ["panicked", "RUST_BACKTRACE", "stack backtrace", "usersig="] {
                if text.contains(word) {
                    return Err(format!("{word:?} was printed: {}", all()));
                }
            }
            for secret in secrets {
                if text.contains(secret.as_str()) {
                    return Err(format!("a secret was printed: {}", all()));
                }
            }
        }
        match self.code {
            Some(0 | 3) => Ok(()),
            // It says why.
            Some(1) if self.stderr.contains("imsync: ") => Ok(()),
            None if may_be_killed => Ok(()),
            _ => Err(format!("not an exit code of this command: {}", all())),
        }
    }

    /// The pass on stdout.
    pub(super) fn pass(&self) -> Result<serde_json::Value, String> {
        serde_json::from_str(&self.stdout).map_err(|error| format!("{error}: {self:?}"))
    }
}
