//! The findings about IM: network, clock, credentials, attribute names.
//!
//! Owns: their order, and what is said when something could not be examined. Must not know: requests.

use std::fmt::Write as _;
use std::sync::Arc;

use chrono::TimeDelta;

use crate::commands::attribute_slots::AttributeSlots;
use crate::commands::output::{duration, escape_for_terminal};
use crate::config::Config;
use crate::finding::{Finding, Findings};
use crate::im::CodeClass;
use crate::quote::quoted_list;
use crate::service::connect;

/// Seconds that two clocks may differ. IM tells its own to the second.
const MAX_CLOCK_OFFSET: i64 = 5;

/// Examines the app with one call that reads.
pub(super) async fn check(config: &Arc<Config>, findings: &mut Findings) {
    let unchecked = |because: &str| Finding::unchecked("attributes.known", because);
    let client = match connect::client(config) {
        Ok(client) => client,
        Err(error) => {
            findings.push(Finding::error("credentials.accepted", error.to_string()));
            findings.push(clock_finding(None));
            return findings.push(unchecked("the credentials cannot be used"));
        }
    };
    let slots = AttributeSlots::read(config, &client).await;
    findings.push(clock_finding(client.clock_offset()));
    let slots = match slots {
        Ok(slots) => slots,
        Err(error) => {
            let message = format!("{error}. {}", error.code.meaning());
            findings.push(if error.code.class() == CodeClass::Credentials {
                Finding::error("credentials.accepted", message).remedy(error.code.remedy())
            } else {
                Finding::error("im.reachable", message).remedy(error.code.remedy())
            });
            return findings.push(unchecked("IM did not return the names of the app"));
        }
    };
    let accepted = format!("app {} accepts \"{}\"", config.im.sdk_app_id, config.im.identifier);
    findings.push(Finding::ok("credentials.accepted", accepted));
    findings.push(names_finding(&slots));
}

fn names_finding(slots: &AttributeSlots) -> Finding {
    let (missing, config) = (slots.missing(), &slots.config);
    if missing.is_empty() {
        return Finding::ok(
            "attributes.known",
            format!("the app knows all {} mapped attributes", config.attributes.len()),
        );
    }
    let mut message = format!("the app does not know {}; it knows: {}", quoted_list(&missing), slots.known());
    for name in &missing {
        if let Some(similar) = slots.similar(name) {
            // Writing to a String cannot fail.
            let _ = write!(message, "; \"{}\" differs from \"{name}\" in case only", escape_for_terminal(similar));
        }
    }
    let correct = format!("correct [attributes] in {}", config.path.display());
    let remedy = match slots.free().count() {
        free if free >= missing.len() => {
            format!("run `imsync attributes apply`, which sets missing names in free slots, or {correct}")
        }
        free => format!("{free} of the slots of the app are free (`imsync attributes` shows all), so {correct}"),
    };
    Finding::error("attributes.known", message).remedy(remedy)
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
            "the clock of IM is {} {direction} this machine's, and IM judges by its own clock when a UserSig begins and ends",
            duration(offset.abs().as_seconds_f64())
        ),
    )
    .remedy("synchronize the clock of this machine (NTP)")
}
