//! `imsync check`: examines what a sync depends on, a line for each finding with how to mend it.
//!
//! Owns: the list of findings. Must not know: how each part is examined in detail.

use std::sync::Arc;

use serde::Serialize;

use super::{CommandResult, Exit, Failure, Global, Voice, printed, say, say_json};
use crate::config::Config;
use crate::im::Class;
use crate::mapping::Mapping;
use crate::pass::binding;
use crate::service::connect;
use crate::source::Source;
use crate::state::migrate::LATEST;
use crate::state::{Access, State};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    Warning,
    Error,
}

#[derive(Debug, Serialize)]
struct Finding {
    what: &'static str,
    verdict: Verdict,
    message: String,
}

#[derive(Debug, Default, Serialize)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, what: &'static str, verdict: Verdict, message: impl Into<String>) {
        self.0.push(Finding { what, verdict, message: message.into() });
    }

    fn worst(&self) -> Verdict {
        let has = |verdict| self.0.iter().any(|finding| finding.verdict == verdict);
        if has(Verdict::Error) {
            Verdict::Error
        } else if has(Verdict::Warning) {
            Verdict::Warning
        } else {
            Verdict::Ok
        }
    }
}

pub async fn run(global: Global, offline: bool, json: bool) -> CommandResult {
    let config = match global.load(true, Voice::OneShot) {
        Ok(config) => config,
        Err(failure) => {
            if json {
                let mut findings = Findings::default();
                for line in failure.message.lines() {
                    findings.add("configuration", Verdict::Error, line);
                }
                print(&findings, true)?;
            }
            return Err(failure);
        }
    };
    let mut findings = Findings::default();
    findings.add("configuration", Verdict::Ok, format!("{} is complete and consistent", config.path.display()));
    for sentence in config.not_yet_in_force() {
        findings.add("configuration", Verdict::Warning, sentence);
    }
    if !offline {
        let table = check_source(&config, &mut findings).await;
        check_state(&config, table.as_ref(), &mut findings).await;
        check_im(&config, &mut findings).await;
    }
    print(&findings, json)?;
    Ok(if findings.worst() == Verdict::Error { Exit::Failed } else { Exit::Done })
}

fn print(findings: &Findings, json: bool) -> Result<(), Failure> {
    if json {
        let document = serde_json::json!({ "ok": findings.worst() != Verdict::Error, "findings": findings });
        printed(say_json(&document))?;
        return Ok(());
    }
    for Finding { what, verdict, message } in &findings.0 {
        let sequence = match verdict {
            Verdict::Ok => "ok  ",
            Verdict::Warning => "warn",
            Verdict::Error => "FAIL",
        };
        printed(say(format!("{sequence}  {what}: {message}")))?;
    }
    Ok(())
}

async fn check_source(config: &Arc<Config>, findings: &mut Findings) -> Option<Source> {
    let mapping = Mapping::new(config);
    match Source::connect(config, mapping.columns()).await {
        Ok(source) => {
            let columns = mapping.columns().len() + 1 + usize::from(source.has_watermark());
            findings.add(
                "source",
                Verdict::Ok,
                format!("{} at {}, {columns} columns readable", source.resolved_table(), config.source.url.shown()),
            );
            if !source.has_watermark() {
                findings.add(
                    "source",
                    Verdict::Warning,
                    "source.watermark_column is not set: every pass compares the whole table",
                );
            }
            for warning in source.warnings() {
                findings.add("source", Verdict::Warning, warning);
            }
            Some(source)
        }
        Err(error) => {
            findings.add("source", Verdict::Error, format!("{error} ({})", config.source.url.shown()));
            None
        }
    }
}

async fn check_state(config: &Arc<Config>, source: Option<&Source>, findings: &mut Findings) {
    let examined = async {
        let state = State::open(config, Access::ReadOnly).await?;
        let version = state.schema_version().await?;
        let row = state.sync_row().await?;
        Ok::<_, crate::state::StateError>((version, row))
    };
    match examined.await {
        Ok((None, _)) if config.state.migrate => findings.add(
            "state",
            Verdict::Ok,
            format!("no tables in schema \"{}\" yet; the first `run` or `backfill` creates them", config.state.schema),
        ),
        Ok((version, _)) if version != Some(LATEST) && !config.state.migrate => findings.add(
            "state",
            Verdict::Error,
            format!(
                "schema \"{}\" is not at version {LATEST} and [state] migrate is false: run `imsync migrate`",
                config.state.schema
            ),
        ),
        Ok((_, row)) => {
            findings.add(
                "state",
                Verdict::Ok,
                format!("schema \"{}\" at {}", config.state.schema, config.state.url.shown()),
            );
            if let (Some(row), Some(source)) = (row, source)
                && let Err(error) = row.check_binding(&config.name, &binding(config, source))
            {
                findings.add("state", Verdict::Error, error.to_string());
            }
        }
        Err(error) => findings.add("state", Verdict::Error, format!("{error} ({})", config.state.url.shown())),
    }
}

async fn check_im(config: &Arc<Config>, findings: &mut Findings) {
    let client = match connect::client(config) {
        Ok(client) => client,
        Err(error) => return findings.add("im", Verdict::Error, error.to_string()),
    };
    let names = match client.attr_names().await {
        Ok(names) => names,
        Err(error) => {
            let advice = error.code.advice();
            let what = if error.code.class() == Class::Credentials { "credentials" } else { "im" };
            return findings.add(what, Verdict::Error, format!("{error}; {advice}"));
        }
    };
    findings.add(
        "credentials",
        Verdict::Ok,
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
            Verdict::Ok,
            format!("the app knows all {} mapped attributes", config.attributes.len()),
        );
    } else {
        findings.add(
            "attributes",
            Verdict::Error,
            format!(
                "the app does not know {}; it knows: {}. Set the missing names in the console (ten at most), or correct [attributes] in {}",
                quoted(&missing),
                if known.is_empty() { "none".to_owned() } else { quoted(&known) },
                config.path.display()
            ),
        );
    }
}

fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
}
