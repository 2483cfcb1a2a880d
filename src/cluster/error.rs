//! The errors of a private PostgreSQL server.
//!
//! Owns: the errors and their messages. Must not know: how the server is started.

use std::path::PathBuf;

/// The oldest major version of PostgreSQL that imsync supports.
pub(super) const OLDEST_SUPPORTED: u32 = 14;

/// An error of a private PostgreSQL server. Each message says what to do, or shows the server's last log lines.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// No server programs were found.
    #[error(
        "PostgreSQL's server programs (initdb, postgres) are neither on PATH nor in /usr/lib/postgresql; install them, on Debian and Ubuntu with `apt-get install postgresql`"
    )]
    NotInstalled,
    /// Only a server older than version 14 was found.
    #[error(
        "the installed PostgreSQL is version {major}, but imsync needs {OLDEST_SUPPORTED} or newer; install a newer version, on Debian and Ubuntu with `apt-get install postgresql`"
    )]
    TooOld {
        /// The major version of that server.
        major: u32,
    },
    /// The process runs as root and there is no other user for the server.
    #[error(
        "PostgreSQL cannot be run as root, and there is neither a user `postgres` nor a user `nobody` to run it as; create one of them, or do not run this command as root"
    )]
    NoUnprivilegedUser,
    /// The cluster's directory cannot be created.
    #[error("cannot create a directory for a private PostgreSQL server in {}: {source}", .directory.display())]
    Directory {
        /// The parent directory.
        directory: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The supervisor cannot be started or no longer runs, or no free port can be found.
    #[error("cannot run the supervisor of the private PostgreSQL server (`sh`): {0}")]
    Supervisor(std::io::Error),
    /// `initdb` failed.
    #[error("initdb could not create a private PostgreSQL server; its last log lines: {log}")]
    Initdb {
        /// The last lines of its output.
        log: String,
    },
    /// The data of the primary could not be copied.
    #[error("the data of the private PostgreSQL server could not be copied for a standby; the last log lines: {log}")]
    Standby {
        /// The last lines of the standby's log.
        log: String,
    },
    /// The server did not start.
    #[error("the private PostgreSQL server did not start; its last log lines: {log}")]
    Start {
        /// The last lines of its log.
        log: String,
    },
    /// The server did not stop.
    #[error("the private PostgreSQL server did not stop within a minute; its last log lines: {log}")]
    Stop {
        /// The last lines of its log.
        log: String,
    },
    /// A database name that would need quoting.
    #[error(
        "`{0}` is not a valid name for a test database; use a to z, 0 to 9 and _, beginning with a letter, at most 63 characters"
    )]
    Name(String),
    /// The server refused a statement or a connection.
    #[error("the private PostgreSQL server returned an error: {0}")]
    Refused(#[from] sqlx::Error),
}
