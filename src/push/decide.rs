//! Finding out whether rows or the app are at fault, and the sentences for a pass that must stop.
//!
//! Owns: the probe, the reading of the app's names, what the operator is told. Must not know: batches and deliveries.

use super::attempt::{Attempts, CallPurpose, SendFailure};
use super::call::{Call, CallReply};
use super::disposition::ATTRIBUTE_NOT_VALID;
use super::refusal_stats::{RefusalCause, RejectedShare, Suspect};
use super::session::PushSession;
use super::{Probe, StopReason};
use crate::clock::{monotonic, now_utc};
use crate::crash;
use crate::im::{CallError, Code, SetUser};
use crate::model::{AttributeIndex, VendorRefusal};

impl PushSession {
    /// One probe decides: an acknowledged value, sent again. Accepted: it is the rows. Refused as well, or nobody to
    /// send it to: the pass stops. Only one is under way at a time; who comes second finds it decided.
    pub(super) async fn decide(&self, suspect: Suspect) {
        let Some(_one) = self.unless_stopped(self.deciding.lock()).await else { return };
        let Some(mut probe_account) = self.unless_stopped(self.pusher.probe_account.take_hold()).await else { return };
        // Something may have been accepted, or decided, while this waited.
        if self.halted_now() || self.stats().standing(suspect) == RefusalCause::Row {
            return;
        }
        let Some(probe) = probe_account.clone() else {
            self.stop(self.systemic(suspect, "no account with an acknowledged value is there to try it with"));
            return;
        };
        let mut attempts = Attempts::default();
        let answer = self.probe(&probe, &mut attempts).await;
        crash::point("push: a probe has ended");
        let code = match answer {
            Ok(()) => {
                self.slow_start.success();
                self.stats().rows(suspect.code);
                return;
            }
            Err(SendFailure::Refused(error)) => error.code,
            Err(SendFailure::RanOut(error)) => {
                self.stop(unreachable(&error, &attempts));
                return;
            }
            Err(SendFailure::Halted) => return,
        };
        if code.of_account() {
            // It speaks of the probe's account alone. Another account can take its place.
            *probe_account = None;
        }
        self.stop(self.systemic(
            suspect,
            &format!("a value that IM had acknowledged before was sent again and refused too, with {code}"),
        ));
    }

    /// A batch ran out, and nothing of the pass was accepted yet: is it the batch, or is IM unreachable? Somebody else is sent
    /// an acknowledged value again, where somebody is known. No answer either: the pass stops.
    pub(super) async fn check_im_alive(&self, error: &CallError, attempts: &Attempts, call: &Call<'_>) {
        let Some(_one) = self.unless_stopped(self.deciding.lock()).await else { return };
        // Accounts cannot break a connection.
        if self.slow_start.last_success().is_some() || error.code == Code::Connect {
            return;
        }
        let Some(mut probe_account) = self.unless_stopped(self.pusher.probe_account.take_hold()).await else { return };
        // One that the batch carries may be the one on which IM never answers.
        let Some(probe) = probe_account.clone().filter(|probe| !call.carries(&probe.account)) else { return };
        match self.probe(&probe, &mut Attempts { once: true, ..Attempts::default() }).await {
            // A refusal is an answer too.
            Ok(()) | Err(SendFailure::Refused(_)) => self.slow_start.success(),
            Err(SendFailure::RanOut(_)) => {
                // It may be the one on which IM never answers.
                *probe_account = None;
                self.stop(unreachable(error, attempts));
            }
            Err(SendFailure::Halted) => {}
        }
    }

    async fn probe(&self, probe: &Probe, attempts: &mut Attempts) -> Result<(), SendFailure> {
        let name = &*self.names[probe.attribute.index()];
        let call = Call::Set(vec![SetUser { account: probe.account.as_str(), attrs: vec![(name, &*probe.value)] }]);
        let answer = self.send_with_retry(&call, attempts, CallPurpose::Probe).await;
        if attempts.maybe {
            // It stands in no intent: whatever is sent for this account meanwhile is provisional.
            self.pusher
                .probe_account
                .note_late_write(&probe.account, monotonic() + self.pusher.limits.late_write_window);
        }
        match answer? {
            CallReply::Users(accepted) => match accepted.failed.into_iter().next() {
                None => Ok(()),
                // `timpush` answers for the account instead of the call.
                Some(failed) => Err(SendFailure::Refused(CallError {
                    command: call.command(),
                    code: failed.code,
                    info: failed.info,
                    request_id: accepted.request_id,
                    retry_after: None,
                    maybe_applied: false,
                })),
            },
            CallReply::Names(_) => Ok(()),
        }
    }

    /// After a 90033: a name that the app does not know stops the pass; when it knows them all it is the rows.
    /// The names are read once a pass. Where they cannot be read, counting and the probe decide.
    pub(super) async fn examine_names(&self, attributes: impl Iterator<Item = AttributeIndex>) {
        let names = self
            .app_names
            .get_or_init(|| async {
                match self.send_with_retry(&Call::Names, &mut Attempts::default(), CallPurpose::Deliver).await {
                    Ok(CallReply::Names(names)) => Some(names),
                    Ok(CallReply::Users(_)) | Err(_) => None,
                }
            })
            .await;
        let Some(names) = names else { return };
        let mut missing: Vec<&str> = attributes
            .map(|attribute| &*self.names[attribute.index()])
            .filter(|name| !names.iter().any(|known| known == name))
            .collect();
        missing.sort_unstable();
        missing.dedup();
        let Some(first) = missing.first() else {
            self.stats().rows(ATTRIBUTE_NOT_VALID);
            return;
        };
        let known =
            if names.is_empty() { "it has none yet".to_owned() } else { format!("its names are {}", list(names)) };
        self.stop(StopReason::Systemic {
            code: ATTRIBUTE_NOT_VALID,
            attribute: Some((*first).to_owned()),
            message: format!(
                "the app does not know the attribute{} {} ({ATTRIBUTE_NOT_VALID}): add {} to the app's attribute names (console, or the vendor's set_attr_name), or correct [attributes]; {known}",
                if missing.len() > 1 { "s" } else { "" },
                list(&missing),
                if missing.len() > 1 { "them" } else { "it" },
            ),
        });
    }

    fn systemic(&self, suspect: Suspect, evidence: &str) -> StopReason {
        let Suspect { code, attribute, .. } = suspect;
        let attribute = attribute.map(|attribute| self.names[attribute.index()].to_string());
        let what = attribute
            .as_ref()
            .map_or_else(|| "every account".to_owned(), |name| format!("the attribute \"{name}\" of every account"));
        let message = format!(
            "IM refuses {what} with {code}, and {evidence}: the fault is in the app or the configuration, nobody was rejected for it. {}",
            code.advice()
        );
        StopReason::Systemic { code, attribute, message }
    }
}

/// Nothing of the pass was accepted until patience ended.
pub(super) fn unreachable(error: &CallError, attempts: &Attempts) -> StopReason {
    let spent = attempts.first.map_or_else(Default::default, |first| first.elapsed());
    let since = (now_utc() - spent).format("%Y-%m-%dT%H:%M:%SZ");
    StopReason::Unreachable {
        message: format!(
            "IM is unreachable: no call was accepted since {since}, {} attempts in {} s; the last ended with {}. {}",
            attempts.count,
            spent.as_secs(),
            error.code,
            error.code.advice()
        ),
    }
}

/// IM lets nothing be pushed.
pub(super) fn credentials(code: Code, refusal: &VendorRefusal) -> StopReason {
    StopReason::Credentials { code, message: format!("IM refuses every call: {}", refusal.reason) }
}

/// More of the pass was refused with one code than may be.
pub(super) fn too_many(code: Code, counts: RejectedShare, allowed: f64) -> StopReason {
    let RejectedShare { refused, tried } = counts;
    #[expect(clippy::cast_precision_loss, reason = "counts of accounts are far below 2^52")]
    let percent = refused as f64 * 100.0 / tried as f64;
    StopReason::TooManyRejected {
        code,
        message: format!(
            "IM refused {refused} of {tried} accounts of this pass ({percent:.0} %) with {code}, more than im.max_rejected_share = {allowed} allows. {} If so many refusals are expected, raise im.max_rejected_share.",
            code.advice()
        ),
    }
}

fn list<S: AsRef<str>>(names: &[S]) -> String {
    names.iter().map(|name| format!("\"{}\"", name.as_ref())).collect::<Vec<_>>().join(", ")
}
