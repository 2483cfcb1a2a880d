//! Whether IM answers at all, found out by a read.
//!
//! Owns: the read, how long its answer is reused, what an answer means. Must not know: batches, the cause of refusals.
//!
//! A read changes nothing in IM, so it needs no account of its own, no intent and no lock. It does not end the slow start:
//! an IM that answers reads may still hang in every call that sets attributes.

use std::time::Duration;

use super::attempts::Attempts;
use super::call::Call;
use super::session::PushSession;
use super::stop::StopReason;
use crate::clock::monotonic;
use crate::im::{CallError, Code, CodeClass};

/// The answer of one read serves all who ask within this time, so that many slow calls cost one read.
const REUSED_FOR: Duration = Duration::from_secs(1);

impl PushSession {
    /// Whether IM answers now. Makes one read with one attempt, unless another was made within the last second.
    ///
    /// A refusal is an answer too. False when the pass stops first.
    pub async fn im_is_alive(&self) -> bool {
        let Some(mut last_read) = self.unless_stopped(self.pusher.last_read.lock()).await else { return false };
        let recent = last_read.filter(|(at, _)| at.elapsed() < REUSED_FOR).map(|(_, is_alive)| is_alive);
        let is_alive = if let Some(is_alive) = recent {
            is_alive
        } else {
            let Some(answer) = self.attempt(&Call::Read, &mut Attempts::default()).await else {
                return false;
            };
            if let Err(error) = &answer
                && error.code.class() == CodeClass::SlowDown
            {
                self.pusher.slow_down(Call::Read.command(), error.code, None);
            }
            let is_alive = answer.map_or_else(|error| is_answer(error.code), |_| true);
            *last_read = Some((monotonic(), is_alive));
            is_alive
        };
        if is_alive {
            self.note_read_answered();
        }
        is_alive
    }

    /// Finds out whether IM is unreachable, after a call ran out of attempts and while IM has accepted nothing in this
    /// pass. If IM does not answer, the pass stops.
    pub(super) async fn check_im_alive(&self, error: &CallError, attempts: &Attempts) {
        if self.slow_start.last_success().is_some() || error.code.is_network_failure() {
            return;
        }
        if !self.im_is_alive().await {
            self.stop(StopReason::unreachable(error, attempts));
        }
    }
}

/// IM, or a gateway that passes calls on to it, has answered. A gateway may refuse reads and permit the other calls, so its
/// refusal does not show that IM is unreachable.
pub(super) fn is_answer(code: Code) -> bool {
    match code {
        Code::UnmatchedErrorList => true,
        Code::Vendor(_) | Code::Http(400..=499) => code.class() != CodeClass::Retry,
        Code::Http(_) | Code::Timeout | Code::Connect | Code::Malformed | Code::ForeignAnswer => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_an_answer_and_a_fault_is_none() {
        for code in [Code::Vendor(70107), Code::Vendor(60007), Code::Vendor(424_242), Code::Http(403), Code::Http(429)]
        {
            assert!(is_answer(code), "{code}");
        }
        for code in [Code::Timeout, Code::Connect, Code::Malformed, Code::Vendor(91000), Code::Http(408)] {
            assert!(!is_answer(code), "{code}");
        }
        assert!(!is_answer(Code::Http(502)) && !is_answer(Code::Http(302)));
    }
}
