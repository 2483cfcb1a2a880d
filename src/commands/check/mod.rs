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

use super::exit::{CommandFailure, CommandResult, Exit};
use super::options::{CheckedConfig, CommandKind, GlobalOptions};
use crate::finding::{Finding, Findings, Severity};

/// Checks the configuration, and without `offline` also the databases and IM. The exit code is 1 when a finding is an
/// error, and 2 when it is one of the configuration.
pub async fn run(global: GlobalOptions, offline: bool, json: bool) -> CommandResult {
    let mut findings = Findings::default();
    let CheckedConfig { config, warnings } = match global.load_checked(CommandKind::OneShot) {
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
    findings.push(Finding::ok("configuration.valid", format!("{} is complete and consistent", config.path.display())));
    findings.extend(warnings.into_iter().map(|warning| Finding::warning("configuration.intended", warning)));
    findings.extend(config.unimplemented_key_warnings().into_iter().map(|warning| {
        Finding::warning("configuration.implemented", warning).remedy("remove the key, or ignore this warning")
    }));
    urls::check(&config, &mut findings);
    if !offline {
        let mut source = source::check(&config, &mut findings).await;
        state::check(&config, source.as_ref(), &mut findings).await;
        im::check(&config, &mut findings).await;
        match &mut source {
            Some(source) => sample::check(&config, source, &mut findings).await,
            None => findings.extend(
                ["sample.rows", "sample.rejected_values", "sample.accounts"]
                    .map(|id| Finding::unchecked(id, "the source cannot be used")),
            ),
        }
    }
    print::findings(&findings, json)?;
    Ok(if findings.worst() == Severity::Error { Exit::Failed } else { Exit::Done })
}
