//! One call to IM: built from changes, sent once, timed and counted.
//!
//! Owns: the contents of a call, the metrics of one attempt.
//! Must not know: what an answer means, when a call may start, whether it is retried.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::batch::{BatchEntry, Operation};
use crate::clock::monotonic;
use crate::im::{Accepted, ApiCommand, CallError, Client, RemoveUser, SetUser};
use crate::metrics::Metrics;
use crate::model::{Account, AttributeNames, Change};

/// Transmits calls to IM: the client, or the fake IM of a test.
pub(super) trait ImTransport: std::fmt::Debug + Send + Sync {
    fn set_attr<'a>(&'a self, users: &'a [SetUser<'a>]) -> BoxFuture<'a, Result<Accepted, CallError>>;
    fn remove_attr<'a>(&'a self, users: &'a [RemoveUser<'a>]) -> BoxFuture<'a, Result<Accepted, CallError>>;
    /// The attribute names that the app defines.
    fn attr_names(&self) -> BoxFuture<'_, Result<Vec<String>, CallError>>;
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
}

/// The contents of a call.
#[derive(Debug)]
pub(super) enum Call<'a> {
    Set(Vec<SetUser<'a>>),
    Remove(Vec<RemoveUser<'a>>),
    /// Reads the attribute names that the app defines.
    Names,
}

/// What a call does to an attribute of an account.
#[derive(Clone, Copy, Debug)]
pub(super) enum CallEffect<'a> {
    Sets(&'a str),
    Removes,
}

/// The answer to an accepted call.
#[derive(Debug)]
pub(super) enum CallReply {
    Users(Accepted),
    Names(Vec<String>),
}

impl<'a> Call<'a> {
    /// The call that carries these entries. `changes`: those of the delivery.
    pub(super) fn of(op: Operation, entries: &[BatchEntry], changes: &'a [Change], names: &'a AttributeNames) -> Self {
        match op {
            Operation::Set => {
                let user = |entry: &BatchEntry| {
                    let change = &changes[entry.change];
                    let values = change.set[entry.range(op, change)].iter();
                    let attrs = values.map(|(attribute, value)| (&*names[attribute.index()], &**value)).collect();
                    SetUser { account: change.account.as_str(), attrs }
                };
                Self::Set(entries.iter().map(user).collect())
            }
            Operation::Remove => {
                let user = |entry: &BatchEntry| {
                    let change = &changes[entry.change];
                    let attributes = change.remove[entry.range(op, change)].iter();
                    let names = attributes.map(|attribute| &*names[attribute.index()]).collect();
                    RemoveUser { account: change.account.as_str(), names }
                };
                Self::Remove(entries.iter().map(user).collect())
            }
        }
    }

    pub(super) fn command(&self) -> ApiCommand {
        match self {
            Self::Set(_) => ApiCommand::SetAttr,
            Self::Remove(_) => ApiCommand::RemoveAttr,
            Self::Names => ApiCommand::GetAttrName,
        }
    }

    /// The account is one of those that the call sets or removes attributes of.
    pub(super) fn carries(&self, account: &Account) -> bool {
        match self {
            Self::Set(users) => users.iter().any(|user| user.account == account.as_str()),
            Self::Remove(users) => users.iter().any(|user| user.account == account.as_str()),
            Self::Names => false,
        }
    }

    /// What the call does to the attribute `name` of the account, if anything.
    pub(super) fn effect(&self, account: &Account, name: &str) -> Option<CallEffect<'_>> {
        match self {
            Self::Set(users) => {
                let user = users.iter().find(|user| user.account == account.as_str())?;
                user.attrs.iter().find(|(set, _)| *set == name).map(|(_, value)| CallEffect::Sets(value))
            }
            Self::Remove(users) => {
                let user = users.iter().find(|user| user.account == account.as_str())?;
                user.names.contains(&name).then_some(CallEffect::Removes)
            }
            Self::Names => None,
        }
    }

    /// The users' values that the call carries.
    pub(super) fn values(&self) -> impl Iterator<Item = &str> {
        let users = if let Self::Set(users) = self { users.as_slice() } else { &[] };
        users.iter().flat_map(|user| user.attrs.iter().map(|(_, value)| *value))
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
    pub(super) async fn send(&self, call: &Call<'_>) -> Result<CallReply, CallError> {
        let started = monotonic();
        let answer = match call {
            Call::Set(users) => self.transport.set_attr(users).await.map(CallReply::Users),
            Call::Remove(users) => self.transport.remove_attr(users).await.map(CallReply::Users),
            Call::Names => self.transport.attr_names().await.map(CallReply::Names),
        };
        let command = call.command().label();
        self.metrics.im_call_duration.with_label_values(&[command]).observe(started.elapsed().as_secs_f64());
        let code = answer.as_ref().map_or_else(|error| error.code.label(), |_| "0");
        self.metrics.im_calls.with_label_values(&[command, code]).inc();
        answer
    }
}
