//! Functions and views of the server that imsync calls, and which of them a role is denied.
//!
//! Owns: the question, and the sentence with the GRANT. Must not know: what happens without a function.
//!
//! A hardened or managed server revokes functions that everybody may call on a server as it is installed.

use crate::quote::identifier;

/// A function that imsync calls, or that a view calls for it: a view runs its functions with the privileges of the reader.
#[derive(Clone, Copy, Debug)]
pub struct ServerFunction {
    /// With its argument types, as `GRANT` takes it.
    pub signature: &'static str,
    /// The view that calls it.
    pub view: Option<&'static str>,
    /// What imsync needs it for, as a clause.
    pub purpose: &'static str,
    /// Without it imsync does not work.
    pub needed: bool,
}

/// For signatures `$1` and their views `$2`: those that are missing or denied, whether the function exists, and the role.
pub const DENIED_FUNCTIONS: &str = "
SELECT f.signature, pg_catalog.to_regprocedure(f.signature) IS NOT NULL, current_user::text
FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[])) AS f (signature, view)
WHERE pg_catalog.to_regprocedure(f.signature) IS NULL
   OR NOT pg_catalog.has_function_privilege(pg_catalog.to_regprocedure(f.signature)::oid, 'EXECUTE')
   OR NOT pg_catalog.has_table_privilege(pg_catalog.to_regclass(f.view)::oid, 'SELECT')";

/// A function that cannot be called.
#[derive(Debug)]
pub struct DeniedFunction {
    /// Without it imsync does not work.
    pub needed: bool,
    /// What is missing, and what for.
    pub message: String,
    /// The GRANT; `None` when the server has no such function.
    pub grant: Option<String>,
}

impl ServerFunction {
    /// Both parameters of [`DENIED_FUNCTIONS`].
    pub fn parameters(functions: &[Self]) -> (Vec<&'static str>, Vec<Option<&'static str>>) {
        functions.iter().map(|function| (function.signature, function.view)).unzip()
    }

    /// Describes one row of [`DENIED_FUNCTIONS`].
    pub fn denied(functions: &[Self], signature: &str, exists: bool, role: &str) -> Option<DeniedFunction> {
        let function = functions.iter().find(|function| function.signature == signature)?;
        let name = function.view.unwrap_or(function.signature).trim_start_matches("pg_catalog.");
        let purpose = function.purpose;
        let role = identifier(role);
        Some(if exists {
            let mut grant = format!("GRANT EXECUTE ON FUNCTION {signature} TO {role};");
            if let Some(view) = function.view {
                grant = format!("GRANT SELECT ON {view} TO {role}; {grant}");
            }
            let message = format!("role {role} may not read {name}, {purpose}");
            DeniedFunction { needed: function.needed, message, grant: Some(grant) }
        } else {
            let message = format!("the server has no {name}, {purpose}");
            DeniedFunction { needed: function.needed, message, grant: None }
        })
    }
}
