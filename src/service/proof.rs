//! Proves a new configuration beside the running one: against the file, the databases and the app.
//!
//! Owns: what has to hold before a configuration may replace the running one, and the sentences when it does not. Must
//! not know: signals, passes, what happens to the running configuration.
//!
//! The proof writes nothing and uses connections of its own, so passes go on meanwhile. Every step has a time limit: a
//! source that does not answer is asked on another connection, the state likewise, and a call to IM has `im.timeout`.

use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};

use super::connect::{self, Connections};
use crate::config::{self, Config, PgUrl};
use crate::im::{CallError, Client, CodeClass};
use crate::pass::binding;
use crate::postgres;
use crate::quote::quoted_list;

/// How often the names of the app are read before IM counts as unreachable.
const NAME_ATTEMPTS: u32 = 3;
/// The pause between two attempts.
const NAME_PAUSE: Duration = Duration::from_secs(1);

/// Proves `new`, and returns the connections that were opened for that.
///
/// # Errors
/// Why `current` stays in force, in a sentence for the operator.
pub(super) async fn prove(current: &Config, new: Config) -> Result<Connections, String> {
    refuse_fixed_keys(current, &new)?;
    let new = Arc::new(new);
    // The secret key is needed in any case, also where no call has to be made.
    let client = connect::client(&new).map_err(|error| error.to_string())?;
    let mut connections = Connections::open(&new).await.map_err(|error| error.to_string())?;
    refuse_other_servers(current, &new).await?;
    if current.source.table != new.source.table {
        let is_same = connections.source.is_named(&current.source.table).await.map_err(|error| error.to_string())?;
        if !is_same {
            return Err(fixed(&["source.table"]));
        }
    }
    connections.source.prove_statements().await.map_err(|error| error.to_string())?;
    let binding = binding(&new, &connections.source);
    connections.state.prove(new.state.migrate, &binding).await.map_err(|error| error.to_string())?;
    if app_must_be_asked(current, &new) {
        let names = app_names(&client).await.map_err(|error| format!("{error}; {}", error.code.advice()))?;
        refuse_unknown_names(&new, &names)?;
    }
    Ok(connections)
}

fn fixed(keys: &[&str]) -> String {
    format!("{} cannot change while the daemon runs; restart it", keys.join(", "))
}

/// Refuses a new value of a key that only a restart can apply.
fn refuse_fixed_keys(current: &Config, new: &Config) -> Result<(), String> {
    let mut keys = config::changed_fixed_keys(current, new);
    // The state is bound to the app. `migrate --rebind` accepts another one, a reload does not.
    if new.im.sdk_app_id != current.im.sdk_app_id {
        keys.push("im.sdk_app_id");
    }
    if new.im.service != current.im.service {
        keys.push("im.service");
    }
    if keys.is_empty() { Ok(()) } else { Err(fixed(&keys)) }
}

/// Refuses URLs that lead to another server or database. Another role or password is accepted, and another spelling.
async fn refuse_other_servers(current: &Config, new: &Config) -> Result<(), String> {
    refuse_other_server("source.url", &current.source.url, &new.source.url).await?;
    refuse_other_server("state.url", &current.state.url, &new.state.url).await
}

async fn refuse_other_server(key: &str, current: &PgUrl, new: &PgUrl) -> Result<(), String> {
    if current.names_same_server(new) {
        return Ok(());
    }
    match postgres::lead_to_same_server(current, new).await {
        Some(true) => Ok(()),
        Some(false) => Err(fixed(&[key])),
        None => Err(format!(
            "{key} names {} instead of {}, and whether this is the same server could not be found out; {}",
            new.redacted(),
            current.redacted(),
            fixed(&[key])
        )),
    }
}

/// Whether the new configuration depends on something of the app that the running one does not. An outage of IM must not
/// refuse another interval.
fn app_must_be_asked(current: &Config, new: &Config) -> bool {
    let key = |config: &Config| config.im.secret_key.as_ref().map(|key: &SecretString| key.expose_secret().to_owned());
    current.attributes != new.attributes
        || current.im.address != new.im.address
        || current.im.identifier != new.im.identifier
        || key(current) != key(new)
}

fn may_pass(error: &CallError) -> bool {
    matches!(error.code.class(), CodeClass::Retry | CodeClass::SlowDown)
}

async fn app_names(client: &Client) -> Result<Vec<String>, CallError> {
    let mut attempt = 1;
    loop {
        match client.attr_names().await {
            Ok(names) => return Ok(names.into_values().collect()),
            Err(error) if attempt < NAME_ATTEMPTS && may_pass(&error) => {
                attempt += 1;
                tokio::time::sleep(NAME_PAUSE).await;
            }
            Err(error) => return Err(error),
        }
    }
}

fn refuse_unknown_names(config: &Config, known: &[String]) -> Result<(), String> {
    let names = config.attributes.iter().map(|attribute| attribute.name.as_str());
    let missing: Vec<&str> = names.filter(|name| !known.iter().any(|known| known == name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    Err(format!(
        "the app does not know the attribute {}; it knows {}; add the name in the console, or correct [attributes]",
        quoted_list(&missing),
        if known.is_empty() { "none".to_owned() } else { quoted_list(&known) },
    ))
}
