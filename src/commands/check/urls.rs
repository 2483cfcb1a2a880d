//! The findings about the URLs of both databases that need no connection.
//!
//! Owns: which variables of the environment are shown. Must not know: how a URL is read.

use crate::config::{Config, PgUrl};
use crate::finding::{Finding, Findings};

/// The variables of the environment that are in effect, and what of the URLs is not.
pub(super) fn check(config: &Config, findings: &mut Findings) {
    let (source, state) = (&config.source.url, &config.state.url);
    findings.extend(environment(source).map(|text| Finding::ok("source.url", text)));
    findings.extend(source.warnings().into_iter().map(|text| Finding::warning("source.url", text)));
    if !state.same_as(source) {
        findings.extend(environment(state).map(|text| Finding::ok("state.url", text)));
        findings.extend(state.warnings().into_iter().map(|text| Finding::warning("state.url", text)));
    }
}

fn environment(url: &PgUrl) -> Option<String> {
    let given: Vec<String> = url.variables().iter().map(|(name, value)| format!("{name}={value}")).collect();
    (!given.is_empty()).then(|| format!("the environment completes the URL: {}", given.join(" ")))
}
