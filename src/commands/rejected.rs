//! `imsync rejected`: lists what could not be sent and why, and makes rejections due.
//!
//! Owns: the listing and its groups. Must not know: when rejections are retried.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::exit::{CommandFailure, CommandResult, Exit};
use super::options::{CommandKind, GlobalOptions, parse_accounts};
use super::output::{accounts, escape_for_terminal, print_json, print_line, thousands, time};
use crate::state::rejection::ListedRejection;
use crate::state::{Access, State};

/// The number of rejections read by one query. It bounds the memory for a list of a million rejections.
const READ_ROWS: i64 = 5_000;
/// The number of accounts that a group names.
const EXAMPLES_PER_GROUP: usize = 3;

/// Lists rejections: grouped by code and attribute, or every one with `all` or `json`.
pub async fn list(global: GlobalOptions, all: bool, json: bool) -> CommandResult {
    let config = global.load(false, CommandKind::OneShot)?;
    let state = State::open(&config, Access::ReadOnly).await?;
    let Some(row) = state.sync_row().await? else {
        if !json {
            print_line("nothing is rejected: this sync has not run yet")?;
        }
        return Ok(Exit::Done);
    };
    let mut listing = Listing { all, json, ..Listing::default() };
    // The key of the last rejection that was read: account and attribute.
    let mut last = (String::new(), String::new());
    loop {
        let page = state.list_rejections(row.id, (&last.0, &last.1), READ_ROWS).await?;
        let Some(end) = page.last() else { break };
        last = (end.account.clone(), end.attribute.clone().unwrap_or_default());
        for rejection in page {
            listing.add(rejection)?;
        }
    }
    if !json {
        listing.print_groups()?;
    }
    Ok(Exit::Done)
}

/// Rejections as they are read, in the order of their accounts.
#[derive(Default)]
struct Listing {
    all: bool,
    json: bool,
    accounts: u64,
    last_account: Option<String>,
    /// The groups by code and attribute, when rejections are not listed one by one.
    groups: BTreeMap<(Option<i64>, Option<String>), RejectionGroup>,
}

impl Listing {
    fn add(&mut self, rejection: ListedRejection) -> Result<(), CommandFailure> {
        if self.last_account.as_ref() != Some(&rejection.account) {
            self.accounts += 1;
            self.last_account = Some(rejection.account.clone());
        }
        if self.json {
            print_json(&rejection)?;
        } else if self.all {
            print_line(line(&rejection))?;
        } else {
            self.groups.entry((rejection.code, rejection.attribute.clone())).or_default().add(rejection);
        }
        Ok(())
    }

    fn print_groups(self) -> Result<(), CommandFailure> {
        if self.accounts == 0 {
            print_line("nothing is rejected")?;
            return Ok(());
        }
        for ((code, attribute), group) in self.groups {
            let what = attribute.map_or_else(|| "whole account".to_owned(), |name| format!("attribute {name}"));
            print_line(format!("{} ({}, {what}): {}", thousands(group.count), origin(code), group.reason))?;
            let next_at = group.next_at.map(time).unwrap_or_default();
            print_line(format!("    for example {}; next retry {next_at}", group.examples.join(", ")))?;
        }
        if !self.all {
            print_line(format!(
                "{} in all; `imsync rejected --all` lists every rejection, `imsync rejected retry` retries them",
                accounts(self.accounts)
            ))?;
        }
        Ok(())
    }
}

/// Rejections with the same code and attribute.
#[derive(Default)]
struct RejectionGroup {
    count: u64,
    /// The reason of the first rejection of the group.
    reason: String,
    /// The first accounts of the group.
    examples: Vec<String>,
    /// The earliest retry.
    next_at: Option<DateTime<Utc>>,
}

impl RejectionGroup {
    fn add(&mut self, rejection: ListedRejection) {
        self.count += 1;
        self.next_at = Some(self.next_at.map_or(rejection.next_at, |next_at| next_at.min(rejection.next_at)));
        if self.reason.is_empty() {
            self.reason = rejection.reason;
        }
        if self.examples.len() < EXAMPLES_PER_GROUP {
            self.examples.push(escape_for_terminal(&rejection.account));
        }
    }
}

/// The line of one rejection.
fn line(rejection: &ListedRejection) -> String {
    format!(
        "{}  {}  {}  attempts {}, next retry {}: {}",
        escape_for_terminal(&rejection.account),
        rejection.attribute.as_deref().unwrap_or("(whole account)"),
        origin(rejection.code),
        rejection.attempts,
        time(rejection.next_at),
        rejection.reason
    )
}

/// What refused the value: IM with a code, or imsync itself without a call.
fn origin(code: Option<i64>) -> String {
    code.map_or_else(|| "refused by imsync".to_owned(), |code| format!("code {code}"))
}

/// Makes the rejections of these accounts due, or all rejections when `ids` is empty. The next pass retries them.
pub async fn retry(global: GlobalOptions, ids: Vec<String>) -> CommandResult {
    let config = global.load(false, CommandKind::OneShot)?;
    let state = State::open(&config, Access::ReadWrite).await?;
    let Some(row) = state.sync_row().await? else {
        return Err(CommandFailure::failed("nothing is rejected: this sync has not run yet"));
    };
    let selected = parse_accounts(&config, &ids);
    let mut count = 0;
    if selected.is_empty() {
        let mut after = String::new();
        while let Some((end, accounts)) = state.retry_next_rejections(row.id, &after).await? {
            after = end;
            count += accounts;
        }
    } else {
        count = state.retry_rejections_of(row.id, &selected).await?;
    }
    print_line(format!("the next pass retries the rejections of {}", accounts(count)))?;
    if count == 0 && !selected.is_empty() {
        eprintln!("the named accounts have no rejection; `imsync rejected --all` lists the accounts that have one");
    }
    Ok(Exit::Done)
}
