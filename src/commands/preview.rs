//! `imsync preview`: what the next pass would send, account by account, old → new.
//!
//! Owns: the listing. Must not know: how differences are found.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::exit::{CommandFailure, CommandResult, Exit};
use super::open_dry_run::{OpenDryRun, open_dry_run};
use super::options::{CommandKind, GlobalOptions, parse_accounts};
use super::output::{accounts, calls, escape_for_terminal, print_line};
use crate::diff;
use crate::model::{AcknowledgedValue, AttributeIndex};
use crate::pass::dry_run::{DryRunScope, DryRunSummary};
use crate::pass::{AccountDiff, PageComparer};
use crate::pass::{FullOptions, guard};

/// The arguments of `imsync preview`.
#[derive(Clone, Debug, Default)]
pub struct PreviewArgs {
    /// Show what a backfill would send, including removals for accounts that are gone.
    pub full: bool,
    /// The maximum number of accounts; `None` means all.
    pub limit: Option<u64>,
    /// The accounts to show; empty means all.
    pub accounts: Vec<String>,
    /// Print one JSON object per line.
    pub json: bool,
}

/// Prints the listing. Notes about it go to stderr.
pub async fn run(global: GlobalOptions, args: PreviewArgs) -> CommandResult {
    let config = global.load(false, CommandKind::OneShot)?;
    let OpenDryRun { mut dry_run, reads: _reads, .. } = open_dry_run(&config, true).await?;
    let selected = parse_accounts(&config, &args.accounts);
    let are_named = !selected.is_empty();
    let scope = match (selected.is_empty(), args.full) {
        (false, _) => DryRunScope::Accounts(selected),
        (true, true) => DryRunScope::Full,
        (true, false) => DryRunScope::Next,
    };
    let limit = args.limit.unwrap_or(u64::MAX);
    let mut printed = 0;
    let mut print_error = None;
    let summary = dry_run
        .run(scope, FullOptions::default(), |diff, comparer| {
            if printed >= limit {
                return false;
            }
            printed += 1;
            let line = if args.json { document(diff, comparer).to_string() } else { line(diff, comparer) };
            print_error = print_line(line).err();
            print_error.is_none()
        })
        .await?;
    if let Some(error) = print_error {
        return Err(CommandFailure::from(error));
    }
    if !args.json {
        print_notes(&summary, printed, limit);
        if are_named && printed == 0 && limit > 0 {
            eprintln!("the next pass sends nothing for the named accounts; `imsync explain ID` says why");
        }
    }
    Ok(Exit::Done)
}

fn print_notes(summary: &DryRunSummary, printed: u64, limit: u64) {
    if let Some(reason) = &summary.full_because {
        eprintln!("the next pass is a full pass: {reason}");
    }
    if printed >= limit {
        eprintln!("stopped after {}; there may be more", accounts(printed));
    } else {
        eprintln!("{}, {}; nothing was sent", accounts(printed), calls(summary.calls));
    }
    if let Some(tripped) = &summary.guard {
        eprintln!("{}", guard::message(tripped));
    }
}

/// The JSON object of an account. The keys are part of the interface.
fn document(account_diff: &AccountDiff, comparer: &PageComparer) -> Value {
    let set: Map<String, Value> = account_diff
        .change
        .set
        .iter()
        .map(|(attribute, value)| (comparer.name_of(*attribute).to_owned(), Value::from(&**value)))
        .collect();
    let remove: Vec<&str> = account_diff.change.remove.iter().map(|attribute| comparer.name_of(*attribute)).collect();
    let was: Map<String, Value> =
        diff::previous_values(&account_diff.change, &account_diff.acknowledged, &comparer.names)
            .into_iter()
            .map(|(name, value)| (name.to_string(), value.map_or(Value::Null, |value| Value::from(&*value))))
            .collect();
    json!({ "account": account_diff.account(), "set": set, "remove": remove, "was": was })
}

/// The line of an account.
fn line(account_diff: &AccountDiff, comparer: &PageComparer) -> String {
    let mut text = escape_for_terminal(account_diff.account().as_str());
    let old = |attribute: AttributeIndex| match account_diff.acknowledged.get(attribute.index()) {
        Some(AcknowledgedValue::Value(value) | AcknowledgedValue::Provisional(Some(value))) => {
            format!("\"{}\"", escape_for_terminal(value))
        }
        Some(AcknowledgedValue::Unknown) => "(in doubt)".to_owned(),
        Some(AcknowledgedValue::Absent | AcknowledgedValue::Provisional(None)) | None => "(none)".to_owned(),
    };
    for (attribute, value) in &account_diff.change.set {
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "  {}: {} → \"{}\"",
            comparer.name_of(*attribute),
            old(*attribute),
            escape_for_terminal(value)
        );
    }
    for attribute in &account_diff.change.remove {
        let _ = write!(text, "  {}: {} → (none)", comparer.name_of(*attribute), old(*attribute));
    }
    text
}
