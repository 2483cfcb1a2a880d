//! Whether a server accepts writes from this role, and what to do when it does not.
//!
//! Owns: the findings about a standby and about `default_transaction_read_only`. Must not know: the tables.
//!
//! imsync does not override the default of a provider or an administrator: it may protect a disk that is full.

use sqlx::{PgConnection, Row as _};

use super::error::StateError;
use crate::finding::Finding;
use crate::quote::identifier;

/// For a session whose settings nobody has changed.
const READ_ONLY: &str = "
SELECT pg_catalog.pg_is_in_recovery(), setting = 'on', source, current_user::text, pg_catalog.current_database()::text
FROM pg_catalog.pg_settings WHERE name = 'default_transaction_read_only'";

/// Fails on a standby, and where transactions of the role are read-only by default.
pub(super) async fn ensure_writable(connection: &mut PgConnection) -> Result<(), StateError> {
    let row = sqlx::query(READ_ONLY).fetch_one(connection).await?;
    let (standby, read_only, source): (bool, bool, String) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    let (role, database): (String, String) = (row.try_get(3)?, row.try_get(4)?);
    if standby {
        let message = "[state] url leads to a standby or a reader endpoint, where the state cannot be written";
        let remedy = "set [state] url to the primary (the writer endpoint); source.url may stay on the replica";
        return Err(Finding::error("state.writable", message).remedy(remedy).into());
    }
    if !read_only {
        return Ok(());
    }
    let (role, database) = (identifier(&role), identifier(&database));
    let finding = Finding::error(
        "state.writable",
        format!(
            "the state cannot be written: default_transaction_read_only is on for role {role} (set by: {source}); a provider also sets it when the disk is full"
        ),
    );
    Err(match source.as_str() {
        "user" => finding.sql(format!("ALTER ROLE {role} RESET default_transaction_read_only;")),
        "database" => finding.sql(format!("ALTER DATABASE {database} RESET default_transaction_read_only;")),
        "database user" => {
            finding.sql(format!("ALTER ROLE {role} IN DATABASE {database} RESET default_transaction_read_only;"))
        }
        "client" => finding.remedy("remove default_transaction_read_only from the options of [state] url"),
        _ => finding.remedy("switch it off in the settings of the server, or keep the state elsewhere ([state] url)"),
    }
    .into())
}
