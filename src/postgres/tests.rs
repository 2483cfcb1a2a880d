//! Tests of failures that a server of this machine cannot cause, and of variables beside the URL.
//!
//! Owns: the errors of the operating system, and the variables. Must not know: servers.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io;

use super::login_failure::{LoginFailure, Target};
use super::network_failure::of_network;
use super::{PgUrl, UrlFile};
use crate::secret_file::SecretFile;

fn parse(url: &str, variables: &[(&str, &str)]) -> Result<PgUrl, String> {
    PgUrl::parse(url, &variables.iter().copied().collect())
}

async fn failure(url: &str, error: io::Error) -> LoginFailure {
    let url = parse(url, &[]).unwrap();
    let settings = url.settings();
    of_network(&sqlx::Error::Io(error), Target { settings, endpoint: &settings.endpoints[0] }).await
}

#[tokio::test]
async fn a_machine_without_ipv6_is_told_what_helps() {
    let no_family = if cfg!(target_os = "linux") { 97 } else { 47 };
    let kinds = [io::ErrorKind::HostUnreachable, io::ErrorKind::NetworkUnreachable, io::ErrorKind::AddrNotAvailable];
    for error in kinds.map(io::Error::from).into_iter().chain([io::Error::from_raw_os_error(no_family)]) {
        let text = error.to_string();
        let failure = failure("postgres://u@[2001:db8::1]/d", error).await;
        assert!(!failure.away && failure.to_string().contains("IPv4 address of the provider"), "{text}: {failure}");
    }
    let failure = failure("postgres://u@192.0.2.1/d", io::ErrorKind::HostUnreachable.into()).await;
    assert!(failure.away, "another route may come back: {failure}");
}

#[tokio::test]
async fn a_socket_with_a_long_path_is_no_server_that_is_away() {
    let failure = failure("postgres://u@%2Frun%2Fpg/d", io::ErrorKind::InvalidInput.into()).await;
    assert!(!failure.away && failure.to_string().contains("shorter path"), "{failure}");
}

#[test]
fn a_wrong_variable_is_named_by_its_name() {
    for (variable, value, why) in [
        ("PGSSLMODE", "required", "PGSSLMODE must be disable,"),
        ("PGPORT", "abc", "PGPORT must be a number from 1 to 65535"),
        ("PGHOSTADDR", "db", "PGHOSTADDR must be an IP address"),
        ("PGCONNECT_TIMEOUT", "5s", "PGCONNECT_TIMEOUT must be a number of seconds"),
        ("PGTARGETSESSIONATTRS", "x", "PGTARGETSESSIONATTRS must be any,"),
        ("PGSSLROOTCERT", "/no", "PGSSLROOTCERT: cannot read /no"),
        ("PGSSLCERT", "/no", "PGSSLCERT: cannot read /no"),
    ] {
        let error =
            parse("postgres://u@h/d", &[(variable, value)]).or_else(|_| parse("postgres://u@/d", &[(variable, value)]));
        let error = error.unwrap_err();
        assert!(error.starts_with(why), "{variable}: {error}");
    }
}

/// The driver reads both variables itself, and fails every TLS handshake when only one of them is set.
#[test]
fn a_key_without_a_certificate_is_refused() {
    for (url, variable, value) in [
        ("postgres://u@h/d", "PGSSLKEY", "/no"),
        ("postgres://u@h/d", "PGSSLKEY", ""),
        ("postgres://u@h/d?sslcert=", "PGSSLCERT", "/no"),
        ("postgres://u@h/d?sslmode=require", "PGSSLCERT", ""),
    ] {
        let error = parse(url, &[(variable, value)]).unwrap_err();
        assert!(error.starts_with(variable) && error.contains("unset the variable"), "{error}");
    }
    for url in ["postgres://u@h/d?sslmode=disable", "postgres://u@%2Frun%2Fpg/d"] {
        parse(url, &[("PGSSLKEY", "/no")]).unwrap();
    }
}

#[test]
fn a_mode_that_trusts_every_public_authority_is_warned_about() {
    let warns = |parameters: &str| {
        let warnings = parse(&format!("postgres://u:p@h/d?{parameters}"), &[]).unwrap().warnings();
        warnings.iter().any(|warning| warning.contains("any host name") && warning.contains("sslmode=verify-full"))
    };
    assert!(warns("sslmode=verify-ca"));
    assert!(!warns("sslmode=verify-full") && !warns("sslmode=require"));
}

/// A sleep after an error ends for a new content, and not each second for the same one.
#[test]
fn a_content_is_new_until_it_was_tried() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("url");
    std::fs::write(&path, "postgres://u:old@h/d").unwrap();
    let url = parse("postgres://u:old@h/d", &[]).unwrap();
    let file = UrlFile::new(SecretFile::new("source.url_file", path.clone()), url);
    assert!(!file.has_untried());
    for content in ["postgres://u:new@h/d", "postgres:/"] {
        std::fs::write(&path, content).unwrap();
        assert!(file.has_untried(), "{content}");
        let _ = file.read_new(false);
        assert!(!file.has_untried(), "{content}");
    }
}
