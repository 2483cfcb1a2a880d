//! A fake IM for the tests of the push stage, and the fixture around it.
//!
//! Owns: what the fake IM holds, refuses and receives. Must not know: batches, retries.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::fake_probes::FakeProbes;
use crate::call_share::CallShare;
use crate::clock::{Heartbeat, Shutdown, monotonic};
use crate::im::{
    Accepted, AccountStatus, ApiCommand, CallError, Code, CodeClass, FailedAccount, RemoveUser, SetUser, UserAttrs,
    UsersRead,
};
use crate::metrics::Metrics;
use crate::model::{
    Account, AccountOutcome, AttributeIndex, AttributeNames, AttributeOutcome, Change, UnknownAccounts,
};
use crate::push::send_once::ImTransport;
use crate::push::{ChangeOrigin, PushLimits, PushSession, Pusher};

pub(super) const NAMES: [&str; 4] = ["city", "sex", "vip", "plan"];
/// How long the fake IM takes for an answer.
pub(super) const LATENCY: Duration = Duration::from_millis(50);
/// How long a call without an answer takes.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);

/// Name and value; the value is `None` in a removal.
type SentAttribute = (String, Option<String>);

/// A call as it arrived.
#[derive(Clone, Debug)]
pub(super) struct ReceivedCall {
    pub at: Instant,
    pub command: ApiCommand,
    pub users: Vec<(String, Vec<SentAttribute>)>,
}

/// What happens to a call instead of the usual answer.
#[derive(Clone, Debug)]
pub(super) enum CallFault {
    /// The call is not applied and ends with this code.
    Fail(Code),
    /// As `Fail`, with a `Retry-After`.
    RetryAfter(Code, Duration),
    /// The call is applied, but ends with this code.
    ApplyThenFail(Code),
    /// As `timpush`: these accounts are listed as failed, the others are applied.
    List(Vec<(String, Code)>),
    /// The answer takes this long.
    Slow(Duration),
}

/// The fault of a call, by the number of the call and its contents.
type CallFaultFn = Box<dyn Fn(usize, &ReceivedCall) -> Option<CallFault> + Send + Sync>;
/// The code with which an attribute is refused, by account, name and value.
type RefusalFn = Box<dyn Fn(&str, &str, Option<&str>) -> Option<i64> + Send + Sync>;

/// The state of the fake IM. Tests prepare it and examine it.
#[derive(Default)]
pub(super) struct FakeImState {
    /// The values that IM holds, by account and name.
    pub holds: BTreeMap<(String, String), String>,
    /// The attribute names that the app defines.
    pub names: Vec<String>,
    /// The code with which IM refuses an attribute, by account, name and value.
    pub refuse: Option<RefusalFn>,
    /// The fault of a call, by the number of the call from 0.
    pub fault: Option<CallFaultFn>,
    /// As `timpush`: refused accounts are listed, and the others are applied.
    pub lists: bool,
    /// Accounts that do not exist. `None`: every account exists, and the service of accounts is not permitted.
    pub unknown: Option<BTreeSet<String>>,
    /// Accounts that cannot be imported.
    pub not_importable: BTreeSet<String>,
    /// All calls, in the order in which they arrived.
    pub sent: Vec<ReceivedCall>,
    pub most_in_flight: usize,
    accounts_in_flight: HashSet<String>,
    calls_in_flight: usize,
    /// Violations of what the push stage promises.
    pub violations: Vec<String>,
}

#[derive(Default)]
pub(super) struct FakeIm(Mutex<FakeImState>);

impl fmt::Debug for FakeIm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FakeIm")
    }
}

fn error(command: ApiCommand, code: Code) -> CallError {
    let maybe_applied = code != Code::Connect && matches!(code.class(), CodeClass::Retry | CodeClass::Unknown);
    CallError {
        command,
        code,
        info: "bad parameter".to_owned(),
        request_id: Some("req-7".to_owned()),
        retry_after: None,
        maybe_applied,
    }
}

/// A call of the service of accounts.
fn about(command: ApiCommand, accounts: &[&str]) -> ReceivedCall {
    let users = accounts.iter().map(|account| ((*account).to_owned(), Vec::new())).collect();
    ReceivedCall { at: monotonic(), command, users }
}

impl FakeIm {
    pub(super) fn state(&self) -> std::sync::MutexGuard<'_, FakeImState> {
        self.0.lock().expect("no test panics while it holds the lock")
    }

    pub(super) fn sent(&self, command: ApiCommand) -> Vec<ReceivedCall> {
        self.state().sent.iter().filter(|sent| sent.command == command).cloned().collect()
    }

    async fn call(&self, sent: ReceivedCall) -> Result<Accepted, CallError> {
        let command = sent.command;
        let fault = {
            let mut state = self.state();
            let number = state.sent.len();
            state.sent.push(sent.clone());
            if sent.users.len() > 100 {
                state.violations.push(format!("{} users in a call", sent.users.len()));
            }
            for (account, attrs) in &sent.users {
                if !state.accounts_in_flight.insert(account.clone()) {
                    state.violations.push(format!("{account} in two calls at once"));
                }
                if attrs.is_empty() && matches!(command, ApiCommand::SetAttr | ApiCommand::RemoveAttr) {
                    state.violations.push(format!("{account} without attributes"));
                }
            }
            state.calls_in_flight += 1;
            state.most_in_flight = state.most_in_flight.max(state.calls_in_flight);
            state.fault.as_ref().and_then(|fault| fault(number, &sent))
        };
        let slow = match fault {
            Some(CallFault::Slow(duration)) => duration,
            Some(CallFault::Fail(Code::Timeout) | CallFault::ApplyThenFail(Code::Timeout)) => TIMEOUT,
            _ => LATENCY,
        };
        tokio::time::sleep(slow).await;
        let mut state = self.state();
        state.calls_in_flight -= 1;
        for (account, _) in &sent.users {
            state.accounts_in_flight.remove(account);
        }
        match fault {
            None | Some(CallFault::Slow(_)) => state.answer(&sent),
            Some(CallFault::Fail(code)) => Err(error(command, code)),
            Some(CallFault::RetryAfter(code, pause)) => {
                Err(CallError { retry_after: Some(pause), ..error(command, code) })
            }
            Some(CallFault::ApplyThenFail(code)) => match state.answer(&sent) {
                Ok(_) => Err(error(command, code)),
                refused => refused,
            },
            Some(CallFault::List(codes)) => {
                let listed: HashMap<String, Code> = codes.into_iter().collect();
                let applied = ReceivedCall {
                    users: sent.users.iter().filter(|(account, _)| !listed.contains_key(account)).cloned().collect(),
                    ..sent.clone()
                };
                let mut accepted = state.answer(&applied)?;
                let carried = sent.users.iter().filter_map(|(account, _)| listed.get_key_value(account));
                accepted.failed.extend(carried.map(|(account, code)| FailedAccount {
                    account: account.clone(),
                    code: *code,
                    info: String::new(),
                }));
                Ok(accepted)
            }
        }
    }
}

impl FakeImState {
    fn refusal(&self, account: &str, attrs: &[SentAttribute]) -> Option<i64> {
        if self.unknown.as_ref().is_some_and(|unknown| unknown.contains(account)) {
            return Some(70107);
        }
        let refuse = self.refuse.as_ref()?;
        attrs.iter().find_map(|(name, value)| refuse(account, name, value.as_deref()))
    }

    fn answer(&mut self, sent: &ReceivedCall) -> Result<Accepted, CallError> {
        if matches!(sent.command, ApiCommand::AccountCheck | ApiCommand::AccountImport) {
            return match self.unknown {
                Some(_) => Ok(Accepted::default()),
                None => Err(error(sent.command, Code::Vendor(60017))),
            };
        }
        let mut failed = Vec::new();
        for (account, attrs) in &sent.users {
            if let Some(code) = self.refusal(account, attrs) {
                let code = Code::Vendor(code);
                // The answer quotes all values, so that tests show that they are redacted.
                let values: Vec<&str> = attrs.iter().filter_map(|(_, value)| value.as_deref()).collect();
                let info = format!("bad parameter {}", values.join(" "));
                if !self.lists {
                    return Err(CallError { info, ..error(sent.command, code) });
                }
                failed.push(FailedAccount { account: account.clone(), code, info });
            }
        }
        for (account, attrs) in &sent.users {
            if failed.iter().any(|failed| failed.account == *account) {
                continue;
            }
            for (name, value) in attrs {
                let key = (account.clone(), name.clone());
                match value {
                    Some(value) => self.holds.insert(key, value.clone()),
                    None => self.holds.remove(&key),
                };
            }
        }
        Ok(Accepted { request_id: Some("req-1".to_owned()), failed })
    }
}

impl ImTransport for FakeIm {
    fn set_attr<'a>(&'a self, users: &'a [SetUser<'a>]) -> BoxFuture<'a, Result<Accepted, CallError>> {
        let users = users.iter().map(|user| {
            let attrs = user.attrs.iter().map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned())));
            (user.account.to_owned(), attrs.collect())
        });
        Box::pin(self.call(ReceivedCall { at: monotonic(), command: ApiCommand::SetAttr, users: users.collect() }))
    }

    fn remove_attr<'a>(&'a self, users: &'a [RemoveUser<'a>]) -> BoxFuture<'a, Result<Accepted, CallError>> {
        let users = users
            .iter()
            .map(|user| (user.account.to_owned(), user.names.iter().map(|name| ((*name).to_owned(), None)).collect()));
        Box::pin(self.call(ReceivedCall { at: monotonic(), command: ApiCommand::RemoveAttr, users: users.collect() }))
    }

    fn attr_names(&self) -> BoxFuture<'_, Result<Vec<String>, CallError>> {
        Box::pin(async {
            self.call(ReceivedCall { at: monotonic(), command: ApiCommand::GetAttrName, users: Vec::new() }).await?;
            Ok(self.state().names.clone())
        })
    }

    fn account_check<'a>(&'a self, accounts: &'a [&'a str]) -> BoxFuture<'a, Result<Vec<AccountStatus>, CallError>> {
        Box::pin(async {
            self.call(about(ApiCommand::AccountCheck, accounts)).await?;
            let state = self.state();
            let unknown = state.unknown.as_ref().expect("the call was not refused");
            let status = |account: &&str| {
                if unknown.contains(*account) { AccountStatus::NotImported } else { AccountStatus::Imported }
            };
            Ok(accounts.iter().map(status).collect())
        })
    }

    fn account_import<'a>(&'a self, accounts: &'a [&'a str]) -> BoxFuture<'a, Result<Vec<usize>, CallError>> {
        Box::pin(async {
            self.call(about(ApiCommand::AccountImport, accounts)).await?;
            let mut state = self.state();
            let mut failed = Vec::new();
            for (position, account) in accounts.iter().enumerate() {
                if state.not_importable.contains(*account) {
                    failed.push(position);
                } else if let Some(unknown) = &mut state.unknown {
                    unknown.remove(*account);
                }
            }
            Ok(failed)
        })
    }

    fn get_attr<'a>(&'a self, accounts: &'a [&'a str]) -> BoxFuture<'a, Result<UsersRead, CallError>> {
        Box::pin(async {
            self.call(about(ApiCommand::GetAttr, accounts)).await?;
            let of = |account: &&str| UserAttrs { account: (*account).to_owned(), attrs: Vec::new() };
            Ok(UsersRead { users: accounts.iter().map(of).collect(), failed: Vec::new() })
        })
    }

    fn read(&self) -> BoxFuture<'_, Result<(), CallError>> {
        let users = vec![("administrator".to_owned(), Vec::new())];
        Box::pin(async {
            self.call(ReceivedCall { at: monotonic(), command: ApiCommand::GetAttr, users }).await?;
            Ok(())
        })
    }
}

/// A pusher that calls a fake IM, with all that it depends on.
pub(super) struct PushFixture {
    pub im: Arc<FakeIm>,
    pub pusher: Arc<Pusher>,
    pub metrics: Arc<Metrics>,
    pub lease: Heartbeat,
    pub shutdown: Shutdown,
    pub names: AttributeNames,
}

pub(super) fn limits() -> PushLimits {
    PushLimits {
        call_share: CallShare::unlimited(),
        users_per_call: 100,
        calls_per_second: 95,
        max_in_flight: 64,
        retry_for: Duration::from_mins(1),
        max_rejected_share: 0.4,
        unknown_accounts: UnknownAccounts::Reject,
        account_type: crate::model::ImAccountType::UserId,
    }
}

impl PushFixture {
    pub(super) fn new() -> Self {
        Self::with(limits())
    }

    pub(super) fn with(limits: PushLimits) -> Self {
        let im = Arc::new(FakeIm::default());
        im.state().names = NAMES.map(str::to_owned).to_vec();
        let metrics = Arc::new(Metrics::new("test"));
        let (lease, shutdown) = (Heartbeat::default(), Shutdown::default());
        // Paused time jumps by minutes. A ping in the future keeps the lease valid.
        lease.beat(monotonic() + Duration::from_secs(1_000_000));
        let caller: Arc<dyn ImTransport> = Arc::<FakeIm>::clone(&im);
        let pusher = Pusher::with_transport(caller, limits, Arc::clone(&metrics), lease.clone(), shutdown.clone());
        Self {
            im,
            pusher: Arc::new(pusher),
            metrics,
            lease,
            shutdown,
            names: NAMES.iter().map(|name| Arc::from(*name)).collect(),
        }
    }

    /// Begins a pass without an account for a probe.
    pub(super) fn begin_pass(&self) -> PushSession {
        self.begin_pass_with(FakeProbes::default())
    }

    /// Begins a pass with an account for a probe.
    pub(super) fn begin_pass_with_probe(&self) -> PushSession {
        self.begin_pass_with(FakeProbes::of(&["probe_account"]))
    }

    pub(super) fn begin_pass_with(&self, probes: FakeProbes) -> PushSession {
        self.pusher.begin_pass(Arc::clone(&self.names), false, Arc::new(probes))
    }

    pub(super) fn refuse(&self, refuse: impl Fn(&str, &str, Option<&str>) -> Option<i64> + Send + Sync + 'static) {
        self.im.state().refuse = Some(Box::new(refuse));
    }

    pub(super) fn inject(&self, fault: impl Fn(usize, &ReceivedCall) -> Option<CallFault> + Send + Sync + 'static) {
        self.im.state().fault = Some(Box::new(fault));
    }

    /// No account was in two calls at once, no call was too large, no second held too many calls.
    pub(super) fn assert_limits_kept(&self) {
        assert_eq!(self.im.state().violations, Vec::<String>::new());
        for command in [ApiCommand::SetAttr, ApiCommand::RemoveAttr] {
            let starts: Vec<Instant> = self.im.sent(command).iter().map(|sent| sent.at).collect();
            for window in starts.windows(96) {
                assert!(window[95] - window[0] > Duration::from_secs(1), "96 calls within a second");
            }
        }
    }
}

/// Changes that set the first `attributes` attributes of `accounts` accounts, which are named `u0`, `u1`, …
impl PushSession {
    /// Delivers, and returns all outcomes at the end, in the order of the changes.
    pub(super) async fn deliver_all(&self, changes: Vec<Change>, origin: ChangeOrigin) -> Vec<AccountOutcome> {
        let order: HashMap<Account, usize> = changes.iter().map(|change| change.account.clone()).zip(0..).collect();
        let (early, mut settled) = tokio::sync::mpsc::unbounded_channel();
        let mut outcomes = self.deliver(changes, origin, early).await;
        while let Ok(more) = settled.try_recv() {
            outcomes.extend(more);
        }
        outcomes.sort_by_key(|outcome| order[&outcome.account]);
        outcomes
    }
}

pub(super) fn sets(accounts: usize, attributes: u16) -> Vec<Change> {
    (0..accounts).map(|number| set(number, attributes)).collect()
}

pub(super) fn set(number: usize, attributes: u16) -> Change {
    Change {
        account: Account::new(format!("u{number}")),
        set: (0..attributes)
            .map(|attribute| (AttributeIndex(attribute), format!("value-{number}-{attribute}").into()))
            .collect(),
        remove: Vec::new(),
    }
}

/// The number in an account's name.
pub(super) fn account_number(account: &str) -> usize {
    account.trim_start_matches('u').parse().unwrap_or(usize::MAX)
}

pub(super) fn count(outcomes: &[AccountOutcome], is: impl Fn(&AttributeOutcome) -> bool) -> usize {
    outcomes.iter().flat_map(|outcome| &outcome.attributes).filter(|(_, outcome)| is(outcome)).count()
}

pub(super) fn refused_with(code: i64) -> impl Fn(&AttributeOutcome) -> bool {
    move |outcome| matches!(outcome, AttributeOutcome::Refused(refusal) if refusal.code == code)
}

pub(super) fn done(outcome: &AttributeOutcome) -> bool {
    *outcome == AttributeOutcome::Done
}

pub(super) fn acknowledged(outcome: &AttributeOutcome) -> bool {
    done(outcome) || provisional(outcome)
}

pub(super) fn provisional(outcome: &AttributeOutcome) -> bool {
    *outcome == AttributeOutcome::Provisional
}

pub(super) fn not_sent(outcome: &AttributeOutcome) -> bool {
    *outcome == AttributeOutcome::NotSent
}

pub(super) fn unknown(outcome: &AttributeOutcome) -> bool {
    *outcome == AttributeOutcome::Unknown
}
