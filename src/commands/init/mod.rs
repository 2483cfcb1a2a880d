//! `imsync init`: writes a commented configuration for a database and a table, or lists the tables that may hold the users.
//!
//! Owns: the order of the steps, and the exit code. Must not know: statements, the rules of single keys.
//!
//! | file | owns |
//! |---|---|
//! | `request` | arguments and environment, checked before anything is touched |
//! | `names`, `name_lists` | what the name of a table or a column suggests |
//! | `proposal`, `attributes` | the choice of the columns, with reasons. Pure |
//! | `candidates` | the listing without a table |
//! | `render`, `im_section`, `toml_text` | the file as text |
//! | `target` | the file: never over another one, mode 0600, whole or not at all |

mod attributes;
mod candidates;
mod im_section;
mod name_lists;
mod names;
mod proposal;
mod render;
mod request;
mod target;
#[cfg(test)]
mod tests;
mod toml_text;

use std::sync::Arc;

pub use im_section::ImOptions;
pub use request::InitArgs;

use self::render::ConfigProposal;
use self::request::InitRequest;
use super::check::{self, CheckScope};
use super::exit::{CommandFailure, CommandResult, Exit};
use super::options::{CheckedConfig, GlobalOptions};
use super::output::{escape_for_terminal, ignore_broken_pipe, print_line};
use crate::config::{self, LogFormat, LogLevel};
use crate::finding::{Finding, Findings};
use crate::logging;
use crate::quote::shown;
use crate::source::{Introspection, SourceError};
use crate::state::migrate::TABLES_OF_EVERY_STATE;

/// `application_name` of the session.
const APPLICATION_NAME: &str = "imsync init";

/// Writes the file and checks it, or lists the candidates. The exit code is 0 also when lines are left to fill in.
pub async fn run(global: GlobalOptions, args: InitArgs) -> CommandResult {
    logging::init(LogLevel::Warn, global.log_format.unwrap_or(LogFormat::Auto), global.verbosity);
    let request = InitRequest::new(&global, args)?;
    let mut introspection = Introspection::open(&request.url, APPLICATION_NAME).await?;
    let Some(table) = &request.table else {
        let (tables, left_out) = introspection.relations(&TABLES_OF_EVERY_STATE, names::table_score).await?;
        introspection.close().await;
        candidates::print(&tables, left_out, &request.url.url.redacted())?;
        return Ok(Exit::Done);
    };
    let (text, filled, summary) = propose(&request, &mut introspection, table).await?;
    introspection.close().await;
    target::write(&request.path, &text)?;
    let path = request.path.display();
    ignore_broken_pipe(print_line(format!("wrote {path}: {summary}")))?;
    let option = if global.config.is_some() { format!(" -c {path}") } else { String::new() };
    match config::parse(&text, &request.path, &request.environment, true) {
        Ok(_) => {
            let checks_it = GlobalOptions { config: Some(request.path.clone()), ..global };
            let exit = Box::pin(check::run(checks_it, false, false)).await?;
            if exit == Exit::Done {
                eprintln!("next: `imsync backfill --dry-run{option}` counts what the first full pass would send");
            }
            Ok(exit)
        }
        Err(problems) => {
            let mut findings = Findings::default();
            let missing = problems.into_iter();
            findings.extend(missing.map(|problem| Finding::warning("configuration.valid", problem.to_string())));
            let exit = check_databases(&request, filled.as_deref(), findings).await?;
            eprintln!(
                "next: fill in the lines of {path} that end with \"{}\", then run `imsync check{option}`",
                toml_text::TO_FILL_IN
            );
            Ok(exit)
        }
    }
}

/// The text of the file, the text without gaps, and a summary.
async fn propose(
    request: &InitRequest,
    introspection: &mut Introspection,
    name: &str,
) -> Result<(String, Option<String>, String), SourceError> {
    let mut table = introspection.table(name).await?;
    let named = request.attributes.as_deref();
    let named_columns: Vec<&str> = named.unwrap_or_default().iter().map(|named| named.column.as_str()).collect();
    introspection.require_columns("--attributes", &named_columns)?;
    let sampled = proposal::columns_to_sample(&table, &named_columns);
    let unsampled = introspection.sample(&mut table, &sampled).await.map(|error| error.to_string());
    let account = proposal::account(&table);
    let account_column = account.as_ref().ok().map(|account| account.column.as_str());
    let watermark = proposal::watermark(&table, account_column);
    let details = match (&account, &watermark) {
        (Ok(account), Ok(watermark)) => {
            let zone = watermark.timezone.as_deref().unwrap_or("UTC");
            introspection.watermark_details(&watermark.column, &account.column, zone).await
        }
        _ => None,
    };
    let watermark_column = watermark.as_ref().ok().map(|watermark| watermark.column.as_str());
    let mut taken: Vec<&str> = account_column.into_iter().chain(watermark_column).collect();
    let deletion = proposal::deletion(&table, &taken);
    taken.extend(deletion.column.as_deref());
    let (attributes, omitted) = match named {
        Some(named) => (attributes::named(&table, named), Vec::new()),
        None => attributes::propose(&table, &taken),
    };
    let proposal = ConfigProposal {
        relation: &table.relation,
        url: request.url_argument.as_deref(),
        origin: &request.url.origin,
        account,
        watermark,
        watermark_details: details,
        deletion,
        attributes,
        omitted,
        unsampled,
        environment: &request.environment,
    };
    Ok((proposal.text(&request.im), proposal.filled(&request.im), summary(&proposal)))
}

/// `public.users, account id, watermark updated_at, 3 attributes`.
fn summary(proposal: &ConfigProposal<'_>) -> String {
    let column = |name: Option<&str>| name.map_or("(none)".to_owned(), |name| escape_for_terminal(&shown(name)));
    let account = column(proposal.account.as_ref().ok().map(|account| account.column.as_str()));
    let watermark = column(proposal.watermark.as_ref().ok().map(|watermark| watermark.column.as_str()));
    let table = escape_for_terminal(&proposal.relation.qualified_name());
    let count = proposal.attributes.len();
    let attributes = if count == 1 { "attribute" } else { "attributes" };
    format!("{table}, account {account}, watermark {watermark}, {count} {attributes}")
}

/// What `check` finds without IM. `filled`: the file without gaps.
async fn check_databases(request: &InitRequest, filled: Option<&str>, mut findings: Findings) -> CommandResult {
    match filled.map(|text| config::parse(text, &request.path, &request.environment, false)) {
        Some(Ok(loaded)) => {
            let checked = CheckedConfig { config: Arc::new(loaded.config), warnings: loaded.warnings };
            Box::pin(check::examine(&checked, CheckScope::Databases, &mut findings)).await;
        }
        Some(Err(problems)) => return Err(CommandFailure::usage(problems)),
        None => {
            let because = "no column suits as the account";
            findings.extend(["source.table", "source.columns"].map(|id| Finding::unchecked(id, because)));
        }
    }
    check::conclude(&findings, false)
}
