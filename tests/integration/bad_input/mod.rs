//! Bad input through the whole: configuration files, account ids, values, column types, answers. Nothing panics, nothing
//! is sent that IM cannot take, no neighbour suffers, no memory is filled.
//!
//! Owns: what these tests share. Must not know: how imsync takes its input apart.

mod accounts;
mod answers;
mod configuration;
mod values;

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::{CommandOutput, TestEnvironment};

/// Account by account what IM holds or should hold.
type HeldValues = BTreeMap<String, BTreeMap<String, String>>;

/// Each line of `rejected --json`: account, attribute, reason.
async fn rejected(env: &TestEnvironment) -> Vec<(String, Option<String>, String)> {
    let text = |entry: &Value, key: &str| entry[key].as_str().map(str::to_owned);
    let listed = env.imsync(&["rejected", "--json"]).await.expect_code(0).json_lines();
    let entry = |entry: &Value| {
        let reason = text(entry, "reason").expect("a reason");
        (text(entry, "account").expect("an account"), text(entry, "attribute"), reason)
    };
    listed.iter().map(entry).collect()
}

/// Lines and nothing that steers a terminal.
#[track_caller]
fn expect_plain(ran: &CommandOutput) {
    let odd = |c: char| (c.is_control() && c != '\n') || ('\u{202a}'..='\u{202e}').contains(&c);
    assert!(!ran.stdout.contains(odd) && !ran.stderr.contains(odd), "{ran:?}");
    assert!(!ran.stderr.contains("panicked"), "{ran:?}");
}
