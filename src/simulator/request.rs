//! The bodies of calls.
//!
//! Owns: the form of each command's body, and the error code for a body of another form. Must not know: the app's
//! state, HTTP.

use serde::Deserialize;

use super::endpoint::{SimulatedCommand, SimulatedEndpoint, SimulatedService};
use super::error_code;
use super::json::{JsonObject, JsonPairs, JsonText};

/// A user in the body of a call that sets or removes attributes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UserEntry<'a, Attributes> {
    #[serde(borrow, rename = "To_Account")]
    pub(super) account: JsonText<'a>,
    #[serde(rename = "Attrs")]
    pub(super) attributes: Attributes,
}

/// A user of `set_attr`: attribute names and values.
pub(super) type UserToSet<'a> = UserEntry<'a, JsonPairs<'a, JsonText<'a>>>;
/// A user of `remove_attr`: attribute names.
pub(super) type UserToRemove<'a> = UserEntry<'a, Vec<JsonText<'a>>>;

/// An account of `account_check`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AccountToCheck<'a> {
    #[serde(borrow, rename = "UserID")]
    pub(super) account: JsonText<'a>,
}

/// A body of the right form: its types, its fields and the number of its users have been checked, and every account is
/// a string. Attribute names and values have not been checked.
#[derive(Debug)]
pub(super) enum ParsedRequest<'a> {
    SetNames { names: Vec<(JsonText<'a>, JsonText<'a>)>, types: Vec<(JsonText<'a>, i64)> },
    GetNames,
    Set(Vec<JsonObject<UserToSet<'a>>>),
    Get(Vec<JsonText<'a>>),
    Remove(Vec<JsonObject<UserToRemove<'a>>>),
    CheckAccounts(Vec<JsonObject<AccountToCheck<'a>>>),
    ImportAccounts(Vec<JsonText<'a>>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetAttrNameJson<'a> {
    #[serde(borrow, rename = "AttrNames")]
    names: JsonPairs<'a, JsonText<'a>>,
    #[serde(borrow, rename = "AttrTypes")]
    types: Option<JsonPairs<'a, i64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GetAttrNameJson {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetAttrJson<'a> {
    #[serde(borrow, rename = "UserAttrs")]
    users: Vec<JsonObject<UserToSet<'a>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GetAttrJson<'a> {
    #[serde(borrow, rename = "To_Account")]
    accounts: Vec<JsonText<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AccountCheckJson<'a> {
    #[serde(borrow, rename = "CheckItem")]
    accounts: Vec<JsonObject<AccountToCheck<'a>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MultiaccountImportJson<'a> {
    #[serde(borrow, rename = "Accounts")]
    accounts: Vec<JsonText<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RemoveAttrJson<'a> {
    #[serde(borrow, rename = "UserAttrs")]
    users: Vec<JsonObject<UserToRemove<'a>>>,
}

/// Parses the body of a call. The error is the vendor's code.
///
/// A body that is not JSON gets 90001, as the page of the attribute commands lists it. Assumed: an empty body gets 60002.
/// JSON of another form gets 90001 too, and so do unknown fields, a list without users and a user without attributes.
pub(super) fn parse(endpoint: SimulatedEndpoint, body: &[u8], max_users: usize) -> Result<ParsedRequest<'_>, i64> {
    if body.is_empty() {
        return Err(error_code::BAD_HTTP);
    }
    match endpoint.command {
        SimulatedCommand::SetAttrName => {
            let SetAttrNameJson { names, types } = parse_object(body)?;
            if types.is_some() && endpoint.service == SimulatedService::AllMemberPush {
                return Err(error_code::BAD_BODY);
            }
            if names.0.is_empty() {
                return Err(error_code::BAD_BODY);
            }
            Ok(ParsedRequest::SetNames { names: names.0, types: types.map(|types| types.0).unwrap_or_default() })
        }
        SimulatedCommand::GetAttrName => parse_object(body).map(|GetAttrNameJson {}| ParsedRequest::GetNames),
        SimulatedCommand::SetAttr => {
            let SetAttrJson { users } = parse_object(body)?;
            let lacks_attributes = users.iter().any(|user| user.0.attributes.0.is_empty());
            check_users(users.iter().map(|user| &user.0.account), lacks_attributes, max_users)?;
            Ok(ParsedRequest::Set(users))
        }
        SimulatedCommand::GetAttr => {
            let GetAttrJson { accounts } = parse_object(body)?;
            check_users(accounts.iter(), false, max_users)?;
            Ok(ParsedRequest::Get(accounts))
        }
        SimulatedCommand::RemoveAttr => {
            let RemoveAttrJson { users } = parse_object(body)?;
            let lacks_attributes = users.iter().any(|user| user.0.attributes.is_empty());
            check_users(users.iter().map(|user| &user.0.account), lacks_attributes, max_users)?;
            Ok(ParsedRequest::Remove(users))
        }
        SimulatedCommand::AccountCheck => {
            let AccountCheckJson { accounts } = parse_object(body)?;
            check_users(accounts.iter().map(|account| &account.0.account), false, max_users)?;
            Ok(ParsedRequest::CheckAccounts(accounts))
        }
        SimulatedCommand::MultiaccountImport => {
            let MultiaccountImportJson { accounts } = parse_object(body)?;
            check_users(accounts.iter(), false, max_users)?;
            Ok(ParsedRequest::ImportAccounts(accounts))
        }
    }
}

fn parse_object<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, i64> {
    match serde_json::from_slice(body) {
        Ok(JsonObject(value)) => Ok(value),
        Err(_) => Err(error_code::BAD_BODY),
    }
}

fn check_users<'t, 'a: 't>(
    accounts: impl ExactSizeIterator<Item = &'t JsonText<'a>>,
    lacks_attributes: bool,
    max_users: usize,
) -> Result<(), i64> {
    let mut accounts = accounts;
    if accounts.len() > max_users {
        return Err(error_code::TOO_MANY_ACCOUNTS);
    }
    if accounts.len() == 0 || lacks_attributes {
        return Err(error_code::BAD_BODY);
    }
    if accounts.any(|account| account.get().is_none()) {
        return Err(error_code::ACCOUNT_NOT_A_STRING);
    }
    Ok(())
}

impl ParsedRequest<'_> {
    /// The accounts in the body, in order.
    pub(super) fn accounts(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        match self {
            Self::SetNames { .. } | Self::GetNames => Box::new(std::iter::empty()),
            Self::Set(users) => Box::new(users.iter().filter_map(|user| user.0.account.get())),
            Self::Get(accounts) | Self::ImportAccounts(accounts) => Box::new(accounts.iter().filter_map(JsonText::get)),
            Self::Remove(users) => Box::new(users.iter().filter_map(|user| user.0.account.get())),
            Self::CheckAccounts(accounts) => Box::new(accounts.iter().filter_map(|account| account.0.account.get())),
        }
    }

    /// Whether the body contains the attribute `name`: as a name to set, or for at least one user.
    pub(super) fn has_attribute(&self, name: &str) -> bool {
        match self {
            Self::GetNames | Self::Get(_) | Self::CheckAccounts(_) | Self::ImportAccounts(_) => false,
            Self::SetNames { names, .. } => names.iter().any(|(_, text)| text.get() == Some(name)),
            Self::Set(users) => {
                users.iter().any(|user| user.0.attributes.0.iter().any(|(text, _)| text.get() == Some(name)))
            }
            Self::Remove(users) => {
                users.iter().any(|user| user.0.attributes.iter().any(|text| text.get() == Some(name)))
            }
        }
    }
}
