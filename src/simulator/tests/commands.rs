//! The five commands: valid calls, and the error codes of invalid bodies.
//!
//! Owns: the tests of `request`, `execute` and `app_state`. Must not know: faults, records.

use serde_json::{Value, json};

use super::{TestSimulator, options, set};
use crate::simulator::error_code;

fn error_list(answer: &super::TestAnswer) -> Vec<(String, i64)> {
    let list = answer.body["ErrorList"].as_array().cloned().unwrap_or_default();
    let entry =
        |entry: &Value| (entry["To_Account"].as_str().unwrap().to_owned(), entry["ErrorCode"].as_i64().unwrap());
    list.iter().map(entry).collect()
}

#[tokio::test]
async fn both_services_offer_all_five_commands() {
    for (service, prefix) in [("all_member_push", "im_"), ("timpush", "")] {
        let mut options = options();
        options.attribute_names.clear();
        let simulator = TestSimulator::with(options).await;
        let path = |command: &str| format!("{service}/{prefix}{command}");
        let names = json!({"AttrNames": {"0": "sex", "1": "city"}});
        assert_eq!(simulator.call(&path("set_attr_name"), &names).await.code(), 0);
        let answer = simulator.call(&path("get_attr_name"), &json!({})).await;
        assert_eq!(answer.body["AttrNames"], names["AttrNames"]);

        let both = json!({"sex": "attr1", "city": "上海\n\"x\""});
        let body = set(&[("xiaojun012", both.clone()), ("xiaojun013", json!({"city": "attr2"}))]);
        let answer = simulator.call(&path("set_attr"), &body).await;
        assert_eq!(answer.code(), 0);
        assert!(answer.body.get("ErrorList").is_none());
        assert_eq!(simulator.call(&path("set_attr"), &set(&[("xiaojun013", json!({"sex": "f"}))])).await.code(), 0);

        let body = json!({"UserAttrs": [{"To_Account": "xiaojun013", "Attrs": ["city"]}, {"To_Account": "nobody", "Attrs": ["sex", "city"]}]});
        assert_eq!(simulator.call(&path("remove_attr"), &body).await.code(), 0);

        let answer =
            simulator.call(&path("get_attr"), &json!({"To_Account": ["xiaojun012", "xiaojun013", "nobody"]})).await;
        assert_eq!(answer.code(), 0);
        let expected = set(&[("xiaojun012", both), ("xiaojun013", json!({"sex": "f"})), ("nobody", json!({}))]);
        assert_eq!(answer.body["UserAttrs"], expected["UserAttrs"]);
        assert!(simulator.handle().violations().is_empty());
    }
}

#[tokio::test]
async fn one_bad_account_fails_all_member_push_but_not_timpush() {
    let bad = [
        ("unset name", json!({"town": "x"}), error_code::BAD_ATTRIBUTE),
        ("name in another case", json!({"City": "x"}), error_code::BAD_ATTRIBUTE),
        ("51 bytes", json!({"city": "é".repeat(25) + "x"}), error_code::BAD_ATTRIBUTE),
        ("empty", json!({"city": ""}), error_code::BAD_ATTRIBUTE),
        ("number", json!({"city": 7}), error_code::BAD_ATTRIBUTE),
        ("null", json!({"city": null}), error_code::BAD_ATTRIBUTE),
    ];
    let simulator = TestSimulator::start().await;
    for (what, attributes, code) in bad {
        let body = set(&[("u1", json!({"city": "a"})), ("u2", attributes), ("u3", json!({"city": "c"}))]);
        assert_eq!(simulator.call("all_member_push/im_set_attr", &body).await.code(), code, "{what}");
        assert!(simulator.handle().users().is_empty(), "{what}: nothing is applied");
        let answer = simulator.call("timpush/set_attr", &body).await;
        assert_eq!(answer.code(), 0, "{what}");
        assert_eq!(error_list(&answer), [("u2".to_owned(), code)], "{what}");
        assert_eq!(simulator.handle().users().into_keys().collect::<Vec<_>>(), ["u1", "u3"], "{what}");
        for account in ["u1", "u3"] {
            simulator.handle().remove_user(account);
        }
    }
    let account = "a".repeat(33);
    let long = set(&[(&account, json!({"city": "a"}))]);
    assert_eq!(simulator.call("all_member_push/im_set_attr", &long).await.code(), error_code::BAD_PARAMETER);
    let longest = set(&[(&account[..32], json!({"city": "é".repeat(25)}))]);
    assert_eq!(simulator.call("all_member_push/im_set_attr", &longest).await.code(), 0);
}

#[tokio::test]
async fn accounts_that_were_not_imported_are_refused() {
    let mut options = options();
    options.imported_accounts = Some(vec!["u1".to_owned()]);
    let simulator = TestSimulator::with(options).await;
    let body = set(&[("u1", json!({"city": "a"})), ("u2", json!({"city": "b"}))]);
    assert_eq!(simulator.call("all_member_push/im_set_attr", &body).await.code(), error_code::NOT_IMPORTED);
    let answer = simulator.call("timpush/set_attr", &body).await;
    assert_eq!(error_list(&answer), [("u2".to_owned(), error_code::NOT_IMPORTED)]);
    assert_eq!(simulator.city("u1").as_deref(), Some("a"));
    simulator.handle().set_imported("u2", true);
    assert_eq!(simulator.call("all_member_push/im_set_attr", &body).await.code(), 0);
    let answer = simulator.call("timpush/get_attr", &json!({"To_Account": ["u1", "u9"]})).await;
    assert_eq!(error_list(&answer), [("u9".to_owned(), error_code::NOT_IMPORTED)]);
    assert_eq!(answer.body["UserAttrs"], json!([{"To_Account": "u1", "Attrs": {"city": "a"}}]));
}

/// A call of the service of accounts.
const CHECK: &str = "im_open_login_svc/account_check";
const IMPORT: &str = "im_open_login_svc/multiaccount_import";

#[tokio::test]
async fn a_check_tells_which_accounts_exist() {
    let mut options = options();
    options.imported_accounts = Some(vec!["u1".to_owned()]);
    let simulator = TestSimulator::with(options).await;
    let item = |account: &str| json!({"UserID": account});
    let answer = simulator.call(CHECK, &json!({"CheckItem": [item("u1"), item("u2"), item(&"x".repeat(33))]})).await;
    let status = |account: &str, code: i64, info: &str, status: &str| json!({"UserID": account, "ResultCode": code, "ResultInfo": info, "AccountStatus": status});
    let expected = json!([
        status("u1", 0, "", "Imported"),
        status("u2", 0, "", "NotImported"),
        status(&"x".repeat(33), 70402, "a parameter is not valid", ""),
    ]);
    assert_eq!(answer.body["ResultItem"], expected);

    let answer = simulator.call(IMPORT, &json!({"Accounts": ["u1", "u2", "x".repeat(33)]})).await;
    assert_eq!((answer.code(), &answer.body["FailAccounts"]), (0, &json!(["x".repeat(33)])));
    let answer = simulator.call(CHECK, &json!({"CheckItem": [item("u2")]})).await;
    assert_eq!(answer.body["ResultItem"], json!([status("u2", 0, "", "Imported")]));
    assert_eq!(simulator.set_city("u2", "Lima").await, 0);

    let many: Vec<String> = (0..101).map(|number| format!("u{number}")).collect();
    assert_eq!(simulator.call(IMPORT, &json!({"Accounts": many})).await.code(), 90018);
    assert_eq!(simulator.call(CHECK, &json!({"CheckItem": ["u1"]})).await.code(), 90001);
    for wrong in ["timpush/account_check", "all_member_push/im_account_check", "im_open_login_svc/set_attr"] {
        assert_eq!(simulator.call(wrong, &json!({})).await.code(), 60009, "{wrong}");
    }
}

#[tokio::test]
async fn each_defect_of_a_body_has_its_code() {
    let simulator = TestSimulator::start().await;
    let users = |count: usize| {
        let accounts: Vec<_> = (0..count).map(|n| format!("u{n}")).collect();
        json!({ "To_Account": accounts }).to_string()
    };
    let user = r#""To_Account":"u""#;
    for (command, body, code) in [
        ("set_attr", String::new(), error_code::BAD_HTTP),
        ("get_attr_name", String::new(), error_code::BAD_HTTP),
        ("set_attr", "{".to_owned(), error_code::BAD_BODY),
        ("set_attr", "{}x".to_owned(), error_code::BAD_BODY),
        ("set_attr", "{}".to_owned(), error_code::BAD_BODY),
        ("set_attr", "[]".to_owned(), error_code::BAD_BODY),
        ("set_attr", r#"{"UserAttrs":[]}"#.to_owned(), error_code::BAD_BODY),
        ("set_attr", r#"{"userattrs":[]}"#.to_owned(), error_code::BAD_BODY),
        ("set_attr", r#"{"UserAttrs":[["u",{"city":"a"}]]}"#.to_owned(), error_code::BAD_BODY),
        ("set_attr", format!(r#"{{"UserAttrs":[{{{user},"Attrs":["city"]}}]}}"#), error_code::BAD_BODY),
        ("set_attr", format!(r#"{{"UserAttrs":[{{{user},"Attrs":{{}}}}]}}"#), error_code::BAD_BODY),
        ("set_attr", format!(r#"{{"UserAttrs":[{{{user}}}]}}"#), error_code::BAD_BODY),
        (
            "set_attr",
            r#"{"UserAttrs":[{"To_Account":7,"Attrs":{"city":"a"}}]}"#.to_owned(),
            error_code::ACCOUNT_NOT_A_STRING,
        ),
        ("remove_attr", format!(r#"{{"UserAttrs":[{{{user},"Attrs":{{"city":"a"}}}}]}}"#), error_code::BAD_BODY),
        ("get_attr", r#"{"To_Account":["u",null]}"#.to_owned(), error_code::ACCOUNT_NOT_A_STRING),
        ("get_attr", r#"{"To_Account":"u"}"#.to_owned(), error_code::BAD_BODY),
        ("get_attr", users(101), error_code::TOO_MANY_ACCOUNTS),
        ("get_attr", users(100), 0),
    ] {
        for path in [format!("timpush/{command}"), format!("all_member_push/im_{command}")] {
            assert_eq!(simulator.post(simulator.url(&path), body.clone()).await.code(), code, "{path} {body:.60}");
        }
    }
    assert!(simulator.handle().users().is_empty());
}

#[tokio::test]
async fn attribute_names_have_limits() {
    let simulator = TestSimulator::start().await;
    let eleven: serde_json::Map<_, _> = (0..11).map(|n| (n.to_string(), json!(format!("name{n}")))).collect();
    for (what, names, code) in [
        ("eleven", json!(eleven), error_code::BAD_PARAMETER),
        ("not a number", json!({"x": "a"}), error_code::BAD_PARAMETER),
        ("leading zero", json!({"01": "a"}), error_code::BAD_PARAMETER),
        ("51 bytes", json!({"2": "a".repeat(51)}), error_code::BAD_ATTRIBUTE),
        ("empty", json!({"2": ""}), error_code::BAD_ATTRIBUTE),
        ("not a string", json!({"2": 3}), error_code::BAD_BODY),
        ("name of another number", json!({"2": "city"}), error_code::BAD_PARAMETER),
        ("none", json!({}), error_code::BAD_BODY),
        ("one more", json!({"9": "a".repeat(50)}), 0),
    ] {
        let answer = simulator.call("all_member_push/im_set_attr_name", &json!({ "AttrNames": names })).await;
        assert_eq!(answer.code(), code, "{what}");
    }
    let expected = [(0, "sex".to_owned()), (1, "city".to_owned()), (9, "a".repeat(50))];
    assert_eq!(simulator.handle().names().into_iter().collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn a_device_attribute_is_refused_for_accounts() {
    let simulator = TestSimulator::start().await;
    let body = json!({"AttrNames": {"2": "device"}, "AttrTypes": {"2": 1}});
    assert_eq!(simulator.call("all_member_push/im_set_attr_name", &body).await.code(), error_code::BAD_BODY);
    assert_eq!(simulator.call("timpush/set_attr_name", &body).await.code(), 0);
    let answer = simulator.call("timpush/set_attr", &set(&[("u1", json!({"device": "a"}))])).await;
    assert_eq!(error_list(&answer), [("u1".to_owned(), error_code::OTHER_ACCOUNT_TYPE)]);
    let changed = json!({"AttrNames": {"2": "device"}, "AttrTypes": {"2": 0}});
    assert_eq!(
        simulator.call("timpush/set_attr_name", &changed).await.code(),
        error_code::BAD_PARAMETER,
        "a type cannot change"
    );
}
