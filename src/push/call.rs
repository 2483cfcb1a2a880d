//! One call: built from changes, sent, timed and counted.
//!
//! Owns: the bodies of set and remove calls, the metrics of one exchange.
//! Must not know: what an answer means, when a call may start, whether it is repeated.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::batch::{BatchEntry, Operation};
use crate::clock::monotonic;
use crate::im::{Accepted, CallError, Client, Command, RemoveUser, SetUser};
use crate::metrics::Metrics;
use crate::model::{Account, AttributeNames, Change};

/// Who carries a call to IM: the client, or a test's own IM.
pub(super) trait ImTransport: std::fmt::Debug + Send + Sync {
    fn set_attr<'a>(&'a self, users: &'a [SetUser<'a>]) -> BoxFuture<'a, Result<Accepted, CallError>>;
    fn remove_attr<'a>(&'a self, users: &'a [RemoveUser<'a>]) -> BoxFuture<'a, Result<Accepted, CallError>>;
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

/// A call's contents.
#[derive(Debug)]
pub(super) enum Call<'a> {
    Set(Vec<SetUser<'a>>),
    Remove(Vec<RemoveUser<'a>>),
    Names,
}

/// What a call does to an attribute.
#[derive(Clone, Copy, Debug)]
pub(super) enum CallEffect<'a> {
    Sets(&'a str),
    Removes,
}

/// What an accepted call brought.
#[derive(Debug)]
pub(super) enum CallReply {
    Users(Accepted),
    Names(Vec<String>),
}

impl<'a> Call<'a> {
    /// The call that carries these parts of the changes.
    pub(super) fn of(op: Operation, parts: &[BatchEntry], changes: &'a [Change], names: &'a AttributeNames) -> Self {
        match op {
            Operation::Set => Self::Set(
                parts
                    .iter()
                    .map(|part| {
                        let change = &changes[part.change];
                        let attrs = change.set[part.range(op, change)]
                            .iter()
                            .map(|(attribute, value)| (&*names[attribute.index()], &**value))
                            .collect();
                        SetUser { account: change.account.as_str(), attrs }
                    })
                    .collect(),
            ),
            Operation::Remove => Self::Remove(
                parts
                    .iter()
                    .map(|part| {
                        let change = &changes[part.change];
                        let names = change.remove[part.range(op, change)]
                            .iter()
                            .map(|attribute| &*names[attribute.index()])
                            .collect();
                        RemoveUser { account: change.account.as_str(), names }
                    })
                    .collect(),
            ),
        }
    }

    pub(super) fn command(&self) -> Command {
        match self {
            Self::Set(_) => Command::SetAttr,
            Self::Remove(_) => Command::RemoveAttr,
            Self::Names => Command::GetAttrName,
        }
    }

    pub(super) fn carries(&self, account: &Account) -> bool {
        match self {
            Self::Set(users) => users.iter().any(|user| user.account == account.as_str()),
            Self::Remove(users) => users.iter().any(|user| user.account == account.as_str()),
            Self::Names => false,
        }
    }
}

impl Call<'_> {
    /// What it does to this attribute of this account, if anything.
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

    /// The users' values in it.
    pub(super) fn values(&self) -> impl Iterator<Item = &str> {
        let users = if let Self::Set(users) = self { users.as_slice() } else { &[] };
        users.iter().flat_map(|user| user.attrs.iter().map(|(_, value)| *value))
    }
}

/// The way to IM, with its metrics.
#[derive(Debug)]
pub(super) struct CallSender {
    caller: Arc<dyn ImTransport>,
    metrics: Arc<Metrics>,
}

impl CallSender {
    pub(super) fn new(caller: Arc<dyn ImTransport>, metrics: Arc<Metrics>) -> Self {
        Self { caller, metrics }
    }

    /// One attempt, from its first byte to its answer.
    pub(super) async fn send(&self, call: &Call<'_>) -> Result<CallReply, CallError> {
        let begun = monotonic();
        let answer = match call {
            Call::Set(users) => self.caller.set_attr(users).await.map(CallReply::Users),
            Call::Remove(users) => self.caller.remove_attr(users).await.map(CallReply::Users),
            Call::Names => self.caller.attr_names().await.map(CallReply::Names),
        };
        let command = call.command().label();
        self.metrics.im_call_duration.with_label_values(&[command]).observe(begun.elapsed().as_secs_f64());
        let code = answer.as_ref().map_or_else(|error| error.code.label(), |_| "0");
        self.metrics.im_calls.with_label_values(&[command, code]).inc();
        answer
    }
}
