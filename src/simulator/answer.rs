//! The vendor's JSON answers.
//!
//! Owns: the fields of an answer. Must not know: how an answer comes about, HTTP.

use std::collections::BTreeMap;

use serde::Serialize;

use super::error_code;

/// An answer to a call, as the vendor writes it.
#[derive(Serialize)]
pub(super) struct VendorAnswer<'a> {
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
    pub(super) users: Option<Vec<AnsweredUser<'a>>>,
    #[serde(rename = "ErrorList", skip_serializing_if = "<[_]>::is_empty")]
    refused: &'a [RefusedAccount],
    #[serde(rename = "ResultItem", skip_serializing_if = "Option::is_none")]
    pub(super) checked: Option<Vec<CheckedAccount<'a>>>,
    #[serde(rename = "FailAccounts", skip_serializing_if = "Option::is_none")]
    pub(super) not_imported: Option<Vec<&'a str>>,
}

/// One account in the answer to `account_check`.
#[derive(Serialize)]
pub(super) struct CheckedAccount<'a> {
    #[serde(rename = "UserID")]
    pub(super) account: &'a str,
    #[serde(rename = "ResultCode")]
    pub(super) code: i64,
    #[serde(rename = "ResultInfo")]
    pub(super) info: &'static str,
    #[serde(rename = "AccountStatus")]
    pub(super) status: &'static str,
}

/// One user in the answer to `get_attr`.
#[derive(Serialize)]
pub(super) struct AnsweredUser<'a> {
    #[serde(rename = "To_Account")]
    pub(super) account: &'a str,
    #[serde(rename = "Attrs")]
    pub(super) attributes: BTreeMap<&'a str, &'a str>,
}

/// An account to which a call was not applied, as in the `ErrorList` of `timpush`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RefusedAccount {
    /// The account as the call named it.
    #[serde(rename = "To_Account")]
    pub account: String,
    /// The vendor's error code.
    #[serde(rename = "ErrorCode")]
    pub code: i64,
}

impl<'a> VendorAnswer<'a> {
    /// An answer with `code` and nothing else. `call` is the number of the call; it goes into `RequestId`.
    pub(super) fn new(code: i64, call: u64) -> Self {
        Self {
            status: if code == error_code::OK { "OK" } else { "FAIL" },
            info: error_code::error_info(code),
            code,
            request_id: format!("simulator-{call}"),
            names: None,
            users: None,
            refused: &[],
            checked: None,
            not_imported: None,
        }
    }

    /// The same answer with an `ErrorList`; an empty list is omitted.
    pub(super) fn with_refused<'e>(self, refused: &'e [RefusedAccount]) -> VendorAnswer<'e>
    where
        'a: 'e,
    {
        VendorAnswer { refused, ..self }
    }

    pub(super) fn into_json(self) -> Vec<u8> {
        serde_json::to_vec(&self).expect("an answer has string keys and string, number and list values only")
    }
}
