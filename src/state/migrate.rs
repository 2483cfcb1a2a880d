//! Creates and upgrades the state tables.
//!
//! Owns: the list of migrations and their bookkeeping (the table `migration`). Must not know: what the tables are for.
//!
//! All pending migrations run in one transaction under an advisory lock. A failure therefore leaves the schema as it
//! was, and processes that start at the same time apply each migration once.

use std::fmt::Write as _;

use sqlx::PgConnection;

use super::database::{Access, SettingScope, State, apply_settings, run_script};
use super::error::StateError;
use crate::crash;
use crate::finding::Finding;
use crate::quote::identifier;

/// One step of the schema. Never edited after a release.
#[derive(Debug)]
pub struct Migration {
    /// Migrations are applied in ascending order; the largest applied number is the version of the schema.
    pub version: i32,
    /// The name of its file without number.
    pub name: &'static str,
    /// Statements without parameters. They name tables without a schema.
    pub sql: &'static str,
}

/// All migrations, oldest first.
pub const MIGRATIONS: &[Migration] = &[
    Migration { version: 1, name: "state", sql: include_str!("../../migrations/0001_state.sql") },
    Migration {
        version: 2,
        name: "owed_removals_and_counts",
        sql: include_str!("../../migrations/0002_owed_removals_and_counts.sql"),
    },
    Migration {
        version: 3,
        name: "full_pass_repairs",
        sql: include_str!("../../migrations/0003_full_pass_repairs.sql"),
    },
    Migration { version: 4, name: "room_for_updates", sql: include_str!("../../migrations/0004_room_for_updates.sql") },
    Migration { version: 5, name: "verification", sql: include_str!("../../migrations/0005_verification.sql") },
    Migration { version: 6, name: "history", sql: include_str!("../../migrations/0006_history.sql") },
    Migration { version: 7, name: "alerts", sql: include_str!("../../migrations/0007_alerts.sql") },
];

/// The version of the schema that this binary uses.
pub const LATEST_VERSION: i32 = latest(MIGRATIONS);

/// A schema with all of these tables is that of a state, whatever its name.
pub const TABLES_OF_EVERY_STATE: [&str; 4] = ["migration", "sync", "intent", "rejection"];

const BOOKKEEPING: &str = "\
CREATE TABLE IF NOT EXISTS migration (
    version int PRIMARY KEY,
    name text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE migration IS 'The migrations that were applied to this schema.';
COMMENT ON COLUMN migration.version IS 'The number of the migration. The largest one is the version of the schema.';
COMMENT ON COLUMN migration.name IS 'The name of its file in the directory migrations of imsync, without number.';
COMMENT ON COLUMN migration.applied_at IS 'When it was applied.';
";

impl State {
    /// The version of the state tables; `None` when they do not exist.
    pub async fn schema_version(&self) -> Result<Option<i32>, StateError> {
        let read = async {
            let mut connection = self.pool().acquire().await?;
            let version = applied_version(&mut connection).await;
            connection.return_to_pool().await;
            version
        };
        self.pool().while_running(read).await
    }

    /// The version of the state tables.
    ///
    /// # Errors
    ///
    /// [`StateError::Unsuitable`] when a newer binary has upgraded them.
    pub async fn supported_schema_version(&self) -> Result<Option<i32>, StateError> {
        self.migrator().supported_version().await
    }

    /// Applies the pending migrations. Returns the versions before and after.
    pub async fn migrate(&self) -> Result<(Option<i32>, i32), StateError> {
        self.pool().while_running(self.migrator().migrate()).await
    }

    /// The SQL of the pending migrations with their bookkeeping; empty when the schema is up to date.
    pub async fn pending_sql(&self) -> Result<String, StateError> {
        self.pool().while_running(self.migrator().pending_sql()).await
    }

    /// Creates the state tables in a transaction that is not committed, where there are none and `may_migrate` is true. Its
    /// settings end with it, so that a pooler that is found out meanwhile hands none of them to another client.
    pub async fn begin_creation(&self, may_migrate: bool) -> Result<Option<CreatedTables>, StateError> {
        if !may_migrate {
            return Ok(None);
        }
        let mut connection = self.spare_connection().await?;
        let created = async {
            run_script(&mut connection, "BEGIN ISOLATION LEVEL READ COMMITTED".to_owned()).await?;
            let search_path = identifier(self.schema());
            apply_settings(&mut connection, &search_path, Access::ReadWrite, SettingScope::Transaction).await?;
            if applied_version(&mut connection).await?.is_some() {
                run_script(&mut connection, "ROLLBACK".to_owned()).await?;
                return Ok(None);
            }
            Ok::<_, StateError>(Some(self.migrator().apply(&mut connection).await?))
        };
        if let Some(before) = self.pool().while_running(created).await? {
            return Ok(Some(CreatedTables { connection, before }));
        }
        self.keep_spare(connection);
        Ok(None)
    }

    /// Commits what [`State::begin_creation`] has created.
    pub async fn commit_creation(&self, created: CreatedTables) -> Result<(), StateError> {
        let CreatedTables { mut connection, before } = created;
        let commit = async { Ok::<_, StateError>(run_script(&mut connection, "COMMIT".to_owned()).await?) };
        self.pool().while_running(commit).await?;
        crash::point("migration: committed");
        self.keep_spare(connection);
        self.migrator().log(before);
        Ok(())
    }

    /// Applies the pending migrations if `may_migrate` (`state.migrate`), and refuses an outdated schema otherwise.
    pub async fn ensure_schema(&self, may_migrate: bool) -> Result<(), StateError> {
        self.pool().while_running(self.migrator().ensure_schema(may_migrate)).await
    }

    fn migrator(&self) -> Migrator<'_> {
        Migrator { state: self, migrations: MIGRATIONS }
    }
}

/// State tables that are not committed yet. If this is dropped, they never existed.
#[derive(Debug)]
pub struct CreatedTables {
    connection: PgConnection,
    /// The version before, if another process was faster.
    before: Option<i32>,
}

/// Brings a schema to the last version of a list of migrations. Tests use lists of their own.
struct Migrator<'a> {
    state: &'a State,
    migrations: &'a [Migration],
}

impl Migrator<'_> {
    fn latest(&self) -> i32 {
        latest(self.migrations)
    }

    fn pending(&self, applied: Option<i32>) -> impl Iterator<Item = &Migration> {
        self.migrations.iter().filter(move |migration| applied.is_none_or(|version| migration.version > version))
    }

    fn refuse_newer(&self, applied: Option<i32>) -> Result<(), StateError> {
        match applied {
            Some(version) if version > self.latest() => {
                let message = format!(
                    "schema \"{}\" is at version {version}, this binary supports version {} at most",
                    self.state.schema(),
                    self.latest()
                );
                let remedy = "install the newer imsync that upgraded it";
                Err(Finding::error("state.schema", message).remedy(remedy).into())
            }
            _ => Ok(()),
        }
    }

    async fn supported_version(&self) -> Result<Option<i32>, StateError> {
        let applied = self.state.schema_version().await?;
        self.refuse_newer(applied)?;
        Ok(applied)
    }

    async fn migrate(&self) -> Result<(Option<i32>, i32), StateError> {
        let mut transaction = self.state.pool().begin().await?;
        let before = self.apply(&mut transaction).await?;
        transaction.commit().await?;
        crash::point("migration: committed");
        Ok((before, self.latest()))
    }

    /// Applies the pending migrations in a transaction, and returns the version before.
    async fn apply(&self, transaction: &mut PgConnection) -> Result<Option<i32>, StateError> {
        let schema = self.state.schema();
        sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended('imsync migrate ' || $1, 0))")
            .bind(schema)
            .execute(&mut *transaction)
            .await?;
        if !schema_exists(transaction, schema).await? {
            run_script(transaction, format!("CREATE SCHEMA {};", identifier(schema))).await?;
        }
        let before = applied_version(transaction).await?;
        self.refuse_newer(before)?;
        if before.is_none() {
            run_script(transaction, BOOKKEEPING.to_owned()).await?;
        }
        for migration in self.pending(before) {
            run_script(transaction, migration.sql.to_owned()).await?;
            crash::point("migration: tables created, not committed");
            sqlx::query("INSERT INTO migration (version, name) VALUES ($1, $2)")
                .bind(migration.version)
                .bind(migration.name)
                .execute(&mut *transaction)
                .await?;
        }
        Ok(before)
    }

    async fn pending_sql(&self) -> Result<String, StateError> {
        let schema = self.state.schema();
        let mut connection = self.state.pool().acquire().await?;
        let exists = schema_exists(&mut connection, schema).await?;
        let before = applied_version(&mut connection).await?;
        self.refuse_newer(before)?;
        let mut script = String::new();
        if self.pending(before).next().is_none() {
            return Ok(script);
        }
        // Writing to a String cannot fail.
        let _ = writeln!(script, "BEGIN;");
        if !exists {
            let _ = writeln!(script, "CREATE SCHEMA {};", identifier(schema));
        }
        let _ = writeln!(script, "SET LOCAL search_path = {};", identifier(schema));
        if before.is_none() {
            script.push_str(BOOKKEEPING);
        }
        for Migration { version, name, sql } in self.pending(before) {
            let _ = writeln!(script, "\n-- migration {version}: {name}");
            script.push_str(sql);
            let _ = writeln!(script, "INSERT INTO migration (version, name) VALUES ({version}, '{name}');");
        }
        script.push_str("COMMIT;\n");
        Ok(script)
    }

    async fn ensure_schema(&self, may_migrate: bool) -> Result<(), StateError> {
        let applied = self.supported_version().await?;
        if applied == Some(self.latest()) {
            return Ok(());
        }
        if !may_migrate {
            let found = applied.map_or_else(|| "has no state tables".to_owned(), |v| format!("is at version {v}"));
            let message = format!(
                "schema \"{}\" {found}, this binary needs version {} and [state] migrate is false",
                self.state.schema(),
                self.latest()
            );
            let remedy = "run `imsync migrate` (`--print` shows the SQL)";
            return Err(Finding::error("state.schema", message).remedy(remedy).into());
        }
        let (before, _) = self.migrate().await?;
        self.log(before);
        Ok(())
    }

    /// Logs what was done, for a schema that was at this version.
    fn log(&self, before: Option<i32>) {
        let (schema, after) = (self.state.schema(), self.latest());
        match before {
            None => tracing::info!(%schema, version = after, "created the state tables"),
            Some(before) if before < after => {
                tracing::info!(%schema, from = before, to = after, "upgraded the state tables");
            }
            // Another process was faster.
            Some(_) => {}
        }
    }
}

const fn latest(migrations: &[Migration]) -> i32 {
    migrations[migrations.len() - 1].version
}

async fn schema_exists(connection: &mut PgConnection, schema: &str) -> Result<bool, StateError> {
    Ok(sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1)")
        .bind(schema)
        .fetch_one(connection)
        .await?)
}

async fn applied_version(connection: &mut PgConnection) -> Result<Option<i32>, StateError> {
    let exists: bool =
        sqlx::query_scalar("SELECT to_regclass('migration') IS NOT NULL").fetch_one(&mut *connection).await?;
    if !exists {
        return Ok(None);
    }
    Ok(sqlx::query_scalar("SELECT max(version) FROM migration").fetch_one(connection).await?)
}

#[cfg(test)]
mod tests;
