//! Bad input for the complete program: configuration files, account ids, values, column types, answers. Nothing panics,
//! imsync sends nothing that IM cannot take, no other account is affected, and memory stays bounded.
//!
//! Owns: what these tests share. Must not know: how imsync parses its input.

mod accounts;
mod answers;
mod configuration;
mod uuid_texts;
mod values;

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::{CommandOutput, TestEnvironment};

/// What IM holds or should hold, by account.
type HeldValues = BTreeMap<String, BTreeMap<String, String>>;

/// The lines of `rejected --json`: account, attribute, reason.
async fn rejected(env: &TestEnvironment) -> Vec<(String, Option<String>, String)> {
    let text = |entry: &Value, key: &str| entry[key].as_str().map(str::to_owned);
    let listed = env.imsync(&["rejected", "--json"]).await.expect_code(0).json_lines();
    let parse = |entry: &Value| {
        let reason = text(entry, "reason").expect("a reason");
        (text(entry, "account").expect("an account"), text(entry, "attribute"), reason)
    };
    listed.iter().map(parse).collect()
}

/// The output is lines of text, without control characters for a terminal.
#[track_caller]
fn expect_plain(output: &CommandOutput) {
    let is_control = |c: char| (c.is_control() && c != '\n') || ('\u{202a}'..='\u{202e}').contains(&c);
    assert!(!output.stdout.contains(is_control) && !output.stderr.contains(is_control), "{output:?}");
    assert!(!output.stderr.contains("panicked"), "{output:?}");
}
