//! What the server of the source allows: functions that the role may call, and an engine whose locks imsync can see.
//!
//! Owns: the functions that reading needs, and the engines over which a watermark is refused. Must not know: the table.

use sqlx::Row as _;

use super::error::SourceError;
use super::session::SourceSession;
use crate::finding::{Finding, Findings};
use crate::postgres::{DENIED_FUNCTIONS, ServerFunction};

const IDENTITY: &str = "which identifies the server: without it imsync may not notice a restored or promoted server";
const OPEN_TRANSACTIONS: &str = "which shows the open transactions: without it a change that commits late is missed";
const CLOCK: &str = "which the watermark is compared with";

/// Called by every connection.
const ALWAYS: [ServerFunction; 4] = [
    function("pg_catalog.pg_backend_pid()", "which shows whether a pooler switches sessions", true),
    function("pg_catalog.pg_control_system()", IDENTITY, false),
    function("pg_catalog.pg_current_wal_lsn()", IDENTITY, false),
    function("pg_catalog.pg_walfile_name(pg_lsn)", IDENTITY, false),
];

/// Called for a watermark.
const WATERMARK: [ServerFunction; 6] = [
    view("pg_catalog.pg_lock_status()", "pg_catalog.pg_locks"),
    view("pg_catalog.pg_stat_get_activity(integer)", "pg_catalog.pg_stat_activity"),
    view("pg_catalog.pg_prepared_xact()", "pg_catalog.pg_prepared_xacts"),
    function("pg_catalog.pg_postmaster_start_time()", CLOCK, true),
    function("pg_catalog.pg_is_in_recovery()", CLOCK, true),
    function("pg_catalog.pg_last_xact_replay_timestamp()", "which is the clock of a replica", false),
];

const fn function(signature: &'static str, purpose: &'static str, needed: bool) -> ServerFunction {
    ServerFunction { signature, view: None, purpose, needed }
}

const fn view(signature: &'static str, view: &'static str) -> ServerFunction {
    ServerFunction { signature, view: Some(view), purpose: OPEN_TRANSACTIONS, needed: true }
}

/// The version, whether Citus is installed, and whether this is Aurora Limitless.
const ENGINE: &str = "
SELECT pg_catalog.version(), EXISTS (SELECT FROM pg_catalog.pg_extension WHERE extname = 'citus'),
       pg_catalog.to_regclass('rds_aurora.limitless_subclusters') IS NOT NULL";
/// The coordinator of Citus is group 0.
const CITUS_WORKERS: &str = "SELECT EXISTS (SELECT FROM pg_catalog.pg_dist_node WHERE groupid <> 0)";

/// Examines the server. `watermark`: a watermark column is configured.
///
/// # Errors
/// When the connection is lost.
pub(super) async fn examine_server(session: &mut SourceSession, watermark: bool) -> Result<Findings, SourceError> {
    let mut functions = ALWAYS.to_vec();
    let mut findings = Findings::default();
    if watermark {
        functions.extend(WATERMARK);
        findings.extend(distributed_engine(session).await?.map(|engine| {
            Finding::error(
                "source.distributed",
                format!(
                    "source.watermark_column cannot be used: the source is {engine}, where pg_locks shows the transactions of one node only, and changes that commit late on another node would be missed"
                ),
            )
            .remedy("remove watermark_column; every pass then compares the whole table")
        }));
    }
    let (signatures, views) = ServerFunction::parameters(&functions);
    let query = sqlx::query(DENIED_FUNCTIONS).bind(signatures).bind(views);
    for row in session.rows(query).await? {
        let (signature, exists, role): (String, bool, String) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let Some(denied) = ServerFunction::denied(&functions, &signature, exists, &role) else { continue };
        let finding = if denied.needed {
            Finding::error("source.functions", denied.message)
        } else {
            Finding::warning("source.functions", denied.message)
        };
        findings.push(match denied.grant {
            Some(grant) => finding.sql(grant),
            None => finding.remedy("remove watermark_column; every pass then compares the whole table"),
        });
    }
    Ok(findings)
}

async fn distributed_engine(session: &mut SourceSession) -> Result<Option<&'static str>, SourceError> {
    let row = session.row(sqlx::query(ENGINE)).await?;
    let (version, citus, limitless): (String, bool, bool) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    if limitless {
        return Ok(Some("Aurora Limitless"));
    }
    if citus {
        // A role that may not read the list of workers cannot rule them out.
        let workers = session.rows(sqlx::query(CITUS_WORKERS)).await;
        if let Err(error @ SourceError::Unreachable(_)) = workers {
            return Err(error);
        }
        if workers.map_or(true, |rows| rows.first().is_none_or(|row| row.try_get(0).unwrap_or(true))) {
            return Ok(Some("Citus with worker nodes"));
        }
    }
    Ok(distributed_version(&version))
}

/// The engine whose `version()` this is, if it has several nodes.
fn distributed_version(version: &str) -> Option<&'static str> {
    let lower = version.to_lowercase();
    [
        ("-yb-", "YugabyteDB"),
        ("yugabyte", "YugabyteDB"),
        ("cockroach", "CockroachDB"),
        ("greenplum", "Greenplum"),
        ("cloudberry", "Cloudberry"),
        ("redshift", "Redshift"),
    ]
    .into_iter()
    .find_map(|(sign, engine)| lower.contains(sign).then_some(engine))
}

#[cfg(test)]
mod tests {
    use super::distributed_version;

    #[test]
    fn engines_of_several_nodes_are_known_by_their_version() {
        for (version, engine) in [
            ("PostgreSQL 15.2-YB-2.25.1.0-b0 on x86_64-pc-linux-gnu, compiled by clang version 17.0.6", "YugabyteDB"),
            ("PostgreSQL 11.2-YB-2.20.0.0-b0 on aarch64, 64-bit", "YugabyteDB"),
            ("CockroachDB CCL v24.1.0 (x86_64-pc-linux-gnu, built 2024/05/15 21:28:29, go1.22.2)", "CockroachDB"),
            ("PostgreSQL 12.12 (Greenplum Database 7.1.0 build commit:e7c2b1f) on x86_64", "Greenplum"),
            ("PostgreSQL 14.4 (Apache Cloudberry 2.0.0 build 1) on x86_64-pc-linux-gnu", "Cloudberry"),
            ("PostgreSQL 8.0.2 on i686-pc-linux-gnu, compiled by GCC gcc (GCC) 3.4.2, Redshift 1.0.38698", "Redshift"),
        ] {
            assert_eq!(distributed_version(version), Some(engine), "{version}");
        }
        for version in [
            "PostgreSQL 15.18 (Debian 15.18-0+deb12u1) on x86_64-pc-linux-gnu, compiled by gcc (Debian 12.2.0) 12.2.0",
            "PostgreSQL 16.4 on aarch64-unknown-linux-gnu, compiled by gcc (GCC) 9.5.0, 64-bit",
            "PostgreSQL 17.0 - Percona Distribution on x86_64-pc-linux-gnu",
            "EnterpriseDB 16.4.0 on x86_64-pc-linux-gnu",
        ] {
            assert_eq!(distributed_version(version), None, "{version}");
        }
    }
}
