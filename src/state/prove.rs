//! Proves a configuration against the state database before a pass runs with it. Reads only.
//!
//! Owns: schema version, binding and privileges as a configuration needs them. Must not know: who asks.

use super::binding::Binding;
use super::database::State;
use super::error::StateError;
use super::migrate::LATEST_VERSION;
use crate::finding::Finding;
use crate::quote::shown;

/// The tables that a pass reads and writes, with what it does besides SELECT and INSERT.
const TABLES: [(&str, &[&str]); 10] = [
    ("sync", &["UPDATE"]),
    ("account", &["UPDATE", "DELETE"]),
    ("intent", &["UPDATE", "DELETE"]),
    ("rejection", &["UPDATE", "DELETE"]),
    ("removal", &["UPDATE", "DELETE"]),
    ("pass", &["DELETE"]),
    ("owed_removal", &["UPDATE", "DELETE"]),
    ("deferred_account", &["DELETE"]),
    ("account_count", &["UPDATE"]),
    ("overwritten_value", &["UPDATE", "DELETE"]),
];

impl State {
    /// Checks that a process with this configuration could take the lease and write, without doing so.
    ///
    /// # Errors
    /// [`StateError::Unsuitable`] when the schema, the binding or the privileges do not fit.
    pub async fn prove(&self, may_migrate: bool, binding: &Binding) -> Result<(), StateError> {
        let version = self.supported_schema_version().await?;
        if version != Some(LATEST_VERSION) {
            // The next connection upgrades the tables if it may.
            return if may_migrate { Ok(()) } else { self.ensure_schema(false).await };
        }
        if let Some(row) = self.sync_row().await? {
            row.binding.check(self.name(), binding)?;
        }
        self.refuse_missing_privileges().await
    }

    async fn refuse_missing_privileges(&self) -> Result<(), StateError> {
        let needed = TABLES.iter().flat_map(|(name, more)| {
            ["SELECT", "INSERT"].iter().chain(*more).map(|privilege| ((*name).to_owned(), (*privilege).to_owned()))
        });
        let (tables, privileges): (Vec<String>, Vec<String>) = needed.unzip();
        let denied: Vec<String> = sqlx::query_scalar(
            "SELECT DISTINCT name FROM unnest($1::text[], $2::text[]) AS n (name, privilege) \
             WHERE to_regclass(name) IS NOT NULL AND NOT has_table_privilege(name, privilege) ORDER BY name",
        )
        .bind(tables)
        .bind(privileges)
        .fetch_all(self.pool())
        .await?;
        if denied.is_empty() {
            return Ok(());
        }
        let denied: Vec<String> = denied.iter().map(|name| shown(name)).collect();
        let message = format!(
            "the role of [state] url may not read and write {} in schema {}",
            denied.join(", "),
            shown(self.schema())
        );
        let remedy = "grant the privileges that docs/operating.md lists, or use the role that owns the tables";
        Err(Finding::error("state.privileges", message).remedy(remedy).into())
    }
}
