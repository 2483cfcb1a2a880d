//! `imsync rejected`: what could not be sent, and trying it again.
//!
//! Owns: the listing and its groups. Must not know: when retries happen.

use std::collections::BTreeMap;

use super::{CommandResult, Exit, Failure, Global, Voice, accounts_named, harmless, say, say_json, thousands};
use crate::state::rejection::ListedRejection;
use crate::state::{Access, State};

/// Read in portions, so that a million rejections are listed in little memory.
const PORTION: i64 = 5_000;

/// Lists rejections: grouped by code and attribute, or each.
pub async fn list(global: Global, all: bool, json: bool) -> CommandResult {
    let config = global.load(false, Voice::OneShot)?;
    let state = State::open(&config, Access::ReadOnly).await?;
    let Some(row) = state.sync_row().await? else {
        if !json {
            say("nothing is rejected: this sync has not run yet")?;
        }
        return Ok(Exit::Done);
    };
    let mut groups: BTreeMap<(Option<i64>, Option<String>), Group> = BTreeMap::new();
    let mut accounts = 0_u64;
    let mut last: Option<(String, String)> = None;
    loop {
        let after = last.as_ref().map_or(("", ""), |(account, attribute)| (account.as_str(), attribute.as_str()));
        let portion = state.list_rejections(row.id, after, PORTION).await?;
        let Some(end) = portion.last() else { break };
        let next = (end.account.clone(), end.attribute.clone().unwrap_or_default());
        for rejection in portion {
            accounts += u64::from(last.as_ref().is_none_or(|(account, _)| *account != rejection.account));
            last = Some((rejection.account.clone(), rejection.attribute.clone().unwrap_or_default()));
            if json {
                say_json(&rejection)?;
            } else if all {
                say(line(&rejection))?;
            } else {
                groups.entry((rejection.code, rejection.attribute.clone())).or_default().add(rejection);
            }
        }
        last = Some(next);
    }
    if json {
        return Ok(Exit::Done);
    }
    if accounts == 0 {
        say("nothing is rejected")?;
        return Ok(Exit::Done);
    }
    for ((code, attribute), group) in groups {
        let what = attribute.map_or_else(|| "whole account".to_owned(), |name| format!("attribute {name}"));
        let code = code.map_or_else(|| "refused here".to_owned(), |code| format!("code {code}"));
        say(format!("{} ({code}, {what}): {}", thousands(group.count), group.reason))?;
        say(format!("    for example {}; next try {}", group.examples.join(", "), group.next_at))?;
    }
    if !all {
        let all = if accounts == 1 { "1 account".to_owned() } else { format!("{} accounts", thousands(accounts)) };
        say(format!("{all} in all; `imsync rejected --all` lists each, `imsync rejected retry` tries them again"))?;
    }
    Ok(Exit::Done)
}

#[derive(Default)]
struct Group {
    count: u64,
    reason: String,
    examples: Vec<String>,
    next_at: String,
}

impl Group {
    fn add(&mut self, rejection: ListedRejection) {
        self.count += 1;
        let next_at = rejection.next_at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
        if self.next_at.is_empty() || next_at < self.next_at {
            self.next_at = next_at;
        }
        if self.reason.is_empty() {
            self.reason = rejection.reason;
        }
        if self.examples.len() < 3 {
            self.examples.push(harmless(&rejection.account));
        }
    }
}

fn line(rejection: &ListedRejection) -> String {
    format!(
        "{}  {}  {}  tried {}×, next {}: {}",
        harmless(&rejection.account),
        rejection.attribute.as_deref().unwrap_or("(whole account)"),
        rejection.code.map_or_else(|| "refused here".to_owned(), |code| format!("code {code}")),
        rejection.attempts,
        rejection.next_at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
        rejection.reason
    )
}

/// Makes rejections due: the next pass tries them again.
pub async fn retry(global: Global, ids: Vec<String>) -> CommandResult {
    let config = global.load(false, Voice::OneShot)?;
    let state = State::open(&config, Access::ReadWrite).await?;
    let Some(row) = state.sync_row().await? else {
        return Err(Failure::failed("nothing is rejected: this sync has not run yet"));
    };
    let accounts = accounts_named(&config, &ids);
    let only = (!accounts.is_empty()).then_some(accounts.as_slice());
    let count = state.retry_rejections(row.id, only).await?;
    let due = if count == 1 { "1 account is".to_owned() } else { format!("{} accounts are", thousands(count)) };
    say(format!("{due} due; the next pass tries again"))?;
    Ok(Exit::Done)
}
