//! The findings about the state: connection, schema, binding, privileges, other syncs.
//!
//! Owns: their order, and what is said when something could not be examined. Must not know: the statements.

use std::sync::Arc;

use crate::config::Config;
use crate::finding::{Finding, Findings};
use crate::pass::{binding, repairs_finding};
use crate::source::Source;
use crate::state::migrate::LATEST_VERSION;
use crate::state::{Access, State, StateError};

/// Examines the state. `source`: the source, if it can be used.
pub(super) async fn check(config: &Arc<Config>, source: Option<&Source>, findings: &mut Findings) {
    if let Err(error) = examine(config, source, findings).await {
        findings.extend(error.findings());
        let because = format!("{} cannot be used", config.state.url.redacted());
        findings.extend(["state.binding", "state.overlap"].map(|id| Finding::unchecked(id, &because)));
    }
}

async fn examine(config: &Config, source: Option<&Source>, findings: &mut Findings) -> Result<(), StateError> {
    let state = State::open(config, Access::ReadOnly).await?;
    findings.push(Finding::ok("state.reachable", config.state.url.redacted()));
    findings.extend(state.denied_functions().await?);
    match state.ensure_writable().await {
        Ok(()) => findings.push(Finding::ok("state.writable", "transactions of the role may write")),
        Err(error) => findings.extend(error.findings()),
    }
    let schema = &config.state.schema;
    let version = state.supported_schema_version().await?;
    if version != Some(LATEST_VERSION) {
        findings.push(match (version, config.state.migrate) {
            (None, true) => Finding::ok(
                "state.schema",
                format!(
                    "no tables in schema \"{schema}\" yet; the first `imsync run` or `imsync backfill` creates them"
                ),
            ),
            (Some(version), true) => Finding::ok(
                "state.schema",
                format!("schema \"{schema}\" is at version {version}; the next start upgrades it to {LATEST_VERSION}"),
            ),
            (_, false) => Finding::error(
                "state.schema",
                format!("schema \"{schema}\" is not at version {LATEST_VERSION} and [state] migrate is false"),
            )
            .remedy("run `imsync migrate`"),
        });
        if config.state.migrate {
            findings.extend(state.missing_privileges(version).await?);
        }
        return Ok(());
    }
    findings.push(Finding::ok("state.schema", format!("schema \"{schema}\" at version {LATEST_VERSION}")));
    let denied = state.missing_privileges(version).await?;
    if denied.is_some() {
        findings.extend(denied);
        let because = "the role may not read and write the state tables";
        findings.extend(["state.binding", "state.overlap"].map(|id| Finding::unchecked(id, because)));
        return Ok(());
    }
    let row = state.sync_row().await?;
    let Some(source) = source else {
        findings
            .extend(["state.binding", "state.overlap"].map(|id| Finding::unchecked(id, "the source cannot be used")));
        return Ok(());
    };
    let binding = binding(config, source);
    if let Some(row) = &row
        && let Err(error) = row.binding.check(&config.name, &binding)
    {
        findings.extend(error.findings());
    }
    findings.extend(row.as_ref().and_then(|row| repairs_finding(config, source, row)));
    let names: Vec<&str> = config.attributes.iter().map(|attribute| attribute.name.as_str()).collect();
    findings.extend(state.overlap_warnings(row.as_ref(), &binding, &names).await?);
    Ok(())
}
