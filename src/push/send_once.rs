//! Sends a call once: one attempt, timed and counted.
//!
//! Owns: the metrics of one attempt, and what transmits it. Must not know: what an answer means, when a call may start,
//! whether it is retried.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::call::{Call, CallReply};
use crate::clock::monotonic;
use crate::im::{Accepted, AccountStatus, CallError, Client, RemoveUser, SetUser, UsersRead};
use crate::metrics::Metrics;

/// Transmits calls to IM: the client, or the fake IM of a test.
pub(super) trait ImTransport: std::fmt::Debug + Send + Sync {
    fn set_attr<'a>(&'a self, users: &'a [SetUser<'a>]) -> BoxFuture<'a, Result<Accepted, CallError>>;
    fn remove_attr<'a>(&'a self, users: &'a [RemoveUser<'a>]) -> BoxFuture<'a, Result<Accepted, CallError>>;
    /// The attribute names that the app defines.
    fn attr_names(&self) -> BoxFuture<'_, Result<Vec<String>, CallError>>;
    /// Reads the attributes of some account.
    fn read(&self) -> BoxFuture<'_, Result<(), CallError>>;
    /// Reads the attributes of these accounts.
    fn get_attr<'a>(&'a self, accounts: &'a [&'a str]) -> BoxFuture<'a, Result<UsersRead, CallError>>;
    /// Whether each of these accounts exists.
    fn account_check<'a>(&'a self, accounts: &'a [&'a str]) -> BoxFuture<'a, Result<Vec<AccountStatus>, CallError>>;
    /// Creates these accounts. Returns the positions of those that could not be created.
    fn account_import<'a>(&'a self, accounts: &'a [&'a str]) -> BoxFuture<'a, Result<Vec<usize>, CallError>>;
}

impl ImTransport for Client {
    fn set_attr<'a>(&'a self, users: &'a [SetUser<'a>]) -> BoxFuture<'a, Result<Accepted, CallError>> {
        Box::pin(self.set_attr(users))
    }

    fn remove_attr<'a>(&'a self, users: &'a [RemoveUser<'a>]) -> BoxFuture<'a, Result<Accepted, CallError>> {
        Box::pin(self.remove_attr(users))
    }

    fn attr_names(&self) -> BoxFuture<'_, Result<Vec<String>, CallError>> {
        Box::pin(async { Ok(self.attr_names().await?.into_values().collect()) })
    }

    fn read(&self) -> BoxFuture<'_, Result<(), CallError>> {
        Box::pin(async { Client::get_attr(self, &[self.administrator()]).await.map(|_| ()) })
    }

    fn get_attr<'a>(&'a self, accounts: &'a [&'a str]) -> BoxFuture<'a, Result<UsersRead, CallError>> {
        Box::pin(self.get_attr(accounts))
    }

    fn account_check<'a>(&'a self, accounts: &'a [&'a str]) -> BoxFuture<'a, Result<Vec<AccountStatus>, CallError>> {
        Box::pin(self.account_check(accounts))
    }

    fn account_import<'a>(&'a self, accounts: &'a [&'a str]) -> BoxFuture<'a, Result<Vec<usize>, CallError>> {
        Box::pin(self.account_import(accounts))
    }
}

/// Sends calls and records their metrics.
#[derive(Debug)]
pub(super) struct CallSender {
    transport: Arc<dyn ImTransport>,
    metrics: Arc<Metrics>,
}

impl CallSender {
    pub(super) fn new(transport: Arc<dyn ImTransport>, metrics: Arc<Metrics>) -> Self {
        Self { transport, metrics }
    }

    /// One attempt, until its answer.
    pub(super) async fn send_once(&self, call: &Call<'_>) -> Result<CallReply, CallError> {
        let started = monotonic();
        let answer = match call {
            Call::Set(users) => self.transport.set_attr(users).await.map(CallReply::Users),
            Call::Remove(users) => self.transport.remove_attr(users).await.map(CallReply::Users),
            Call::Names => self.transport.attr_names().await.map(CallReply::Names),
            Call::Read => self.transport.read().await.map(|()| CallReply::Read),
            Call::ReadAccounts(accounts) => self.transport.get_attr(accounts).await.map(CallReply::Attributes),
            Call::CheckAccounts(accounts) => self.transport.account_check(accounts).await.map(CallReply::Statuses),
            Call::ImportAccounts(accounts) => self.transport.account_import(accounts).await.map(CallReply::NotImported),
        };
        let command = call.command().label();
        self.metrics.im_call_duration.with_label_values(&[command]).observe(started.elapsed().as_secs_f64());
        let code = answer.as_ref().map_or_else(|error| error.code.label(), |_| "0");
        self.metrics.im_calls.with_label_values(&[command, code]).inc();
        answer
    }
}
