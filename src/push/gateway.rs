//! Refusals by a gateway before IM: whether it refuses the content of some calls, or every call.
//!
//! Owns: the calls with harmless content that show it, and what follows from their answers. Must not know: batches,
//! deliveries, which statuses a gateway sends.

use std::sync::atomic::Ordering;

use super::alive::is_answer;
use super::attempts::Attempts;
use super::batch::Operation;
use super::call::Call;
use super::refusal_stats::Suspect;
use super::send_probe::ProbeResult;
use super::session::PushSession;
use super::stop::StopReason;
use crate::im::Code;

impl PushSession {
    /// After a refusal by a gateway, before a batch is split for it: if nothing has reached IM in this pass, harmless
    /// content shows whether the gateway refuses every call. Checked once in a pass.
    pub(super) async fn check_gateway(&self, op: Operation, code: Code) {
        let Some(_check) = self.unless_stopped(self.fault_check.lock()).await else { return };
        let passed = self.stats().passed();
        if self.has_stopped() || passed > 0 || self.gateway_checked.swap(true, Ordering::Relaxed) {
            return;
        }
        let suspect = Suspect { op, code, attribute: None };
        if self.probe_gateway(suspect).await {
            self.read_through_gateway(suspect, true).await;
        }
    }

    /// Finds out whether rows or the gateway are at fault for the refusals of the suspect. The caller holds the lock of
    /// the check.
    pub(super) async fn attribute_gateway_fault(&self, suspect: Suspect) {
        if self.probe_gateway(suspect).await {
            self.read_through_gateway(suspect, false).await;
        }
    }

    /// Sends probes until one reaches IM. Returns whether there is no account to send one for.
    async fn probe_gateway(&self, suspect: Suspect) -> bool {
        match self.probe_accounts(suspect.attribute).await {
            ProbeResult::Accepted => {
                self.slow_start.record_success();
                self.stats().record_content_refused(suspect);
            }
            ProbeResult::Refused(_, error) if error.code.comes_from_gateway() => {
                let evidence = "a value that IM had acknowledged before";
                let is_partial = self.stats().passed() > 0;
                self.stop(if is_partial {
                    let evidence = format!("{evidence} was sent again and refused with {}", error.code);
                    StopReason::systemic(suspect, &self.names, &evidence)
                } else {
                    StopReason::gateway(suspect.code, evidence)
                });
            }
            // IM itself has answered.
            ProbeResult::Refused(..) => self.stats().record_content_refused(suspect),
            ProbeResult::RanOut(error, attempts) | ProbeResult::Stalled(_, error, attempts) => {
                self.stop(StopReason::unreachable(&error, &attempts));
            }
            ProbeResult::NoAccount => return true,
            ProbeResult::Halted => {}
        }
        false
    }

    /// Without an account for a probe, a read is the harmless content. A gateway that refuses it refuses every call. If it
    /// passes, the gateway may still refuse all calls that set attributes: then the counts decide.
    async fn read_through_gateway(&self, suspect: Suspect, is_first: bool) {
        let mut attempts = Attempts::default();
        let Some(answer) = self.attempt(&Call::Read, &mut attempts).await else { return };
        let (passed, is_suspected) = {
            let stats = self.stats();
            (stats.passed(), stats.gateway_is_suspected())
        };
        match answer {
            Err(error) if error.code.comes_from_gateway() => {
                self.stop(StopReason::gateway(suspect.code, "a read of the administrator's account"));
            }
            Err(error) if !is_answer(error.code) => self.stop(StopReason::unreachable(&error, &attempts)),
            Ok(_) | Err(_) if is_first => {}
            Ok(_) | Err(_) if passed == 0 && is_suspected => {
                let evidence = "there is no account with an acknowledged value to test it with";
                self.stop(StopReason::systemic(suspect, &self.names, evidence));
            }
            Ok(_) | Err(_) => self.stats().record_content_refused(suspect),
        }
    }
}
