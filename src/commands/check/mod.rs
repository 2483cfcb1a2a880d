//! `imsync check`: examines everything that a sync depends on, and prints one line for each finding with its remedy.
//!
//! Owns: what is examined, and the exit code. Must not know: how each part is examined in detail.
//!
//! It never stops at the first problem: what cannot be examined because something before it failed is a finding too. To
//! add a finding, make a `Finding` where the fact is known, and add its id to the table in `docs/operating.md`.

mod im;
mod print;
mod sample;
mod source;
mod state;
mod urls;

use std::io::{self, IsTerminal as _};
use std::sync::Arc;

use super::exit::{CommandFailure, CommandResult, Exit};
use super::options::{CheckedConfig, CommandKind, GlobalOptions};
use crate::config::Config;
use crate::finding::{Finding, Findings, Severity};

/// What is examined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CheckScope {
    /// The configuration alone; no network.
    Configuration,
    /// Everything but IM, because `[im]` is not complete.
    Databases,
    /// Everything.
    Everything,
}

/// Checks the configuration, and without `offline` also the databases and IM. The exit code is 1 when a finding is an
/// error, and 2 when it is one of the configuration.
pub async fn run(global: GlobalOptions, offline: bool, json: bool) -> CommandResult {
    let mut findings = Findings::default();
    let checked = match global.load_checked(CommandKind::OneShot) {
        Ok(checked) => checked,
        Err(problems) => {
            let failure = CommandFailure::usage(&problems);
            findings
                .extend(problems.into_iter().map(|problem| Finding::error("configuration.valid", problem.to_string())));
            if !offline {
                let because = "the configuration is not valid";
                let later = ["source.reachable", "state.reachable", "credentials.accepted"];
                findings.extend(later.map(|id| Finding::unchecked(id, because)));
            }
            print::findings(&findings, json)?;
            // As with every command, the error is on stderr. A person who sees both streams is not told twice.
            let seen_twice = !json && io::stdout().is_terminal() && io::stderr().is_terminal();
            return Err(if seen_twice { CommandFailure::usage("the configuration is not valid") } else { failure });
        }
    };
    let path = checked.config.path.display();
    findings.push(Finding::ok("configuration.valid", format!("{path} is complete and consistent")));
    examine(&checked, if offline { CheckScope::Configuration } else { CheckScope::Everything }, &mut findings).await;
    conclude(&findings, json)
}

/// Adds what is found about a valid configuration.
pub(super) async fn examine(checked: &CheckedConfig, scope: CheckScope, findings: &mut Findings) {
    let CheckedConfig { config, warnings } = checked;
    findings.extend(warnings.iter().map(|warning| Finding::warning("configuration.intended", warning)));
    findings.extend(config.unimplemented_key_warnings().into_iter().map(|warning| {
        Finding::warning("configuration.implemented", warning).remedy("remove the key, or ignore this warning")
    }));
    urls::check(config, findings);
    if scope != CheckScope::Configuration {
        examine_servers(config, scope, findings).await;
    }
}

async fn examine_servers(config: &Arc<Config>, scope: CheckScope, findings: &mut Findings) {
    let mut source = source::check(config, findings).await;
    state::check(config, source.as_ref(), findings).await;
    if scope == CheckScope::Everything {
        im::check(config, findings).await;
    } else {
        let because = "[im] is not complete";
        findings.extend(["credentials.accepted", "attributes.known"].map(|id| Finding::unchecked(id, because)));
    }
    match &mut source {
        Some(source) => sample::check(config, source, findings).await,
        None => findings.extend(
            ["sample.rows", "sample.rejected_values", "sample.accounts"]
                .map(|id| Finding::unchecked(id, "the source cannot be used")),
        ),
    }
}

/// Prints the findings. The exit code is 1 when one of them is an error.
pub(super) fn conclude(findings: &Findings, json: bool) -> CommandResult {
    print::findings(findings, json)?;
    Ok(if findings.worst() == Severity::Error { Exit::Failed } else { Exit::Done })
}
