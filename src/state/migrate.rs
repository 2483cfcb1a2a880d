//! Creates and upgrades the state tables.
//!
//! Owns: the list of migrations and their bookkeeping (`migration`). Must not know: what the tables are for.

use std::fmt::Write as _;

use sqlx::{Acquire, PgConnection};

use super::{State, StateError, run_script};
use crate::crash;
use crate::quote::identifier;

/// One step of the schema. Applied once, in order, never edited after a release.
#[derive(Debug)]
pub struct Migration {
    pub version: i32,
    pub name: &'static str,
    pub sql: &'static str,
}

/// All migrations, oldest first.
pub const MIGRATIONS: &[Migration] = &[
    Migration { version: 1, name: "state", sql: include_str!("../../migrations/0001_state.sql") },
    Migration { version: 2, name: "late_write", sql: include_str!("../../migrations/0002_ghosts.sql") },
    Migration { version: 3, name: "removals", sql: include_str!("../../migrations/0003_removals.sql") },
];

/// The version that this binary takes.
pub const LATEST: i32 = MIGRATIONS[MIGRATIONS.len() - 1].version;

const BOOKKEEPING: &str = "\
CREATE TABLE IF NOT EXISTS migration (
    version int PRIMARY KEY,
    name text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE migration IS 'The migrations of imsync that this schema has.';
COMMENT ON COLUMN migration.version IS 'Its number; the largest is the schema version.';
COMMENT ON COLUMN migration.name IS 'Its name in the migrations folder of imsync.';
COMMENT ON COLUMN migration.applied_at IS 'When it was applied.';
";

impl State {
    /// The version of the state tables; `None` when there are none.
    pub async fn schema_version(&self) -> Result<Option<i32>, StateError> {
        let mut connection = self.pool.acquire().await?;
        version(&mut connection).await
    }

    /// The same; an error when the tables are those of a later binary.
    pub async fn version_that_we_take(&self) -> Result<Option<i32>, StateError> {
        let found = self.schema_version().await?;
        refuse_newer(found, &self.schema)?;
        Ok(found)
    }

    /// Applies what is missing, in one transaction. Returns the versions before and after.
    pub async fn migrate(&self) -> Result<(Option<i32>, i32), StateError> {
        let mut connection = self.pool.acquire().await?;
        let mut transaction = connection.begin().await?;
        sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended('imsync migrate ' || $1, 0))")
            .bind(&self.schema)
            .execute(&mut *transaction)
            .await?;
        if !schema_exists(&mut transaction, &self.schema).await? {
            run_script(&mut transaction, format!("CREATE SCHEMA {};", identifier(&self.schema))).await?;
        }
        let before = version(&mut transaction).await?;
        refuse_newer(before, &self.schema)?;
        if before.is_none() {
            run_script(&mut transaction, BOOKKEEPING.to_owned()).await?;
        }
        for migration in missing(before) {
            run_script(&mut transaction, migration.sql.to_owned()).await?;
            crash::point("migration: tables are made, not committed");
            sqlx::query("INSERT INTO migration (version, name) VALUES ($1, $2)")
                .bind(migration.version)
                .bind(migration.name)
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
        crash::point("migration: committed");
        Ok((before, LATEST))
    }

    /// The SQL that this database lacks, bookkeeping included; empty when it lacks nothing.
    pub async fn missing_sql(&self) -> Result<String, StateError> {
        let mut connection = self.pool.acquire().await?;
        let exists = schema_exists(&mut connection, &self.schema).await?;
        let before = version(&mut connection).await?;
        refuse_newer(before, &self.schema)?;
        let mut script = String::new();
        if missing(before).next().is_none() {
            return Ok(script);
        }
        // Writing to a String cannot fail.
        let _ = writeln!(script, "BEGIN;");
        if !exists {
            let _ = writeln!(script, "CREATE SCHEMA {};", identifier(&self.schema));
        }
        let _ = writeln!(script, "SET LOCAL search_path = {};", identifier(&self.schema));
        if before.is_none() {
            script.push_str(BOOKKEEPING);
        }
        for migration in missing(before) {
            let _ = writeln!(script, "\n-- migration {}: {}", migration.version, migration.name);
            script.push_str(migration.sql);
            let _ = writeln!(
                script,
                "INSERT INTO migration (version, name) VALUES ({}, '{}');",
                migration.version, migration.name
            );
        }
        script.push_str("COMMIT;\n");
        Ok(script)
    }

    /// Checks that the tables are those of this binary, and upgrades them where that is allowed.
    pub async fn ensure_schema(&self, may_migrate: bool) -> Result<(), StateError> {
        let found = self.schema_version().await?;
        refuse_newer(found, &self.schema)?;
        if found == Some(LATEST) {
            return Ok(());
        }
        if !may_migrate {
            let found = found.map_or_else(|| "has no state tables".to_owned(), |v| format!("is at version {v}"));
            return Err(StateError::Unsuitable(format!(
                "schema \"{}\" {found}, this binary needs version {LATEST} and [state] migrate is false: run `imsync migrate` (`--print` shows the SQL)",
                self.schema
            )));
        }
        let (before, after) = self.migrate().await?;
        match before {
            None => tracing::info!(schema = %self.schema, version = after, "created the state tables"),
            Some(before) if before < after => {
                tracing::info!(schema = %self.schema, from = before, to = after, "upgraded the state tables");
            }
            Some(_) => {}
        }
        Ok(())
    }
}

fn missing(before: Option<i32>) -> impl Iterator<Item = &'static Migration> {
    MIGRATIONS.iter().filter(move |migration| before.is_none_or(|version| migration.version > version))
}

fn refuse_newer(found: Option<i32>, schema: &str) -> Result<(), StateError> {
    match found {
        Some(version) if version > LATEST => Err(StateError::Unsuitable(format!(
            "schema \"{schema}\" is at version {version}, this binary takes version {LATEST} at most: install the newer imsync that upgraded it"
        ))),
        _ => Ok(()),
    }
}

async fn schema_exists(connection: &mut PgConnection, schema: &str) -> Result<bool, StateError> {
    Ok(sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1)")
        .bind(schema)
        .fetch_one(connection)
        .await?)
}

async fn version(connection: &mut PgConnection) -> Result<Option<i32>, StateError> {
    let there: bool =
        sqlx::query_scalar("SELECT to_regclass('migration') IS NOT NULL").fetch_one(&mut *connection).await?;
    if !there {
        return Ok(None);
    }
    Ok(sqlx::query_scalar("SELECT max(version) FROM migration").fetch_one(connection).await?)
}
