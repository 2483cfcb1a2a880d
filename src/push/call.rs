//! One call to IM: its contents, what it does, and the reply to it.
//!
//! Owns: plain data, built from changes. Must not know: how a call is sent, what an answer means, when a call may start.

use super::batch::{BatchEntry, Operation};
use crate::im::{Accepted, AccountStatus, ApiCommand, RemoveUser, SetUser, UsersRead};
use crate::model::{AttributeNames, Change};

/// The contents of a call.
#[derive(Debug)]
pub(super) enum Call<'a> {
    Set(Vec<SetUser<'a>>),
    Remove(Vec<RemoveUser<'a>>),
    /// Reads the attribute names that the app defines.
    Names,
    /// Reads the attributes of one account, to see whether IM answers.
    Read,
    /// Reads the attributes of these accounts.
    ReadAccounts(Vec<&'a str>),
    /// Asks which accounts exist in Chat.
    CheckAccounts(Vec<&'a str>),
    /// Creates accounts in Chat.
    ImportAccounts(Vec<&'a str>),
}

/// The answer to an accepted call.
#[derive(Debug)]
pub(super) enum CallReply {
    Users(Accepted),
    Names(Vec<String>),
    Read,
    /// What IM holds of the accounts of the call.
    Attributes(UsersRead),
    /// Of each account of the call, in its order.
    Statuses(Vec<AccountStatus>),
    /// The positions of the accounts that were not created.
    NotImported(Vec<usize>),
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
            Self::Read | Self::ReadAccounts(_) => ApiCommand::GetAttr,
            Self::CheckAccounts(_) => ApiCommand::AccountCheck,
            Self::ImportAccounts(_) => ApiCommand::AccountImport,
        }
    }

    /// How many accounts the call sets or removes attributes of.
    pub(super) fn accounts(&self) -> usize {
        match self {
            Self::Set(users) => users.len(),
            Self::Remove(users) => users.len(),
            Self::Names | Self::Read | Self::ReadAccounts(_) | Self::CheckAccounts(_) | Self::ImportAccounts(_) => 0,
        }
    }

    /// The users' values that the call carries.
    pub(super) fn values(&self) -> impl Iterator<Item = &str> {
        let users = if let Self::Set(users) = self { users.as_slice() } else { &[] };
        users.iter().flat_map(|user| user.attrs.iter().map(|(_, value)| *value))
    }
}
