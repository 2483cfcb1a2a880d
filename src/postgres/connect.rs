//! Opens a connection as a URL says: the servers of the list in their order, each with the encryption that it takes.
//!
//! Owns: the driver's options for one server, the order of the attempts and their time limits. Must not know: what the
//! connection is for.

use std::io;
use std::str::FromStr as _;
use std::time::Duration;

use rand::seq::SliceRandom as _;
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow, PgSslMode};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, Row as _};

use super::login_failure::{LoginFailure, Target};
use super::network_failure::of_network;
use super::refused_login::of_server;
use super::url::{PgEndpoint, PgSettings, PgUrl, SslMode, TargetSession};

pub use super::url::CONNECT_TIMEOUT;

/// The server and the encryption with which a connection was opened.
#[derive(Clone, Debug)]
pub(super) struct Route {
    endpoint: PgEndpoint,
    mode: PgSslMode,
}

/// What decides how a connection is opened. The driver's options cannot be compared, and the URL that it makes of them
/// cannot hold an IPv6 address.
#[derive(Clone, Debug)]
pub(super) struct LoginSettings {
    url: PgUrl,
    route: Route,
    password: Option<SecretString>,
}

impl LoginSettings {
    /// The settings for a connection by this route, else to the first server. They read the password file, so they are
    /// read for each connection.
    pub(super) fn read(url: PgUrl, route: Option<Route>) -> Self {
        let settings = url.settings();
        let route = route.unwrap_or_else(|| {
            let endpoint = settings.endpoints[0].clone();
            Route { mode: ssl_modes(settings, &endpoint)[0], endpoint }
        });
        let password = password(settings, &route.endpoint);
        Self { url, route, password }
    }

    /// The driver's options for a connection with these settings.
    pub(super) fn options(&self, application_name: &str) -> PgConnectOptions {
        let Route { endpoint, mode } = &self.route;
        driver_options(self.url.settings(), endpoint, *mode, self.password.as_ref(), application_name)
    }

    /// Whether a connection is opened in the same way.
    pub(super) fn same_as(&self, other: &Self) -> bool {
        let exposed = |settings: &Self| settings.password.as_ref().map(|password| password.expose_secret().to_owned());
        let mode = |settings: &Self| std::mem::discriminant(&settings.route.mode);
        self.url.same_as(&other.url)
            && self.url.settings().certificates == other.url.settings().certificates
            && self.route.endpoint == other.route.endpoint
            && mode(self) == mode(other)
            && exposed(self) == exposed(other)
    }
}

/// Opens a connection to the first suitable server of a URL. `only`: to this one.
pub(super) async fn open(
    url: &PgUrl,
    only: Option<&Route>,
    application_name: &str,
) -> Result<(PgConnection, Route), LoginFailure> {
    let settings = url.settings();
    let mut endpoints: Vec<&PgEndpoint> =
        only.map_or_else(|| settings.endpoints.iter().collect(), |route| vec![&route.endpoint]);
    if settings.in_random_order {
        endpoints.shuffle(&mut rand::rng());
    }
    let mut targets = vec![settings.target];
    if settings.target == TargetSession::PreferStandby {
        targets = vec![TargetSession::Standby, TargetSession::Any];
    }
    let mut failures = Vec::new();
    for target in targets {
        failures.clear();
        for endpoint in &endpoints {
            match try_endpoint(settings, endpoint, application_name, target).await {
                Ok(opened) => return Ok(opened),
                Err(error) => {
                    let failure = failure(&error, Target { settings, endpoint }).await;
                    if ends_search(&error) {
                        return Err(failure);
                    }
                    failures.push((endpoint.to_string(), failure));
                }
            }
        }
    }
    Err(LoginFailure::of_all(failures))
}

async fn failure(error: &sqlx::Error, target: Target<'_>) -> LoginFailure {
    match error {
        sqlx::Error::Database(refused) => of_server(refused.as_ref(), Some(target)),
        error => of_network(error, target).await,
    }
}

/// As libpq, a server that refuses the login ends the search, unless it is only starting.
fn ends_search(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(refused) if refused.code().as_deref() != Some("57P03"))
}

async fn try_endpoint(
    settings: &PgSettings,
    endpoint: &PgEndpoint,
    application_name: &str,
    target: TargetSession,
) -> Result<(PgConnection, Route), sqlx::Error> {
    let mut refused = None;
    let password = password(settings, endpoint);
    for mode in ssl_modes(settings, endpoint) {
        let options = driver_options(settings, endpoint, mode, password.as_ref(), application_name);
        match within(settings.connect_timeout, Box::pin(PgConnection::connect_with(&options))).await {
            Ok(mut connection) => {
                check_target(&mut connection, target).await?;
                return Ok((connection, Route { endpoint: endpoint.clone(), mode }));
            }
            // What the server says to the mode that is preferred tells more.
            Err(error) if refused.is_some() && !matches!(error, sqlx::Error::Database(_)) => break,
            Err(error) if may_depend_on_encryption(&error) => refused = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(refused.unwrap_or_else(|| sqlx::Error::Configuration("no mode was tried".into())))
}

/// Closes a connection. An error while closing does not matter.
pub async fn close(connection: PgConnection) {
    let _ = tokio::time::timeout(CONNECT_TIMEOUT, connection.close()).await;
}

/// Uses the simple query protocol, because a prepared statement would be missing in the next session of a pooler.
pub(super) async fn ask(connection: &mut PgConnection, sql: &'static str) -> Result<PgRow, sqlx::Error> {
    within(CONNECT_TIMEOUT, connection.fetch_one(sqlx::raw_sql(sql))).await
}

/// Whether two URLs lead to the same running server and the same database. `None` when one of them cannot be reached.
pub async fn lead_to_same_server(one: &PgUrl, other: &PgUrl) -> Option<bool> {
    let (one, other) = tokio::join!(running_server(one), running_server(other));
    let ((one, one_identifier), (other, other_identifier)) = (one?, other?);
    // A managed server may let one role read the identifier, and another not.
    let identifiers_agree = one_identifier.zip(other_identifier).is_none_or(|(one, other)| one == other);
    Some(one == other && identifiers_agree)
}

/// What tells a running server and its database from others: its start to the microsecond, its port, the OID of the
/// database; and the identifier of the server, where the role may read it.
async fn running_server(url: &PgUrl) -> Option<(String, Option<String>)> {
    let (mut connection, _) = open(url, None, "imsync").await.ok()?;
    let row = ask(
        &mut connection,
        "SELECT extract(epoch FROM pg_catalog.pg_postmaster_start_time())::text || ' ' || \
         pg_catalog.current_setting('port') || ' ' || \
         (SELECT oid::text FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())",
    );
    let started = row.await.ok()?.try_get(0).ok()?;
    let identifier = "SELECT system_identifier::text FROM pg_catalog.pg_control_system()";
    let identifier = match ask(&mut connection, identifier).await {
        Ok(row) => Some(row.try_get(0).ok()?),
        Err(sqlx::Error::Database(_)) => None,
        Err(_) => return None,
    };
    close(connection).await;
    Some((started, identifier))
}

/// The modes to try one after the other, as libpq does for `allow` and `prefer`.
fn ssl_modes(settings: &PgSettings, endpoint: &PgEndpoint) -> Vec<PgSslMode> {
    if endpoint.is_socket() {
        return vec![PgSslMode::Disable];
    }
    match settings.ssl_mode {
        SslMode::Disable => vec![PgSslMode::Disable],
        SslMode::Allow => vec![PgSslMode::Disable, PgSslMode::Require],
        SslMode::Prefer => vec![PgSslMode::Prefer, PgSslMode::Disable],
        SslMode::Require => vec![PgSslMode::Require],
        SslMode::VerifyCa => vec![PgSslMode::VerifyCa],
        SslMode::VerifyFull => vec![PgSslMode::VerifyFull],
    }
}

/// Whether the server may accept the login with or without encryption: a rule of `pg_hba.conf`, or a failed handshake.
fn may_depend_on_encryption(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(refused) => refused.code().as_deref() == Some("28000"),
        sqlx::Error::Tls(_) => true,
        sqlx::Error::Io(reason) => reason.kind() == io::ErrorKind::InvalidData,
        _ => false,
    }
}

/// The driver's options for one server. It has no parser of its own for what psql takes, so everything is set here.
fn driver_options(
    settings: &PgSettings,
    endpoint: &PgEndpoint,
    mode: PgSslMode,
    password: Option<&SecretString>,
    application_name: &str,
) -> PgConnectOptions {
    // Only its parser takes the text of `options` as it is.
    let base = settings.options.as_ref().filter(|text| std::env::var("PGOPTIONS").as_ref() != Ok(*text)).map(|text| {
        let encoded: String = url::form_urlencoded::byte_serialize(text.as_bytes()).collect();
        PgConnectOptions::from_str(&format!("postgres://localhost/?options={encoded}"))
    });
    let base = base.and_then(Result::ok).unwrap_or_else(PgConnectOptions::new_without_pgpass);
    let mut options = base
        .port(endpoint.port)
        .username(&settings.user)
        .database(settings.database())
        .ssl_mode(mode)
        .application_name(application_name)
        // A pooler may not know this start-up parameter.
        .extra_float_digits(None)
        .disable_statement_logging();
    options = if endpoint.is_socket() {
        options.socket(&endpoint.host)
    } else {
        options.host(&endpoint.address.map_or_else(|| endpoint.host.clone(), |address| address.to_string()))
    };
    options = match &settings.certificates.root {
        Some(path) => options.ssl_root_cert(path),
        // Otherwise the driver would read a path from the environment.
        None => options.ssl_root_cert_from_pem(Vec::new()),
    };
    if let Some((certificate, key)) = &settings.certificates.client {
        options = options.ssl_client_cert(certificate).ssl_client_key(key);
    }
    // Without one, the driver would take that of the environment, or of the password file for its default host.
    options.password(password.map_or("", |password| password.expose_secret()))
}

fn password(settings: &PgSettings, endpoint: &PgEndpoint) -> Option<SecretString> {
    settings.password.clone().or_else(|| settings.password_of_file(endpoint).ok().flatten())
}

/// Whether the session is of the kind that `target_session_attrs` asks for.
async fn check_target(connection: &mut PgConnection, target: TargetSession) -> Result<(), sqlx::Error> {
    if matches!(target, TargetSession::Any | TargetSession::PreferStandby) {
        return Ok(());
    }
    let row = ask(
        connection,
        "SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('transaction_read_only') = 'on'",
    )
    .await?;
    let (is_standby, is_read_only): (bool, bool) = (row.try_get(0)?, row.try_get(1)?);
    let (suits, wanted) = match target {
        TargetSession::ReadWrite => (!is_read_only && !is_standby, "read-write"),
        TargetSession::ReadOnly => (is_read_only || is_standby, "read-only"),
        TargetSession::Primary => (!is_standby, "primary"),
        TargetSession::Standby => (is_standby, "standby"),
        TargetSession::Any | TargetSession::PreferStandby => return Ok(()),
    };
    if suits {
        return Ok(());
    }
    let found = if is_standby {
        "a standby"
    } else if is_read_only {
        "read-only"
    } else {
        "a primary that takes writes"
    };
    let message = format!("no server of the URL is as target_session_attrs={wanted} asks; the last one is {found}");
    Err(sqlx::Error::Io(io::Error::new(io::ErrorKind::NotConnected, message)))
}

async fn within<T>(limit: Duration, answer: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    tokio::time::timeout(limit, answer).await.unwrap_or_else(|_| {
        let message = format!("no answer within {} s", limit.as_secs());
        Err(sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, message)))
    })
}
