//! What a URL and the environment say about a connection, checked.
//!
//! Owns: the values that each parameter may have, defaults, and which of them the environment gives. Must not know: how a
//! connection is opened.
//!
//! Source: PostgreSQL manual, 34.1.2. The defaults are those of libpq, with two exceptions: without a root certificate the
//! certificates of the system are trusted, and an attempt to connect has a time limit.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use super::certificates::Certificates;
use super::syntax;
use super::values::{PgVariables, Values};

/// The time limit of an attempt to connect, for name look-up, TLS handshake and login.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// libpq waits at least so long.
const MIN_CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const DEFAULT_PORT: u16 = 5432;
/// Where the socket of a local server is looked for: Debian, and the default of PostgreSQL.
const SOCKET_FOLDERS: [&str; 2] = ["/var/run/postgresql", "/tmp"];

/// One server of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::postgres) struct PgEndpoint {
    /// A name, an IP address, or the folder of a Unix socket.
    pub(in crate::postgres) host: String,
    /// The address of the host, where `hostaddr` gives it.
    pub(in crate::postgres) address: Option<IpAddr>,
    pub(in crate::postgres) port: u16,
}

impl PgEndpoint {
    pub(in crate::postgres) fn is_socket(&self) -> bool {
        self.host.starts_with('/')
    }
}

impl fmt::Display for PgEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // For the folder of a Unix socket, the port is of no interest.
        if self.is_socket() {
            f.write_str(&self.host)
        } else if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// `sslmode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::postgres) enum SslMode {
    Disable,
    Allow,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

const SSL_MODES: [(&str, SslMode); 6] = [
    ("disable", SslMode::Disable),
    ("allow", SslMode::Allow),
    ("prefer", SslMode::Prefer),
    ("require", SslMode::Require),
    ("verify-ca", SslMode::VerifyCa),
    ("verify-full", SslMode::VerifyFull),
];

/// `target_session_attrs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::postgres) enum TargetSession {
    Any,
    ReadWrite,
    ReadOnly,
    Primary,
    Standby,
    PreferStandby,
}

const TARGET_SESSIONS: [(&str, TargetSession); 6] = [
    ("any", TargetSession::Any),
    ("read-write", TargetSession::ReadWrite),
    ("read-only", TargetSession::ReadOnly),
    ("primary", TargetSession::Primary),
    ("standby", TargetSession::Standby),
    ("prefer-standby", TargetSession::PreferStandby),
];

/// The settings of a connection. The password is looked up in the password file for each connection, unless the URL or
/// the environment gives it.
#[derive(Clone, Debug)]
pub(in crate::postgres) struct PgSettings {
    pub(in crate::postgres) endpoints: Vec<PgEndpoint>,
    pub(in crate::postgres) user: String,
    pub(in crate::postgres) password: Option<SecretString>,
    /// The URL itself gives the password.
    pub(in crate::postgres) password_in_url: bool,
    pub(in crate::postgres) passfile: Option<PathBuf>,
    pub(in crate::postgres) database: Option<String>,
    pub(in crate::postgres) options: Option<String>,
    pub(in crate::postgres) ssl_mode: SslMode,
    pub(in crate::postgres) certificates: Certificates,
    pub(in crate::postgres) connect_timeout: Duration,
    pub(in crate::postgres) target: TargetSession,
    pub(in crate::postgres) in_random_order: bool,
    pub(in crate::postgres) requires_channel_binding: bool,
    /// The variables that give a setting which the URL does not, with their values; no password.
    pub(in crate::postgres) variables: Vec<(&'static str, String)>,
}

impl PgSettings {
    pub(super) fn read(text: &str, variables: &PgVariables) -> Result<Self, String> {
        let pairs = syntax::pairs(text)?;
        let password_in_url = pairs.iter().any(|pair| pair.name == "password" && !pair.value.is_empty());
        let values = Values::collect(pairs, variables)?;
        let text_of = |name| values.get(name).map(str::to_owned);
        let home = variables.get("HOME").map(PathBuf::from);
        let (ssl_mode, certificates) = encryption(&values, home.as_deref())?;
        let endpoints = endpoints(&values)?;
        if ssl_mode == SslMode::VerifyFull && endpoints.iter().any(|endpoint| endpoint.address.is_some()) {
            return Err(
                "hostaddr together with sslmode=verify-full is not supported by imsync, leave it out".to_owned()
            );
        }
        let uses_tls = ssl_mode > SslMode::Disable && endpoints.iter().any(|endpoint| !endpoint.is_socket());
        if uses_tls && certificates.client.is_none() {
            refuse_unused_certificate(variables)?;
        }
        let is_on =
            |choices: [(&'static str, bool); 2], name| values.choice(name, &choices).map(Option::unwrap_or_default);
        let bindings = [("disable", false), ("prefer", false), ("require", true)];
        Ok(Self {
            endpoints,
            user: text_of("user").unwrap_or_else(system_user),
            password: values.get("password").map(SecretString::from),
            password_in_url,
            passfile: text_of("passfile").map(PathBuf::from).or_else(|| home.map(|home| home.join(".pgpass"))),
            database: text_of("dbname"),
            options: text_of("options"),
            ssl_mode,
            certificates,
            connect_timeout: connect_timeout(&values)?,
            target: values.choice("target_session_attrs", &TARGET_SESSIONS)?.unwrap_or(TargetSession::Any),
            in_random_order: is_on([("disable", false), ("random", true)], "load_balance_hosts")?,
            requires_channel_binding: values.choice("channel_binding", &bindings)?.unwrap_or_default(),
            variables: values.variables,
        })
    }

    /// Whether both lead to the same hosts, ports and database.
    pub(super) fn same_server(&self, other: &Self) -> bool {
        let place = |endpoint: &PgEndpoint| (endpoint.host.to_ascii_lowercase(), endpoint.address, endpoint.port);
        self.endpoints.iter().map(place).eq(other.endpoints.iter().map(place)) && self.database() == other.database()
    }

    /// Without a database name, the database is that of the user's name.
    pub(in crate::postgres) fn database(&self) -> &str {
        self.database.as_deref().unwrap_or(&self.user)
    }
}

fn system_user() -> String {
    // The driver asks the operating system.
    sqlx::postgres::PgConnectOptions::new_without_pgpass().get_username().to_owned()
}

/// The mode and the certificates, with the rules of libpq for both together.
fn encryption(values: &Values, home: Option<&std::path::Path>) -> Result<(SslMode, Certificates), String> {
    let given = values.choice("sslmode", &SSL_MODES)?;
    let required = (values.get("requiressl") == Some("1")).then_some(SslMode::Require);
    let is_system = values.get("sslrootcert") == Some("system");
    let mut mode = given.or(required).unwrap_or(if is_system { SslMode::VerifyFull } else { SslMode::Prefer });
    if is_system && mode != SslMode::VerifyFull {
        return Err(format!("{}=system needs sslmode=verify-full, as psql does", values.shown("sslrootcert")));
    }
    let direct = values.choice("sslnegotiation", &[("postgres", false), ("direct", true)])?;
    if direct == Some(true) && mode < SslMode::Require {
        return Err(format!(
            "{}=direct needs sslmode=require or stronger, as psql does",
            values.shown("sslnegotiation")
        ));
    }
    let certificates = Certificates::find(values, home);
    if mode > SslMode::Allow {
        certificates.check()?;
    }
    // For the sake of old versions, libpq verifies the server when it finds a root certificate.
    if mode == SslMode::Require && certificates.root.is_some() {
        mode = SslMode::VerifyCa;
    }
    Ok((mode, certificates))
}

/// The driver reads these variables itself, and a key or a certificate alone fails every handshake.
fn refuse_unused_certificate(variables: &PgVariables) -> Result<(), String> {
    for variable in ["PGSSLCERT", "PGSSLKEY"] {
        if variables.is_set(variable) {
            return Err(format!(
                "{variable} is set, and the connection uses no client certificate; unset the variable, or name certificate and key with sslcert and sslkey"
            ));
        }
    }
    Ok(())
}

fn connect_timeout(values: &Values) -> Result<Duration, String> {
    let Some(text) = values.get("connect_timeout") else { return Ok(CONNECT_TIMEOUT) };
    let seconds: i32 =
        text.trim().parse().map_err(|_| format!("{} must be a number of seconds", values.shown("connect_timeout")))?;
    Ok(match u64::try_from(seconds) {
        Ok(seconds) if seconds > 0 => Duration::from_secs(seconds).max(MIN_CONNECT_TIMEOUT),
        // libpq waits without a limit.
        _ => CONNECT_TIMEOUT,
    })
}

/// The servers: hosts, addresses and ports are lists of the same length; a single port is that of every host.
fn endpoints(values: &Values) -> Result<Vec<PgEndpoint>, String> {
    let list = |name| values.get(name).map(|text| text.split(',').map(str::trim).collect::<Vec<_>>());
    let (hosts, addresses, ports) = (list("host"), list("hostaddr"), list("port").unwrap_or_default());
    let count = addresses.as_ref().or(hosts.as_ref()).map_or(1, Vec::len);
    if hosts.as_ref().is_some_and(|hosts| hosts.len() != count) {
        return Err("host and hostaddr must list the same number of servers".to_owned());
    }
    if ports.len() > 1 && ports.len() != count {
        return Err("port must be one number, or as many as there are hosts".to_owned());
    }
    let mut endpoints = Vec::new();
    for index in 0..count {
        let port = match ports.get(index).or(ports.first().filter(|_| ports.len() == 1)) {
            None | Some(&"") => DEFAULT_PORT,
            Some(text) => text.parse().ok().filter(|port| *port != 0).ok_or_else(|| match values.shown("port") {
                "port" => format!("port must be a number from 1 to 65535; {}", syntax::ENCODING_HINT),
                variable => format!("{variable} must be a number from 1 to 65535"),
            })?,
        };
        let address = addresses.as_ref().and_then(|addresses| addresses.get(index)).filter(|text| !text.is_empty());
        let address: Option<IpAddr> = address
            .map(|text| text.parse().map_err(|_| format!("{} must be an IP address", values.shown("hostaddr"))))
            .transpose()?;
        let host = hosts.as_ref().and_then(|hosts| hosts.get(index)).filter(|host| !host.is_empty());
        if host.is_some_and(|host| host.starts_with('@')) {
            return Err("an abstract socket (a host that starts with @) is not supported by imsync".to_owned());
        }
        let host = match (host, address) {
            (Some(host), _) => (*host).to_owned(),
            (None, Some(address)) => address.to_string(),
            (None, None) => default_host(port),
        };
        endpoints.push(PgEndpoint { host, address, port });
    }
    Ok(endpoints)
}

/// The folder of a socket that exists, else this machine.
fn default_host(port: u16) -> String {
    let exists = |folder: &&str| std::path::Path::new(folder).join(format!(".s.PGSQL.{port}")).exists();
    SOCKET_FOLDERS.into_iter().find(exists).unwrap_or("localhost").to_owned()
}
