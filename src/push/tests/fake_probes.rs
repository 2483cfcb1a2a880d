//! Accounts for the probes of the push stage's tests.
//!
//! Owns: which accounts there are, and a record of the probes that have ended. Must not know: what IM answers.

use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;

use crate::model::{Account, AttributeIndex};
use crate::push::{Probe, ProbeAnswer, ProbeFailed, ProbeSource, TakenProbe};

/// Accounts for probes, each with an acknowledged value of every attribute, and what was recorded of the probes.
#[derive(Clone, Debug, Default)]
pub(super) struct FakeProbes {
    accounts: Vec<Account>,
    /// The account of each ended probe, and whether it may be applied later.
    pub ended: Arc<Mutex<Vec<(Account, bool)>>>,
}

impl FakeProbes {
    pub(super) fn of(accounts: &[&str]) -> Self {
        Self { accounts: accounts.iter().map(|account| Account::new(*account)).collect(), ..Self::default() }
    }
}

impl ProbeSource for FakeProbes {
    fn take<'a>(
        &'a self,
        wanted: Option<AttributeIndex>,
        tried: &'a [Account],
    ) -> BoxFuture<'a, Result<Option<Box<dyn TakenProbe>>, ProbeFailed>> {
        let account = self.accounts.iter().find(|account| !tried.contains(account)).cloned();
        let probe = account.map(|account| Probe {
            account,
            attribute: wanted.unwrap_or(AttributeIndex(0)),
            value: "Paris".into(),
        });
        let ended = Arc::clone(&self.ended);
        Box::pin(async { Ok(probe.map(|probe| Box::new(FakeTakenProbe { probe, ended }) as Box<dyn TakenProbe>)) })
    }
}

#[derive(Debug)]
struct FakeTakenProbe {
    probe: Probe,
    ended: Arc<Mutex<Vec<(Account, bool)>>>,
}

impl TakenProbe for FakeTakenProbe {
    fn probe(&self) -> &Probe {
        &self.probe
    }

    fn end(self: Box<Self>, _: ProbeAnswer, may_be_applied_later: bool) -> BoxFuture<'static, Result<(), ProbeFailed>> {
        let mut ended = self.ended.lock().expect("no test panics while it holds the lock");
        ended.push((self.probe.account.clone(), may_be_applied_later));
        Box::pin(async { Ok(()) })
    }
}
