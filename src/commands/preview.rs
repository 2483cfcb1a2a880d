//! `imsync preview`: what the next pass would send, account by account, old → new.
//!
//! Owns: the listing. Must not know: how differences are found.

use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::{CommandResult, Exit, Failure, Global, Voice, accounts_named, calls, harmless, say, thousands};
use crate::diff;
use crate::mapping::Mapping;
use crate::model::Known;
use crate::pass::dry::{Onlooker, Scope};
use crate::pass::view::{Item, View};
use crate::pass::{FullOptions, guard};
use crate::source::Source;
use crate::state::{Access, State};

/// What was asked for.
#[derive(Clone, Debug, Default)]
pub struct PreviewArgs {
    pub full: bool,
    pub limit: Option<u64>,
    pub accounts: Vec<String>,
    pub json: bool,
}

pub async fn run(global: Global, arguments: PreviewArgs) -> CommandResult {
    let config = global.load(false, Voice::OneShot)?;
    let mapping = Arc::new(Mapping::new(&config));
    let source = Source::connect(&config, mapping.columns()).await?;
    let state = State::open(&config, Access::ReadOnly).await?;
    let mut onlooker = Onlooker::new(config.clone(), mapping, source, state).await?;
    let accounts = accounts_named(&config, &arguments.accounts);
    let scope = match (accounts.is_empty(), arguments.full) {
        (false, _) => Scope::Accounts(accounts),
        (true, true) => Scope::Full,
        (true, false) => Scope::Next,
    };
    let limit = arguments.limit.unwrap_or(u64::MAX);
    let mut shown = 0;
    let mut trouble = None;
    let forecast = onlooker
        .walk(scope, FullOptions::default(), |item, view| {
            if shown >= limit {
                return false;
            }
            shown += 1;
            let line = if arguments.json { document(item, view).to_string() } else { line(item, view) };
            match say(line) {
                Ok(()) => true,
                Err(error) => {
                    trouble = Some(error);
                    false
                }
            }
        })
        .await?;
    if let Some(error) = trouble {
        return Err(Failure::from(error));
    }
    if !arguments.json {
        if let Some(why) = &forecast.full_because {
            eprintln!("the next pass is a full one: {why}");
        }
        if shown >= limit {
            eprintln!("the first {} accounts; there may be more", thousands(shown));
        } else {
            eprintln!("{} accounts, {}; nothing was sent", thousands(shown), calls(forecast.calls));
        }
        if let Some(tripped) = &forecast.guard {
            eprintln!("{}", guard::sentence(tripped));
        }
    }
    Ok(Exit::Done)
}

fn document(item: &Item, view: &View) -> Value {
    let set: Map<String, Value> =
        item.change.set.iter().map(|(slot, value)| (view.name_of(*slot).to_owned(), Value::from(&**value))).collect();
    let remove: Vec<&str> = item.change.remove.iter().map(|slot| view.name_of(*slot)).collect();
    let was: Map<String, Value> = diff::was(&item.change, &item.acknowledged, &view.names)
        .into_iter()
        .map(|(name, value)| (name.to_string(), value.map_or(Value::Null, |value| Value::from(&*value))))
        .collect();
    json!({ "account": item.account(), "set": set, "remove": remove, "was": was })
}

fn line(item: &Item, view: &View) -> String {
    let mut text = harmless(item.account().as_str());
    let old = |slot: crate::model::Slot| match item.acknowledged.get(slot.index()) {
        Some(Known::Value(value) | Known::Provisional(Some(value))) => format!("\"{}\"", harmless(value)),
        Some(Known::Unknown) => "(in doubt)".to_owned(),
        Some(Known::Absent | Known::Provisional(None)) | None => "(none)".to_owned(),
    };
    for (slot, value) in &item.change.set {
        // Writing to a String cannot fail.
        let _ = write!(text, "  {}: {} → \"{}\"", view.name_of(*slot), old(*slot), harmless(value));
    }
    for slot in &item.change.remove {
        let _ = write!(text, "  {}: {} → (none)", view.name_of(*slot), old(*slot));
    }
    text
}
