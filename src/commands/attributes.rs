//! `imsync attributes`: the app's attribute names beside the mapping; `apply` sets missing names in free slots.
//!
//! Owns: which slot a missing name gets, and the question before it is set. Must not know: requests.
//!
//! A value belongs to its slot, and the documentation of the vendor shows no way to remove a name. So a slot that has a name is
//! never sent (assumed: a slot that the call does not name stays as it is). A call cannot be made conditional on a free slot, so
//! the names are read directly before and after it, and a change by somebody else is seen.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::sync::Arc;

use serde_json::json;

use super::attribute_slots::{AttributeSlots, SLOTS};
use super::exit::{CommandFailure, CommandResult, Exit};
use super::options::{CommandKind, GlobalOptions};
use super::output::{escape_for_terminal, ignore_broken_pipe, print_json, print_line};
use crate::config::Config;
use crate::im::{CallError, Client, CodeClass};
use crate::model::{ImAccountType, Service};
use crate::quote::quoted_list;
use crate::service::connect;

/// The column of an attribute that the mapping names.
fn column_of<'a>(slots: &'a AttributeSlots, name: &str) -> Option<&'a str> {
    let attribute = slots.config.attributes.iter().find(|attribute| attribute.name == name)?;
    Some(&attribute.column)
}

/// Which slot each missing name gets: the lowest free ones, in the order of the configuration.
fn plan(slots: &AttributeSlots) -> Result<BTreeMap<u8, String>, CommandFailure> {
    let missing = slots.missing();
    let plan: BTreeMap<u8, String> = slots.free().zip(missing.iter().map(|name| (*name).to_owned())).collect();
    if plan.len() == missing.len() {
        return Ok(plan);
    }
    Err(CommandFailure::failed(format!(
        "the app has no free slot for {}: {} of its {SLOTS} slots have a name ({}). imsync renames none; map an attribute that is there, or rename one in the console if nobody uses it",
        quoted_list(&missing[plan.len()..]),
        slots.names.len(),
        slots.described()
    )))
}

fn not_set(error: &CallError) -> CommandFailure {
    let CommandFailure { exit, message } = refused(error);
    let hint = match error.code.class() {
        CodeClass::Row | CodeClass::Request | CodeClass::Unknown => {
            "; a name that another slot has, and a slot of the other account type, are refused too"
        }
        _ if error.maybe_applied => "; IM may have set the names all the same",
        _ => "",
    };
    CommandFailure { exit, message: format!("{message}{hint}. `imsync attributes` shows what is set") }
}

fn refused(error: &CallError) -> CommandFailure {
    CommandFailure::failed(format!("{error}. {}; {}", error.code.meaning(), error.code.remedy()))
}

async fn read(config: &Arc<Config>, client: &Client) -> Result<AttributeSlots, CommandFailure> {
    AttributeSlots::read(config, client).await.map_err(|error| refused(&error))
}

/// Prints the slots of the app.
pub async fn list(global: GlobalOptions, json: bool) -> CommandResult {
    let config = global.load(true, CommandKind::OneShot)?;
    let slots = read(&config, &*connect::client(&config)?).await?;
    let missing = slots.missing();
    if json {
        let of_slot = |slot: u8| {
            let name = slots.names.get(&slot);
            json!({ "slot": slot, "name": name, "mapped": name.is_some_and(|name| column_of(&slots, name).is_some()) })
        };
        let document = json!({ "slots": (0..SLOTS).map(of_slot).collect::<Vec<_>>(), "missing": missing });
        print_json(&document)?;
        return Ok(Exit::Done);
    }
    let width = slots.names.values().map(|name| name.chars().count()).max().unwrap_or_default().max(6);
    print_line(format!("slot  {:width$}  column", "name"))?;
    for slot in 0..SLOTS {
        let line = match slots.names.get(&slot) {
            Some(name) => {
                let column = column_of(&slots, name).map_or("(not mapped)".to_owned(), escape_for_terminal);
                format!("{slot:4}  {:width$}  {column}", escape_for_terminal(name))
            }
            None => format!("{slot:4}  (free)"),
        };
        print_line(line)?;
    }
    if !missing.is_empty() {
        print_line(format!(
            "the app does not know {}, which the mapping names; `imsync attributes apply` sets missing names in free slots",
            quoted_list(&missing)
        ))?;
    }
    Ok(Exit::Done)
}

/// Sets the missing names. `yes`: without a question.
pub async fn apply(global: GlobalOptions, yes: bool) -> CommandResult {
    let config = global.load(true, CommandKind::OneShot)?;
    let client = connect::client(&config)?;
    let shown = read(&config, &client).await?;
    let plan = plan(&shown)?;
    if plan.is_empty() {
        print_line(format!("the app knows all {} mapped attributes; nothing is to be set", config.attributes.len()))?;
        return Ok(Exit::Done);
    }
    for (slot, name) in &plan {
        eprintln!("slot {slot}: (free) → \"{}\"{}", escape_for_terminal(name), similar_name(&shown, name));
    }
    if !yes && !confirm(config.im.sdk_app_id)? {
        return Err(CommandFailure::failed("nothing was set"));
    }
    // The answer may have taken long.
    let before = read(&config, &client).await?;
    if before.names != shown.names {
        return Err(CommandFailure::failed(format!(
            "the names of the app have changed in the meantime ({}); nothing was set. Run the command again",
            before.described()
        )));
    }
    client.set_attr_names(&plan, attribute_type(&config)).await.map_err(|error| not_set(&error))?;
    let after = read(&config, &client).await?;
    let expected: BTreeMap<u8, String> = before.names.into_iter().chain(plan.clone()).collect();
    if after.names != expected {
        return Err(CommandFailure::failed(format!(
            "IM accepted the names, and now has others ({}): somebody else sets names too, or IM has not applied them yet. Run `imsync attributes`",
            after.described()
        )));
    }
    for (slot, name) in &plan {
        ignore_broken_pipe(print_line(format!("slot {slot} is \"{}\" now", escape_for_terminal(name))))?;
    }
    Ok(Exit::Done)
}

fn similar_name(slots: &AttributeSlots, name: &str) -> String {
    slots.similar(name).map_or(String::new(), |known| {
        format!("   (the app already has \"{}\"; case matters)", escape_for_terminal(known))
    })
}

/// What the slots are for, which is fixed when a name is set. Only `timpush` tells them apart.
fn attribute_type(config: &Config) -> Option<u8> {
    match (config.im.service, config.im.account_type) {
        (Service::AllMemberPush, _) => None,
        (Service::Timpush, ImAccountType::UserId) => Some(0),
        (Service::Timpush, ImAccountType::RegistrationId) => Some(1),
    }
}

fn confirm(sdk_app_id: u32) -> Result<bool, CommandFailure> {
    if !io::stdin().is_terminal() {
        return Err(CommandFailure::usage(
            "nothing was set: stdin is not a terminal, so nobody can be asked; add --yes to set these names",
        ));
    }
    eprint!("Set them in app {sdk_app_id}? imsync cannot take a name back. [y/N] ");
    io::stderr().flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(["y", "yes"].contains(&answer.trim().to_lowercase().as_str()))
}
