//! The accounts of probes: chosen among the acknowledged ones, reserved in the queue, and covered by an intent.
//!
//! Owns: which account a probe takes, and what is stored before and after it. Must not know: why a probe is sent, what its
//! answer means.
//!
//! A probe sends a value that the state holds. So the order matters: the account is reserved first, then its value is read.
//! A value that was read before the reservation could be outdated by a call of another pass that is in flight.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use rand::seq::SliceRandom;

use super::account_backoff::AccountBackoff;
use super::accounts_in_flight::{AccountReservation, AccountsInFlight, LiveIntents};
use super::error::{FirstError, PassError};
use crate::crash;
use crate::model::{Account, AcknowledgedValue, AttributeIndex, Change};
use crate::push::{Probe, ProbeAnswer, ProbeFailed, ProbeSource, TakenProbe};
use crate::state::IntendedChange;
use crate::state::account::{AccountRecord, RetryDue, StoredAccount};
use crate::state::history::{HistoryRecord, NewHistoryRow, SendingPass, SentOutcome};
use crate::state::outcome_record::{IntentUpdate, OutcomeRecord};
use crate::state::{State, StateWriter};

/// Takes the accounts for the probes of one pass.
#[derive(Clone, Debug)]
pub(super) struct AcknowledgedAccounts {
    pub(super) state: State,
    pub(super) writer: StateWriter,
    pub(super) in_flight: AccountsInFlight,
    pub(super) live_intents: LiveIntents,
    pub(super) backoff: Arc<Mutex<AccountBackoff>>,
    /// How long a call without a known outcome may still be applied.
    pub(super) late_write_window: Duration,
    /// The delay before a rejection is tried again. A probe records none.
    pub(super) retry_after: Duration,
    /// What the history names as the pass; `None` when no history is kept.
    pub(super) history: Option<SendingPass>,
    /// After which account the next search begins, so that not always the same account is taken. Shared by all passes.
    pub(super) search_after: Arc<Mutex<Account>>,
    pub(super) failure: FirstError,
}

/// A reserved account with its acknowledged values and the probe's intent.
#[derive(Debug)]
struct ReservedProbe {
    accounts: AcknowledgedAccounts,
    probe: Probe,
    acknowledged: Vec<AcknowledgedValue>,
    intent: i64,
    reservation: AccountReservation,
}

impl AcknowledgedAccounts {
    async fn try_take(
        &self,
        wanted: Option<AttributeIndex>,
        tried: &[Account],
    ) -> Result<Option<ReservedProbe>, PassError> {
        let after = self.search_after.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (sync_id, generation) = (self.writer.sync_id(), self.writer.generation());
        let mut found = self.state.acknowledged_accounts(sync_id, generation, &after).await?;
        if let Some((last, _)) = found.last() {
            *self.search_after.lock().unwrap_or_else(PoisonError::into_inner) = last.clone();
        }
        found.shuffle(&mut rand::rng());
        found.sort_by_key(|(_, acknowledged)| value_of(acknowledged, wanted).is_none());
        for (account, _) in found {
            if tried.contains(&account) || self.lock_backoff().is_unresponsive(&account) {
                continue;
            }
            let Some(reservation) = self.in_flight.reserve(&account).await else { continue };
            if let Some((attribute, value, acknowledged)) = self.read_reserved(&account, wanted).await? {
                let probe = Probe { account, attribute, value };
                if let Some(reserved) = self.store_intent(probe, acknowledged, reservation).await? {
                    return Ok(Some(reserved));
                }
            }
        }
        Ok(None)
    }

    /// An acknowledged value of a reserved account; `None` if it is in doubt or rejected by now.
    async fn read_reserved(
        &self,
        account: &Account,
        wanted: Option<AttributeIndex>,
    ) -> Result<Option<(AttributeIndex, Arc<str>, Vec<AcknowledgedValue>)>, PassError> {
        let (sync_id, generation) = (self.writer.sync_id(), self.writer.generation());
        let stored =
            self.state.stored_accounts(sync_id, generation, &[account.as_str()], &[None]).await?.pop().flatten();
        let Some(StoredAccount::Acknowledged { known, late_write: None, retry_pending: false, .. }) = stored else {
            return Ok(None);
        };
        if known.iter().any(AcknowledgedValue::in_doubt) {
            return Ok(None);
        }
        let rejections = self.state.standing_rejections(sync_id, &[account.as_str()]).await?;
        let value = value_of(&known, wanted).or_else(|| value_of(&known, None)).filter(|_| rejections.is_empty());
        let value = value.map(|(attribute, value)| (attribute, Arc::from(value)));
        Ok(value.map(|(attribute, value)| (attribute, value, known)))
    }

    async fn store_intent(
        &self,
        probe: Probe,
        acknowledged: Vec<AcknowledgedValue>,
        reservation: AccountReservation,
    ) -> Result<Option<ReservedProbe>, PassError> {
        let set = vec![(probe.attribute, probe.value.clone())];
        let change = Change { account: probe.account.clone(), set, remove: Vec::new() };
        let mut live = self.live_intents.lock().await;
        let intended = IntendedChange {
            change: &change,
            given_up: &[],
            acknowledged: &acknowledged,
            is_stored: true,
            late_write: None,
        };
        let stored = self.writer.store_intent(&[intended]).await?;
        let Some(intent) = stored.id else { return Ok(None) };
        if !stored.restrictions.is_empty() {
            // Another sync of the app uses the account. Another account is taken.
            let record = OutcomeRecord { intent: Some(IntentUpdate::delete(intent)), ..OutcomeRecord::default() };
            self.writer.record(&record, self.retry_after).await?;
            return Ok(None);
        }
        live.insert(intent);
        drop(live);
        crash::point("probe: the intent is stored");
        Ok(Some(ReservedProbe { accounts: self.clone(), probe, acknowledged, intent, reservation }))
    }

    fn lock_backoff(&self) -> std::sync::MutexGuard<'_, AccountBackoff> {
        self.backoff.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the error for the report of the pass, which the push stage stops.
    fn failed(&self, error: PassError) -> ProbeFailed {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        ProbeFailed
    }
}

impl ProbeSource for AcknowledgedAccounts {
    fn take<'a>(
        &'a self,
        wanted: Option<AttributeIndex>,
        tried: &'a [Account],
    ) -> BoxFuture<'a, Result<Option<Box<dyn TakenProbe>>, ProbeFailed>> {
        Box::pin(async move {
            let taken = self.try_take(wanted, tried).await.map_err(|error| self.failed(error))?;
            Ok(taken.map(|taken| Box::new(taken) as Box<dyn TakenProbe>))
        })
    }
}

impl TakenProbe for ReservedProbe {
    fn probe(&self) -> &Probe {
        &self.probe
    }

    fn end(
        self: Box<Self>,
        answer: ProbeAnswer,
        may_be_applied_later: bool,
    ) -> BoxFuture<'static, Result<(), ProbeFailed>> {
        Box::pin(async move {
            let Self { accounts, probe, acknowledged, intent, reservation } = *self;
            let mut record =
                outcome(&probe, acknowledged, intent, may_be_applied_later.then_some(accounts.late_write_window));
            record.history = accounts.history.and_then(|pass| sent(pass, &probe, answer, may_be_applied_later));
            let recorded = accounts.writer.record(&record, accounts.retry_after).await;
            // Either the outcome is recorded, or the next pass makes the attribute unknown.
            accounts.live_intents.lock().await.remove(&intent);
            crash::point("probe: the outcome is recorded");
            drop(reservation);
            recorded.map_err(|error| accounts.failed(error.into()))
        })
    }
}

/// The record that deletes the intent. Whether IM accepted or refused the value, it holds it as before. But an attempt that
/// may still be applied could overwrite the next value, so the value is provisional until the window has passed.
fn outcome(
    probe: &Probe,
    mut acknowledged: Vec<AcknowledgedValue>,
    intent: i64,
    late_write: Option<Duration>,
) -> OutcomeRecord {
    let mut record = OutcomeRecord { intent: Some(IntentUpdate::delete(intent)), ..OutcomeRecord::default() };
    if let Some(window) = late_write {
        acknowledged[probe.attribute.index()] = AcknowledgedValue::Provisional(Some(probe.value.clone()));
        record.accounts.push(AccountRecord {
            account: probe.account.clone(),
            exists: true,
            acknowledged,
            due: RetryDue::In(window),
            late_write: Some(window),
        });
    }
    record
}

/// The row of a probe in the history: the value that IM holds was sent again. `None` if it was in no call that IM can have
/// applied.
fn sent(pass: SendingPass, probe: &Probe, answer: ProbeAnswer, may_be_applied_later: bool) -> Option<HistoryRecord> {
    let outcome = match answer {
        ProbeAnswer::Refused => SentOutcome::Rejected,
        ProbeAnswer::Accepted if !may_be_applied_later => SentOutcome::Acknowledged,
        ProbeAnswer::Accepted => SentOutcome::InDoubt,
        ProbeAnswer::None if may_be_applied_later => SentOutcome::InDoubt,
        ProbeAnswer::None => return None,
    };
    let Probe { account, attribute, value } = probe.clone();
    let row = NewHistoryRow { account, attribute, old: Some(value.clone()), new: Some(value), outcome };
    Some(HistoryRecord { pass, rows: vec![row] })
}

/// The value of the wanted attribute, or of the first one that has a value.
fn value_of(acknowledged: &[AcknowledgedValue], wanted: Option<AttributeIndex>) -> Option<(AttributeIndex, &str)> {
    acknowledged.iter().zip(0..).find_map(|(known, index)| match known {
        AcknowledgedValue::Value(value) if wanted.is_none_or(|wanted| wanted.0 == index) => {
            Some((AttributeIndex(index), &**value))
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe() -> Probe {
        Probe { account: Account::new("u"), attribute: AttributeIndex(1), value: "Rome".into() }
    }

    fn acknowledged() -> Vec<AcknowledgedValue> {
        vec![AcknowledgedValue::Absent, AcknowledgedValue::Value("Rome".into()), AcknowledgedValue::Value("x".into())]
    }

    #[test]
    fn a_value_of_the_wanted_attribute_is_preferred() {
        let index =
            |wanted: Option<u16>| value_of(&acknowledged(), wanted.map(AttributeIndex)).map(|(found, _)| found.0);
        assert_eq!((index(None), index(Some(2)), index(Some(0)), index(Some(7))), (Some(1), Some(2), None, None));
    }

    #[test]
    fn a_probe_is_in_the_history_unless_it_was_never_sent() {
        let pass = SendingPass { kind: "full", started_at: chrono::DateTime::UNIX_EPOCH };
        let outcome = |answer, later| {
            let row = sent(pass, &probe(), answer, later)?.rows.remove(0);
            assert_eq!((row.old.as_deref(), row.new.as_deref()), (Some("Rome"), Some("Rome")));
            Some(row.outcome)
        };
        assert_eq!(outcome(ProbeAnswer::Accepted, false), Some(SentOutcome::Acknowledged));
        assert_eq!(outcome(ProbeAnswer::Accepted, true), Some(SentOutcome::InDoubt));
        assert_eq!(outcome(ProbeAnswer::Refused, false), Some(SentOutcome::Rejected));
        assert_eq!(outcome(ProbeAnswer::None, true), Some(SentOutcome::InDoubt));
        assert_eq!(outcome(ProbeAnswer::None, false), None);
    }

    #[test]
    fn only_a_probe_that_may_be_applied_later_changes_the_state() {
        assert!(outcome(&probe(), acknowledged(), 7, None).accounts.is_empty());
        let window = Duration::from_secs(20);
        let record = outcome(&probe(), acknowledged(), 7, Some(window));
        assert_eq!((record.intent.is_some(), record.accounts[0].late_write), (true, Some(window)));
        let known = &record.accounts[0].acknowledged;
        assert_eq!(known[1], AcknowledgedValue::Provisional(Some("Rome".into())));
        assert_eq!(known[2], AcknowledgedValue::Value("x".into()), "only the attribute that was sent");
    }
}
