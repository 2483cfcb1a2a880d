//! The findings about IM: network, clock, credentials, attribute names.
//!
//! Owns: their order, and what is said when something could not be examined. Must not know: requests.

use chrono::TimeDelta;

use crate::config::Config;
use crate::finding::{Finding, Findings};
use crate::im::CodeClass;
use crate::quote::quoted_list;
use crate::service::connect;

/// Seconds that two clocks may differ. IM tells its own to the second.
const MAX_CLOCK_OFFSET: i64 = 5;

/// Examines the app with one call that reads.
pub(super) async fn check(config: &Config, findings: &mut Findings) {
    let unchecked = |because: &str| Finding::unchecked("attributes.known", because);
    let client = match connect::client(config) {
        Ok(client) => client,
        Err(error) => {
            findings.push(Finding::error("credentials.accepted", error.to_string()));
            findings.push(clock_finding(None));
            return findings.push(unchecked("the credentials cannot be used"));
        }
    };
    let names = client.attr_names().await;
    findings.push(clock_finding(client.clock_offset()));
    let names = match names {
        Ok(names) => names,
        Err(error) => {
            let (message, advice) = (error.to_string(), error.code.advice());
            findings.push(if error.code.class() == CodeClass::Credentials {
                Finding::error("credentials.accepted", message).remedy(advice)
            } else {
                Finding::error("im.reachable", message).remedy(advice)
            });
            return findings.push(unchecked("IM did not return the names of the app"));
        }
    };
    let accepted = format!("app {} accepts \"{}\"", config.im.sdk_app_id, config.im.identifier);
    findings.push(Finding::ok("credentials.accepted", accepted));
    let known: Vec<&str> = names.values().map(String::as_str).collect();
    let mapped = config.attributes.iter().map(|attribute| attribute.name.as_str());
    let missing: Vec<&str> = mapped.filter(|name| !known.contains(name)).collect();
    findings.push(if missing.is_empty() {
        Finding::ok("attributes.known", format!("the app knows all {} mapped attributes", config.attributes.len()))
    } else {
        Finding::error(
            "attributes.known",
            format!(
                "the app does not know {}; it knows: {}",
                quoted_list(&missing),
                if known.is_empty() { "none".to_owned() } else { quoted_list(&known) }
            ),
        )
        .remedy(format!(
            "add the missing names in the console (at most ten names), or correct [attributes] in {}",
            config.path.display()
        ))
    });
}

/// `offset`: by how much IM's clock is ahead of this machine's.
fn clock_finding(offset: Option<TimeDelta>) -> Finding {
    let Some(offset) = offset else {
        return Finding::unchecked("clock.im", "no answer with the header Date came from IM");
    };
    let (seconds, direction) =
        (offset.num_seconds().abs(), if offset < TimeDelta::zero() { "behind" } else { "ahead of" });
    if seconds <= MAX_CLOCK_OFFSET {
        return Finding::ok("clock.im", format!("the clock of IM is {seconds} s {direction} this machine's"));
    }
    Finding::warning(
        "clock.im",
        format!(
            "the clock of IM is {seconds} s {direction} this machine's, and IM judges by its own clock when a UserSig begins and ends"
        ),
    )
    .remedy("synchronize the clock of this machine (NTP)")
}
