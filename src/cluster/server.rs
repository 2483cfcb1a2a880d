//! A private PostgreSQL server as its owner uses it: start, stop, restart, standby, databases.
//!
//! Owns: the server's port and password. Must not know: the supervisor's files and commands.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use rand::RngExt;

use super::binaries::Binaries;
use super::database::create_database;
use super::error::ClusterError;
use super::options::ClusterOptions;
use super::supervisor::{StoppedPrimary, Supervisor};

/// Number of attempts to start on a free port, because another process may take the port before the server does.
const MAX_START_ATTEMPTS: u32 = 5;

/// A private PostgreSQL server, running or stopped. Dropping it stops the server and removes its directory.
#[derive(Debug)]
pub struct Cluster {
    options: ClusterOptions,
    major: u32,
    port: u16,
    password: String,
    supervisor: Supervisor,
}

impl Cluster {
    /// Creates a server and starts it. Blocks the thread for a second or two.
    ///
    /// # Errors
    /// PostgreSQL is not installed or too old, `initdb` failed, or the server did not start within a minute.
    pub fn start(options: ClusterOptions) -> Result<Self, ClusterError> {
        let mut cluster = Self::create(options, random_password(), None)?;
        cluster.supervisor.wait_until_initialised().map_err(|log| ClusterError::Initdb { log })?;
        cluster.start_on_port()?;
        Ok(cluster)
    }

    /// Creates and starts a hot standby that streams from this server, with the same databases, roles and settings.
    /// Blocks the thread for a few seconds. This server needs the settings `wal_level = replica` and a free
    /// `max_wal_senders`, which are not the defaults. It is stopped while its data is copied, which ends its sessions:
    /// `pg_basebackup` would not, but is missing where only the server programs are installed.
    ///
    /// # Errors
    /// As for [`Cluster::start`] and [`Cluster::restart`]; the data could not be copied.
    pub fn standby(&mut self) -> Result<Self, ClusterError> {
        let options = ClusterOptions { port: None, ..self.options.clone() };
        let primary = StoppedPrimary {
            data: self.directory().join("data"),
            // Through the Unix socket, which needs no password. Only the same user can reach it.
            connection: format!("host={} port={} user=imsync", self.directory().display(), self.port),
        };
        self.stop()?;
        let created = Self::create(options, self.password.clone(), Some(&primary));
        let copied = created.and_then(|cluster| match cluster.supervisor.wait_until_initialised() {
            Ok(()) => Ok(cluster),
            Err(log) => Err(ClusterError::Standby { log }),
        });
        self.restart()?;
        let mut cluster = copied?;
        cluster.start_on_port()?;
        Ok(cluster)
    }

    fn create(
        options: ClusterOptions,
        password: String,
        primary: Option<&StoppedPrimary>,
    ) -> Result<Self, ClusterError> {
        let binaries = Binaries::find()?;
        let supervisor = Supervisor::start(&binaries, &password, primary)?;
        Ok(Self { options, major: binaries.major, port: 0, password, supervisor })
    }

    /// The URL of a database of this server, with the password. The database `postgres` always exists. The server has
    /// no TLS; the URL says so, so that a `PGSSLMODE` in the environment has no effect.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://imsync:{}@127.0.0.1:{}/{database}?sslmode=disable", self.password, self.port)
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The server's major version.
    pub fn major(&self) -> u32 {
        self.major
    }

    /// The directory of all the server's files, including its Unix socket.
    pub fn directory(&self) -> &Path {
        self.supervisor.directory()
    }

    /// Creates an empty database and returns its URL.
    ///
    /// # Errors
    /// As for [`create_database`].
    pub async fn create_database(&self, name: &str) -> Result<String, ClusterError> {
        create_database(&self.url("postgres"), name, "template0").await
    }

    /// Stops the server with a fast shutdown: open sessions are disconnected. Has no effect on a stopped server.
    ///
    /// # Errors
    /// The server did not stop within a minute.
    pub fn stop(&mut self) -> Result<(), ClusterError> {
        self.supervisor.stop_server("INT")
    }

    /// Stops the server with an immediate shutdown, as in a crash: the next start recovers from the write-ahead log.
    ///
    /// # Errors
    /// The server did not stop within a minute.
    pub fn kill(&mut self) -> Result<(), ClusterError> {
        self.supervisor.stop_server("QUIT")
    }

    /// Starts the server again on the same port; a running server is stopped first.
    ///
    /// # Errors
    /// The server did not stop or did not start within a minute.
    pub fn restart(&mut self) -> Result<(), ClusterError> {
        self.stop()?;
        self.launch().map_err(|log| ClusterError::Start { log })
    }

    fn start_on_port(&mut self) -> Result<(), ClusterError> {
        let mut attempts = 0;
        loop {
            self.port = match self.options.port {
                Some(port) => port,
                None => free_port().map_err(ClusterError::Supervisor)?,
            };
            attempts += 1;
            let may_retry = self.options.port.is_none() && attempts < MAX_START_ATTEMPTS;
            match self.launch() {
                Ok(()) => return Ok(()),
                Err(log) if may_retry && log.contains("could not bind") => {}
                Err(log) => return Err(ClusterError::Start { log }),
            }
        }
    }

    fn launch(&mut self) -> Result<(), String> {
        let settings = self.options.settings_text(self.port, self.supervisor.directory());
        self.supervisor.start_server(&settings)
    }

    /// The last lines of the server's log.
    #[cfg(test)]
    pub(super) fn last_log_lines(&self) -> String {
        self.supervisor.last_log_lines()
    }
}

fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

fn random_password() -> String {
    format!("{:032x}", rand::rng().random::<u128>())
}
