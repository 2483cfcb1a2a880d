//! `imsync explain`: one account, from its row to what IM holds right now, and one sentence about what follows.
//!
//! Owns: the order of the questions, the JSON document, accounts with a similar ID. Must not know: how facts are gathered, how
//! they are laid out.

mod layout;
mod values;
mod verdict;

use serde_json::{Map, Value, json};

use super::exit::{CommandFailure, CommandResult, Exit};
use super::open_dry_run::{OpenDryRun, open_dry_run};
use super::options::{CommandKind, GlobalOptions, parse_account};
use super::output::{escape_for_terminal, print_json};
use crate::config::Config;
use crate::im::Code;
use crate::model::{Account, DesiredValue};
use crate::pass::dry_run::DryRun;
use crate::pass::explain::{ExplainedAttribute, Explanation, Presence};
use crate::quote::shown;
use crate::service::connect;
use crate::state::rejection::ListedRejection;
use values::{ActualValues, others, problem};

/// The arguments of `imsync explain`.
#[derive(Clone, Debug)]
pub struct ExplainArgs {
    /// The account, as IM or as the table names it.
    pub id: String,
    /// Do not ask IM.
    pub no_im: bool,
    /// Print one JSON document.
    pub json: bool,
}

/// Prints what is known of the account. The exit code is 1 when nobody knows it, and when IM does not answer.
pub async fn run(global: GlobalOptions, args: ExplainArgs) -> CommandResult {
    let config = global.load(!args.no_im, CommandKind::OneShot)?;
    let account = parse_account(&config, &args.id)?;
    let OpenDryRun { mut dry_run, reads: _reads, .. } = open_dry_run(&config, false).await?;
    let explanation = dry_run.explain(&account).await?;
    let asked = if args.no_im || !may_be_in_im(&config, &account) {
        Ok(None)
    } else {
        ask_im(&config, &account).await.map(Some)
    };
    let actual = asked.as_ref().ok().and_then(Option::as_ref);
    if is_unknown(&explanation) && asked.is_ok() && actual.is_none_or(ActualValues::is_empty) {
        return Err(not_found(&config, &mut dry_run, &args).await?);
    }
    let verdict = verdict::verdict(&config, &explanation, actual);
    let printed = if args.json {
        print_json(&document(&explanation, actual, &verdict))
    } else {
        layout::print(&config, &explanation, actual, &verdict)
    };
    printed?;
    asked.map(|_| Exit::Done)
}

/// Neither the table nor the state has anything about the account.
fn is_unknown(explanation: &Explanation) -> bool {
    explanation.presence == Presence::Missing
        && explanation.acknowledged_at.is_none()
        && explanation.rejection.is_none()
        && explanation.attributes.iter().all(|attribute| attribute.rejection.is_none())
}

/// IM accepts the account in a call, so it may hold something of it.
fn may_be_in_im(config: &Config, account: &Account) -> bool {
    account.as_str().len() <= config.im.account_type.max_bytes() && config.source.is_in_format(account.as_str())
}

async fn ask_im(config: &Config, account: &Account) -> Result<ActualValues, CommandFailure> {
    let client = connect::client(config)?;
    let not_read =
        |what: String, code: Code| CommandFailure::failed(format!("IM was not read: {what}; {}", code.advice()));
    match client.get_attr(&[account.as_str()]).await {
        Ok(read) => match read.failed.first().filter(|failed| !failed.code.means_unknown_account()) {
            Some(failed) => Err(not_read(failed.code.to_string(), failed.code)),
            None => Ok(read.users.into_iter().flat_map(|user| user.attrs).collect()),
        },
        // Then IM holds nothing of it.
        Err(error) if error.code.means_unknown_account() => Ok(ActualValues::new()),
        Err(error) => Err(not_read(error.to_string(), error.code)),
    }
}

/// The failure for an account that nobody knows, with accounts that are spelt like it.
async fn not_found(
    config: &Config,
    dry_run: &mut DryRun,
    args: &ExplainArgs,
) -> Result<CommandFailure, CommandFailure> {
    let similar = dry_run.known_among(similar_accounts(config, &args.id)).await?;
    let similar: Vec<String> = similar.iter().map(|account| escape_for_terminal(account.as_str())).collect();
    let places =
        if args.no_im { "neither the table nor the state knows" } else { "neither the table, the state nor IM knows" };
    let hint = if similar.is_empty() {
        let prefix = &config.source.account_prefix;
        let with = if prefix.is_empty() { String::new() } else { format!(" with the prefix \"{prefix}\"") };
        format!("an ID is the text of the column {}{with}", shown(&config.source.account_column))
    } else {
        format!("did you mean {}?", similar.join(" or "))
    };
    Ok(CommandFailure::failed(format!("{places} the account {}; {hint}", escape_for_terminal(&args.id))))
}

/// Accounts that a person may have meant: with the prefix or without, trimmed, in another case, with hyphens or without.
fn similar_accounts(config: &Config, id: &str) -> Vec<Account> {
    let prefix = config.source.account_prefix.as_str();
    let mut texts = vec![id.trim().to_owned()];
    texts.extend(id.trim().strip_prefix(prefix).map(str::to_owned));
    for index in 0..texts.len() {
        let text = texts[index].clone();
        texts.extend([text.to_lowercase(), text.to_uppercase(), text.replace('-', "")]);
        texts.extend(with_hyphens(&text));
    }
    let mut accounts: Vec<Account> = texts
        .iter()
        .flat_map(|text| [config.source.account_of(text), Account::new(text.as_str())])
        .filter(|account| !account.as_str().is_empty())
        .collect();
    accounts.sort();
    accounts.dedup();
    accounts
}

/// The text of a uuid that was given as its 32 digits.
fn with_hyphens(text: &str) -> Option<String> {
    let digits = text.to_lowercase();
    let is_uuid = digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_uuid.then(|| [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-"))
}

/// The JSON document. Its keys are part of the interface.
fn document(explanation: &Explanation, actual: Option<&ActualValues>, verdict: &str) -> Value {
    let row: Option<Map<String, Value>> =
        explanation.row.as_ref().map(|row| row.iter().map(|(column, text)| (column.clone(), json!(text))).collect());
    let in_table = !matches!(explanation.presence, Presence::Missing);
    let attributes: Vec<Value> = explanation
        .attributes
        .iter()
        .map(|attribute| {
            json!({
                "name": attribute.name,
                "column": attribute.column,
                "desired": desired_value(attribute),
                "problem": problem(attribute),
                "acknowledged": attribute.acknowledged.value(),
                "state": attribute.state.label(),
                "acknowledged_at": attribute.acknowledged_at,
                "actual": actual.and_then(|actual| actual.get(&attribute.name)),
                "rejection": attribute.rejection.as_ref().map(rejection),
            })
        })
        .collect();
    json!({
        "account": explanation.account,
        "in_table": in_table,
        "row": row,
        "attributes": attributes,
        "rejection": explanation.rejection.as_ref().map(rejection),
        "others": actual.map(|actual| others(explanation, actual)),
        "verdict": verdict,
    })
}

fn desired_value(attribute: &ExplainedAttribute) -> Option<&str> {
    match &attribute.desired {
        Some(DesiredValue::Value(value)) => Some(value),
        _ => None,
    }
}

fn rejection(rejection: &ListedRejection) -> Value {
    json!({
        "code": rejection.code,
        "reason": rejection.reason,
        "first_at": rejection.first_at,
        "last_at": rejection.last_at,
        "attempts": rejection.attempts,
        "next_at": rejection.next_at,
    })
}
