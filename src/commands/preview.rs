//! `imsync preview`: what the next pass would send, account by account, old → new.
//!
//! Owns: the listing. Must not know: how differences are found.

use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::{CommandResult, Exit, Failure, Global, Voice, accounts_named, calls, harmless, say, thousands};
use crate::diff;
use crate::mapping::Mapping;
use crate::model::AcknowledgedValue;
use crate::pass::compare::{AccountDiff, PageComparer};
use crate::pass::dry_run::{DryRun, DryRunScope};
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
    let mut onlooker = DryRun::new(config.clone(), mapping, source, state).await?;
    let accounts = accounts_named(&config, &arguments.accounts);
    let scope = match (accounts.is_empty(), arguments.full) {
        (false, _) => DryRunScope::Accounts(accounts),
        (true, true) => DryRunScope::Full,
        (true, false) => DryRunScope::Next,
    };
    let limit = arguments.limit.unwrap_or(u64::MAX);
    let mut shown = 0;
    let mut trouble = None;
    let forecast = onlooker
        .walk(scope, FullOptions::default(), |item, comparer| {
            if shown >= limit {
                return false;
            }
            shown += 1;
            let line = if arguments.json { document(item, comparer).to_string() } else { line(item, comparer) };
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

fn document(item: &AccountDiff, comparer: &PageComparer) -> Value {
    let set: Map<String, Value> = item
        .change
        .set
        .iter()
        .map(|(attribute, value)| (comparer.name_of(*attribute).to_owned(), Value::from(&**value)))
        .collect();
    let remove: Vec<&str> = item.change.remove.iter().map(|attribute| comparer.name_of(*attribute)).collect();
    let was: Map<String, Value> = diff::was(&item.change, &item.acknowledged, &comparer.names)
        .into_iter()
        .map(|(name, value)| (name.to_string(), value.map_or(Value::Null, |value| Value::from(&*value))))
        .collect();
    json!({ "account": item.account(), "set": set, "remove": remove, "was": was })
}

fn line(item: &AccountDiff, comparer: &PageComparer) -> String {
    let mut text = harmless(item.account().as_str());
    let old = |attribute: crate::model::AttributeIndex| match item.acknowledged.get(attribute.index()) {
        Some(AcknowledgedValue::Value(value) | AcknowledgedValue::Provisional(Some(value))) => {
            format!("\"{}\"", harmless(value))
        }
        Some(AcknowledgedValue::Unknown) => "(in doubt)".to_owned(),
        Some(AcknowledgedValue::Absent | AcknowledgedValue::Provisional(None)) | None => "(none)".to_owned(),
    };
    for (attribute, value) in &item.change.set {
        // Writing to a String cannot fail.
        let _ = write!(text, "  {}: {} → \"{}\"", comparer.name_of(*attribute), old(*attribute), harmless(value));
    }
    for attribute in &item.change.remove {
        let _ = write!(text, "  {}: {} → (none)", comparer.name_of(*attribute), old(*attribute));
    }
    text
}
