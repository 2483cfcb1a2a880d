//! The findings about the source: connection, table, columns, privileges, filter, indexes.
//!
//! Owns: their order, and what is said when something could not be examined. Must not know: the statements.

use std::sync::Arc;

use crate::config::Config;
use crate::finding::{Finding, Findings};
use crate::mapping::Mapping;
use crate::source::Source;

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
    match source.prove_statements().await {
        Ok(()) => {
            findings.push(Finding::ok("source.statements", "the server plans every statement of a pass"));
            Some(source)
        }
        Err(error) => {
            findings.extend(error.findings());
            None
        }
    }
}
