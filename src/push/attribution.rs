//! What is at fault: single accounts or the app.
//!
//! Owns: the probe and the reading of the app's attribute names, and what follows from their answers.
//! Must not know: batches, deliveries.

use super::attempts::Attempts;
use super::call::{Call, CallReply};
use super::permit::CallPurpose;
use super::probe::Probe;
use super::refusal_stats::{RefusalCause, Suspect};
use super::retry::SendFailure;
use super::session::PushSession;
use super::stop::StopReason;
use crate::clock::monotonic;
use crate::crash;
use crate::im::{CallError, Code, SetUser};
use crate::model::AttributeIndex;

impl PushSession {
    /// Finds out with a probe whether rows or the app are at fault for the refusals of the suspect.
    ///
    /// IM accepts the probe: rows are at fault. IM refuses it too, or there is no probe: the pass stops. One check runs
    /// at a time; a check that waited finds the result of the one before.
    pub(super) async fn attribute_fault(&self, suspect: Suspect) {
        let Some(_check) = self.unless_stopped(self.fault_check.lock()).await else { return };
        let Some(mut probe) = self.unless_stopped(self.pusher.probe_account.lock()).await else { return };
        // IM may have accepted something, or another check may have ended, while this one waited.
        if self.has_stopped() || self.stats().cause(suspect) == RefusalCause::Row {
            return;
        }
        let Some(current) = probe.clone() else {
            let evidence = "there is no account with an acknowledged value to test it with";
            self.stop(StopReason::systemic(suspect, &self.names, evidence));
            return;
        };
        let mut attempts = Attempts::default();
        let answer = self.send_probe(&current, &mut attempts).await;
        crash::point("push: a probe has ended");
        match answer {
            Ok(()) => {
                self.slow_start.record_success();
                self.stats().record_row_code(suspect.code);
            }
            Err(SendFailure::Refused(error)) => {
                let code = error.code;
                if code.concerns_account() {
                    // The refusal is about the probe's account only. Another account can take its place.
                    *probe = None;
                }
                let evidence =
                    format!("a value that IM had acknowledged before was sent again and refused with {code}");
                self.stop(StopReason::systemic(suspect, &self.names, &evidence));
            }
            Err(SendFailure::RanOut(error) | SendFailure::Stalled(error)) => {
                self.stop(StopReason::unreachable(&error, &attempts))
            }
            Err(SendFailure::Halted) => {}
        }
    }

    /// Sends the probe's value again. The caller holds the probe's lock.
    async fn send_probe(&self, probe: &Probe, attempts: &mut Attempts) -> Result<(), SendFailure> {
        let name = &*self.names[probe.attribute.index()];
        let call = Call::Set(vec![SetUser { account: probe.account.as_str(), attrs: vec![(name, &*probe.value)] }]);
        let answer = self.send_with_retry(&call, attempts, CallPurpose::Probe).await;
        if attempts.may_be_applied {
            // A probe has no intent in the state. So whatever is sent for its account meanwhile is provisional.
            let until = monotonic() + self.pusher.limits.late_write_window;
            self.pusher.probe_account.note_late_write(&probe.account, until);
        }
        match answer? {
            CallReply::Users(accepted) => match accepted.failed.into_iter().next() {
                None => Ok(()),
                // `timpush` accepts the call and lists the account as failed.
                Some(failed) => Err(SendFailure::Refused(CallError {
                    command: call.command(),
                    code: failed.code,
                    info: failed.info,
                    request_id: accepted.request_id,
                    retry_after: None,
                    maybe_applied: false,
                })),
            },
            CallReply::Names(_) | CallReply::Read => Ok(()),
        }
    }

    /// After a code that means "attribute not valid": stops the pass when the app does not define one of the
    /// attributes. When it defines all of them, rows are at fault.
    ///
    /// The app's names are read once in a pass. Where they cannot be read, the counts and the probe show what is at
    /// fault.
    pub(super) async fn check_attribute_names(&self, code: Code, attributes: impl Iterator<Item = AttributeIndex>) {
        let names = self
            .app_names
            .get_or_init(|| async {
                match self.send_with_retry(&Call::Names, &mut Attempts::default(), CallPurpose::Deliver).await {
                    Ok(CallReply::Names(names)) => Some(names),
                    Ok(CallReply::Users(_) | CallReply::Read) | Err(_) => None,
                }
            })
            .await;
        let Some(names) = names else { return };
        let mut missing: Vec<&str> = attributes
            .map(|attribute| &*self.names[attribute.index()])
            .filter(|name| !names.iter().any(|defined| defined == name))
            .collect();
        missing.sort_unstable();
        missing.dedup();
        if missing.is_empty() {
            self.stats().record_row_code(code);
        } else {
            self.stop(StopReason::undefined_attributes(code, &missing, names));
        }
    }
}
