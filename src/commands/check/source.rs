//! The findings about the source: connection, table, columns, privileges, filter, indexes.
//!
//! Owns: their order, and what is said when something could not be examined. Must not know: the statements.

use std::sync::Arc;

use crate::config::Config;
use crate::finding::{Finding, Findings};
use crate::mapping::Mapping;
use crate::source::Source;

/// Seconds that two clocks may differ.
const MAX_CLOCK_OFFSET: f64 = 5.0;

/// Examines the source. Returns it if imsync could use it.
pub(super) async fn check(config: &Arc<Config>, findings: &mut Findings) -> Option<Source> {
    let mapping = Mapping::new(config);
    let url = config.source.url.redacted();
    let (source, found) = match Source::examine(config, mapping.columns()).await {
        Ok(examined) => examined,
        Err(error) => {
            findings.extend(error.findings());
            let because = format!("{url} cannot be used");
            findings.extend(["source.table", "source.columns"].map(|id| Finding::unchecked(id, &because)));
            return None;
        }
    };
    findings.push(Finding::ok("source.reachable", url.clone()));
    let Some(mut source) = source else {
        findings.extend(found);
        findings.push(Finding::unchecked("source.statements", "the table cannot be used as it is"));
        return None;
    };
    let columns = mapping.columns().len() + 1 + usize::from(source.has_watermark());
    let table = format!("{} at {url}, {columns} readable columns", source.resolved_table());
    findings.push(Finding::ok("source.table", table));
    findings.extend(found);
    if !source.has_watermark() {
        findings.push(
            Finding::warning(
                "source.watermark_column",
                "source.watermark_column is not set: every pass compares the whole table",
            )
            .remedy("set it to a column that moves with every change, if the table has one"),
        );
    }
    let usable = examine_passes(&mut source, findings).await;
    match source.clock_offset().await {
        Ok(offset) => findings.push(clock_finding(offset)),
        Err(_) => findings.push(Finding::unchecked("clock.database", "the database did not answer")),
    }
    usable.then_some(source)
}

/// What the passes do: their statements, the transaction list, plans. Returns whether they can run.
async fn examine_passes(source: &mut Source, findings: &mut Findings) -> bool {
    let (result, because) = match source.prove_statements().await {
        Ok(()) => {
            findings.push(Finding::ok("source.statements", "the server plans every statement of a pass"));
            (source.plans().await, "a poll cannot run as it is")
        }
        Err(error) => (Err(error), "the statements of a pass cannot run"),
    };
    match result {
        Ok(plans) => {
            findings.extend(plans);
            true
        }
        Err(error) => {
            findings.extend(error.findings());
            findings.extend(["source.poll_plan", "source.full_pass_plan"].map(|id| Finding::unchecked(id, because)));
            false
        }
    }
}

fn clock_finding(offset: f64) -> Finding {
    let direction = if offset < 0.0 { "behind" } else { "ahead of" };
    if offset.abs() < MAX_CLOCK_OFFSET {
        return Finding::ok(
            "clock.database",
            format!("the clock of the database is {:.1} s {direction} this machine's", offset.abs()),
        );
    }
    Finding::warning(
        "clock.database",
        format!(
            "the clock of the database is {:.0} s {direction} this machine's; where applications stamp rows with a clock like this machine's, source.watermark_grace has to be longer than that",
            offset.abs()
        ),
    )
    .remedy("synchronize both clocks (NTP)")
}
