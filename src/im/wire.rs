//! The JSON of requests and answers.
//!
//! Owns: the vendor's field names, what counts as a documented answer. Must not know: HTTP, hosts, UserSigs.
//! Unknown fields are ignored. A wrong type anywhere makes the whole answer malformed, because an answer that is only
//! partly understood does not show what IM holds.

use std::collections::BTreeMap;

use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};

use super::call::{RemoveUser, SetUser};

/// IM's answers nest four levels deep. An answer that nests far deeper does not come from IM.
const MAX_DEPTH: usize = 16;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct UserListBody<T> {
    user_attrs: Vec<T>,
}

#[derive(Serialize)]
struct SetUserBody<'a> {
    #[serde(rename = "To_Account")]
    account: &'a str,
    #[serde(rename = "Attrs", serialize_with = "as_object")]
    attrs: &'a [(&'a str, &'a str)],
}

#[derive(Serialize)]
struct RemoveUserBody<'a> {
    #[serde(rename = "To_Account")]
    account: &'a str,
    #[serde(rename = "Attrs")]
    names: &'a [&'a str],
}

#[derive(Serialize)]
struct GetAttrBody<'a> {
    #[serde(rename = "To_Account")]
    accounts: &'a [&'a str],
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct SetAttrNameBody<'a> {
    attr_names: &'a BTreeMap<u8, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attr_types: Option<BTreeMap<u8, u8>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct AccountCheckBody<'a> {
    check_item: Vec<CheckItemBody<'a>>,
}

#[derive(Serialize)]
struct CheckItemBody<'a> {
    #[serde(rename = "UserID")]
    account: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct AccountImportBody<'a> {
    accounts: &'a [&'a str],
}

fn as_object<S: Serializer>(attrs: &&[(&str, &str)], serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(attrs.len()))?;
    for (name, value) in *attrs {
        map.serialize_entry(name, value)?;
    }
    map.end()
}

/// The body of a set call.
pub(super) fn set_attr(users: &[SetUser<'_>]) -> Vec<u8> {
    let user_attrs = users.iter().map(|user| SetUserBody { account: user.account, attrs: &user.attrs }).collect();
    body(&UserListBody { user_attrs })
}

/// The body of a remove call.
pub(super) fn remove_attr(users: &[RemoveUser<'_>]) -> Vec<u8> {
    let user_attrs = users.iter().map(|user| RemoveUserBody { account: user.account, names: &user.names }).collect();
    body(&UserListBody { user_attrs })
}

/// The body of a get call.
pub(super) fn get_attr(accounts: &[&str]) -> Vec<u8> {
    body(&GetAttrBody { accounts })
}

/// The body of a call that defines attribute names.
pub(super) fn set_attr_names(names: &BTreeMap<u8, String>, attribute_type: Option<u8>) -> Vec<u8> {
    let attr_types =
        attribute_type.map(|attribute_type| names.keys().map(|number| (*number, attribute_type)).collect());
    body(&SetAttrNameBody { attr_names: names, attr_types })
}

/// The body of a call that checks which accounts exist.
pub(super) fn account_check(accounts: &[&str]) -> Vec<u8> {
    body(&AccountCheckBody { check_item: accounts.iter().map(|account| CheckItemBody { account }).collect() })
}

/// The body of a call that creates accounts.
pub(super) fn account_import(accounts: &[&str]) -> Vec<u8> {
    body(&AccountImportBody { accounts })
}

/// The body of a call without arguments. The vendor expects an object, not an empty body.
pub(super) fn empty() -> Vec<u8> {
    b"{}".to_vec()
}

fn body(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("strings and numbers can be written as JSON")
}

/// The answer to any command.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ApiAnswer {
    pub(super) action_status: Option<String>,
    pub(super) error_code: i64,
    #[serde(default)]
    pub(super) error_info: Option<String>,
    pub(super) request_id: Option<String>,
    /// Only `timpush` has it, as documented.
    pub(super) error_list: Option<Vec<ErrorListEntry>>,
    pub(super) user_attrs: Option<Vec<UserAttrsEntry>>,
    pub(super) attr_names: Option<BTreeMap<String, String>>,
    /// The answer to `account_check`.
    pub(super) result_item: Option<Vec<CheckedAccountEntry>>,
    /// The answer to `multiaccount_import`: the accounts that could not be created.
    pub(super) fail_accounts: Option<Vec<String>>,
}

/// Whether one account exists.
#[derive(Deserialize)]
pub(super) struct CheckedAccountEntry {
    #[serde(rename = "UserID")]
    pub(super) account: String,
    #[serde(rename = "ResultCode")]
    pub(super) code: i64,
    #[serde(rename = "AccountStatus")]
    pub(super) status: Option<String>,
}

/// An account to which the call was not applied.
#[derive(Deserialize)]
pub(super) struct ErrorListEntry {
    #[serde(rename = "To_Account")]
    pub(super) account: String,
    #[serde(rename = "ErrorCode")]
    pub(super) code: i64,
    #[serde(rename = "ErrorInfo")]
    pub(super) info: Option<String>,
}

/// What IM holds of one account.
#[derive(Deserialize)]
pub(super) struct UserAttrsEntry {
    #[serde(rename = "To_Account")]
    pub(super) account: String,
    #[serde(rename = "Attrs")]
    pub(super) attrs: BTreeMap<String, String>,
}

/// Why an answer could not be parsed. The texts do not quote the answer, which may contain users' values or the URL of the
/// call.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ParseProblem {
    /// The answer is not IM's: an HTML page, or other JSON.
    Foreign(String),
    /// The answer is incomplete or absurd.
    Broken(String),
}

/// Parses an answer.
pub(super) fn parse(bytes: &[u8]) -> Result<ApiAnswer, ParseProblem> {
    if depth_exceeds(bytes, MAX_DEPTH) {
        return Err(ParseProblem::Broken(format!("the answer nests more than {MAX_DEPTH} levels deep")));
    }
    serde_json::from_slice(bytes).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => ParseProblem::Foreign(format!(
            "the answer is JSON, but a field is missing or has the wrong type (line {}, column {})",
            error.line(),
            error.column()
        )),
        serde_json::error::Category::Eof => {
            ParseProblem::Broken(format!("the answer is incomplete: it ends after {} bytes", bytes.len()))
        }
        serde_json::error::Category::Syntax | serde_json::error::Category::Io => {
            ParseProblem::Foreign(format!("the answer is not JSON (line {}, column {})", error.line(), error.column()))
        }
    })
}

/// The parser skips unknown fields without a limit of depth, so the depth is counted here.
fn depth_exceeds(json: &[u8], limit: usize) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in json {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
        } else {
            match byte {
                b'"' => in_string = true,
                b'[' | b'{' => depth += 1,
                b']' | b'}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth > limit {
                return true;
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    fn text(body: Vec<u8>) -> String {
        String::from_utf8(body).unwrap()
    }

    /// The examples are those of the vendor's documentation.
    #[test]
    fn request_bodies_equal_the_documented_examples() {
        let set = [SetUser { account: "xiaojun012", attrs: vec![("sex", "attr1"), ("city", "at\"tr2")] }];
        assert_eq!(
            text(set_attr(&set)),
            r#"{"UserAttrs":[{"To_Account":"xiaojun012","Attrs":{"sex":"attr1","city":"at\"tr2"}}]}"#
        );
        let remove = [RemoveUser { account: "xiaojun013", names: vec!["sex", "city"] }];
        assert_eq!(text(remove_attr(&remove)), r#"{"UserAttrs":[{"To_Account":"xiaojun013","Attrs":["sex","city"]}]}"#);
        assert_eq!(text(get_attr(&["xiaojun012", "用户"])), r#"{"To_Account":["xiaojun012","用户"]}"#);
        let names = BTreeMap::from([(0, "sex".to_owned()), (1, "city".to_owned())]);
        assert_eq!(text(set_attr_names(&names, None)), r#"{"AttrNames":{"0":"sex","1":"city"}}"#);
        assert_eq!(
            text(set_attr_names(&names, Some(1))),
            r#"{"AttrNames":{"0":"sex","1":"city"},"AttrTypes":{"0":1,"1":1}}"#
        );
        assert_eq!(text(empty()), "{}");
    }

    #[test]
    fn unknown_fields_are_ignored_and_wrong_types_refused() {
        let answer = parse(br#"{"ActionStatus":"OK","ErrorCode":0,"ErrorInfo":"","ErrorDisplay":"","New":{"a":[1]}}"#);
        assert_eq!(answer.unwrap().error_code, 0);
        for wrong in [
            &br#"{"ActionStatus":"OK","ErrorCode":"0"}"#[..],
            br#"{"ActionStatus":"OK"}"#,
            br#"{"ActionStatus":"OK","ErrorCode":0.5}"#,
            br#"{"ActionStatus":"OK","ErrorCode":0,"ErrorList":{}}"#,
            br#"{"ActionStatus":"OK","ErrorCode":0,"ErrorList":[{"To_Account":7,"ErrorCode":90035}]}"#,
            br#"{"ActionStatus":"OK","ErrorCode":0,"UserAttrs":[{"To_Account":"a","Attrs":{"sex":1}}]}"#,
            br#"{"ActionStatus":"OK","ErrorCode":0,"AttrNames":["sex"]}"#,
            b"[]",
            b"null",
            b"",
            b"{} {}",
        ] {
            assert!(parse(wrong).is_err(), "{}", String::from_utf8_lossy(wrong));
        }
    }

    #[test]
    fn the_error_of_a_malformed_answer_does_not_quote_it() {
        let problem = parse(br#"{"ActionStatus":"OK","ErrorCode":"hidden-value"}"#).err().unwrap();
        let ParseProblem::Foreign(problem) = problem else { panic!("{problem:?}") };
        assert!(!problem.contains("hidden-value") && problem.contains("wrong type"), "{problem}");
    }

    #[test]
    fn deep_nesting_is_refused_in_unknown_fields_too() {
        let nested = |levels: usize| {
            format!(r#"{{"ActionStatus":"OK","ErrorCode":0,"X":{}{}}}"#, "[".repeat(levels), "]".repeat(levels))
        };
        assert!(parse(nested(MAX_DEPTH - 1).as_bytes()).is_ok());
        assert!(parse(nested(MAX_DEPTH).as_bytes()).is_err());
        assert!(parse(nested(1_000_000).as_bytes()).is_err());
        let brackets_in_a_string = r#"{"ActionStatus":"OK","ErrorCode":0,"X":"\"[[[[[[[[[[[[[[[[[[[[[[[["}"#;
        assert!(parse(brackets_in_a_string.as_bytes()).is_ok());
    }
}
