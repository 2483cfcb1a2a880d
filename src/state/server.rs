//! The server of the state: which one it is, whether it can be written to, and which of its functions are denied.
//!
//! Owns: the statements about the server, and when two identities are the same server. Must not know: what follows from a
//! change.
//!
//! A managed server may not let the role see its identifier. What cannot be read is `?`, and matches anything: a privilege
//! that comes or goes is not another server.

use sqlx::{Connection as _, PgConnection, Row as _};

use super::database::State;
use super::error::StateError;
use super::read_only::ensure_writable;
use crate::finding::{Finding, Findings};
use crate::postgres::{self, DENIED_FUNCTIONS, ServerFunction};

const UNKNOWN: &str = "?";

const IDENTIFIER: &str = "SELECT system_identifier::text FROM pg_catalog.pg_control_system()";
/// A standby has no current WAL position. imsync only reads there.
const TIMELINE: &str = "SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN 'standby' \
     ELSE left(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 8) END";
const DATABASE: &str = "SELECT oid::text FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()";

const LEASE: &str = "which the lease needs";
const IDENTITY: &str = "which identifies the server: without it imsync may not notice a restored or promoted server";

const FUNCTIONS: [ServerFunction; 7] = [
    function("pg_catalog.pg_try_advisory_lock(bigint)", LEASE, true),
    function("pg_catalog.pg_advisory_xact_lock(bigint)", LEASE, true),
    function("pg_catalog.hashtextextended(text,bigint)", LEASE, true),
    ServerFunction {
        signature: "pg_catalog.pg_lock_status()",
        view: Some("pg_catalog.pg_locks"),
        purpose: LEASE,
        needed: true,
    },
    function("pg_catalog.pg_control_system()", IDENTITY, false),
    function("pg_catalog.pg_current_wal_lsn()", IDENTITY, false),
    function("pg_catalog.pg_walfile_name(pg_lsn)", IDENTITY, false),
];

const fn function(signature: &'static str, purpose: &'static str, needed: bool) -> ServerFunction {
    ServerFunction { signature, view: None, purpose, needed }
}

impl State {
    /// Identifies the server: system identifier and timeline. A restored backup or a promoted standby shows another value.
    /// Where the identifier cannot be read, the OID of the database is added.
    pub async fn server_identity(&self) -> Result<String, StateError> {
        let identifier = self.readable(IDENTIFIER).await?;
        let timeline = self.readable(TIMELINE).await?;
        let timeline = timeline.as_deref().unwrap_or(UNKNOWN);
        // With an identifier, the text is the one that previous releases stored.
        Ok(match identifier {
            Some(identifier) => format!("{identifier}:{timeline}"),
            None => format!("{UNKNOWN}:{timeline}:{}", self.readable(DATABASE).await?.as_deref().unwrap_or(UNKNOWN)),
        })
    }

    /// One text; `None` where the server refuses it. A managed server answers with a privilege, a missing function, or a
    /// feature that it does not support.
    async fn readable(&self, sql: &'static str) -> Result<Option<String>, StateError> {
        match sqlx::query_scalar(sql).fetch_one(self.pool()).await {
            Ok(text) => Ok(text),
            Err(sqlx::Error::Database(refused))
                if refused.code().is_some_and(|code| ["42", "0A", "55", "22"].iter().any(|c| code.starts_with(c))) =>
            {
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Fails when the role cannot write to this server: a standby, or a default that makes transactions read-only. Uses a
    /// connection without the settings of imsync.
    ///
    /// # Errors
    /// [`StateError::Unmet`] with the remedy.
    pub async fn ensure_writable(&self) -> Result<(), StateError> {
        let mut connection: PgConnection = self.plain_connection().await?;
        let writable = ensure_writable(&mut connection).await;
        let _ = tokio::time::timeout(postgres::CONNECT_TIMEOUT, connection.close()).await;
        writable
    }

    /// The functions that the role may not call, each with its GRANT.
    pub async fn denied_functions(&self) -> Result<Findings, StateError> {
        let (signatures, views) = ServerFunction::parameters(&FUNCTIONS);
        let rows = sqlx::query(DENIED_FUNCTIONS).bind(signatures).bind(views).fetch_all(self.pool()).await?;
        let mut findings = Findings::default();
        for row in rows {
            let (signature, exists, role): (String, bool, String) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            let Some(denied) = ServerFunction::denied(&FUNCTIONS, &signature, exists, &role) else { continue };
            let finding = if denied.needed {
                Finding::error("state.functions", denied.message)
            } else {
                Finding::warning("state.functions", denied.message)
            };
            findings.push(match denied.grant {
                Some(grant) => finding.sql(grant),
                None => finding.remedy("keep the state in another database ([state] url)"),
            });
        }
        Ok(findings)
    }
}

/// Whether both identities may be of one server: no part that both know differs.
pub fn may_be_same_server(one: &str, other: &str) -> bool {
    one.split(':').zip(other.split(':')).all(|(one, other)| one == other || one == UNKNOWN || other == UNKNOWN)
}

/// Whether this identity has the identifier of the server.
pub fn is_identified(identity: &str) -> bool {
    !identity.starts_with(UNKNOWN) && !identity.ends_with(UNKNOWN)
}

#[cfg(test)]
mod tests {
    use super::may_be_same_server;

    #[test]
    fn a_privilege_that_comes_or_goes_is_no_other_server() {
        for (one, other, same) in [
            ("7:00000001", "7:00000001", true),
            ("7:00000001", "7:00000002", false),
            ("7:00000001", "8:00000001", false),
            ("?:00000001:16384", "7:00000001", true),
            ("7:00000001", "?:00000001:16384", true),
            ("?:00000001:16384", "?:00000001:16385", false),
            ("?:00000001:16384", "?:00000002:16384", false),
            ("?:?:16384", "7:00000009", true),
        ] {
            assert_eq!(may_be_same_server(one, other), same, "{one} {other}");
        }
    }
}
