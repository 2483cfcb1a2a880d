//! The state of the simulated app: attribute names by number, users' attributes, and the accounts that exist.
//!
//! Owns: the state, the vendor's limits, and the checks of a single name, account or attribute. Must not know:
//! services, commands, HTTP, faults, time, records.

use std::collections::{BTreeMap, HashSet};
use std::iter::repeat_n;

use serde::Serialize;

use super::error_code;
use super::json::JsonText;

/// An app has at most ten attributes. Their numbers are "0" to "9".
pub(super) const MAX_ATTRIBUTES: usize = 10;
/// The attribute type "UserID accounts". The other type, 1, is for device registrations.
const USER_ID_TYPE: i64 = 0;
/// The attribute type "device registrations".
const DEVICE_TYPE: i64 = 1;
/// The bytes of a `RegistrationID`, which has the form of a uuid.
const REGISTRATION_ID_BYTES: usize = 36;

/// The vendor's size limits (page "Setting User Attributes"). A test may lower them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VendorLimits {
    /// Users in one call.
    pub users_per_call: usize,
    /// Bytes of an account.
    pub account_bytes: usize,
    /// Bytes of an attribute name.
    pub name_bytes: usize,
    /// Bytes of an attribute value.
    pub value_bytes: usize,
}

impl Default for VendorLimits {
    fn default() -> Self {
        Self { users_per_call: 100, account_bytes: 32, name_bytes: 50, value_bytes: 50 }
    }
}

/// A change of one attribute of one user, by a call or by a direct edit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AttributeChange {
    /// The user's account.
    pub account: String,
    /// The attribute's name.
    pub attribute: String,
    /// The value before; `None` if the user did not have the attribute.
    pub old: Option<String>,
    /// The value after; `None` if the attribute was removed.
    pub new: Option<String>,
}

/// A user's attributes by number. A list, because there are at most ten.
type NumberedValues = Vec<(u8, Box<str>)>;

/// The state of one app.
pub(super) struct AppState {
    limits: VendorLimits,
    names: [Option<String>; MAX_ATTRIBUTES],
    types: [i64; MAX_ATTRIBUTES],
    /// Users with at least one attribute. A hash table would stall all calls for 40 ms when it grows beyond 100,000 users.
    users: BTreeMap<Box<str>, NumberedValues>,
    /// If set, only these accounts exist.
    imported: Option<HashSet<Box<str>>>,
    /// Changes that have not been published yet; `None` while there is no subscriber.
    changes: Option<Vec<AttributeChange>>,
}

impl AppState {
    pub(super) fn new(limits: VendorLimits, names: &[String], imported: Option<&[String]>) -> Self {
        let mut numbered = [const { None }; MAX_ATTRIBUTES];
        for (entry, name) in numbered.iter_mut().zip(names) {
            *entry = Some(name.clone());
        }
        let imported = imported.map(|accounts| accounts.iter().map(|account| account.as_str().into()).collect());
        Self {
            limits,
            names: numbered,
            types: [USER_ID_TYPE; MAX_ATTRIBUTES],
            users: BTreeMap::new(),
            imported,
            changes: None,
        }
    }

    pub(super) fn limits(&self) -> VendorLimits {
        self.limits
    }

    /// Applies `set_attr_name`: gives names and types to attribute numbers. The error is the vendor's code.
    ///
    /// Assumed: a number that the call does not mention keeps its name. A value belongs to its number, so it is kept
    /// when the name changes. 70402 is the code for a number outside 0 to 9, a name used twice and a changed type;
    /// 90033 is the code for a bad name.
    pub(super) fn set_names(
        &mut self,
        names: &[(JsonText<'_>, JsonText<'_>)],
        types: &[(JsonText<'_>, i64)],
    ) -> Result<(), i64> {
        let (mut new_names, mut new_types) = (self.names.clone(), self.types);
        for (number, name) in names {
            let name = name.get().ok_or(error_code::BAD_BODY)?;
            if name.is_empty() || name.len() > self.limits.name_bytes {
                return Err(error_code::BAD_ATTRIBUTE);
            }
            new_names[parse_number(number)?] = Some(name.to_owned());
        }
        for (number, attribute_type) in types {
            let number = parse_number(number)?;
            let had_name = self.names[number].is_some();
            if !matches!(attribute_type, 0 | 1) || (had_name && self.types[number] != *attribute_type) {
                return Err(error_code::BAD_PARAMETER);
            }
            new_types[number] = *attribute_type;
        }
        let mut seen = HashSet::new();
        if new_names.iter().flatten().any(|name| !seen.insert(name)) {
            return Err(error_code::BAD_PARAMETER);
        }
        (self.names, self.types) = (new_names, new_types);
        Ok(())
    }

    /// Checks that an account is well-formed and exists. The error is the vendor's code. Assumed: 70402 is the code for
    /// an account that is empty or too long.
    pub(super) fn check_account(&self, account: &str) -> Result<(), i64> {
        if !self.is_well_formed(account) {
            return Err(error_code::BAD_PARAMETER);
        }
        match &self.imported {
            Some(imported) if !imported.contains(account) && !self.is_device(account) => Err(error_code::NOT_IMPORTED),
            _ => Ok(()),
        }
    }

    /// Whether an account has a length that the app accepts.
    pub(super) fn is_well_formed(&self, account: &str) -> bool {
        !account.is_empty() && (account.len() <= self.limits.account_bytes || self.is_device(account))
    }

    /// Whether an account is a device. Assumed: an app has devices once it has an attribute of their type.
    fn is_device(&self, account: &str) -> bool {
        account.len() == REGISTRATION_ID_BYTES
            && self.types.contains(&DEVICE_TYPE)
            && account.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
    }

    /// Makes all attributes belong to devices.
    pub(super) fn set_device_attributes(&mut self) {
        self.types = [DEVICE_TYPE; MAX_ATTRIBUTES];
    }

    /// Checks that the app has the attribute and that the account can have it: a device those of type 1, a UserID the others.
    /// The error is the vendor's code.
    pub(super) fn check_attribute(&self, account: &str, name: &JsonText<'_>) -> Result<(), i64> {
        let number = name.get().and_then(|name| self.number_of(name)).ok_or(error_code::BAD_ATTRIBUTE)?;
        let wanted = if self.is_device(account) { DEVICE_TYPE } else { USER_ID_TYPE };
        if self.types[usize::from(number)] == wanted { Ok(()) } else { Err(error_code::OTHER_ACCOUNT_TYPE) }
    }

    /// The number of the attribute `name`.
    pub(super) fn number_of(&self, name: &str) -> Option<u8> {
        (0..).zip(&self.names).find(|(_, known)| known.as_deref() == Some(name)).map(|(number, _)| number)
    }

    /// The attribute names that are set, by number.
    pub(super) fn names_by_number(&self) -> impl Iterator<Item = (u8, &str)> {
        (0..).zip(&self.names).filter_map(|(number, name)| Some((number, name.as_deref()?)))
    }

    /// Sets one attribute of a user, or removes it if `new` is `None`. The user's other attributes are kept; for calls,
    /// this is assumed.
    pub(super) fn set_attribute(&mut self, account: &str, number: u8, new: Option<&str>) {
        let values = match (self.users.get_mut(account), new) {
            (Some(values), _) => values,
            (None, Some(_)) => self.users.entry(account.into()).or_default(),
            (None, None) => return,
        };
        let position = values.iter().position(|(known, _)| *known == number);
        let old = match (position, new) {
            (Some(position), Some(new)) => Some(std::mem::replace(&mut values[position].1, new.into())),
            (Some(position), None) => Some(values.swap_remove(position).1),
            (None, Some(new)) => {
                values.reserve_exact(1);
                values.push((number, new.into()));
                None
            }
            (None, None) => return,
        };
        if values.is_empty() {
            self.users.remove(account);
        }
        if let Some(changes) = &mut self.changes
            && old.as_deref() != new
        {
            changes.push(AttributeChange {
                account: account.to_owned(),
                attribute: self.names[usize::from(number)].clone().unwrap_or_default(),
                old: old.map(String::from),
                new: new.map(str::to_owned),
            });
        }
    }

    /// One user's attributes by name.
    pub(super) fn attributes_of(&self, account: &str) -> BTreeMap<&str, &str> {
        let values = self.users.get(account).into_iter().flatten();
        values.filter_map(|(number, value)| Some((self.names[usize::from(*number)].as_deref()?, &**value))).collect()
    }

    /// Switches the collection of changes on or off. [`AppState::take_changes`] empties it.
    pub(super) fn collect_changes(&mut self, collect: bool) {
        match (collect, &self.changes) {
            (true, None) => self.changes = Some(Vec::new()),
            (false, Some(_)) => self.changes = None,
            _ => {}
        }
    }

    pub(super) fn take_changes(&mut self) -> Vec<AttributeChange> {
        self.changes.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// The app's attribute names by number.
    pub(super) fn names(&self) -> BTreeMap<u8, String> {
        self.names_by_number().map(|(number, name)| (number, name.to_owned())).collect()
    }

    /// Replaces all attribute names. The new ones are numbered from 0; names after the tenth are ignored.
    pub(super) fn replace_names(&mut self, names: &[String]) {
        let names = names.iter().cloned().map(Some).chain(repeat_n(None, MAX_ATTRIBUTES));
        for (entry, name) in self.names.iter_mut().zip(names) {
            *entry = name;
        }
    }

    /// One user's attributes by name, as owned strings.
    pub(super) fn user(&self, account: &str) -> BTreeMap<String, String> {
        let attributes = self.attributes_of(account).into_iter();
        attributes.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// All users that have attributes.
    pub(super) fn users(&self) -> BTreeMap<String, BTreeMap<String, String>> {
        self.users.keys().map(|account| (account.to_string(), self.user(account))).collect()
    }

    pub(super) fn count_users_with_attributes(&self) -> usize {
        self.users.len()
    }

    /// Replaces all attributes of a user, regardless of the limits. The error is the first name that is not set.
    pub(super) fn replace_user(&mut self, account: &str, attributes: &BTreeMap<String, String>) -> Result<(), String> {
        let numbered = attributes.iter().map(|(name, value)| {
            self.number_of(name).map(|number| (number, value.as_str())).ok_or_else(|| name.clone())
        });
        let numbered = numbered.collect::<Result<BTreeMap<_, _>, _>>()?;
        for number in (0..).take(MAX_ATTRIBUTES) {
            self.set_attribute(account, number, numbered.get(&number).copied());
        }
        Ok(())
    }

    /// Makes an account exist, or not exist. Has no effect without a list of imported accounts: then every account
    /// exists.
    pub(super) fn set_imported(&mut self, account: &str, exists: bool) {
        if let Some(imported) = &mut self.imported {
            if exists {
                imported.insert(account.into());
            } else {
                imported.remove(account);
            }
        }
    }
}

/// Parses an attribute number, "0" to "9". The error is the vendor's code.
fn parse_number(number: &JsonText<'_>) -> Result<usize, i64> {
    match number.get().map(str::as_bytes) {
        Some([digit @ b'0'..=b'9']) => Ok(usize::from(digit - b'0')),
        _ => Err(error_code::BAD_PARAMETER),
    }
}
