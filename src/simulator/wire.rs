//! The vendor's JSON: bodies that arrive and answers that leave.
//!
//! Owns: what a body must look like, the code for one that does not, and the shape of an answer. Texts are borrowed
//! from the body wherever they hold no escapes. Must not know: the state, HTTP.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::code;
use super::endpoint::{Command, Endpoint, Service};

/// A JSON value that ought to be a string.
#[derive(Debug)]
pub(super) enum Text<'a> {
    Is(Cow<'a, str>),
    NotAString,
}

impl Text<'_> {
    pub(super) fn get(&self) -> Option<&str> {
        match self {
            Self::Is(text) => Some(text),
            Self::NotAString => None,
        }
    }
}

/// A user in a call and what the call carries for them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct User<'a, Attributes> {
    #[serde(borrow, rename = "To_Account")]
    pub(super) account: Text<'a>,
    #[serde(rename = "Attrs")]
    pub(super) attributes: Attributes,
}

pub(super) type SetUser<'a> = User<'a, Pairs<'a, Text<'a>>>;
pub(super) type RemoveUser<'a> = User<'a, Vec<Text<'a>>>;

/// A JSON object as its pairs, in order.
#[derive(Debug)]
pub(super) struct Pairs<'a, T>(pub(super) Vec<(Text<'a>, T)>);

/// A body that is right in form: types, fields, number of users. Accounts are known to be strings.
#[derive(Debug)]
pub(super) enum Request<'a> {
    SetNames { names: Vec<(Text<'a>, Text<'a>)>, types: Vec<(Text<'a>, i64)> },
    GetNames,
    Set(Vec<Object<SetUser<'a>>>),
    Get(Vec<Text<'a>>),
    Remove(Vec<Object<RemoveUser<'a>>>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NamesBody<'a> {
    #[serde(borrow, rename = "AttrNames")]
    names: Pairs<'a, Text<'a>>,
    #[serde(borrow, rename = "AttrTypes")]
    types: Option<Pairs<'a, i64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EmptyBody {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetBody<'a> {
    #[serde(borrow, rename = "UserAttrs")]
    users: Vec<Object<SetUser<'a>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GetBody<'a> {
    #[serde(borrow, rename = "To_Account")]
    accounts: Vec<Text<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RemoveBody<'a> {
    #[serde(borrow, rename = "UserAttrs")]
    users: Vec<Object<RemoveUser<'a>>>,
}

/// Read a body; the error is the vendor's code.
///
/// Assumed: 60002 for an empty body, 60003 for what is not JSON, 90001 for JSON of another shape, for unknown fields,
/// for no users at all and for a user without attributes.
pub(super) fn parse(endpoint: Endpoint, body: &[u8], max_users: usize) -> Result<Request<'_>, i64> {
    if body.is_empty() {
        return Err(code::BAD_HTTP);
    }
    match endpoint.command {
        Command::SetAttrName => {
            let NamesBody { names, types } = object(body)?;
            if types.is_some() && endpoint.service == Service::AllMemberPush {
                return Err(code::BAD_BODY);
            }
            if names.0.is_empty() {
                return Err(code::BAD_BODY);
            }
            Ok(Request::SetNames { names: names.0, types: types.map(|types| types.0).unwrap_or_default() })
        }
        Command::GetAttrName => object(body).map(|EmptyBody {}| Request::GetNames),
        Command::SetAttr => {
            let SetBody { users } = object(body)?;
            let no_attributes = users.iter().any(|user| user.0.attributes.0.is_empty());
            check_users(users.iter().map(|user| &user.0.account), no_attributes, max_users)?;
            Ok(Request::Set(users))
        }
        Command::GetAttr => {
            let GetBody { accounts } = object(body)?;
            check_users(accounts.iter(), false, max_users)?;
            Ok(Request::Get(accounts))
        }
        Command::RemoveAttr => {
            let RemoveBody { users } = object(body)?;
            let no_attributes = users.iter().any(|user| user.0.attributes.is_empty());
            check_users(users.iter().map(|user| &user.0.account), no_attributes, max_users)?;
            Ok(Request::Remove(users))
        }
    }
}

fn object<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, i64> {
    match serde_json::from_slice(body) {
        Ok(Object(value)) => Ok(value),
        // A wrong shape is found before what may be no JSON further on.
        Err(error) if error.is_data() && serde_json::from_slice::<IgnoredAny>(body).is_ok() => Err(code::BAD_BODY),
        Err(_) => Err(code::NOT_JSON),
    }
}

fn check_users<'t, 'a: 't>(
    accounts: impl ExactSizeIterator<Item = &'t Text<'a>>,
    no_attributes: bool,
    max_users: usize,
) -> Result<(), i64> {
    let mut accounts = accounts;
    if accounts.len() > max_users {
        return Err(code::TOO_MANY_ACCOUNTS);
    }
    if accounts.len() == 0 || no_attributes {
        return Err(code::BAD_BODY);
    }
    if accounts.any(|account| account.get().is_none()) {
        return Err(code::ACCOUNT_NOT_A_STRING);
    }
    Ok(())
}

impl Request<'_> {
    /// The accounts of the call, in order.
    pub(super) fn accounts(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        match self {
            Self::SetNames { .. } | Self::GetNames => Box::new(std::iter::empty()),
            Self::Set(users) => Box::new(users.iter().filter_map(|user| user.0.account.get())),
            Self::Get(accounts) => Box::new(accounts.iter().filter_map(Text::get)),
            Self::Remove(users) => Box::new(users.iter().filter_map(|user| user.0.account.get())),
        }
    }

    /// The call carries the attribute `name` for somebody.
    pub(super) fn mentions(&self, name: &str) -> bool {
        match self {
            Self::GetNames | Self::Get(_) => false,
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

/// An answer as the vendor writes it.
#[derive(Serialize)]
pub(super) struct Answer<'a> {
    #[serde(rename = "ActionStatus")]
    status: &'static str,
    #[serde(rename = "ErrorInfo")]
    info: &'static str,
    #[serde(rename = "ErrorCode")]
    code: i64,
    #[serde(rename = "RequestId")]
    request_id: String,
    #[serde(rename = "AttrNames", skip_serializing_if = "Option::is_none")]
    pub(super) names: Option<BTreeMap<String, &'a str>>,
    #[serde(rename = "UserAttrs", skip_serializing_if = "Option::is_none")]
    pub(super) users: Option<Vec<UserAnswer<'a>>>,
    #[serde(rename = "ErrorList", skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [AccountError],
}

/// One user of an answer to "read users' attributes".
#[derive(Serialize)]
pub(super) struct UserAnswer<'a> {
    #[serde(rename = "To_Account")]
    pub(super) account: &'a str,
    #[serde(rename = "Attrs")]
    pub(super) attributes: BTreeMap<&'a str, &'a str>,
}

/// One account of `timpush`'s `ErrorList`: it was not applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AccountError {
    #[serde(rename = "To_Account")]
    pub account: String,
    #[serde(rename = "ErrorCode")]
    pub code: i64,
}

impl<'a> Answer<'a> {
    pub(super) fn new(code: i64, call: u64) -> Self {
        Self {
            status: if code == code::OK { "OK" } else { "FAIL" },
            info: code::text(code),
            code,
            request_id: format!("simulator-{call}"),
            names: None,
            users: None,
            errors: &[],
        }
    }

    /// The same answer with `timpush`'s list of accounts that were not applied; an empty list is left out.
    pub(super) fn with_errors<'e>(self, errors: &'e [AccountError]) -> Answer<'e>
    where
        'a: 'e,
    {
        Answer { errors, ..self }
    }

    pub(super) fn into_json(self) -> Vec<u8> {
        serde_json::to_vec(&self).expect("an answer is strings and numbers under string keys")
    }
}

/// A value that must be a JSON object: serde would also take a struct's fields from an array.
#[derive(Debug)]
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = Object<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

impl<'de: 'a, 'a, T: Deserialize<'de>> Deserialize<'de> for Pairs<'a, T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PairsVisitor<'a, T>(PhantomData<(&'a (), T)>);
        impl<'de: 'a, 'a, T: Deserialize<'de>> Visitor<'de> for PairsVisitor<'a, T> {
            type Value = Pairs<'a, T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(PairsVisitor(PhantomData))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor<'a>(PhantomData<&'a ()>);
        impl<'de: 'a, 'a> Visitor<'de> for TextVisitor<'a> {
            type Value = Text<'a>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text::Is(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text::Is(Cow::Owned(text.to_owned())))
            }
            fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
                Ok(Text::NotAString)
            }
            fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
                Ok(Text::NotAString)
            }
            fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
                Ok(Text::NotAString)
            }
            fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
                Ok(Text::NotAString)
            }
            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Text::NotAString)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Text::NotAString)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Text::NotAString)
            }
        }
        deserializer.deserialize_any(TextVisitor(PhantomData))
    }
}
