//! The five commands when everything is well, and the codes of bodies that are not.

use serde_json::{Value, json};

use super::{World, options, set};
use crate::simulator::code;

fn error_list(answer: &super::Answered) -> Vec<(String, i64)> {
    let list = answer.body["ErrorList"].as_array().cloned().unwrap_or_default();
    let entry =
        |entry: &Value| (entry["To_Account"].as_str().unwrap().to_owned(), entry["ErrorCode"].as_i64().unwrap());
    list.iter().map(entry).collect()
}

#[tokio::test]
async fn both_services_name_set_read_and_remove() {
    for (service, prefix) in [("all_member_push", "im_"), ("timpush", "")] {
        let mut options = options();
        options.attribute_names.clear();
        let world = World::with(options).await;
        let path = |command: &str| format!("{service}/{prefix}{command}");
        let names = json!({"AttrNames": {"0": "sex", "1": "city"}});
        assert_eq!(world.call(&path("set_attr_name"), &names).await.code(), 0);
        let answer = world.call(&path("get_attr_name"), &json!({})).await;
        assert_eq!(answer.body["AttrNames"], names["AttrNames"]);

        let both = json!({"sex": "attr1", "city": "上海\n\"x\""});
        let body = set(&[("xiaojun012", both.clone()), ("xiaojun013", json!({"city": "attr2"}))]);
        let answer = world.call(&path("set_attr"), &body).await;
        assert_eq!(answer.code(), 0);
        assert!(answer.body.get("ErrorList").is_none());
        assert_eq!(world.call(&path("set_attr"), &set(&[("xiaojun013", json!({"sex": "f"}))])).await.code(), 0);

        let body = json!({"UserAttrs": [{"To_Account": "xiaojun013", "Attrs": ["city"]}, {"To_Account": "nobody", "Attrs": ["sex", "city"]}]});
        assert_eq!(world.call(&path("remove_attr"), &body).await.code(), 0);

        let answer =
            world.call(&path("get_attr"), &json!({"To_Account": ["xiaojun012", "xiaojun013", "nobody"]})).await;
        assert_eq!(answer.code(), 0);
        let expected = set(&[("xiaojun012", both), ("xiaojun013", json!({"sex": "f"})), ("nobody", json!({}))]);
        assert_eq!(answer.body["UserAttrs"], expected["UserAttrs"]);
        assert!(world.handle().violations().is_empty());
    }
}

#[tokio::test]
async fn one_bad_account_spoils_an_older_call_and_only_itself_in_a_newer_one() {
    let bad = [
        ("unset name", json!({"town": "x"}), code::BAD_ATTRIBUTE),
        ("name in other case", json!({"City": "x"}), code::BAD_ATTRIBUTE),
        ("51 bytes", json!({"city": "é".repeat(25) + "x"}), code::BAD_ATTRIBUTE),
        ("empty", json!({"city": ""}), code::BAD_ATTRIBUTE),
        ("number", json!({"city": 7}), code::BAD_ATTRIBUTE),
        ("null", json!({"city": null}), code::BAD_ATTRIBUTE),
    ];
    let world = World::start().await;
    for (what, attributes, code) in bad {
        let body = set(&[("u1", json!({"city": "a"})), ("u2", attributes), ("u3", json!({"city": "c"}))]);
        assert_eq!(world.call("all_member_push/im_set_attr", &body).await.code(), code, "{what}");
        assert!(world.handle().users().is_empty(), "{what}: nothing is applied");
        let answer = world.call("timpush/set_attr", &body).await;
        assert_eq!(answer.code(), 0, "{what}");
        assert_eq!(error_list(&answer), [("u2".to_owned(), code)], "{what}");
        assert_eq!(world.handle().users().into_keys().collect::<Vec<_>>(), ["u1", "u3"], "{what}");
        for account in ["u1", "u3"] {
            world.handle().drop_user(account);
        }
    }
    let account = "a".repeat(33);
    let long = set(&[(&account, json!({"city": "a"}))]);
    assert_eq!(world.call("all_member_push/im_set_attr", &long).await.code(), code::BAD_PARAMETER);
    let longest = set(&[(&account[..32], json!({"city": "é".repeat(25)}))]);
    assert_eq!(world.call("all_member_push/im_set_attr", &longest).await.code(), 0);
}

#[tokio::test]
async fn accounts_that_were_not_imported_are_refused() {
    let mut options = options();
    options.imported_accounts = Some(vec!["u1".to_owned()]);
    let world = World::with(options).await;
    let body = set(&[("u1", json!({"city": "a"})), ("u2", json!({"city": "b"}))]);
    assert_eq!(world.call("all_member_push/im_set_attr", &body).await.code(), code::NOT_IMPORTED);
    let answer = world.call("timpush/set_attr", &body).await;
    assert_eq!(error_list(&answer), [("u2".to_owned(), code::NOT_IMPORTED)]);
    assert_eq!(world.city("u1").as_deref(), Some("a"));
    world.handle().import("u2", true);
    assert_eq!(world.call("all_member_push/im_set_attr", &body).await.code(), 0);
    let answer = world.call("timpush/get_attr", &json!({"To_Account": ["u1", "u9"]})).await;
    assert_eq!(error_list(&answer), [("u9".to_owned(), code::NOT_IMPORTED)]);
    assert_eq!(answer.body["UserAttrs"], json!([{"To_Account": "u1", "Attrs": {"city": "a"}}]));
}

#[tokio::test]
async fn bodies_of_another_form_have_their_codes() {
    let world = World::start().await;
    let users = |count: usize| {
        let accounts: Vec<_> = (0..count).map(|n| format!("u{n}")).collect();
        json!({ "To_Account": accounts }).to_string()
    };
    let user = r#""To_Account":"u""#;
    for (command, body, code) in [
        ("set_attr", String::new(), code::BAD_HTTP),
        ("get_attr_name", String::new(), code::BAD_HTTP),
        ("set_attr", "{".to_owned(), code::NOT_JSON),
        ("set_attr", "{}x".to_owned(), code::NOT_JSON),
        ("set_attr", "{}".to_owned(), code::BAD_BODY),
        ("set_attr", "[]".to_owned(), code::BAD_BODY),
        ("set_attr", r#"{"UserAttrs":[]}"#.to_owned(), code::BAD_BODY),
        ("set_attr", r#"{"userattrs":[]}"#.to_owned(), code::BAD_BODY),
        ("set_attr", r#"{"UserAttrs":[["u",{"city":"a"}]]}"#.to_owned(), code::BAD_BODY),
        ("set_attr", format!(r#"{{"UserAttrs":[{{{user},"Attrs":["city"]}}]}}"#), code::BAD_BODY),
        ("set_attr", format!(r#"{{"UserAttrs":[{{{user},"Attrs":{{}}}}]}}"#), code::BAD_BODY),
        ("set_attr", format!(r#"{{"UserAttrs":[{{{user}}}]}}"#), code::BAD_BODY),
        ("set_attr", r#"{"UserAttrs":[{"To_Account":7,"Attrs":{"city":"a"}}]}"#.to_owned(), code::ACCOUNT_NOT_A_STRING),
        ("remove_attr", format!(r#"{{"UserAttrs":[{{{user},"Attrs":{{"city":"a"}}}}]}}"#), code::BAD_BODY),
        ("get_attr", r#"{"To_Account":["u",null]}"#.to_owned(), code::ACCOUNT_NOT_A_STRING),
        ("get_attr", r#"{"To_Account":"u"}"#.to_owned(), code::BAD_BODY),
        ("get_attr", users(101), code::TOO_MANY_ACCOUNTS),
        ("get_attr", users(100), 0),
    ] {
        for path in [format!("timpush/{command}"), format!("all_member_push/im_{command}")] {
            assert_eq!(world.post(world.url(&path), body.clone()).await.code(), code, "{path} {body:.60}");
        }
    }
    assert!(world.handle().users().is_empty());
}

#[tokio::test]
async fn names_have_their_limits() {
    let world = World::start().await;
    let eleven: serde_json::Map<_, _> = (0..11).map(|n| (n.to_string(), json!(format!("name{n}")))).collect();
    for (what, names, code) in [
        ("eleven", json!(eleven), code::BAD_PARAMETER),
        ("no number", json!({"x": "a"}), code::BAD_PARAMETER),
        ("leading zero", json!({"01": "a"}), code::BAD_PARAMETER),
        ("51 bytes", json!({"2": "a".repeat(51)}), code::BAD_ATTRIBUTE),
        ("empty", json!({"2": ""}), code::BAD_ATTRIBUTE),
        ("not a string", json!({"2": 3}), code::BAD_BODY),
        ("a name of another number", json!({"2": "city"}), code::BAD_PARAMETER),
        ("none", json!({}), code::BAD_BODY),
        ("one more", json!({"9": "a".repeat(50)}), 0),
    ] {
        let answer = world.call("all_member_push/im_set_attr_name", &json!({ "AttrNames": names })).await;
        assert_eq!(answer.code(), code, "{what}");
    }
    let expected = [(0, "sex".to_owned()), (1, "city".to_owned()), (9, "a".repeat(50))];
    assert_eq!(world.handle().names().into_iter().collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn an_attribute_of_devices_cannot_be_given_to_accounts() {
    let world = World::start().await;
    let body = json!({"AttrNames": {"2": "device"}, "AttrTypes": {"2": 1}});
    assert_eq!(world.call("all_member_push/im_set_attr_name", &body).await.code(), code::BAD_BODY);
    assert_eq!(world.call("timpush/set_attr_name", &body).await.code(), 0);
    let answer = world.call("timpush/set_attr", &set(&[("u1", json!({"device": "a"}))])).await;
    assert_eq!(error_list(&answer), [("u1".to_owned(), code::OTHER_ACCOUNT_TYPE)]);
    let changed = json!({"AttrNames": {"2": "device"}, "AttrTypes": {"2": 0}});
    assert_eq!(world.call("timpush/set_attr_name", &changed).await.code(), code::BAD_PARAMETER, "a type is fixed");
}
