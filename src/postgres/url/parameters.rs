//! Every connection parameter of libpq, and what imsync does with it.
//!
//! Owns: the names, the environment variables that give their defaults, and the reasons. Must not know: how a connection
//! is opened.
//!
//! Source: PostgreSQL 18 manual, 34.1.2 (parameter key words) and 34.15 (environment variables).

use crate::quote::alternatives;

/// What imsync does with a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Treatment {
    /// As libpq.
    Honoured,
    /// Any value is accepted and has no effect.
    Ignored,
    /// These values are accepted, because they describe what the connection is like in any case.
    Holds(&'static [&'static str]),
    /// Any value is refused; the text says why, or what to do instead.
    Refused(&'static str),
}

use Treatment::{Holds, Honoured, Ignored, Refused};

/// One parameter of libpq.
#[derive(Debug)]
pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) variable: Option<&'static str>,
    pub(super) treatment: Treatment,
}

const fn of(name: &'static str, variable: &'static str, treatment: Treatment) -> Parameter {
    Parameter { name, variable: if variable.is_empty() { None } else { Some(variable) }, treatment }
}

const NO_REQUIREMENT: &str = "imsync cannot guarantee it";
const NO_SERVICE: &str = "write the settings of the service into the URL";
const NO_REVOCATION: &str = "certificates are not checked for revocation";
const NO_OAUTH: &str = "imsync logs in with a password or a client certificate";
const NO_PASSPHRASE: &str = "use a key without a passphrase, in a file that only imsync may read";

pub(super) const PARAMETERS: [Parameter; 56] = [
    of("host", "PGHOST", Honoured),
    of("hostaddr", "PGHOSTADDR", Honoured),
    of("port", "PGPORT", Honoured),
    of("dbname", "PGDATABASE", Honoured),
    of("user", "PGUSER", Honoured),
    of("password", "PGPASSWORD", Honoured),
    of("passfile", "PGPASSFILE", Honoured),
    of("require_auth", "PGREQUIREAUTH", Refused(NO_REQUIREMENT)),
    // The driver never binds the channel. A provider's string must work nevertheless, so `check` warns.
    of("channel_binding", "PGCHANNELBINDING", Honoured),
    of("connect_timeout", "PGCONNECT_TIMEOUT", Honoured),
    // Sessions always use UTF8.
    of("client_encoding", "PGCLIENTENCODING", Ignored),
    of("options", "PGOPTIONS", Honoured),
    // Sessions are named after the sync, so that they can be counted and found.
    of("application_name", "PGAPPNAME", Ignored),
    of("fallback_application_name", "", Ignored),
    // A server that does not answer is asked on another connection, which is quicker than the timers of TCP.
    of("keepalives", "", Ignored),
    of("keepalives_idle", "", Ignored),
    of("keepalives_interval", "", Ignored),
    of("keepalives_count", "", Ignored),
    of("tcp_user_timeout", "", Ignored),
    of("replication", "", Holds(&["false", "off", "no", "0"])),
    // GSSAPI is never used, neither for encryption nor for the login.
    of("gssencmode", "PGGSSENCMODE", Holds(&["disable", "prefer"])),
    of("krbsrvname", "PGKRBSRVNAME", Ignored),
    of("gsslib", "PGGSSLIB", Ignored),
    of("gssdelegation", "PGGSSDELEGATION", Ignored),
    of("sslmode", "PGSSLMODE", Honoured),
    of("requiressl", "PGREQUIRESSL", Honoured),
    // A server that takes a direct negotiation takes the usual one too, with the same encryption.
    of("sslnegotiation", "PGSSLNEGOTIATION", Honoured),
    // Never compressed, as by every current server.
    of("sslcompression", "PGSSLCOMPRESSION", Ignored),
    of("sslcert", "PGSSLCERT", Honoured),
    of("sslkey", "PGSSLKEY", Honoured),
    of("sslkeylogfile", "", Refused("the keys of a connection are not written to a file")),
    of("sslpassword", "", Refused(NO_PASSPHRASE)),
    of("sslcertmode", "PGSSLCERTMODE", Holds(&["allow"])),
    of("sslrootcert", "PGSSLROOTCERT", Honoured),
    of("sslcrl", "PGSSLCRL", Refused(NO_REVOCATION)),
    of("sslcrldir", "PGSSLCRLDIR", Refused(NO_REVOCATION)),
    of("sslsni", "PGSSLSNI", Holds(&["1"])),
    of("requirepeer", "PGREQUIREPEER", Refused(NO_REQUIREMENT)),
    of("ssl_min_protocol_version", "PGSSLMINPROTOCOLVERSION", Holds(&["TLSv1", "TLSv1.1", "TLSv1.2"])),
    of("ssl_max_protocol_version", "PGSSLMAXPROTOCOLVERSION", Holds(&["TLSv1.3"])),
    // The driver speaks version 3.0.
    of("min_protocol_version", "PGMINPROTOCOLVERSION", Holds(&["3.0"])),
    of("max_protocol_version", "PGMAXPROTOCOLVERSION", Holds(&["3.0", "3.2", "latest"])),
    of("scram_client_key", "", Refused("give the password instead")),
    of("scram_server_key", "", Refused("give the password instead")),
    of("service", "PGSERVICE", Refused(NO_SERVICE)),
    of("servicefile", "PGSERVICEFILE", Ignored),
    of("target_session_attrs", "PGTARGETSESSIONATTRS", Honoured),
    of("load_balance_hosts", "PGLOADBALANCEHOSTS", Honoured),
    of("oauth_issuer", "", Refused(NO_OAUTH)),
    of("oauth_client_id", "", Refused(NO_OAUTH)),
    of("oauth_client_secret", "", Refused(NO_OAUTH)),
    of("oauth_scope", "", Refused(NO_OAUTH)),
    // Spellings of the driver, which earlier versions accepted.
    of("ssl-mode", "", Honoured),
    of("ssl-root-cert", "", Honoured),
    of("ssl-cert", "", Honoured),
    of("ssl-key", "", Honoured),
];

/// The name that is probably meant by a name that libpq does not know.
pub(super) fn similar(name: &str) -> Option<&'static str> {
    let plain = |name: &str| name.replace(['_', '-'], "").to_lowercase();
    let wanted = plain(name);
    let distance = |known: &str| strsim::osa_distance(&wanted, &plain(known));
    let known = PARAMETERS.iter().map(Parameter::canonical).filter(|known| distance(known) <= known.len() / 5);
    known.min_by_key(|known| distance(known))
}

/// The parameter of this name.
pub(super) fn find(name: &str) -> Option<&'static Parameter> {
    PARAMETERS.iter().find(|parameter| parameter.name == name)
}

impl Parameter {
    /// The name in libpq.
    pub(super) fn canonical(&self) -> &'static str {
        match self.name {
            "ssl-mode" => "sslmode",
            "ssl-root-cert" => "sslrootcert",
            "ssl-cert" => "sslcert",
            "ssl-key" => "sslkey",
            name => name,
        }
    }

    /// Why this value is not accepted. `shown`: how the parameter was named, which may be a variable. The value is never
    /// shown.
    pub(super) fn refusal(&self, shown: &str, value: &str) -> Option<String> {
        let leave_out = if shown == self.name { "leave it out" } else { "unset the variable" };
        match self.treatment {
            _ if value.is_empty() => None,
            Honoured | Ignored => None,
            Holds(values) if values.iter().any(|known| known.eq_ignore_ascii_case(value)) => None,
            Holds(values) => Some(format!(
                "another value of {shown} than {} is not supported by imsync, {leave_out}",
                alternatives(values)
            )),
            Refused(why) => Some(format!("{shown} is not supported by imsync, {leave_out} ({why})")),
        }
    }
}
