//! `imsync migrate`: creates or upgrades the state tables, prints the missing SQL, binds a sync to another app.
//!
//! Owns: the messages of this command. Must not know: the SQL.

use super::exit::{CommandFailure, CommandResult, Exit};
use super::one_shot;
use super::options::{CommandKind, GlobalOptions};
use super::output::print_line;
use crate::config::Config;
use crate::state::{Access, State};

/// Migrates the state tables. `print` only prints the SQL that this database needs; `rebind` then binds the sync to the
/// configured app.
pub async fn run(global: GlobalOptions, print: bool, rebind: bool) -> CommandResult {
    let config = global.load(false, CommandKind::OneShot)?;
    let schema = &config.state.schema;
    if print {
        let state = State::open(&config, Access::ReadOnly).await?;
        let script = state.pending_sql().await?;
        if script.is_empty() {
            eprintln!("schema \"{schema}\" is up to date");
        } else {
            print_line(script.trim_end())?;
        }
        return Ok(Exit::Done);
    }
    let state = State::open(&config, Access::ReadWrite).await?;
    let (before, after) = state.migrate().await?;
    print_line(match before {
        None => format!("created the state tables in schema \"{schema}\" (version {after})"),
        Some(before) if before < after => format!("upgraded schema \"{schema}\" from version {before} to {after}"),
        Some(_) => format!("schema \"{schema}\" is up to date (version {after})"),
    })?;
    if rebind {
        if !one_shot::rebind(&config, &state).await? {
            return Err(CommandFailure::failed(format!(
                "sync \"{}\" is already bound to this app; there is nothing to rebind",
                config.name
            )));
        }
        print_line(rebound(&config))?;
    }
    Ok(Exit::Done)
}

fn rebound(config: &Config) -> String {
    format!(
        "sync \"{}\" is now bound to app {} ({}); every acknowledged value counts as unknown, and \
         the next pass is a full pass",
        config.name,
        config.im.sdk_app_id,
        config.im.service.as_str(),
    )
}
