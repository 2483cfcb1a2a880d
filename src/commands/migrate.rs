//! `imsync migrate`: creates or upgrades the state tables, prints their SQL, accepts another app.
//!
//! Owns: its messages. Must not know: the SQL.

use super::run::lead_for_rebind;
use super::{CommandResult, Exit, Failure, Global, Voice, say};
use crate::state::{Access, State};

pub async fn run(global: Global, print: bool, rebind: bool) -> CommandResult {
    let config = global.load(false, Voice::OneShot)?;
    if print {
        let state = State::open(&config, Access::ReadOnly).await?;
        let script = state.pending_sql().await?;
        if script.is_empty() {
            eprintln!("schema \"{}\" is up to date", config.state.schema);
        } else {
            say(script.trim_end())?;
        }
        return Ok(Exit::Done);
    }
    let state = State::open(&config, Access::ReadWrite).await?;
    let (before, after) = state.migrate().await?;
    match before {
        None => say(format!("created the state tables in schema \"{}\" (version {after})", config.state.schema))?,
        Some(before) if before < after => {
            say(format!("upgraded schema \"{}\" from version {before} to {after}", config.state.schema))?;
        }
        Some(_) => say(format!("schema \"{}\" is up to date (version {after})", config.state.schema))?,
    }
    if rebind {
        let changed = lead_for_rebind(&config, &state).await?;
        if changed {
            say(format!(
                "sync \"{}\" now belongs to app {} ({}); every acknowledged value counts as unknown, the next pass is a full one",
                config.name,
                config.im.sdk_app_id,
                config.im.service.as_str(),
            ))?;
        } else {
            return Err(Failure::failed(format!(
                "sync \"{}\" is bound to this app already; nothing to rebind",
                config.name
            )));
        }
    }
    Ok(Exit::Done)
}
