//! Proves a configuration against the state database before a pass runs with it. Reads only.
//!
//! Owns: schema version, binding and privileges as a configuration needs them. Must not know: who asks.

use super::binding::Binding;
use super::database::State;
use super::error::StateError;
use super::migrate::LATEST_VERSION;
use crate::finding::Finding;
use crate::quote::{identifier, shown};

/// The tables that a pass reads and writes, with what it does besides SELECT and INSERT.
const TABLES: [(&str, &[&str]); 11] = [
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
    ("history", &["DELETE"]),
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
        self.missing_privileges(Some(LATEST_VERSION)).await?.map_or(Ok(()), |finding| Err(finding.into()))
    }

    /// What the role may not do although a process with this state needs it. `version`: that of the tables; others than the
    /// latest are to be created or upgraded.
    ///
    /// # Errors
    /// When the state cannot be asked.
    pub async fn missing_privileges(&self, version: Option<i32>) -> Result<Option<Finding>, StateError> {
        let Some(version) = version else { return self.denied_creation().await };
        if version != LATEST_VERSION {
            return self.denied_upgrade().await;
        }
        let needed = TABLES.iter().flat_map(|(name, more)| {
            ["SELECT", "INSERT"].iter().chain(*more).map(|privilege| ((*name).to_owned(), (*privilege).to_owned()))
        });
        let (tables, privileges): (Vec<String>, Vec<String>) = needed.unzip();
        let denied: Vec<(String, String, String)> = sqlx::query_as(
            "SELECT name, string_agg(privilege, ', ' ORDER BY privilege), current_user::text FROM unnest($1::text[], $2::text[]) AS n (name, privilege) \
             WHERE to_regclass(name) IS NOT NULL AND NOT has_table_privilege(name, privilege) GROUP BY name ORDER BY name",
        )
        .bind(tables)
        .bind(privileges)
        .fetch_all(self.pool())
        .await?;
        if denied.is_empty() {
            return Ok(None);
        }
        let names: Vec<String> = denied.iter().map(|(name, ..)| shown(name)).collect();
        let schema = self.schema();
        let message =
            format!("the role of [state] url may not read and write {} in schema {}", names.join(", "), shown(schema));
        let grants: Vec<String> = denied
            .iter()
            .map(|(name, privileges, role)| {
                let table = format!("{}.{}", identifier(schema), identifier(name));
                format!("GRANT {privileges} ON {table} TO {};", identifier(role))
            })
            .collect();
        Ok(Some(Finding::error("state.privileges", message).sql(grants.join(" "))))
    }

    /// The tables do not exist yet.
    async fn denied_creation(&self) -> Result<Option<Finding>, StateError> {
        let (exists, may, role, database): (bool, bool, String, String) = sqlx::query_as(
            "SELECT n.oid IS NOT NULL, CASE WHEN n.oid IS NULL THEN has_database_privilege(current_database(), 'CREATE') \
             ELSE has_schema_privilege(n.oid, 'CREATE, USAGE') END, current_user::text, current_database()::text \
             FROM (SELECT 1) AS one LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = $1",
        )
        .bind(self.schema())
        .fetch_one(self.pool())
        .await?;
        if may {
            return Ok(None);
        }
        let (schema, role) = (self.schema(), identifier(&role));
        let (object, grant) = if exists {
            (format!("tables in schema {}", shown(schema)), format!("USAGE, CREATE ON SCHEMA {}", identifier(schema)))
        } else {
            (format!("schema {}", shown(schema)), format!("CREATE ON DATABASE {}", identifier(&database)))
        };
        let message = format!("the role of [state] url may not create {object}");
        Ok(Some(Finding::error("state.privileges", message).sql(format!("GRANT {grant} TO {role};"))))
    }

    /// The tables are those of an earlier release.
    async fn denied_upgrade(&self) -> Result<Option<Finding>, StateError> {
        let owner: Option<String> = sqlx::query_scalar(
            "SELECT pg_get_userbyid(relowner)::text FROM pg_catalog.pg_class WHERE oid = to_regclass('sync') \
             AND NOT pg_has_role(relowner, 'USAGE')",
        )
        .fetch_optional(self.pool())
        .await?;
        Ok(owner.map(|owner| {
            let message = "the state tables are to be upgraded, which only the role that owns them can do";
            Finding::error("state.privileges", message).remedy(format!("run `imsync migrate` as {}", shown(&owner)))
        }))
    }
}
