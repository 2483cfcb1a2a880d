//! Why a server could not be reached or its TLS failed, by what a person has to do about it.
//!
//! Owns: the errors of name look-up, sockets and certificates. Must not know: what a server answers to a login.

use std::io;

use rustls::{CertificateError, Error as TlsError};

use super::login_failure::{LoginFailure, Target};
use super::url::SslMode;

/// EAFNOSUPPORT, for which the standard library has no kind: the machine has no IPv6 at all.
const NO_ADDRESS_FAMILY: i32 = if cfg!(target_os = "linux") { 97 } else { 47 };
const TRIED_AGAIN: &str = "it is tried again";
const IPV4: &str =
    "use an IPv4 address of the provider, or its pooler in session mode, which has one; or give this machine IPv6";

pub(super) async fn of_network(error: &sqlx::Error, target: Target<'_>) -> LoginFailure {
    // A certificate that has expired, or that is replaced at this moment.
    let may_be_secret = match error {
        sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) => true,
        sqlx::Error::Io(reason) => tls_error(reason).is_some(),
        _ => false,
    };
    if let Some(reason) = unusable_file(error, target) {
        return LoginFailure {
            refused: may_be_secret,
            ..LoginFailure::lasting(reason, "put the file back, or correct its path and permissions")
        };
    }
    LoginFailure { refused: may_be_secret, ..sentence_of(error, target).await }
}

/// The error of the TLS library, which the driver wraps.
fn tls_error(reason: &io::Error) -> Option<&TlsError> {
    reason.get_ref().and_then(|inner| inner.downcast_ref())
}

/// Why a file of a certificate cannot be used, when the error may come from one. It could be used when the URL was
/// checked, and the driver reads it for each connection, but does not name it.
fn unusable_file(error: &sqlx::Error, target: Target<'_>) -> Option<String> {
    use io::ErrorKind::{IsADirectory, NotADirectory, NotFound, PermissionDenied};
    let may_be_file = match error {
        sqlx::Error::Io(reason) => {
            matches!(reason.kind(), NotFound | PermissionDenied | IsADirectory | NotADirectory)
        }
        sqlx::Error::Tls(_) | sqlx::Error::Configuration(_) => true,
        _ => false,
    };
    let uses_files = !target.endpoint.is_socket() && target.settings.ssl_mode > SslMode::Disable;
    (may_be_file && uses_files).then(|| target.settings.certificates.check().err()).flatten()
}

async fn sentence_of(error: &sqlx::Error, target: Target<'_>) -> LoginFailure {
    match error {
        sqlx::Error::Io(reason) => match tls_error(reason) {
            Some(reason) => of_tls(reason, target),
            None => of_socket(reason, target).await,
        },
        sqlx::Error::Tls(reason) if reason.to_string().contains("does not support TLS") => LoginFailure::lasting(
            format!("{} does not support TLS, which sslmode demands", target.endpoint),
            "switch it on there (ssl = on), or set sslmode=prefer in the URL to do without encryption",
        ),
        sqlx::Error::Tls(reason) => LoginFailure::lasting(
            format!("the TLS settings cannot be used: {reason}"),
            "correct host, sslrootcert, sslcert and sslkey",
        ),
        sqlx::Error::Protocol(reason) => of_protocol(reason, target),
        // The driver names a character of the password.
        sqlx::Error::Configuration(_) => LoginFailure::lasting(
            "the driver cannot use the user, the password or the client certificate",
            "use a password without control characters, and give sslcert and sslkey together",
        ),
        other => LoginFailure::away(other.to_string(), TRIED_AGAIN),
    }
}

fn of_protocol(reason: &str, target: Target<'_>) -> LoginFailure {
    if reason.contains("unsupported authentication method") || reason.contains("unsupported SASL") {
        return LoginFailure::lasting(
            "the server asks for a login that imsync does not support (GSSAPI, Kerberos, OAuth or another)",
            "let the role log in with a password or a client certificate (pg_hba.conf)",
        );
    }
    // The server answers the request for TLS with an error, as it does when it cannot start a session.
    if reason.contains("0x45") {
        return LoginFailure::away(
            format!("{} answers with an error before the login; it often has no free connection", target.endpoint),
            "the log of the server says why; it is tried again",
        );
    }
    LoginFailure::lasting(
        format!("what answers at {} does not speak PostgreSQL's protocol as expected", target.endpoint),
        "correct host and port in the URL",
    )
}

async fn of_socket(reason: &io::Error, target: Target<'_>) -> LoginFailure {
    let endpoint = target.endpoint;
    let text = reason.to_string();
    if text.contains("failed to lookup address") {
        return of_name(&text, target);
    }
    match reason.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused if endpoint.is_socket() => LoginFailure::away(
            format!("no server listens at the socket {}/.s.PGSQL.{}", endpoint.host, endpoint.port),
            "start it, or correct the folder and the port in the URL",
        ),
        io::ErrorKind::InvalidInput if endpoint.is_socket() => LoginFailure::lasting(
            format!("the path of the socket {}/.s.PGSQL.{} is too long", endpoint.host, endpoint.port),
            "use a folder with a shorter path (at most 107 bytes with the name of the socket), or a host name",
        ),
        io::ErrorKind::PermissionDenied => LoginFailure::lasting(
            format!("this user may not connect to {endpoint}"),
            "correct the permissions of the folder and the socket, or the rules of the firewall",
        ),
        io::ErrorKind::ConnectionRefused => LoginFailure::away(
            format!("connection refused: nothing listens at {endpoint}"),
            "start the server, or correct host and port in the URL",
        ),
        io::ErrorKind::TimedOut => LoginFailure::away(
            format!("{endpoint} does not answer ({text})"),
            "if this lasts, a firewall or the provider's list of allowed addresses may drop the packets of this machine",
        ),
        // Without a route, the address family decides what helps.
        _ if may_lack_ipv6(reason) && has_only_ipv6(target).await => LoginFailure::lasting(
            format!("{} has only IPv6 addresses, and this machine has no IPv6 connection ({text})", endpoint.host),
            IPV4,
        ),
        io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe => {
            LoginFailure::away(
                format!("{endpoint} closed the connection during the login"),
                "if this lasts, host, port or sslmode may be wrong, or a proxy in between refuses this machine",
            )
        }
        io::ErrorKind::NotConnected => {
            LoginFailure::away(text, "it is tried again; correct target_session_attrs if it is not meant")
        }
        _ => LoginFailure::away(format!("{endpoint}: {text}"), TRIED_AGAIN),
    }
}

fn of_name(text: &str, target: Target<'_>) -> LoginFailure {
    let host = &target.endpoint.host;
    if text.contains("emporary failure") {
        return LoginFailure::away(
            format!("the name {host} cannot be looked up now, because no name server answers"),
            "it is tried again; if this lasts, correct the name servers of this machine",
        );
    }
    LoginFailure::lasting(
        format!("the host name {host} is not known"),
        "correct the host in the URL, or the name servers of this machine",
    )
}

fn may_lack_ipv6(reason: &io::Error) -> bool {
    use io::ErrorKind::{AddrNotAvailable, HostUnreachable, NetworkUnreachable, Unsupported};
    matches!(reason.kind(), AddrNotAvailable | HostUnreachable | NetworkUnreachable | Unsupported)
        || reason.raw_os_error() == Some(NO_ADDRESS_FAMILY)
}

async fn has_only_ipv6(target: Target<'_>) -> bool {
    let host = target.endpoint.address.map_or_else(|| target.endpoint.host.clone(), |address| address.to_string());
    let Ok(addresses) = tokio::net::lookup_host((host, target.endpoint.port)).await else { return false };
    let addresses: Vec<_> = addresses.collect();
    !addresses.is_empty() && addresses.iter().all(std::net::SocketAddr::is_ipv6)
}

fn of_tls(reason: &TlsError, target: Target<'_>) -> LoginFailure {
    let endpoint = target.endpoint;
    match reason {
        TlsError::InvalidCertificate(reason) => of_certificate(reason, target),
        TlsError::AlertReceived(alert) => LoginFailure::lasting(
            format!("{endpoint} ended the TLS handshake ({alert:?})"),
            "if it demands a client certificate, set sslcert and sslkey in the URL; otherwise it may only know old versions of TLS",
        ),
        other => LoginFailure::lasting(
            format!("the TLS handshake with {endpoint} failed: {other}"),
            "correct host, port and sslmode in the URL",
        ),
    }
}

fn of_certificate(reason: &CertificateError, target: Target<'_>) -> LoginFailure {
    let endpoint = target.endpoint;
    let root = target.settings.certificates.root.as_ref();
    match reason {
        CertificateError::UnknownIssuer => match root {
            None => LoginFailure::lasting(
                format!("the certificate of {endpoint} was issued by an authority that this machine does not know"),
                "set sslrootcert in the URL to the file with the provider's CA certificate, or add it to the certificates of the system",
            ),
            Some(path) => LoginFailure::lasting(
                format!("the certificate of {endpoint} was not issued by the authority in {}", path.display()),
                "set sslrootcert in the URL to the file with the CA certificate of this server",
            ),
        },
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            let names = match reason {
                CertificateError::NotValidForNameContext { presented, .. } if !presented.is_empty() => {
                    presented.join(", ")
                }
                _ => "another name".to_owned(),
            };
            LoginFailure::lasting(
                format!("the certificate of {endpoint} is not for this host name but for {names}"),
                "write the host as in the certificate, or set sslmode=verify-ca if the authority is your own",
            )
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => LoginFailure::lasting(
            format!("the certificate of {endpoint} has expired"),
            "renew it on the server, or correct the clock of this machine",
        ),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => LoginFailure::lasting(
            format!("the certificate of {endpoint} is not valid yet"),
            "correct the clock of this machine or of the server",
        ),
        other if format!("{other:?}").contains("CaUsedAsEndEntity") => LoginFailure::lasting(
            format!(
                "{endpoint} uses the certificate of an authority as its own, which is not accepted when it is verified"
            ),
            "let that authority issue a certificate for the server, or set sslmode=require and leave sslrootcert out",
        ),
        other => LoginFailure::lasting(
            format!("the certificate of {endpoint} is not accepted: {other}"),
            "replace the certificate of the server, or set sslrootcert to its authority",
        ),
    }
}
