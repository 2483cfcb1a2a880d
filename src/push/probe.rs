//! The probe: an account with an acknowledged value, which can be sent again to find out whether IM accepts it.
//!
//! Owns: which account that is, its current value, and that no other call with the account is in flight beside a probe.
//! Must not know: when a probe is sent, what its answer means.

use std::sync::{Mutex, PoisonError};

use tokio::sync::MutexGuard;
use tokio::time::Instant;

use super::call::{Call, CallEffect, CallReply};
use crate::clock::monotonic;
use crate::im::CallError;
use crate::model::{Account, AttributeIndex, AttributeNames};

/// A value that IM has acknowledged. Sending it again changes nothing, and shows whether accounts or the app are at
/// fault for refusals, or whether IM is reachable.
#[derive(Clone, Debug)]
pub struct Probe {
    /// The account that holds the value.
    pub account: Account,
    /// The attribute that holds the value.
    pub attribute: AttributeIndex,
    /// The value that IM acknowledged last.
    pub value: Box<str>,
}

/// The lock on the probe. A call with the probe's account holds it while it is in flight, a probe as well.
pub(super) type ProbeGuard<'a> = MutexGuard<'a, Option<Probe>>;

/// The probe of all passes: a value that one pass acknowledged must not be sent by another after it is outdated.
#[derive(Debug, Default)]
pub(super) struct ProbeAccount {
    /// The account of the probe, which can be read without waiting for the lock.
    account: Mutex<Option<Account>>,
    probe: tokio::sync::Mutex<Option<Probe>>,
    /// The account of a probe without a known outcome, and until when that probe may still be applied.
    late_write: Mutex<Option<(Account, Instant)>>,
}

impl ProbeAccount {
    /// There is a probe, or one is in use now.
    pub(super) fn is_known(&self) -> bool {
        self.probe.try_lock().map_or(true, |probe| probe.is_some())
    }

    /// The lock that the call must hold while it is in flight; `None` where it does not carry the probe's account.
    pub(super) async fn lock_for(&self, call: &Call<'_>) -> Option<ProbeGuard<'_>> {
        let carried = {
            let account = self.account.lock().unwrap_or_else(PoisonError::into_inner);
            account.as_ref().is_some_and(|account| call.carries(account))
        };
        if carried { Some(self.probe.lock().await) } else { None }
    }

    pub(super) async fn lock(&self) -> ProbeGuard<'_> {
        self.probe.lock().await
    }

    /// A probe of this account has no known outcome, and may be applied until then.
    pub(super) fn note_late_write(&self, account: &Account, until: Instant) {
        *self.late_write.lock().unwrap_or_else(PoisonError::into_inner) = Some((account.clone(), until));
    }

    /// A probe may still be applied after this call, and overwrite what the call sets.
    pub(super) fn may_overwrite(&self, call: &Call<'_>) -> bool {
        let late_write = self.late_write.lock().unwrap_or_else(PoisonError::into_inner);
        late_write.as_ref().is_some_and(|(account, until)| monotonic() < *until && call.carries(account))
    }

    /// Stores the probe that `find` returns, where none is known. The caller makes sure that no other call with the
    /// account starts before this returns, so that such a call finds the account here and takes the lock.
    pub(super) fn set_if_unknown(&self, find: impl FnOnce() -> Option<Probe>) {
        let Ok(mut probe) = self.probe.try_lock() else { return };
        if probe.is_none() {
            *probe = find();
            let account = probe.as_ref().map(|probe| probe.account.clone());
            *self.account.lock().unwrap_or_else(PoisonError::into_inner) = account;
        }
    }
}

/// After a call with the probe's account: keeps the probe equal to what IM acknowledged last. Drops the probe when the
/// call removed the value, or may have changed it.
pub(super) fn refresh_probe(
    probe: &mut Option<Probe>,
    call: &Call<'_>,
    answer: &Result<CallReply, CallError>,
    names: &AttributeNames,
) {
    let Some(current) = probe else { return };
    let Some(effect) = call.effect(&current.account, &names[current.attribute.index()]) else { return };
    let accepted = match answer {
        Ok(CallReply::Users(accepted)) => {
            accepted.failed.iter().all(|failed| failed.account != current.account.as_str())
        }
        Ok(CallReply::Names(_) | CallReply::Read) => return,
        Err(error) if !error.maybe_applied => return,
        Err(_) => false,
    };
    match effect {
        CallEffect::Sets(value) if accepted => current.value = value.into(),
        CallEffect::Sets(_) | CallEffect::Removes => *probe = None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::im::{Accepted, ApiCommand, Code, RemoveUser, SetUser};

    fn probe() -> Probe {
        Probe { account: Account::new("p"), attribute: AttributeIndex(0), value: "Paris".into() }
    }

    fn set(account: &'static str, name: &'static str) -> Call<'static> {
        Call::Set(vec![SetUser { account, attrs: vec![(name, "Rome")] }])
    }

    fn failed(maybe_applied: bool) -> Result<CallReply, CallError> {
        Err(CallError {
            command: ApiCommand::SetAttr,
            code: Code::Timeout,
            info: String::new(),
            request_id: None,
            retry_after: None,
            maybe_applied,
        })
    }

    /// The probe's value after the call.
    fn after(call: &Call<'_>, answer: &Result<CallReply, CallError>) -> Option<String> {
        let names: AttributeNames = ["city", "sex"].iter().map(|name| Arc::from(*name)).collect();
        let mut probe = Some(probe());
        refresh_probe(&mut probe, call, answer, &names);
        probe.map(|probe| probe.value.into())
    }

    #[test]
    fn the_probe_follows_what_im_acknowledged() {
        let accepted = || Ok(CallReply::Users(Accepted::default()));
        let removal = Call::Remove(vec![RemoveUser { account: "p", names: vec!["city"] }]);
        assert_eq!(after(&set("p", "city"), &accepted()).as_deref(), Some("Rome"));
        assert_eq!(after(&set("p", "sex"), &accepted()).as_deref(), Some("Paris"));
        assert_eq!(after(&set("other", "city"), &accepted()).as_deref(), Some("Paris"));
        assert_eq!(after(&removal, &accepted()), None);
        assert_eq!(after(&set("p", "city"), &failed(false)).as_deref(), Some("Paris"));
        assert_eq!(after(&set("p", "city"), &failed(true)), None, "it may hold either value");
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_with_the_probes_account_takes_the_lock() {
        let account = ProbeAccount::default();
        account.set_if_unknown(|| Some(probe()));
        assert!(account.is_known());
        assert!(account.lock_for(&set("other", "city")).await.is_none());
        let guard = account.lock_for(&set("p", "city")).await;
        assert!(guard.is_some() && account.is_known(), "a probe in use is known");
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_without_an_answer_may_overwrite_until_then() {
        let account = ProbeAccount::default();
        account.note_late_write(&Account::new("p"), monotonic() + std::time::Duration::from_secs(20));
        assert!(account.may_overwrite(&set("p", "city")) && !account.may_overwrite(&set("other", "city")));
        tokio::time::advance(std::time::Duration::from_secs(20)).await;
        assert!(!account.may_overwrite(&set("p", "city")));
    }
}
