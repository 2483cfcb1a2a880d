//! Why a pass stops, and the message for the operator.
//!
//! Owns: the reasons and their messages. Must not know: batches, calls, how a reason is found.

use std::fmt;

use super::attempts::Attempts;
use super::refusal_stats::{RejectedShare, Suspect};
use crate::clock::now_utc;
use crate::im::{CallError, Code};
use crate::model::{AttributeNames, VendorRefusal};

/// Why a pass stops before everything was sent.
#[derive(Clone, Debug, PartialEq)]
pub enum StopReason {
    /// No call succeeded within `retry_for`.
    Unreachable {
        /// When the attempts began, how they ended, what to do.
        message: String,
    },
    /// IM refuses every call until a person corrects the credentials or the app.
    Credentials {
        /// The code of the refusal.
        code: Code,
        /// What to correct.
        message: String,
    },
    /// The app or the configuration is at fault for refusals of all accounts. None of them was rejected.
    Systemic {
        /// The code of the refusals.
        code: Code,
        /// The name of the attribute that IM refuses, where it is one.
        attribute: Option<String>,
        /// What to correct.
        message: String,
    },
    /// More than `max_rejected_share` of the pass was refused with one code.
    TooManyRejected {
        /// The code of the refusals.
        code: Code,
        /// The share, and what to do.
        message: String,
    },
    /// The lease's last ping is too old, so no call may start.
    LeaseLost,
    /// The process is shutting down or the pass was cancelled. No new call started; those in flight have ended.
    Shutdown,
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable { message }
            | Self::Credentials { message, .. }
            | Self::Systemic { message, .. }
            | Self::TooManyRejected { message, .. } => f.write_str(message),
            Self::LeaseLost => f.write_str(
                "the lease on this sync is lost: its session with the state database has ended or does not answer",
            ),
            Self::Shutdown => f.write_str("stopped on request"),
        }
    }
}

impl StopReason {
    /// IM accepted no call until the attempts ran out. `error`: how the last of them ended.
    pub(super) fn unreachable(error: &CallError, attempts: &Attempts) -> Self {
        let spent = attempts.first_at.map_or_else(Default::default, |first| first.elapsed());
        let since = (now_utc() - spent).format("%Y-%m-%dT%H:%M:%SZ");
        Self::Unreachable {
            message: format!(
                "IM is unreachable: it has accepted no call since {since} ({} attempts in {} s); the last attempt ended with {}. {}",
                attempts.count,
                spent.as_secs(),
                error.code,
                error.code.advice()
            ),
        }
    }

    /// IM refuses every call.
    pub(super) fn credentials(code: Code, refusal: &VendorRefusal) -> Self {
        Self::Credentials { code, message: format!("IM refuses every call: {}", refusal.reason) }
    }

    /// A probe showed that the app or the configuration is at fault, or there is no account to probe with.
    pub(super) fn systemic(suspect: Suspect, names: &AttributeNames, evidence: &str) -> Self {
        let Suspect { code, attribute, .. } = suspect;
        let attribute = attribute.map(|attribute| names[attribute.index()].to_string());
        let refused = match &attribute {
            Some(name) => format!("the attribute \"{name}\" of every account"),
            None => "every account".to_owned(),
        };
        let message = format!(
            "IM refuses {refused} with {code}, and {evidence}: the fault is in the app or the configuration, so no account was rejected. {}",
            code.advice()
        );
        Self::Systemic { code, attribute, message }
    }

    /// A gateway before IM refuses every call. `evidence`: what else it refused.
    pub(super) fn gateway(code: Code, evidence: &str) -> Self {
        let message = format!(
            "a gateway between imsync and IM refuses every call with {code}, {evidence} included, so no account was rejected. \
             Permit this machine there; check `im.base_url`: host, port and path. If it is the content: {}",
            code.advice()
        );
        Self::Systemic { code, attribute: None, message }
    }

    /// The app does not define some attributes. `missing`: their names, at least one; `defined`: the names of the app.
    pub(super) fn undefined_attributes(code: Code, missing: &[&str], defined: &[String]) -> Self {
        let (plural, pronoun) = if missing.len() > 1 { ("s", "them") } else { ("", "it") };
        let defined = if defined.is_empty() {
            "the app has no attribute names yet".to_owned()
        } else {
            format!("the app's names are {}", quoted_list(defined))
        };
        Self::Systemic {
            code,
            attribute: missing.first().map(|name| (*name).to_owned()),
            message: format!(
                "the app does not know the attribute{plural} {} ({code}): set {pronoun} with `imsync attributes apply`, or correct [attributes]; {defined}",
                quoted_list(missing),
            ),
        }
    }

    /// IM refused more accounts of the pass with one code than `allowed`, a share from 0 to 1.
    pub(super) fn too_many_rejected(code: Code, share: RejectedShare, allowed: f64) -> Self {
        let RejectedShare { refused, answered } = share;
        #[expect(clippy::cast_precision_loss, reason = "counts of accounts are far below 2^52")]
        let percent = refused as f64 * 100.0 / answered as f64;
        Self::TooManyRejected {
            code,
            message: format!(
                "IM refused {refused} of {answered} accounts of this pass ({percent:.0} %) with {code}; im.max_rejected_share = {allowed} allows fewer. {} If so many refusals are expected, raise im.max_rejected_share.",
                code.advice()
            ),
        }
    }
}

fn quoted_list<S: AsRef<str>>(names: &[S]) -> String {
    names.iter().map(|name| format!("\"{}\"", name.as_ref())).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::batch::Operation;
    use super::*;
    use crate::model::AttributeIndex;

    const CODE: Code = Code::Vendor(90033);

    #[test]
    fn undefined_attributes_are_listed_with_the_apps_names() {
        let one = StopReason::undefined_attributes(CODE, &["vip"], &["city".to_owned(), "sex".to_owned()]);
        assert_eq!(
            one.to_string(),
            "the app does not know the attribute \"vip\" (code 90033): set it with `imsync attributes apply`, or correct [attributes]; the app's names are \"city\", \"sex\""
        );
        let two = StopReason::undefined_attributes(CODE, &["plan", "vip"], &[]).to_string();
        assert!(two.contains("the attributes \"plan\", \"vip\"") && two.contains("set them with"), "{two}");
        assert!(two.ends_with("the app has no attribute names yet"), "{two}");
    }

    #[test]
    fn a_systemic_fault_names_the_attribute() {
        let names: AttributeNames = ["city", "sex"].iter().map(|name| std::sync::Arc::from(*name)).collect();
        let mut suspect = Suspect { op: Operation::Set, code: CODE, attribute: Some(AttributeIndex(1)) };
        let one = StopReason::systemic(suspect, &names, "the probe was refused too");
        let StopReason::Systemic { attribute, message, .. } = one else { panic!("{one:?}") };
        assert_eq!(attribute.as_deref(), Some("sex"));
        assert!(message.starts_with("IM refuses the attribute \"sex\" of every account with code 90033"), "{message}");
        suspect.attribute = None;
        let all = StopReason::systemic(suspect, &names, "the probe was refused too").to_string();
        assert!(all.starts_with("IM refuses every account with code 90033, and the probe was refused too"), "{all}");
    }

    #[test]
    fn the_rejected_share_is_shown_in_percent() {
        let share = RejectedShare { refused: 1_170, answered: 1_300 };
        let message = StopReason::too_many_rejected(CODE, share, 0.4).to_string();
        assert!(message.contains("1170 of 1300 accounts of this pass (90 %)"), "{message}");
        assert!(message.contains("im.max_rejected_share = 0.4 allows fewer"), "{message}");
    }
}
