//! Why a server or a pooler refuses a login, by what a person has to do about it.
//!
//! Owns: the sentence and the remedy for each cause. Must not know: which database it is, what follows from the failure.
//!
//! Poolers send codes and texts of their own, so a text decides before a code does. Sources: the messages of PostgreSQL,
//! `PgBouncer`, Supavisor, RDS Proxy and Neon; PostgreSQL manual, appendix A. No row is involved in a login, so the
//! server's text is shown, without the password.

use secrecy::ExposeSecret as _;
use sqlx::error::DatabaseError;

use super::login_failure::{LoginFailure, Target};
use super::url::PgSettings;
use crate::quote::identifier;
use crate::sqlstate::{described, login_text};

/// The longest text of a server that is shown, in characters.
const MAX_TEXT: usize = 300;

/// The failure behind an error of a statement: the driver opened a connection for it, and the server refused that.
pub fn login_failure_of(refused: &dyn DatabaseError) -> Option<LoginFailure> {
    let code = refused.code().unwrap_or_default();
    // invalid_catalog_name, invalid_authorization_specification, invalid_password, too_many_connections
    let is_login = matches!(&*code, "3D000" | "28000" | "28P01" | "53300");
    (is_login && login_text(refused).is_some()).then(|| of_server(refused, None))
}

pub(super) fn of_server(refused: &dyn DatabaseError, target: Option<Target<'_>>) -> LoginFailure {
    let code = refused.code().unwrap_or_default();
    // Too many connections; a server that starts or stops.
    let may_be_secret = !["53", "57"].iter().any(|class| code.starts_with(class));
    let failure = sentence_of(refused, target);
    let remedy = target.map_or_else(|| failure.remedy.clone(), |target| with_names(&failure.remedy, target));
    LoginFailure { answered: true, refused: may_be_secret, remedy, ..failure }
}

/// A statement with the names of the role and the database.
fn with_names(remedy: &str, target: Target<'_>) -> String {
    let PgSettings { user, database, .. } = target.settings;
    let (role, database) = (identifier(user), identifier(database.as_ref().unwrap_or(user)));
    remedy
        .replace("ROLE …", &format!("ROLE {role}"))
        .replace("DATABASE …", &format!("DATABASE {database}"))
        .replace("TO …", &format!("TO {role}"))
}

/// One cause: texts of which one occurs in lower case, and the remedy. Each text decides, whatever the code is.
struct Cause {
    texts: &'static [&'static str],
    away: bool,
    meaning: &'static str,
    remedy: &'static str,
}

const NO_FREE_CONNECTION: &str = "the server or its pooler has no free connection";
const FREE_CONNECTIONS: &str = "imsync needs up to ten: close others, or raise the limit (max_connections, the CONNECTION LIMIT of the role or the database, max_client_conn or the pool size of a pooler)";
const WRONG_PASSWORD: &str = "the server rejects the login: wrong password or user";
const CORRECT_PASSWORD: &str =
    "correct user and password; a token that expires has to be renewed, and special characters are percent-encoded";
const NO_OPTIONS: &str = "leave `options` out of the URL (and PGOPTIONS out of the environment), or let the pooler ignore the parameter (ignore_startup_parameters of PgBouncer)";

const CAUSES: [Cause; 14] = [
    Cause {
        texts: &["unsupported startup parameter", "unrecognized startup parameter"],
        away: false,
        meaning: "the pooler does not accept a start-up parameter",
        remedy: NO_OPTIONS,
    },
    Cause {
        texts: &[
            "has been failing",
            "server_login_retry",
            "cannot connect to server",
            "server conn crashed",
            "server down",
        ],
        away: true,
        meaning: "the pooler cannot reach its server",
        remedy: "it is tried again; the log of the pooler says why",
    },
    Cause {
        texts: &[
            "max client",
            "max_client",
            "maxclients",
            "too many clients",
            "too many connections",
            "no more connections",
            "connection slots",
            "connection limit",
            "pool size",
            "pool_size",
            "pool timeout",
            "query_wait_timeout",
            "check out",
            "connection from proxy pool",
            "connections reached",
            "max connections",
        ],
        away: false,
        meaning: NO_FREE_CONNECTION,
        remedy: FREE_CONNECTIONS,
    },
    Cause {
        texts: &[
            "tenant or user not found",
            "tenant/user",
            "tenant not found",
            "no such user",
            "project not found",
            "unknown user",
        ],
        away: false,
        meaning: "the pooler does not know this project or user",
        remedy: "take user and host from the provider's console: the user of a pooler often carries the project, as in postgres.abcdef, and the host its region",
    },
    Cause {
        texts: &["no such database", "no database configured", "database not found"],
        away: false,
        meaning: "the pooler does not know the database",
        remedy: "correct the database name in the URL, or add the database to the pooler",
    },
    Cause {
        texts: &["endpoint id is not specified", "sni support"],
        away: false,
        meaning: "the provider needs the host name in the TLS handshake",
        remedy: "use the host name instead of an address, and leave hostaddr out",
    },
    Cause {
        texts: &["endpoint is disabled", "endpoint has been disabled", "project is paused", "suspended"],
        away: false,
        meaning: "the provider has switched the database off",
        remedy: "switch it on in the provider's console",
    },
    Cause {
        texts: &[
            "connection is insecure",
            "ssl required",
            "ssl connection is required",
            "ssl/tls required",
            "tls required",
            "requires ssl",
        ],
        away: false,
        meaning: "the server demands an encrypted connection",
        remedy: "set sslmode=require in the URL, or verify-full",
    },
    Cause {
        texts: &["no encryption", "ssl off"],
        away: false,
        meaning: "pg_hba.conf does not let this user in from this machine without encryption",
        remedy: "set sslmode=require in the URL, or add an entry to pg_hba.conf",
    },
    Cause {
        texts: &[
            "pg_hba.conf",
            "is not allowed to connect",
            "address not in tenant allow_list",
            "not in allow",
            "ip address is not allowed",
        ],
        away: false,
        meaning: "the server does not let this user in from this machine",
        remedy: "add the address of this machine to pg_hba.conf or to the provider's list of allowed addresses",
    },
    Cause {
        texts: &["peer authentication failed", "ident authentication failed"],
        away: false,
        meaning: "over the socket, the server only lets in the user of the operating system",
        remedy: "run imsync as that user, or connect with host=localhost and a password",
    },
    Cause {
        texts: &["certificate authentication failed", "requires a valid client certificate", "client certificate"],
        away: false,
        meaning: "the server demands a client certificate of this user",
        remedy: "set sslcert and sslkey in the URL",
    },
    Cause {
        texts: &["is not permitted to log in"],
        away: false,
        meaning: "the role may not log in",
        remedy: "run: ALTER ROLE … LOGIN",
    },
    Cause {
        texts: &[
            "password authentication failed",
            "authentication failed",
            "wrong password",
            "auth failed",
            "empty password",
            "no credentials for the role",
        ],
        away: false,
        meaning: WRONG_PASSWORD,
        remedy: CORRECT_PASSWORD,
    },
];

fn sentence_of(refused: &dyn DatabaseError, target: Option<Target<'_>>) -> LoginFailure {
    let code = refused.code().unwrap_or_default();
    // A trigger on the login words its error itself.
    let Some(text) = login_text(refused) else {
        return LoginFailure::lasting(
            format!("the login raises {}", described(&code)),
            "correct the trigger on the login in the database",
        );
    };
    let said = format!("\"{}\" (SQLSTATE {code})", shown(text, target));
    let lower = text.to_ascii_lowercase();
    if code.starts_with("57P") {
        return LoginFailure::away(
            format!("the server is starting up, shutting down or in recovery: {said}"),
            "it is tried again",
        );
    }
    // The pooler repeats what the server said to it, which tells more than that it waits before it asks again.
    if let Some(inner) = cached_error(&lower)
        && let Some(failure) = of_text(inner, &said, target)
    {
        return failure;
    }
    of_text(&lower, &said, target).unwrap_or_else(|| of_code(&code, &said, target))
}

/// The server's error in that of `PgBouncer`, which keeps it for `server_login_retry` seconds.
fn cached_error(lower: &str) -> Option<&str> {
    let (_, inner) = lower.split_once("cached error: ")?;
    Some(inner.trim_end().trim_end_matches("(server_login_retry)").trim_end())
}

/// What a text in lower case says, whatever the code is.
fn of_text(lower: &str, said: &str, target: Option<Target<'_>>) -> Option<LoginFailure> {
    if let Some(cause) = CAUSES.iter().find(|cause| occurs(cause, lower)) {
        if cause.meaning == WRONG_PASSWORD {
            return Some(wrong_password(said, target));
        }
        let sentence = format!("{}: {said}", cause.meaning);
        return Some(if cause.away {
            LoginFailure::away(sentence, cause.remedy)
        } else {
            LoginFailure::lasting(sentence, cause.remedy)
        });
    }
    let missing = lower.strip_suffix("\" does not exist")?;
    let code = match missing.split_once(" \"")?.0 {
        "database" => "3D000",
        "role" => "28000",
        _ => return None,
    };
    Some(of_code(code, said, target))
}

fn occurs(cause: &Cause, lower: &str) -> bool {
    cause.texts.iter().any(|text| lower.contains(text))
}

fn has_no_password(target: &Target<'_>) -> bool {
    target.settings.password.is_none() && !matches!(target.settings.password_of_file(target.endpoint), Ok(Some(_)))
}

fn wrong_password(said: &str, target: Option<Target<'_>>) -> LoginFailure {
    let Some(target) = target.filter(has_no_password) else {
        return LoginFailure::lasting(format!("{WRONG_PASSWORD}: {said}"), CORRECT_PASSWORD);
    };
    let ignored = target.settings.password_of_file(target.endpoint).err();
    LoginFailure::lasting(
        format!("the server asks for a password, and there is none: {said}"),
        ignored.unwrap_or_else(|| "add the password to the URL, PGPASSWORD or the password file".to_owned()),
    )
}

fn of_code(code: &str, said: &str, target: Option<Target<'_>>) -> LoginFailure {
    let has_options = target.is_some_and(|target| target.settings.options.is_some());
    match code {
        "28P01" => wrong_password(said, target),
        "3D000" => LoginFailure::lasting(
            format!("the database does not exist: {said}"),
            "correct the database name at the end of the URL, which by default is that of the user, or create it: CREATE DATABASE …",
        ),
        "28000" => LoginFailure::lasting(
            format!("the server does not let this user in: {said}"),
            "correct the user, or create it: CREATE ROLE … LOGIN",
        ),
        "42501" => LoginFailure::lasting(
            format!("the role lacks a privilege: {said}"),
            "run as the owner: GRANT CONNECT ON DATABASE … TO …",
        ),
        "55000" => LoginFailure::lasting(
            format!("the database takes no connections: {said}"),
            "choose another database, or run: ALTER DATABASE … ALLOW_CONNECTIONS true",
        ),
        "22023" | "42704" | "42601" | "55P02" if has_options => {
            LoginFailure::lasting(format!("the server does not accept `options`: {said}"), NO_OPTIONS)
        }
        "53300" => LoginFailure::lasting(format!("{NO_FREE_CONNECTION}: {said}"), FREE_CONNECTIONS),
        code if ["53", "57", "58"].iter().any(|class| code.starts_with(class)) => {
            LoginFailure::away(format!("the server cannot take a connection now: {said}"), "it is tried again")
        }
        _ => LoginFailure::lasting(
            format!("the server refuses the connection: {said}"),
            "correct the URL, or ask who runs the server or the pooler",
        ),
    }
}

/// A text of the server in one line, without the password.
fn shown(text: &str, target: Option<Target<'_>>) -> String {
    // The password is replaced before the text is cut, which could leave a part of it.
    let mut text = text.to_owned();
    if let Some(Target { settings, endpoint }) = target {
        let of_file = settings.password_of_file(endpoint).ok().flatten();
        for password in [&settings.password, &of_file].into_iter().flatten() {
            // Replacing an empty one would insert a sign after each character.
            if !password.expose_secret().is_empty() {
                text = text.replace(password.expose_secret(), "…");
            }
        }
    }
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_TEXT).collect()
}
