//! Whether row-level security hides rows of the relation, also through views.
//!
//! Owns: which role each table below a view is read as, and whether policies apply to it. Must not know: what imsync says
//! about it.
//!
//! A view reads its tables as its owner; one with `security_invoker` (since PostgreSQL 15) reads them as the role of the
//! session, also when another view reads from it. Policies do not apply to superusers, to roles with BYPASSRLS, and to the
//! owner of the table unless it has FORCE ROW LEVEL SECURITY. Which policies there are does not matter: what they hide can
//! change at any moment.

use sqlx::Row;

use super::error::SourceError;
use super::session::SourceSession;
use crate::quote::shown;

/// The first table of which policies may hide rows, with the role that they apply to, and whether that is the role of the
/// session.
const HIDDEN_ROWS: &str = "
WITH RECURSIVE part (oid, role) AS (
  SELECT $1::int8::oid, (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = current_user)
  UNION
  SELECT d.refobjid,
         CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_options_to_table(v.reloptions) AS o
                           WHERE o.option_name = 'security_invoker' AND o.option_value::bool)
              THEN (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = current_user) ELSE v.relowner END
  FROM part JOIN pg_catalog.pg_class AS v ON v.oid = part.oid AND v.relkind = 'v'
  JOIN pg_catalog.pg_rewrite AS r ON r.ev_class = v.oid AND r.ev_type = '1'
  JOIN pg_catalog.pg_depend AS d ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.objid = r.oid
    AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid <> v.oid)
SELECT n.nspname::text, c.relname::text, c.oid = $1::int8::oid, a.rolname::text, a.rolname = current_user
FROM part JOIN pg_catalog.pg_class AS c USING (oid) JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_roles AS a ON a.oid = part.role
WHERE c.relrowsecurity AND NOT a.rolsuper AND NOT a.rolbypassrls
  AND (c.relforcerowsecurity OR NOT pg_catalog.pg_has_role(a.oid, c.relowner, 'USAGE'))
ORDER BY 1, 2, 4 LIMIT 1";

/// A table of which row-level security may hide rows.
#[derive(Clone, Debug)]
pub(super) struct HiddenRows {
    /// `schema.table`, quoted where needed.
    pub(super) table: String,
    /// It is the configured relation, and not one below it.
    pub(super) is_configured: bool,
    /// The role that the table is read as.
    pub(super) role: String,
    /// It is the role of the session, and not the owner of a view.
    pub(super) is_session_role: bool,
}

/// The table with this oid, or one that it reads from, of which rows may be hidden.
pub(super) async fn find_hidden_rows(session: &mut SourceSession, oid: i64) -> Result<Option<HiddenRows>, SourceError> {
    let Some(row) = session.rows(sqlx::query(HIDDEN_ROWS).bind(oid)).await?.pop() else { return Ok(None) };
    let (schema, table): (String, String) = (row.try_get(0)?, row.try_get(1)?);
    Ok(Some(HiddenRows {
        table: format!("{}.{}", shown(&schema), shown(&table)),
        is_configured: row.try_get(2)?,
        role: row.try_get(3)?,
        is_session_role: row.try_get(4)?,
    }))
}
