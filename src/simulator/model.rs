//! The vendor's state: attribute names by number, users' attributes, accounts; and what the five commands do to it.
//!
//! Owns: applying a well-formed request, with the vendor's limits and codes. Must not know: HTTP, faults, time, records.

mod write;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::iter::repeat_n;

use serde::Serialize;

use super::code;
use super::endpoint::Service;
use super::wire::{AccountError, Answer, Request, Text, UserAnswer};
use write::WriteUser;

/// Attributes are numbered "0" to "9".
const NUMBERS: usize = 10;
/// The attribute type "UserID accounts"; 1 would be device registrations.
const USER_ACCOUNTS: i64 = 0;

/// The vendor's limits (page "Setting User Attributes"), which a test may lower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub users_per_call: usize,
    pub account_bytes: usize,
    pub name_bytes: usize,
    pub value_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { users_per_call: 100, account_bytes: 32, name_bytes: 50, value_bytes: 50 }
    }
}

/// One attribute of one user became another, by a call or by a direct edit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    pub account: String,
    pub attribute: String,
    pub old: Option<String>,
    pub new: Option<String>,
}

/// What a request came to.
pub(super) struct Outcome {
    pub(super) code: i64,
    /// At least one account's part was carried out (reading counts).
    pub(super) applied: bool,
    pub(super) errors: Vec<AccountError>,
    pub(super) json: Vec<u8>,
}

/// A user's attributes by number: few, so a list.
type Attributes = Vec<(u8, Box<str>)>;

/// The whole state of one app.
pub(super) struct Model {
    limits: Limits,
    names: [Option<String>; NUMBERS],
    types: [i64; NUMBERS],
    /// Users with at least one attribute.
    users: HashMap<Box<str>, Attributes>,
    /// When present, only these accounts exist.
    imported: Option<HashSet<Box<str>>>,
    /// Changes wait here to be published, when somebody listens.
    changes: Option<Vec<Change>>,
}

impl Model {
    pub(super) fn new(limits: Limits, names: &[String], imported: Option<&[String]>) -> Self {
        let mut numbered = [const { None }; NUMBERS];
        for (place, name) in numbered.iter_mut().zip(names) {
            *place = Some(name.clone());
        }
        let imported = imported.map(|accounts| accounts.iter().map(|account| account.as_str().into()).collect());
        Self {
            limits,
            names: numbered,
            types: [USER_ACCOUNTS; NUMBERS],
            users: HashMap::new(),
            imported,
            changes: None,
        }
    }

    /// Carry out `request`, with `refused` accounts failing by the code given. `call` goes into the `RequestId`.
    pub(super) fn perform(
        &mut self,
        service: Service,
        request: &Request<'_>,
        refused: &[AccountError],
        call: u64,
    ) -> Outcome {
        match request {
            Request::SetNames { names, types } => match self.set_names(names, types) {
                Ok(()) => Outcome::success(Answer::new(code::OK, call), Vec::new()),
                Err(code) => Outcome::failure(code, call),
            },
            Request::GetNames => {
                let mut answer = Answer::new(code::OK, call);
                answer.names = Some(self.names_by_number().map(|(number, name)| (number.to_string(), name)).collect());
                Outcome::success(answer, Vec::new())
            }
            Request::Set(users) => self.write(service, users, refused, call),
            Request::Remove(users) => self.write(service, users, refused, call),
            Request::Get(accounts) => self.read(service, accounts, refused, call),
        }
    }

    /// Assumed: numbers that are not named here keep their names; a value belongs to its number and so survives a
    /// renaming; 70402 for a number outside 0 to 9, a name used twice or a changed type; 90033 for a bad name.
    fn set_names(&mut self, names: &[(Text<'_>, Text<'_>)], types: &[(Text<'_>, i64)]) -> Result<(), i64> {
        let (mut new_names, mut new_types) = (self.names.clone(), self.types);
        for (number, name) in names {
            let name = name.get().ok_or(code::BAD_BODY)?;
            if name.is_empty() || name.len() > self.limits.name_bytes {
                return Err(code::BAD_ATTRIBUTE);
            }
            new_names[position(number)?] = Some(name.to_owned());
        }
        for (number, kind) in types {
            let number = position(number)?;
            let named_before = self.names[number].is_some();
            if !matches!(kind, 0 | 1) || (named_before && self.types[number] != *kind) {
                return Err(code::BAD_PARAMETER);
            }
            new_types[number] = *kind;
        }
        let mut seen = HashSet::new();
        if new_names.iter().flatten().any(|name| !seen.insert(name)) {
            return Err(code::BAD_PARAMETER);
        }
        (self.names, self.types) = (new_names, new_types);
        Ok(())
    }

    /// Assumed: `all_member_push` answers with the first bad account's code and applies nothing; `timpush` answers OK
    /// even when every account is in its `ErrorList`; an account named twice is treated in order.
    fn write<U: WriteUser>(&mut self, service: Service, users: &[U], refused: &[AccountError], call: u64) -> Outcome {
        let mut errors = Vec::new();
        for user in users {
            let account = user.account();
            if let Err(code) = self.check_account(account, refused).and_then(|()| user.check(self)) {
                if service == Service::AllMemberPush {
                    return Outcome::failure(code, call);
                }
                errors.push(AccountError { account: account.to_owned(), code });
            } else if service == Service::TimPush {
                user.apply(self);
            }
        }
        if service == Service::AllMemberPush {
            for user in users {
                user.apply(self);
            }
        }
        let applied = errors.len() < users.len();
        let mut outcome = Outcome::success(Answer::new(code::OK, call), errors);
        outcome.applied = applied;
        outcome
    }

    /// Assumed: accounts that do not exist are refused for reading as they are for writing.
    fn read(&self, service: Service, accounts: &[Text<'_>], refused: &[AccountError], call: u64) -> Outcome {
        let mut errors = Vec::new();
        let mut users = Vec::with_capacity(accounts.len());
        for account in accounts.iter().filter_map(Text::get) {
            match self.check_account(account, refused) {
                Ok(()) => users.push(UserAnswer { account, attributes: self.named_attributes(account) }),
                Err(code) if service == Service::AllMemberPush => return Outcome::failure(code, call),
                Err(code) => errors.push(AccountError { account: account.to_owned(), code }),
            }
        }
        let mut answer = Answer::new(code::OK, call);
        answer.users = Some(users);
        Outcome::success(answer, errors)
    }

    /// Assumed: 70402 for an account that is empty or too long.
    fn check_account(&self, account: &str, refused: &[AccountError]) -> Result<(), i64> {
        if let Some(refusal) = refused.iter().find(|refusal| refusal.account == account) {
            return Err(refusal.code);
        }
        if account.is_empty() || account.len() > self.limits.account_bytes {
            return Err(code::BAD_PARAMETER);
        }
        match &self.imported {
            Some(imported) if !imported.contains(account) => Err(code::NOT_IMPORTED),
            _ => Ok(()),
        }
    }

    /// An attribute that UserID accounts can have.
    fn check_attribute(&self, name: &Text<'_>) -> Result<(), i64> {
        let number = name.get().and_then(|name| self.number_of(name)).ok_or(code::BAD_ATTRIBUTE)?;
        if self.types[usize::from(number)] == USER_ACCOUNTS { Ok(()) } else { Err(code::OTHER_ACCOUNT_TYPE) }
    }

    fn number_of(&self, name: &str) -> Option<u8> {
        (0..).zip(&self.names).find(|(_, known)| known.as_deref() == Some(name)).map(|(number, _)| number)
    }

    fn names_by_number(&self) -> impl Iterator<Item = (u8, &str)> {
        (0..).zip(&self.names).filter_map(|(number, name)| Some((number, name.as_deref()?)))
    }

    /// Give or take one attribute. Other attributes of the user stay (assumed for calls).
    fn put(&mut self, account: &str, number: u8, new: Option<&str>) {
        let attributes = match (self.users.get_mut(account), new) {
            (Some(attributes), _) => attributes,
            (None, Some(_)) => self.users.entry(account.into()).or_default(),
            (None, None) => return,
        };
        let place = attributes.iter().position(|(known, _)| *known == number);
        let old = match (place, new) {
            (Some(place), Some(new)) => Some(std::mem::replace(&mut attributes[place].1, new.into())),
            (Some(place), None) => Some(attributes.swap_remove(place).1),
            (None, Some(new)) => {
                attributes.reserve_exact(1);
                attributes.push((number, new.into()));
                None
            }
            (None, None) => return,
        };
        if attributes.is_empty() {
            self.users.remove(account);
        }
        if let Some(changes) = &mut self.changes
            && old.as_deref() != new
        {
            changes.push(Change {
                account: account.to_owned(),
                attribute: self.names[usize::from(number)].clone().unwrap_or_default(),
                old: old.map(String::from),
                new: new.map(str::to_owned),
            });
        }
    }

    fn named_attributes(&self, account: &str) -> BTreeMap<&str, &str> {
        let attributes = self.users.get(account).into_iter().flatten();
        attributes
            .filter_map(|(number, value)| Some((self.names[usize::from(*number)].as_deref()?, &**value)))
            .collect()
    }

    /// Collect changes from here on, or do not; [`Model::take_changes`] empties the collection.
    pub(super) fn collect_changes(&mut self, collect: bool) {
        match (collect, &self.changes) {
            (true, None) => self.changes = Some(Vec::new()),
            (false, Some(_)) => self.changes = None,
            _ => {}
        }
    }

    pub(super) fn take_changes(&mut self) -> Vec<Change> {
        self.changes.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// The app's attribute names by number.
    pub(super) fn names(&self) -> BTreeMap<u8, String> {
        self.names_by_number().map(|(number, name)| (number, name.to_owned())).collect()
    }

    /// Replace the app's attribute names, numbered from 0.
    pub(super) fn replace_names(&mut self, names: &[String]) {
        let names = names.iter().cloned().map(Some).chain(repeat_n(None, NUMBERS));
        for (place, name) in self.names.iter_mut().zip(names) {
            *place = name;
        }
    }

    /// One user's attributes by name.
    pub(super) fn user(&self, account: &str) -> BTreeMap<String, String> {
        let attributes = self.named_attributes(account).into_iter();
        attributes.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// All users that have attributes.
    pub(super) fn users(&self) -> BTreeMap<String, BTreeMap<String, String>> {
        self.users.keys().map(|account| (account.to_string(), self.user(account))).collect()
    }

    pub(super) fn users_with_attributes(&self) -> usize {
        self.users.len()
    }

    /// Make a user's attributes exactly these, whatever the limits; the error is the first name that is not set.
    pub(super) fn replace_user(&mut self, account: &str, attributes: &BTreeMap<String, String>) -> Result<(), String> {
        let numbered = attributes.iter().map(|(name, value)| {
            self.number_of(name).map(|number| (number, value.as_str())).ok_or_else(|| name.clone())
        });
        let numbered = numbered.collect::<Result<BTreeMap<_, _>, _>>()?;
        for number in (0..).take(NUMBERS) {
            self.put(account, number, numbered.get(&number).copied());
        }
        Ok(())
    }

    /// Make an account exist, or not. Without a list of imported accounts every account exists, and this does nothing.
    pub(super) fn import(&mut self, account: &str, exists: bool) {
        if let Some(imported) = &mut self.imported {
            if exists {
                imported.insert(account.into());
            } else {
                imported.remove(account);
            }
        }
    }
}

/// A number "0" to "9" as a position.
fn position(number: &Text<'_>) -> Result<usize, i64> {
    match number.get().map(str::as_bytes) {
        Some([digit @ b'0'..=b'9']) => Ok(usize::from(digit - b'0')),
        _ => Err(code::BAD_PARAMETER),
    }
}

impl Outcome {
    fn success(answer: Answer<'_>, errors: Vec<AccountError>) -> Self {
        let json = answer.with_errors(&errors).into_json();
        Self { code: code::OK, applied: true, errors, json }
    }

    pub(super) fn failure(code: i64, call: u64) -> Self {
        Self { code, applied: false, errors: Vec::new(), json: Answer::new(code, call).into_json() }
    }
}
