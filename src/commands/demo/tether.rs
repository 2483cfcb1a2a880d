//! A child process that cannot outlive us.
//!
//! Owns: imsync as a child: its environment, its end. Must not know: which command it runs.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, Command};

const TETHER: &str = include_str!("tether.sh");

/// What of our environment could lead a child elsewhere: to another configuration, database, secret or proxy.
const LEADING_AWAY: [&str; 3] = ["IMSYNC_", "PG", "CREDENTIALS_DIRECTORY"];

/// A running child. Letting go of it kills it.
#[derive(Debug)]
pub(super) struct Tethered {
    child: Child,
    /// Taken out of `child`, whose `wait` would close it: closing it kills the child.
    rope: Option<ChildStdin>,
}

impl Tethered {
    /// Starts `program` with an environment in which only its arguments decide.
    pub(super) fn start<I, A>(program: &Path, arguments: I, out: Stdio, err: Stdio) -> io::Result<Self>
    where
        I: IntoIterator<Item = A>,
        A: AsRef<OsStr>,
    {
        let mut command = Command::new("sh");
        command.args(["-c", TETHER, "imsync-demo"]).arg(program).args(arguments);
        command.stdin(Stdio::piped()).stdout(out).stderr(err);
        // A Ctrl-C in the terminal is for us: we stop the children when their turn has come.
        command.process_group(0);
        for (name, _) in std::env::vars_os() {
            let Some(shown) = name.to_str() else { continue };
            let proxy = shown.to_ascii_lowercase().ends_with("_proxy");
            if proxy || shown == "NOTIFY_SOCKET" || LEADING_AWAY.iter().any(|prefix| shown.starts_with(prefix)) {
                command.env_remove(&name);
            }
        }
        let mut child = command.spawn()?;
        let rope = child.stdin.take();
        Ok(Self { child, rope })
    }

    /// Waits until it ends by itself.
    pub(super) async fn ended(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Asks it to stop in order and waits until it has.
    pub(super) async fn stop(&mut self) -> io::Result<ExitStatus> {
        if let Some(rope) = &mut self.rope {
            // Fails when it has ended by itself; its exit status tells how.
            let _ = rope.write_all(b"stop\n").await;
        }
        self.child.wait().await
    }
}
