//! What is at fault: single accounts or the app.
//!
//! Owns: the probe and the reading of the app's attribute names, and what follows from their answers.
//! Must not know: batches, deliveries.

use super::attempts::Attempts;
use super::call::{Call, CallReply};
use super::refusal_stats::Suspect;
use super::send_probe::ProbeResult;
use super::session::PushSession;
use super::stop::StopReason;
use crate::im::Code;
use crate::model::AttributeIndex;

/// So many accounts are tried before a refusal that may be about the account or its value counts against the app.
const MAX_PROBES: usize = 3;

impl PushSession {
    /// Finds out with a probe whether rows or the app are at fault for the refusals of the suspect.
    ///
    /// IM accepts the probe: rows are at fault. IM refuses it too, or there is no probe: the pass stops. One check runs
    /// at a time; a check that waited finds the result of the one before.
    pub(super) async fn attribute_fault(&self, suspect: Suspect) {
        let Some(_check) = self.unless_stopped(self.fault_check.lock()).await else { return };
        // IM may have accepted something, or another check may have ended, while this one waited.
        if self.has_stopped() || self.stats().is_cleared(suspect) {
            return;
        }
        if suspect.code.comes_from_gateway() {
            return self.attribute_gateway_fault(suspect).await;
        }
        match self.probe_accounts(suspect.attribute).await {
            ProbeResult::Accepted => {
                self.slow_start.record_success();
                self.stats().record_row_code(suspect.code);
            }
            ProbeResult::Refused(_, error) => {
                let evidence =
                    format!("a value that IM had acknowledged before was sent again and refused with {}", error.code);
                self.stop(StopReason::systemic(suspect, &self.names, &evidence));
            }
            ProbeResult::RanOut(error, attempts) | ProbeResult::Stalled(_, error, attempts) => {
                self.stop(StopReason::unreachable(&error, &attempts));
            }
            ProbeResult::NoAccount => {
                let evidence = "there is no account with an acknowledged value to test it with";
                self.stop(StopReason::systemic(suspect, &self.names, evidence));
            }
            ProbeResult::Halted => {}
        }
    }

    /// Sends a probe, and one for another account if the refusal may be about the account or the value of the first, or if IM
    /// does not answer for that account alone.
    pub(super) async fn probe_accounts(&self, wanted: Option<AttributeIndex>) -> ProbeResult {
        let mut tried = Vec::new();
        let mut last = None;
        loop {
            match self.send_probe(wanted, &tried).await {
                ProbeResult::Refused(account, error)
                    if (error.code.concerns_account() || error.code.comes_from_gateway())
                        && tried.len() + 1 < MAX_PROBES =>
                {
                    tried.push(account.clone());
                    last = Some(ProbeResult::Refused(account, error));
                }
                ProbeResult::Stalled(account, error, attempts) if tried.len() + 1 < MAX_PROBES => {
                    tried.push(account.clone());
                    last = Some(ProbeResult::Stalled(account, error, attempts));
                }
                ProbeResult::NoAccount => return last.unwrap_or(ProbeResult::NoAccount),
                result => return result,
            }
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
                match self.send_with_retry(&Call::Names, &mut Attempts::default()).await {
                    Ok(CallReply::Names(names)) => Some(names),
                    Ok(_) | Err(_) => None,
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
