//! SQLSTATE codes in words.
//!
//! Owns: a sentence of imsync for each code, and which texts of the server may be shown. Must not know: which statement
//! failed, what follows from the error.
//!
//! A server words an error with the values that caused it (`invalid input syntax for type integer: "…"`), and a function
//! that raises an exception chooses text and code. So an error of a statement is shown by its code alone. Source of the
//! codes: PostgreSQL manual, appendix A.

use sqlx::error::DatabaseError;
use sqlx::postgres::PgDatabaseError;

/// The code with its meaning: `22P02 (a text is not a valid value of its type)`.
pub(crate) fn described(code: &str) -> String {
    let is_code = code.len() == 5 && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if is_code { format!("{code} ({})", condition(code)) } else { "an error without a code".to_owned() }
}

/// The condition that a code stands for.
fn condition(code: &str) -> &'static str {
    match code {
        "21000" => "a subquery returns more than one row",
        "22001" => "a text is too long for its type",
        "22003" => "a number is out of range",
        "22007" | "22008" => "a date or a time is not valid",
        "22012" => "a division by zero",
        "22021" | "22P05" => "a text is not valid in its encoding",
        "22023" => "a parameter of a function is not valid",
        "22P02" => "a text is not a valid value of its type",
        "2201B" => "a regular expression is not valid",
        "23502" => "a value is NULL that must not be",
        "23514" => "a value violates a check constraint",
        "25006" => "a function writes in a read-only transaction",
        "25P03" | "57P05" => "the server closed an idle session",
        "40001" => "a conflict with another transaction or with recovery",
        "40P01" => "a deadlock",
        "42501" => "a privilege is missing",
        "42703" => "a column does not exist",
        "42883" => "a function or an operator does not exist",
        "42P01" => "a table does not exist",
        "3F000" => "a schema does not exist",
        "53100" => "the disk of the server is full",
        "53200" => "the server is out of memory",
        "53300" => "the server has no free connection",
        "54001" => "the stack of the server is too small for an expression",
        "55P03" => "another session holds a lock",
        "57014" => "the statement timed out or was canceled",
        "57P01" => "the server is shutting down, or closed the connection",
        "57P02" => "another process of the server crashed",
        "57P03" => "the server is starting up or shutting down",
        "P0001" => "a function raises an exception",
        _ => class_condition(code),
    }
}

/// The condition that the class of a code stands for.
fn class_condition(code: &str) -> &'static str {
    match code.get(..2).unwrap_or_default() {
        "08" => "the connection failed",
        "0A" => "a feature is not supported",
        "22" => "a value is not valid",
        "23" => "a constraint is violated",
        "28" => "the login is refused",
        "42" => "a name or the syntax of a statement is wrong",
        "53" => "the server lacks resources",
        "54" => "a limit of the server is exceeded",
        "55" => "an object is not in the required state",
        "57" => "an operator or the server intervened",
        "58" => "a system error of the server",
        "XX" => "an internal error, or damaged data",
        "2F" | "38" | "39" | "P0" => "an error in a function",
        _ => "an error of the server",
    }
}

/// The server's text of an error whose words are identifiers only: the check of a privilege. A function that raises the
/// same code words it itself.
pub(crate) fn privilege_text(error: &dyn DatabaseError) -> Option<&str> {
    (routine(error) == Some("aclcheck_error")).then(|| error.message())
}

/// The server's text of an error during the login, where no row is evaluated. A trigger on the login may raise others.
pub(crate) fn login_text(error: &dyn DatabaseError) -> Option<&str> {
    (routine(error) != Some("exec_stmt_raise")).then(|| error.message())
}

/// The C function of the server that reported the error.
fn routine(error: &dyn DatabaseError) -> Option<&str> {
    error.try_downcast_ref::<PgDatabaseError>()?.routine()
}

#[cfg(test)]
mod tests {
    use super::described;

    #[test]
    fn a_code_is_described_without_a_text_of_the_server() {
        assert_eq!(described("22P02"), "22P02 (a text is not a valid value of its type)");
        assert_eq!(described("22ABC"), "22ABC (a value is not valid)");
        assert_eq!(described("ZZ999"), "ZZ999 (an error of the server)");
        for nonsense in ["", "a\nb c", "22P02\n", "Straße"] {
            assert_eq!(described(nonsense), "an error without a code");
        }
    }
}
