//! Damaged answers: none makes the client panic, and none counts as more than it says.

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Map, Number, Value};

use super::super::super::answer::read_answer;
use super::super::super::signing_key::SigningKey;
use super::*;

const ACCOUNTS: [&str; 3] = ["alice", "bob", "用户"];

/// Valid answers of every kind, to be damaged.
fn valid_answer() -> impl Strategy<Value = Value> {
    let answers = [
        OK,
        r#"{"ActionStatus":"FAIL","ErrorCode":90033,"ErrorInfo":"bad name","RequestId":"r"}"#,
        r#"{"ActionStatus":"OK","ErrorCode":0,"ErrorInfo":"","ErrorList":[{"To_Account":"bob","ErrorCode":90035},{"To_Account":"alice","ErrorCode":0,"ErrorInfo":"x"}]}"#,
        r#"{"ActionStatus":"OK","ErrorCode":0,"ErrorList":[]}"#,
        r#"{"ActionStatus":"OK","ErrorCode":0,"ErrorList":[{"To_Account":"alice","ErrorCode":90035},{"To_Account":"Bob","ErrorCode":90035}]}"#,
        r#"{"ActionStatus":"OK","ErrorCode":0,"UserAttrs":[{"To_Account":"alice","Attrs":{"sex":"m"}},{"To_Account":"bob","Attrs":{}}]}"#,
        r#"{"ActionStatus":"OK","ErrorCode":0,"AttrNames":{"0":"sex","1":"city"}}"#,
    ];
    proptest::sample::select(answers.map(|text| serde_json::from_str(text).unwrap()).to_vec())
}

/// Any JSON, with many values that the fields of an answer hold.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(|number| Number::from_f64(number).map_or(Value::Null, Value::Number)),
        proptest::sample::select(vec![0, 1, -1, 70001, 70107, 90033, 90035, 91000]).prop_map(Value::from),
        proptest::sample::select(vec!["OK", "FAIL", "ok", "", "0", "alice", "Alice", "bob", "mallory", "用户"])
            .prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        let names = proptest::sample::select(vec!["To_Account", "ErrorCode", "ErrorInfo", "Attrs", "0", "12", "x"]);
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::Array),
            vec((names, inner), 0..4).prop_map(|fields| {
                Value::Object(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>())
            }),
        ]
    })
}

/// A change to an answer: another value in one place, a removed field or an added field.
#[derive(Clone, Debug)]
enum AnswerDamage {
    Put(Vec<prop::sample::Index>, Value),
    Remove(prop::sample::Index),
    Add(&'static str, Value),
}

fn damage() -> impl Strategy<Value = AnswerDamage> {
    let fields = ["ActionStatus", "ErrorCode", "ErrorInfo", "ErrorList", "RequestId", "UserAttrs", "AttrNames", "New"];
    prop_oneof![
        (vec(any::<prop::sample::Index>(), 1..4), any_json()).prop_map(|(path, value)| AnswerDamage::Put(path, value)),
        any::<prop::sample::Index>().prop_map(AnswerDamage::Remove),
        (proptest::sample::select(fields.to_vec()), any_json())
            .prop_map(|(name, value)| AnswerDamage::Add(name, value)),
    ]
}

fn put(place: &mut Value, path: &[prop::sample::Index], value: Value) {
    let inner = match (path, &mut *place) {
        ([at, rest @ ..], Value::Object(fields)) if !fields.is_empty() => {
            let at = at.index(fields.len());
            fields.values_mut().nth(at).map(|inner| (inner, rest))
        }
        ([at, rest @ ..], Value::Array(items)) if !items.is_empty() => {
            let at = at.index(items.len());
            items.get_mut(at).map(|inner| (inner, rest))
        }
        _ => None,
    };
    match inner {
        Some((inner, rest)) => put(inner, rest, value),
        None => *place = value,
    }
}

fn damaged(mut answer: Value, damage: Vec<AnswerDamage>) -> Value {
    for damage in damage {
        match (damage, &mut answer) {
            (AnswerDamage::Put(path, value), answer) => put(answer, &path, value),
            (AnswerDamage::Remove(at), Value::Object(fields)) if !fields.is_empty() => {
                let name = fields.keys().nth(at.index(fields.len())).unwrap().clone();
                fields.remove(&name);
            }
            (AnswerDamage::Add(name, value), Value::Object(fields)) => {
                fields.insert(name.to_owned(), value);
            }
            _ => {}
        }
    }
    answer
}

/// Reads a body that came with status 200, for a call that carried [`ACCOUNTS`].
fn read(body: &[u8]) -> Result<Accepted, CallError> {
    let users = ACCOUNTS.map(|account| user(account, &[("city", "Wuhan-Hidden")]));
    let request = ApiRequest {
        command: ApiCommand::SetAttr,
        body: wire::set_attr(&users).into(),
        accounts: ACCOUNTS.to_vec(),
        set: &users,
    };
    let signer = UsersigSigner::new(1, "admin".to_owned(), SigningKey::new(KEY.into(), None), Duration::from_hours(24));
    read_answer(&request, &signer.current(DateTime::UNIX_EPOCH), body, None).map(|answer| accepted(&request, answer))
}

/// A second reading of the documentation: the accounts for which the call may count as done. `None`: for no account.
fn may_be_done(answer: &Value) -> Option<Vec<&'static str>> {
    let is_ok = answer.get("ActionStatus")?.as_str()? == "OK" && answer.get("ErrorCode")?.as_i64()? == 0;
    let mut done = ACCOUNTS.to_vec();
    for entry in match answer.get("ErrorList") {
        None | Some(Value::Null) => &[][..],
        Some(list) => list.as_array()?,
    } {
        let (account, code) = (entry.get("To_Account")?.as_str()?, entry.get("ErrorCode")?.as_i64()?);
        if code != 0 {
            // Case and blanks aside, the account is one of the call; otherwise nothing is known.
            let account = account.trim().to_lowercase();
            ACCOUNTS.contains(&account.as_str()).then_some(())?;
            done.retain(|known| *known != account);
        }
    }
    is_ok.then_some(done)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn only_accounts_that_the_answer_confirms_count_as_done(
        answer in valid_answer(),
        damage in vec(damage(), 0..4),
    ) {
        let answer = damaged(answer, damage);
        let allowed = may_be_done(&answer);
        if let Ok(accepted) = read(answer.to_string().as_bytes()) {
            let Some(allowed) = allowed else {
                return Err(TestCaseError::fail(format!("accepted without a confirmation: {answer}")));
            };
            for account in ACCOUNTS {
                let failed = accepted.failed.iter().any(|failed| failed.account == account);
                prop_assert_eq!(!failed, allowed.contains(&account), "{} in {}", account, answer);
            }
        }
    }

    #[test]
    fn an_answer_cut_short_is_never_accepted(answer in valid_answer(), at in any::<prop::sample::Index>()) {
        let text = answer.to_string();
        let error = read(&text.as_bytes()[..at.index(text.len())]).unwrap_err();
        prop_assert_eq!((error.code.label(), error.maybe_applied), ("malformed", true));
    }

    #[test]
    fn random_bytes_are_never_accepted(bytes in vec(any::<u8>(), 0..300)) {
        prop_assert_eq!(read(&bytes).unwrap_err().code.label(), "malformed");
    }

    #[test]
    fn changed_bytes_confirm_nothing_new(answer in valid_answer(), damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut bytes = answer.to_string().into_bytes();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(accepted) = read(&bytes) {
            // Unknown fields are not parsed, so they may contain bytes that are not UTF-8.
            let answer: Value = serde_json::from_str(&String::from_utf8_lossy(&bytes)).unwrap();
            prop_assert!(may_be_done(&answer).is_some(), "{} is accepted as {:?}", answer, accepted);
        }
    }

    #[test]
    fn an_error_message_takes_one_line_without_values(answer in valid_answer(), damage in vec(damage(), 1..4), info in "(?s).{0,400}") {
        let mut answer = damaged(answer, damage);
        if let Value::Object(fields) = &mut answer {
            fields.insert("ErrorInfo".to_owned(), Value::from(format!("{info} \"Wuhan-Hidden\" {info}")));
        }
        if let Err(error) = read(answer.to_string().as_bytes()) {
            let message = format!("{error} {}", error.request_id.as_deref().unwrap_or_default());
            prop_assert!(!message.chars().any(char::is_control) && message.chars().count() < 1000, "{:?}", message);
            prop_assert!(!message.contains("Wuhan-Hidden"), "{}", message);
        }
    }
}

/// Fixed cases that the generator may miss.
#[test]
fn wrong_types_and_shapes_are_malformed() {
    for body in [
        r#"{"ActionStatus":"OK","ErrorCode":"0"}"#,
        r#"{"ActionStatus":"OK","ErrorCode":0.0}"#,
        r#"{"ActionStatus":"OK","ErrorCode":-0}"#,
        r#"{"ActionStatus":"OK","ErrorCode":0e0}"#,
        r#"{"ActionStatus":"OK","ErrorCode":false}"#,
        r#"{"ActionStatus":"OK","ErrorCode":null}"#,
        r#"{"ActionStatus":"OK","ErrorCode":[0]}"#,
        r#"{"ActionStatus":"OK","ErrorCode":18446744073709551616}"#,
        r#"{"ActionStatus":"OK","ErrorCode":9223372036854775808}"#,
        r#"{"ActionStatus":"OK","ErrorCode":1e400}"#,
        r#"{"ActionStatus":"ok","ErrorCode":0}"#,
        r#"{"ActionStatus":null,"ErrorCode":0}"#,
        r#"{"ActionStatus":true,"ErrorCode":0}"#,
        r#"{"actionstatus":"OK","errorcode":0}"#,
        r#"{"ActionStatus":"OK","ErrorCode":0,"ErrorCode":90033}"#,
        r#"{"ActionStatus":"OK","ErrorCode":90033,"ErrorCode":0}"#,
        r#"{"ActionStatus":"FAIL","ActionStatus":"OK","ErrorCode":0}"#,
        r#"{"ActionStatus":"OK","ErrorCode":0,"ErrorList":"none"}"#,
        r#"{"ActionStatus":"OK","ErrorCode":0,"ErrorList":{"To_Account":"bob","ErrorCode":90035}}"#,
        r#"{"ActionStatus":"OK","ErrorCode":0,"ErrorList":["bob"]}"#,
        r#"{"ActionStatus":"OK","ErrorCode":0,"ErrorList":[null]}"#,
        r#"{"ActionStatus":"OK","ErrorCode":0,"ErrorList":[{"To_Account":"bob"}]}"#,
        r#"{"ActionStatus":"OK","ErrorCode":0,"ErrorList":[{"ErrorCode":90035}]}"#,
        r#"{"ActionStatus":"OK","ErrorCode":0,"ErrorList":[{"To_Account":"bob","ErrorCode":"90035"}]}"#,
        r#"{"ActionStatus":"OK","ErrorCode":0,"ErrorList":[{"To_Account":"bob","ErrorCode":0,"ErrorCode":90035}]}"#,
        r#"{"ActionStatus":"OK","ErrorCode":0,"ErrorList":[{"To_Account":"bob!","ErrorCode":90035}]}"#,
        r#"{"ActionStatus":"OK","ErrorCode":0,"ErrorList":[],"ErrorList":[{"To_Account":"bob","ErrorCode":90035}]}"#,
        r#"{"ActionStatus":"OK","ErrorCode":0,"ErrorInfo":7}"#,
        r#"{"ActionStatus":"OK","ErrorCode":0,"RequestId":{}}"#,
        r#"{"ActionStatus":"OK","ErrorCode":0,"ErrorInfo":"\ud800"}"#,
        r#"{"ActionStatus":"OK","ErrorCode":0}{"ActionStatus":"OK","ErrorCode":0}"#,
        r#"{"ActionStatus":"OK","ErrorCode":0} x"#,
        r#"[{"ActionStatus":"OK","ErrorCode":0}]"#,
        r#""OK""#,
        "0",
        "\u{feff}{\"ActionStatus\":\"OK\",\"ErrorCode\":0}",
        "<!DOCTYPE html><html></html>",
        "\0",
    ] {
        let error = read(body.as_bytes()).unwrap_err();
        assert_eq!((error.code.label(), error.maybe_applied), ("malformed", true), "{body}");
    }
    let not_utf8 = [&br#"{"ActionStatus":"OK","ErrorCode":0,"ErrorInfo":""#[..], b"\xff\"}"].concat();
    assert_eq!(read(&not_utf8).unwrap_err().code.label(), "malformed");
}

#[test]
fn error_list_entries_are_read_in_every_spelling() {
    let failed = |list: &str| -> Vec<(String, Code)> {
        let body = format!(r#"{{"ActionStatus":"OK","ErrorCode":0,"ErrorList":{list}}}"#);
        read(body.as_bytes()).unwrap().failed.into_iter().map(|failed| (failed.account, failed.code)).collect()
    };
    let bob = |code| vec![("bob".to_owned(), Code::Vendor(code))];
    assert_eq!(failed("null"), []);
    assert_eq!(failed(r#"[{"To_Account":"bob","ErrorCode":0},{"To_Account":"bob","ErrorCode":90035}]"#), bob(90035));
    assert_eq!(failed(r#"[{"To_Account":"bob","ErrorCode":90035},{"To_Account":"bob","ErrorCode":1}]"#), bob(90035));
    assert_eq!(failed(r#"[{"To_Account":"\u0062ob","ErrorCode":-9223372036854775808}]"#), bob(i64::MIN));
    let all = ACCOUNTS.map(|account| format!(r#"{{"To_Account":"{account}","ErrorCode":70107}}"#)).join(",");
    assert_eq!(failed(&format!("[{all}]")).len(), 3);
}

/// Redaction costs time for each account that was sent, not for each entry of the list.
#[test]
fn a_long_error_list_is_reduced_to_the_sent_accounts() {
    let entry = format!(r#"{{"To_Account":"bob","ErrorCode":90035,"ErrorInfo":"{}"}}"#, "no ".repeat(20));
    let list = vec![entry.as_str(); 70_000].join(",");
    let body = format!(r#"{{"ActionStatus":"OK","ErrorCode":0,"ErrorList":[{list}]}}"#);
    assert!(body.len() < MAX_ANSWER_BYTES);
    let accepted = read(body.as_bytes()).unwrap();
    assert_eq!(accepted.failed.len(), 1);
}
