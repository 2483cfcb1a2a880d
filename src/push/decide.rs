//! Finding out whether rows or the app are at fault, and the sentences for a pass that must stop.
//!
//! Owns: the probe, the reading of the app's names, what the operator is told. Must not know: batches and deliveries.

use super::attempt::{Failure, Purpose, Tries};
use super::exchange::{Call, Reply};
use super::session::Session;
use super::tally::{Standing, Suspect, TooMany};
use super::{Probe, Stop};
use crate::clock::{monotonic, now_utc};
use crate::crash;
use crate::im::{CallError, Code, SetUser};
use crate::model::{Slot, VendorRefusal};

impl Session {
    /// One probe decides: an acknowledged value, sent again. Accepted: it is the rows. Refused as well, or nobody to
    /// send it to: the pass stops. Only one is under way at a time; who comes second finds it decided.
    pub(super) async fn decide(&self, suspect: Suspect) {
        let Some(_one) = self.unless_stopped(self.deciding.lock()).await else { return };
        let Some(mut witness) = self.unless_stopped(self.pusher.witness.take_hold()).await else { return };
        // Something may have been accepted, or decided, while this waited.
        if self.halted_now() || self.tally().standing(suspect) == Standing::Row {
            return;
        }
        let Some(probe) = witness.clone() else {
            self.stop(self.systemic(suspect, "no account with an acknowledged value is there to try it with"));
            return;
        };
        let mut tries = Tries::default();
        let answer = self.probe(&probe, &mut tries).await;
        crash::point("push: a probe has ended");
        let code = match answer {
            Ok(()) => {
                self.gate.success();
                self.tally().rows(suspect.code);
                return;
            }
            Err(Failure::Refused(error)) => error.code,
            Err(Failure::RanOut(error)) => {
                self.stop(away(&error, &tries));
                return;
            }
            Err(Failure::Halted) => return,
        };
        if code.concerns_account() {
            // It speaks of the probe's account alone. Another account can take its place.
            *witness = None;
        }
        self.stop(self.systemic(
            suspect,
            &format!("a value that IM had acknowledged before was sent again and refused too, with {code}"),
        ));
    }

    /// A batch ran out, and nothing of the pass was accepted yet: is it the batch, or is IM away? Somebody else is sent
    /// an acknowledged value again, where somebody is known. No answer either: the pass stops.
    pub(super) async fn ask_for_anybody(&self, error: &CallError, tries: &Tries, call: &Call<'_>) {
        let Some(_one) = self.unless_stopped(self.deciding.lock()).await else { return };
        // Accounts cannot break a connection.
        if self.gate.last_success().is_some() || error.code.is_network_failure() {
            return;
        }
        let Some(mut witness) = self.unless_stopped(self.pusher.witness.take_hold()).await else { return };
        // One that the batch carries may be the one on which IM never answers.
        let Some(probe) = witness.clone().filter(|probe| !call.carries(&probe.account)) else { return };
        match self.probe(&probe, &mut Tries { once: true, ..Tries::default() }).await {
            // A refusal is an answer too.
            Ok(()) | Err(Failure::Refused(_)) => self.gate.success(),
            Err(Failure::RanOut(_)) => {
                // It may be the one on which IM never answers.
                *witness = None;
                self.stop(away(error, tries));
            }
            Err(Failure::Halted) => {}
        }
    }

    async fn probe(&self, probe: &Probe, tries: &mut Tries) -> Result<(), Failure> {
        let name = &*self.names[probe.slot.index()];
        let call = Call::Set(vec![SetUser { account: probe.account.as_str(), attrs: vec![(name, &*probe.value)] }]);
        let answer = self.persist(&call, tries, Purpose::Probe).await;
        if tries.maybe {
            // It stands in no intent: whatever is sent for this account meanwhile is provisional.
            self.pusher.witness.note_ghost(&probe.account, monotonic() + self.pusher.limits.ghosts);
        }
        match answer? {
            Reply::Users(accepted) => match accepted.failed.into_iter().next() {
                None => Ok(()),
                // `timpush` answers for the account instead of the call.
                Some(failed) => Err(Failure::Refused(CallError {
                    command: call.command(),
                    code: failed.code,
                    info: failed.info,
                    request_id: accepted.request_id,
                    retry_after: None,
                    maybe_applied: false,
                })),
            },
            Reply::Names(_) => Ok(()),
        }
    }

    /// After a code that means "attribute not valid": a name that the app does not know stops the pass; when it knows
    /// them all it is the rows.
    /// The names are read once a pass. Where they cannot be read, counting and the probe decide.
    pub(super) async fn examine_names(&self, code: Code, slots: impl Iterator<Item = Slot>) {
        let names = self
            .app_names
            .get_or_init(|| async {
                match self.persist(&Call::Names, &mut Tries::default(), Purpose::Deliver).await {
                    Ok(Reply::Names(names)) => Some(names),
                    Ok(Reply::Users(_)) | Err(_) => None,
                }
            })
            .await;
        let Some(names) = names else { return };
        let mut missing: Vec<&str> = slots
            .map(|slot| &*self.names[slot.index()])
            .filter(|name| !names.iter().any(|known| known == name))
            .collect();
        missing.sort_unstable();
        missing.dedup();
        let Some(first) = missing.first() else {
            self.tally().rows(code);
            return;
        };
        let known =
            if names.is_empty() { "it has none yet".to_owned() } else { format!("its names are {}", list(names)) };
        self.stop(Stop::Systemic {
            code,
            attribute: Some((*first).to_owned()),
            sentence: format!(
                "the app does not know the attribute{} {} ({code}): add {} to the app's attribute names (console, or the vendor's set_attr_name), or correct [attributes]; {known}",
                if missing.len() > 1 { "s" } else { "" },
                list(&missing),
                if missing.len() > 1 { "them" } else { "it" },
            ),
        });
    }

    fn systemic(&self, suspect: Suspect, evidence: &str) -> Stop {
        let Suspect { code, slot, .. } = suspect;
        let attribute = slot.map(|slot| self.names[slot.index()].to_string());
        let what = attribute
            .as_ref()
            .map_or_else(|| "every account".to_owned(), |name| format!("the attribute \"{name}\" of every account"));
        let sentence = format!(
            "IM refuses {what} with {code}, and {evidence}: the fault is in the app or the configuration, nobody was rejected for it. {}",
            code.advice()
        );
        Stop::Systemic { code, attribute, sentence }
    }
}

/// Nothing of the pass was accepted until patience ended.
pub(super) fn away(error: &CallError, tries: &Tries) -> Stop {
    let spent = tries.first.map_or_else(Default::default, |first| first.elapsed());
    let since = (now_utc() - spent).format("%Y-%m-%dT%H:%M:%SZ");
    Stop::Away {
        sentence: format!(
            "IM is away: no call was accepted since {since}, {} attempts in {} s; the last ended with {}. {}",
            tries.count,
            spent.as_secs(),
            error.code,
            error.code.advice()
        ),
    }
}

/// IM lets nothing be pushed.
pub(super) fn credentials(code: Code, refusal: &VendorRefusal) -> Stop {
    Stop::Credentials { code, sentence: format!("IM refuses every call: {}", refusal.reason) }
}

/// More of the pass was refused with one code than may be.
pub(super) fn too_many(code: Code, counts: TooMany, allowed: f64) -> Stop {
    let TooMany { refused, tried } = counts;
    #[expect(clippy::cast_precision_loss, reason = "counts of accounts are far below 2^52")]
    let percent = refused as f64 * 100.0 / tried as f64;
    Stop::TooManyRejected {
        code,
        sentence: format!(
            "IM refused {refused} of {tried} accounts of this pass ({percent:.0} %) with {code}, more than im.max_rejected_share = {allowed} allows. {} If so many refusals are expected, raise im.max_rejected_share.",
            code.advice()
        ),
    }
}

fn list<S: AsRef<str>>(names: &[S]) -> String {
    names.iter().map(|name| format!("\"{}\"", name.as_ref())).collect::<Vec<_>>().join(", ")
}
