//! An IM for the push stage's tests: what it holds, whom it refuses, what it was sent and when.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use crate::clock::{Heartbeat, Shutdown, monotonic};
use crate::im::{Accepted, CallError, Class, Code, Command, FailedAccount, RemoveUser, SetUser};
use crate::metrics::Metrics;
use crate::model::{Account, AccountOutcome, AttributeIndex, AttributeNames, AttributeOutcome, Change};
use crate::push::call::ImTransport;
use crate::push::{Probe, PushLimits, Pusher};

pub(super) const NAMES: [&str; 4] = ["city", "sex", "vip", "plan"];
/// How long the IM takes for an answer.
pub(super) const LATENCY: Duration = Duration::from_millis(50);

/// Name and value; a removal has no value.
type Attr = (String, Option<String>);

/// A call as it arrived.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub at: Instant,
    pub command: Command,
    pub users: Vec<(String, Vec<Attr>)>,
}

/// What happens to a call instead of the usual.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    Fail(Code),
    RetryAfter(Code, Duration),
    /// Applied, but the answer is lost.
    ApplyThenFail(Code),
    /// `timpush`: these accounts are listed, the others applied.
    List(Vec<(String, Code)>),
    Slow(Duration),
}

type Plan = Box<dyn Fn(usize, &Sent) -> Option<Fault> + Send + Sync>;
type Refuse = Box<dyn Fn(&str, &str, Option<&str>) -> Option<i64> + Send + Sync>;

/// What tests set up and look at.
#[derive(Default)]
pub(super) struct State {
    pub holds: BTreeMap<(String, String), String>,
    pub names: Vec<String>,
    /// By account, attribute and value: the code with which it is refused.
    pub refuse: Option<Refuse>,
    /// By number of the call from 0.
    pub plan: Option<Plan>,
    /// `timpush`: refused accounts are listed.
    pub lists: bool,
    pub sent: Vec<Sent>,
    pub most_in_flight: usize,
    in_flight: HashSet<String>,
    flying: usize,
    /// Promises that were broken.
    pub broken: Vec<String>,
}

#[derive(Default)]
pub(super) struct Im(Mutex<State>);

impl fmt::Debug for Im {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Im")
    }
}

fn error(command: Command, code: Code) -> CallError {
    let maybe_applied = code != Code::Connect && matches!(code.class(), Class::Retry | Class::Unknown);
    CallError {
        command,
        code,
        info: "bad parameter".to_owned(),
        request_id: Some("req-7".to_owned()),
        retry_after: None,
        maybe_applied,
    }
}

impl Im {
    pub(super) fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().expect("no test panics while it looks")
    }

    pub(super) fn sent(&self, command: Command) -> Vec<Sent> {
        self.state().sent.iter().filter(|sent| sent.command == command).cloned().collect()
    }

    async fn call(&self, sent: Sent) -> Result<Accepted, CallError> {
        let command = sent.command;
        let fault = {
            let mut state = self.state();
            let number = state.sent.len();
            state.sent.push(sent.clone());
            if sent.users.len() > 100 {
                state.broken.push(format!("{} users in a call", sent.users.len()));
            }
            for (account, attrs) in &sent.users {
                if !state.in_flight.insert(account.clone()) {
                    state.broken.push(format!("{account} in two calls at once"));
                }
                if attrs.is_empty() {
                    state.broken.push(format!("{account} without attributes"));
                }
            }
            state.flying += 1;
            state.most_in_flight = state.most_in_flight.max(state.flying);
            state.plan.as_ref().and_then(|plan| plan(number, &sent))
        };
        let slow = if let Some(Fault::Slow(duration)) = fault { duration } else { LATENCY };
        tokio::time::sleep(slow).await;
        let mut state = self.state();
        state.flying -= 1;
        for (account, _) in &sent.users {
            state.in_flight.remove(account);
        }
        match fault {
            None | Some(Fault::Slow(_)) => state.answer(&sent),
            Some(Fault::Fail(code)) => Err(error(command, code)),
            Some(Fault::RetryAfter(code, pause)) => Err(CallError { retry_after: Some(pause), ..error(command, code) }),
            Some(Fault::ApplyThenFail(code)) => match state.answer(&sent) {
                Ok(_) => Err(error(command, code)),
                refused => refused,
            },
            Some(Fault::List(codes)) => {
                let listed: HashMap<String, Code> = codes.into_iter().collect();
                let applied = Sent {
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

impl State {
    fn refusal(&self, account: &str, attrs: &[Attr]) -> Option<i64> {
        let refuse = self.refuse.as_ref()?;
        attrs.iter().find_map(|(name, value)| refuse(account, name, value.as_deref()))
    }

    fn answer(&mut self, sent: &Sent) -> Result<Accepted, CallError> {
        let mut failed = Vec::new();
        for (account, attrs) in &sent.users {
            if let Some(code) = self.refusal(account, attrs) {
                let code = Code::Vendor(code);
                // As indiscreet as an answer can be.
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

impl ImTransport for Im {
    fn set_attr<'a>(&'a self, users: &'a [SetUser<'a>]) -> BoxFuture<'a, Result<Accepted, CallError>> {
        let users = users.iter().map(|user| {
            let attrs = user.attrs.iter().map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned())));
            (user.account.to_owned(), attrs.collect())
        });
        Box::pin(self.call(Sent { at: monotonic(), command: Command::SetAttr, users: users.collect() }))
    }

    fn remove_attr<'a>(&'a self, users: &'a [RemoveUser<'a>]) -> BoxFuture<'a, Result<Accepted, CallError>> {
        let users = users
            .iter()
            .map(|user| (user.account.to_owned(), user.names.iter().map(|name| ((*name).to_owned(), None)).collect()));
        Box::pin(self.call(Sent { at: monotonic(), command: Command::RemoveAttr, users: users.collect() }))
    }

    fn attr_names(&self) -> BoxFuture<'_, Result<Vec<String>, CallError>> {
        Box::pin(async {
            self.call(Sent { at: monotonic(), command: Command::GetAttrName, users: Vec::new() }).await?;
            Ok(self.state().names.clone())
        })
    }
}

/// A pusher before an IM, with what it hangs on.
pub(super) struct Stage {
    pub im: Arc<Im>,
    pub pusher: Arc<Pusher>,
    pub metrics: Arc<Metrics>,
    pub lease: Heartbeat,
    pub shutdown: Shutdown,
    pub names: AttributeNames,
}

pub(super) fn limits() -> PushLimits {
    PushLimits {
        users_per_call: 100,
        calls_per_second: 95,
        max_in_flight: 64,
        retry_for: Duration::from_mins(1),
        late_write_window: Duration::from_secs(20),
        max_rejected_share: 0.4,
    }
}

impl Stage {
    pub(super) fn new() -> Self {
        Self::with(limits())
    }

    pub(super) fn with(limits: PushLimits) -> Self {
        let im = Arc::new(Im::default());
        im.state().names = NAMES.map(str::to_owned).to_vec();
        let metrics = Arc::new(Metrics::new("test"));
        let (lease, shutdown) = (Heartbeat::default(), Shutdown::default());
        // Paused time jumps by minutes; a lease that is asked for in the future stays fresh.
        lease.beat(monotonic() + Duration::from_secs(1_000_000));
        let caller: Arc<dyn ImTransport> = Arc::<Im>::clone(&im);
        let pusher = Pusher::with(caller, limits, Arc::clone(&metrics), lease.clone(), shutdown.clone());
        Self {
            im,
            pusher: Arc::new(pusher),
            metrics,
            lease,
            shutdown,
            names: NAMES.iter().map(|name| Arc::from(*name)).collect(),
        }
    }

    pub(super) fn pass(&self) -> crate::push::PushSession {
        self.pusher.begin_pass(Arc::clone(&self.names), false)
    }

    /// A pass with an account whose `city` IM has acknowledged.
    pub(super) fn pass_with_probe(&self) -> crate::push::PushSession {
        let probe =
            Probe { account: Account::new("probe_account"), attribute: AttributeIndex(0), value: "Paris".into() };
        self.pusher.offer_probe(probe);
        self.pusher.begin_pass(Arc::clone(&self.names), false)
    }

    pub(super) fn refuse(&self, refuse: impl Fn(&str, &str, Option<&str>) -> Option<i64> + Send + Sync + 'static) {
        self.im.state().refuse = Some(Box::new(refuse));
    }

    pub(super) fn plan(&self, plan: impl Fn(usize, &Sent) -> Option<Fault> + Send + Sync + 'static) {
        self.im.state().plan = Some(Box::new(plan));
    }

    /// Nobody in two calls at once, no call too large, no second too full.
    pub(super) fn assert_promises(&self) {
        assert_eq!(self.im.state().broken, Vec::<String>::new());
        for command in [Command::SetAttr, Command::RemoveAttr] {
            let starts: Vec<Instant> = self.im.sent(command).iter().map(|sent| sent.at).collect();
            for window in starts.windows(96) {
                assert!(window[95] - window[0] > Duration::from_secs(1), "96 calls within a second");
            }
        }
    }
}

/// Sets of the first so many attributes for each of so many accounts, named `u0`, `u1`, …
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

pub(super) fn number(account: &str) -> usize {
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
