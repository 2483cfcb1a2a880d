//! A child process that ends when the demo ends, however the demo ends.
//!
//! Owns: the environment, the stop pipe and the exit status of an imsync child process. Must not know: which command
//! the child runs.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, Command};

/// A shell script that starts the child and waits for orders on the stop pipe.
const SUPERVISOR_SCRIPT: &str = include_str!("child.sh");

/// Prefixes of environment variables that could point the child at another configuration, database or secret.
const REMOVED_PREFIXES: [&str; 3] = ["IMSYNC_", "PG", "CREDENTIALS_DIRECTORY"];

/// A running child process. Dropping it closes the stop pipe, and that kills the child.
#[derive(Debug)]
pub(super) struct ChildProcess {
    child: Child,
    /// The write end of the child's standard input. It is taken out of `child` because `Child::wait` closes the
    /// standard input it owns, and closing this pipe kills the child.
    stop_pipe: Option<ChildStdin>,
}

impl ChildProcess {
    /// Starts `program` with an environment that cannot override its arguments.
    pub(super) fn start<I, A>(program: &Path, arguments: I, stdout: Stdio, stderr: Stdio) -> io::Result<Self>
    where
        I: IntoIterator<Item = A>,
        A: AsRef<OsStr>,
    {
        let mut command = Command::new("sh");
        command.args(["-c", SUPERVISOR_SCRIPT, "imsync-demo"]).arg(program).args(arguments);
        command.stdin(Stdio::piped()).stdout(stdout).stderr(stderr);
        // A Ctrl-C in the terminal must reach the demo only. The demo then stops its children in the right order.
        command.process_group(0);
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(is_removed) {
                command.env_remove(&name);
            }
        }
        let mut child = command.spawn()?;
        let stop_pipe = child.stdin.take();
        Ok(Self { child, stop_pipe })
    }

    /// Waits until the child exits without being asked to.
    pub(super) async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Requests a graceful stop and waits until the child has exited.
    pub(super) async fn stop(&mut self) -> io::Result<ExitStatus> {
        if let Some(stop_pipe) = &mut self.stop_pipe {
            // The write fails when the child has already exited. Its exit status is returned in either case.
            let _ = stop_pipe.write_all(b"stop\n").await;
        }
        self.child.wait().await
    }
}

/// True for a variable that the child must not inherit: imsync's own settings, libpq's, systemd's, and proxies.
fn is_removed(variable: &str) -> bool {
    variable.to_ascii_lowercase().ends_with("_proxy")
        || variable == "NOTIFY_SOCKET"
        || REMOVED_PREFIXES.iter().any(|prefix| variable.starts_with(prefix))
}
