//! The files of certificates that a connection uses.
//!
//! Owns: their default places, and the check that they can be used. Must not know: the TLS handshake.
//!
//! The files are read when the configuration is checked, so that a wrong path is a problem of the configuration. The
//! driver reads them again for each connection.

use std::fs;
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::values::Values;

/// `sslrootcert`, `sslcert` and `sslkey`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::postgres) struct Certificates {
    /// `None`: the certificates of the system.
    pub(in crate::postgres) root: Option<PathBuf>,
    /// The certificate of the client and its key.
    pub(in crate::postgres) client: Option<(PathBuf, PathBuf)>,
    shown: Shown,
}

/// How root, certificate and key were given: by the parameter, or by its variable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Shown {
    root: &'static str,
    certificate: &'static str,
    key: &'static str,
}

impl Certificates {
    /// The files that are named, else those in `~/.postgresql` that exist.
    pub(super) fn find(values: &Values, home: Option<&Path>) -> Self {
        let default = |name: &str| home.map(|home| home.join(".postgresql").join(name));
        let given = |name: &str| values.get(name).map(PathBuf::from);
        let existing = |path: Option<PathBuf>| path.filter(|path| path.exists());
        let root = match values.get("sslrootcert") {
            Some("system") => None,
            Some(path) => Some(PathBuf::from(path)),
            None => existing(default("root.crt")),
        };
        let certificate = given("sslcert").or_else(|| existing(default("postgresql.crt")));
        let key = given("sslkey").or_else(|| default("postgresql.key"));
        let shown = Shown {
            root: values.shown("sslrootcert"),
            certificate: values.shown("sslcert"),
            key: values.shown("sslkey"),
        };
        Self { root, client: certificate.map(|certificate| (certificate, key.unwrap_or_default())), shown }
    }

    /// Whether each file can be read and contains what it should.
    pub(in crate::postgres) fn check(&self) -> Result<(), String> {
        if let Some(path) = &self.root {
            check_certificates(self.shown.root, path)?;
        }
        let Some((certificate, key)) = &self.client else { return Ok(()) };
        check_certificates(self.shown.certificate, certificate)?;
        if key.as_os_str().is_empty() {
            return Err(format!("{} needs sslkey, the file with its private key", self.shown.certificate));
        }
        match PrivateKeyDer::from_pem_slice(&read(self.shown.key, key)?) {
            Ok(_) => Ok(()),
            Err(_) => Err(format!(
                "{}: {} contains no private key in PEM format without a passphrase",
                self.shown.key,
                key.display()
            )),
        }
    }
}

fn check_certificates(parameter: &str, path: &Path) -> Result<(), String> {
    let data = read(parameter, path)?;
    let certificates: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(&data).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(()),
        _ => Err(format!("{parameter}: {} contains no certificate in PEM format", path.display())),
    }
}

fn read(parameter: &str, path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| {
        let reason = match error.kind() {
            std::io::ErrorKind::NotFound => "no such file".to_owned(),
            std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
            kind => kind.to_string(),
        };
        let hint = if path.is_relative() { "; a relative path starts at the working directory of imsync" } else { "" };
        format!("{parameter}: cannot read {}: {reason}{hint}", path.display())
    })
}
