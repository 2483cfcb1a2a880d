//! `imsync check`: checks everything that a sync depends on, and prints one line for each finding with its remedy.
//!
//! Owns: the list of findings. Must not know: how each part is checked in detail.

use std::sync::Arc;

use serde::Serialize;

use super::exit::{CommandFailure, CommandResult, Exit};
use super::options::{CommandKind, GlobalOptions};
use super::output::{ignore_broken_pipe, print_json, print_line};
use crate::config::Config;
use crate::im::CodeClass;
use crate::mapping::Mapping;
use crate::pass::{binding, repairs_finding};
use crate::quote::quoted_list;
use crate::service::connect;
use crate::source::Source;
use crate::state::migrate::LATEST_VERSION;
use crate::state::{Access, State};

/// How serious a finding is. The names are values of the JSON output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum FindingVerdict {
    Ok,
    Warning,
    Error,
}

/// One line of the result. The field names are the keys of the JSON output.
#[derive(Debug, Serialize)]
struct Finding {
    /// What was checked: `configuration`, `source`, `state`, `im`, `credentials` or `attributes`.
    what: &'static str,
    verdict: FindingVerdict,
    message: String,
}

#[derive(Debug, Default, Serialize)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, what: &'static str, verdict: FindingVerdict, message: impl Into<String>) {
        self.0.push(Finding { what, verdict, message: message.into() });
    }

    fn worst(&self) -> FindingVerdict {
        let has = |verdict| self.0.iter().any(|finding| finding.verdict == verdict);
        if has(FindingVerdict::Error) {
            FindingVerdict::Error
        } else if has(FindingVerdict::Warning) {
            FindingVerdict::Warning
        } else {
            FindingVerdict::Ok
        }
    }
}

/// Checks the configuration, and without `offline` also the databases and IM. The exit code is 1 when a finding is an
/// error.
pub async fn run(global: GlobalOptions, offline: bool, json: bool) -> CommandResult {
    let config = match global.load(true, CommandKind::OneShot) {
        Ok(config) => config,
        Err(failure) => {
            if json {
                let mut findings = Findings::default();
                for line in failure.message.lines() {
                    findings.add("configuration", FindingVerdict::Error, line);
                }
                print(&findings, true)?;
            }
            return Err(failure);
        }
    };
    let mut findings = Findings::default();
    findings.add("configuration", FindingVerdict::Ok, format!("{} is complete and consistent", config.path.display()));
    for warning in config.unimplemented_key_warnings() {
        findings.add("configuration", FindingVerdict::Warning, warning);
    }
    if !offline {
        let table = check_source(&config, &mut findings).await;
        check_state(&config, table.as_ref(), &mut findings).await;
        check_im(&config, &mut findings).await;
    }
    print(&findings, json)?;
    Ok(if findings.worst() == FindingVerdict::Error { Exit::Failed } else { Exit::Done })
}

fn print(findings: &Findings, json: bool) -> Result<(), CommandFailure> {
    if json {
        let document = serde_json::json!({ "ok": findings.worst() != FindingVerdict::Error, "findings": findings });
        ignore_broken_pipe(print_json(&document))?;
        return Ok(());
    }
    for Finding { what, verdict, message } in &findings.0 {
        let label = match verdict {
            FindingVerdict::Ok => "ok  ",
            FindingVerdict::Warning => "warn",
            FindingVerdict::Error => "FAIL",
        };
        ignore_broken_pipe(print_line(format!("{label}  {what}: {message}")))?;
    }
    Ok(())
}

async fn check_source(config: &Arc<Config>, findings: &mut Findings) -> Option<Source> {
    let mapping = Mapping::new(config);
    let proved = async {
        let mut source = Source::connect(config, mapping.columns()).await?;
        source.prove_statements().await?;
        Ok::<_, crate::source::SourceError>(source)
    };
    match proved.await {
        Ok(source) => {
            let columns = mapping.columns().len() + 1 + usize::from(source.has_watermark());
            findings.add(
                "source",
                FindingVerdict::Ok,
                format!("{} at {}, {columns} readable columns", source.resolved_table(), config.source.url.redacted()),
            );
            if !source.has_watermark() {
                findings.add(
                    "source",
                    FindingVerdict::Warning,
                    "source.watermark_column is not set: every pass compares the whole table",
                );
            }
            for warning in source.warnings() {
                findings.add("source", FindingVerdict::Warning, warning);
            }
            Some(source)
        }
        Err(error) => {
            findings.add("source", FindingVerdict::Error, format!("{error} ({})", config.source.url.redacted()));
            None
        }
    }
}

async fn check_state(config: &Arc<Config>, source: Option<&Source>, findings: &mut Findings) {
    let read = async {
        let state = State::open(config, Access::ReadOnly).await?;
        let version = state.schema_version().await?;
        // An older schema is upgraded by the next start.
        let is_old = version.is_some_and(|version| version < LATEST_VERSION);
        let row = if is_old { None } else { state.sync_row().await? };
        let overlaps = match source {
            Some(source) if !is_old => {
                let names: Vec<&str> = config.attributes.iter().map(|attribute| attribute.name.as_str()).collect();
                state.overlap_warnings(row.as_ref(), &binding(config, source), &names).await?
            }
            _ => Vec::new(),
        };
        Ok::<_, crate::state::StateError>((version, row, overlaps))
    };
    match read.await {
        Ok((None, ..)) if config.state.migrate => findings.add(
            "state",
            FindingVerdict::Ok,
            format!(
                "no tables in schema \"{}\" yet; the first `imsync run` or `imsync backfill` creates them",
                config.state.schema
            ),
        ),
        Ok((version, ..)) if version != Some(LATEST_VERSION) && !config.state.migrate => findings.add(
            "state",
            FindingVerdict::Error,
            format!(
                "schema \"{}\" is not at version {LATEST_VERSION} and [state] migrate is false: run `imsync migrate`",
                config.state.schema
            ),
        ),
        Ok((_, row, overlaps)) => {
            findings.add(
                "state",
                FindingVerdict::Ok,
                format!("schema \"{}\" at {}", config.state.schema, config.state.url.redacted()),
            );
            let repairs = source.zip(row.as_ref()).and_then(|(source, row)| repairs_finding(config, source, row));
            if let (Some(row), Some(source)) = (row, source)
                && let Err(error) = row.binding.check(&config.name, &binding(config, source))
            {
                findings.add("state", FindingVerdict::Error, error.to_string());
            }
            if let Some((message, remedy)) = repairs {
                findings.add("source", FindingVerdict::Warning, format!("{message}. {remedy}"));
            }
            for overlap in overlaps {
                findings.add("state", FindingVerdict::Warning, overlap);
            }
        }
        Err(error) => {
            findings.add("state", FindingVerdict::Error, format!("{error} ({})", config.state.url.redacted()));
        }
    }
}

async fn check_im(config: &Arc<Config>, findings: &mut Findings) {
    let client = match connect::client(config) {
        Ok(client) => client,
        Err(error) => return findings.add("im", FindingVerdict::Error, error.to_string()),
    };
    let names = match client.attr_names().await {
        Ok(names) => names,
        Err(error) => {
            let advice = error.code.advice();
            let what = if error.code.class() == CodeClass::Credentials { "credentials" } else { "im" };
            return findings.add(what, FindingVerdict::Error, format!("{error}; {advice}"));
        }
    };
    findings.add(
        "credentials",
        FindingVerdict::Ok,
        format!("app {} accepts \"{}\"", config.im.sdk_app_id, config.im.identifier),
    );
    let known: Vec<&str> = names.values().map(String::as_str).collect();
    let missing: Vec<&str> = config
        .attributes
        .iter()
        .map(|attribute| attribute.name.as_str())
        .filter(|name| !known.contains(name))
        .collect();
    if missing.is_empty() {
        findings.add(
            "attributes",
            FindingVerdict::Ok,
            format!("the app knows all {} mapped attributes", config.attributes.len()),
        );
    } else {
        findings.add(
            "attributes",
            FindingVerdict::Error,
            format!(
                "the app does not know {}; it knows: {}. Add the missing names in the console (at most \
                 ten names), or correct [attributes] in {}",
                quoted_list(&missing),
                if known.is_empty() { "none".to_owned() } else { quoted_list(&known) },
                config.path.display()
            ),
        );
    }
}
