//! Answers, malformed answers and HTTP statuses, and whether the call may have been applied.

use super::*;

#[tokio::test]
async fn attributes_and_names_are_read() {
    let attrs = r#"{"ActionStatus":"OK","ErrorCode":0,"UserAttrs":[{"To_Account":"a","Attrs":{"sex":"m"}},{"To_Account":"b","Attrs":{}}]}"#;
    let names = |names: &str| json(&format!(r#"{{"ActionStatus":"OK","ErrorCode":0,"AttrNames":{names}}}"#));
    let server = ScriptedServer::start(vec![
        json(attrs),
        json(OK),
        names(r#"{"0":"sex","9":"city","3":""}"#),
        names(r#"{"10":"x"}"#),
        names(r#"{"x":"sex"}"#),
    ])
    .await;
    let client = server.client();
    let users = client.get_attr(&["a", "b"]).await.unwrap().users;
    assert_eq!(users[0], UserAttrs { account: "a".to_owned(), attrs: vec![("sex".to_owned(), "m".to_owned())] });
    assert_eq!(users[1], UserAttrs { account: "b".to_owned(), attrs: Vec::new() });
    assert_eq!(client.get_attr(&["a"]).await.unwrap_err().code.label(), "malformed", "OK without UserAttrs");
    let read = client.attr_names().await.unwrap();
    assert_eq!(read, BTreeMap::from([(0, "sex".to_owned()), (9, "city".to_owned())]));
    assert_eq!(client.attr_names().await.unwrap_err().code.label(), "malformed");
    assert_eq!(client.attr_names().await.unwrap_err().code.label(), "malformed");
}

#[tokio::test]
async fn a_malformed_answer_leaves_the_outcome_unknown() {
    // A valid answer, except for its size.
    let huge = format!("{OK}{}", " ".repeat(9 * 1024 * 1024));
    let chunked =
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{huge}\r\n0\r\n\r\n", huge.len());
    let replies = vec![
        http("200 OK\r\nContent-Type: text/html", "<html>Please log in to the Wi-Fi</html>"),
        json(&OK[..30]),
        json(""),
        json(r#"{"ActionStatus":"OK","ErrorCode":"0"}"#),
        json(r#"{"ActionStatus":"FAIL","ErrorCode":0}"#),
        json(r#"{"ErrorCode":0}"#),
        json(&format!(r#"{{"ActionStatus":"OK","ErrorCode":0,"X":{}"#, "[".repeat(100_000))),
        json(&huge),
        ScriptedReply::Bytes(chunked.into_bytes()),
    ];
    let count = replies.len();
    let server = ScriptedServer::start(replies).await;
    let client = server.client();
    for number in 0..count {
        let error = set(&client).await.unwrap_err();
        assert_eq!(error.code.label(), "malformed", "reply {number}: {error}");
        assert!(error.maybe_applied, "reply {number}");
        assert!(!error.info.contains("Wi-Fi"), "the answer is not quoted: {error}");
    }
    assert_eq!(server.received().len(), count, "the client repeats no call");
}

#[tokio::test]
async fn http_statuses_become_codes() {
    let elsewhere = ScriptedServer::start(vec![json(OK)]).await;
    let moved = format!("302 Found\r\nLocation: http://{}/", elsewhere.address);
    let server = ScriptedServer::start(vec![
        http("502 Bad Gateway", "<html>/v4/?usersig=…</html>"),
        http("404 Not Found", ""),
        http("429 Too Many Requests\r\nRetry-After: 7", ""),
        http(&moved, ""),
        http(
            "503 Service Unavailable\r\nDate: Tue, 01 Oct 2024 10:00:00 GMT\r\nRetry-After: Tue, 01 Oct 2024 10:00:30 GMT",
            "",
        ),
    ])
    .await;
    let client = server.client();
    let mut ends = Vec::new();
    for _ in 0..5 {
        let error = set(&client).await.unwrap_err();
        ends.push((error.code, error.maybe_applied, error.retry_after));
    }
    assert_eq!(
        ends,
        [
            (Code::Http(502), true, None),
            (Code::Http(404), false, None),
            (Code::Http(429), true, Some(Duration::from_secs(7))),
            (Code::Http(302), false, None),
            (Code::Http(503), true, Some(Duration::from_secs(30))),
        ]
    );
    assert!(elsewhere.received().is_empty(), "redirects are not followed");
}

#[tokio::test]
async fn only_the_accounts_of_the_error_list_failed() {
    let list = r#"{"ActionStatus":"OK","ErrorCode":0,"RequestId":"r-3","ErrorList":[
        {"To_Account":"bob","ErrorCode":90035,"ErrorInfo":"wrong type of Wuhan-Hidden"},
        {"To_Account":"bob","ErrorCode":70107},
        {"To_Account":"carol","ErrorCode":0}]}"#;
    let foreign = list.replace("\"bob\",\"ErrorCode\":70107", "\"Bob\",\"ErrorCode\":70107");
    let server = ScriptedServer::start(vec![json(list), json(list), json(OK), json(&foreign)]).await;
    let client = client(Service::Timpush, server.host(), None);
    let users = ["alice", "bob", "carol"].map(|account| user(account, &[("city", "Wuhan-Hidden")]));
    let accepted = client.set_attr(&users).await.unwrap();
    assert_eq!(accepted.failed.len(), 1, "{:?}", accepted.failed);
    assert_eq!((accepted.failed[0].account.as_str(), accepted.failed[0].code), ("bob", Code::Vendor(90035)));
    assert_eq!(accepted.failed[0].info, "wrong type of …");
    let removed = ["alice", "bob"].map(|account| RemoveUser { account, names: vec!["city"] });
    assert_eq!(client.remove_attr(&removed).await.unwrap().failed[0].account, "bob");
    assert!(client.set_attr(&users).await.unwrap().failed.is_empty());
    // "Bob" is another spelling of "bob", the only account that it fits.
    assert_eq!(client.set_attr(&users).await.unwrap().failed[0].account, "bob");
}

/// An entry of an `ErrorList`, in an answer for accounts that were sent together, and the account that it stands for.
#[tokio::test]
async fn an_error_list_may_spell_an_account_otherwise() {
    let cases: &[(&[&str], &str, Option<&str>)] = &[
        (&["alice", "bob"], "Bob", Some("bob")),
        (&["alice", "bob"], " bob ", Some("bob")),
        (&["ALICE", "bob"], "alice", Some("ALICE")),
        (&["ÅSA", "bob"], "åsa", Some("ÅSA")),
        (&["alice"], "a11ce", Some("alice")),
        (&["Bob", "bob"], "bob", None),
        (&["Bob", "bob"], "BOB", None),
        (&["bob", "bob "], "BOB", None),
        (&["alice", "bob"], "carol", None),
        (&["alice", "bob"], "", None),
    ];
    let list = |account: &str| {
        json(&format!(
            r#"{{"ActionStatus":"OK","ErrorCode":0,"RequestId":"r-4","UserAttrs":[],"ErrorList":[{{"To_Account":"{account}","ErrorCode":90035,"ErrorInfo":""}}]}}"#
        ))
    };
    for (sent, listed, meant) in cases {
        let server = ScriptedServer::start(vec![list(listed), list(listed), list(listed)]).await;
        let client = client(Service::Timpush, server.host(), None);
        let set: Vec<_> = sent.iter().map(|account| user(account, &[("city", "Wuhan")])).collect();
        let removed: Vec<_> = sent.iter().map(|account| RemoveUser { account, names: vec!["city"] }).collect();
        let answers = [
            client.set_attr(&set).await.map(|accepted| accepted.failed),
            client.remove_attr(&removed).await.map(|accepted| accepted.failed),
            client.get_attr(sent).await.map(|read| read.failed),
        ];
        for answer in answers {
            match (answer, meant) {
                (Ok(failed), Some(meant)) => {
                    assert_eq!((failed.len(), failed[0].account.as_str()), (1, *meant), "{listed:?} of {sent:?}");
                    assert_eq!((failed[0].code, failed[0].info.as_str()), (Code::Vendor(90035), ""));
                }
                // Which accounts failed is unknown: smaller calls show it, and what this one changed is in doubt.
                (Err(error), None) => {
                    assert_eq!((error.code, error.maybe_applied), (Code::UnmatchedErrorList, true), "{listed:?}");
                    assert_eq!(error.request_id.as_deref(), Some("r-4"));
                }
                (answer, _) => panic!("{listed:?} of {sent:?}: {answer:?}"),
            }
        }
    }
}

/// IM may take accounts that differ by case or blanks for one, so an answer must name each of them once.
#[tokio::test]
async fn accounts_that_look_alike_are_matched_exactly_or_not() {
    use AccountStatus::{Imported, NotImported, Undetermined};

    type Listed = &'static [(&'static str, &'static str)];
    let cases: &[(Listed, [AccountStatus; 3])] = &[
        (&[("Bob", "Imported"), ("bob", "NotImported"), ("eve", "Imported")], [Imported, NotImported, Imported]),
        (&[("bob", "NotImported"), ("eve", "NotImported")], [Undetermined, Undetermined, NotImported]),
        (&[("bob", "NotImported"), ("bob", "NotImported")], [Undetermined; 3]),
        (&[("BOB", "NotImported"), ("EVE", "NotImported")], [Undetermined, Undetermined, NotImported]),
        (&[("eve", "NotImported"), ("eve", "Imported")], [Undetermined; 3]),
        (&[("eve", "Imported"), ("eve", "NotImported")], [Undetermined; 3]),
        (&[("eve", "NotImported"), ("Eve", "NotImported")], [Undetermined, Undetermined, NotImported]),
    ];
    for (listed, expected) in cases {
        let item = |(account, status): &(&str, &str)| {
            format!(r#"{{"UserID":"{account}","ResultCode":0,"AccountStatus":"{status}"}}"#)
        };
        let items: Vec<String> = listed.iter().map(item).collect();
        let body = format!(r#"{{"ActionStatus":"OK","ErrorCode":0,"ResultItem":[{}]}}"#, items.join(","));
        let server = ScriptedServer::start(vec![json(&body)]).await;
        let client = client(Service::Timpush, server.host(), None);
        assert_eq!(client.account_check(&["Bob", "bob", "eve"]).await.unwrap(), *expected, "{listed:?}");
    }
    for (listed, failed) in [
        (&[("Bob", 70107), ("bob", 70107)][..], Some(2)),
        (&[("Bob", 0), ("bob", 70107)], Some(1)),
        (&[("bob", 70107)], None),
        (&[("bob", 70107), ("bob", 70107)], None),
    ] {
        let entry = |(account, code): &(&str, i64)| format!(r#"{{"To_Account":"{account}","ErrorCode":{code}}}"#);
        let entries: Vec<String> = listed.iter().map(entry).collect();
        let body = format!(r#"{{"ActionStatus":"OK","ErrorCode":0,"ErrorList":[{}]}}"#, entries.join(","));
        let server = ScriptedServer::start(vec![json(&body)]).await;
        let client = client(Service::Timpush, server.host(), None);
        let users = ["Bob", "bob", "eve"].map(|account| user(account, &[("city", "Wuhan")]));
        match (client.set_attr(&users).await, failed) {
            (Ok(accepted), Some(failed)) => assert_eq!(accepted.failed.len(), failed, "{listed:?}"),
            (Err(error), None) => assert_eq!(error.code, Code::UnmatchedErrorList, "{listed:?}"),
            (answer, _) => panic!("{listed:?}: {answer:?}"),
        }
    }
}

#[tokio::test]
async fn a_read_leaves_listed_accounts_out() {
    let body = r#"{"ActionStatus":"OK","ErrorCode":0,"UserAttrs":[{"To_Account":"Bob","Attrs":{"city":"Lima"}},{"To_Account":"zoe","Attrs":{}}],"ErrorList":[{"To_Account":"alice","ErrorCode":70107}]}"#;
    let server = ScriptedServer::start(vec![json(body)]).await;
    let client = client(Service::Timpush, server.host(), None);
    let read = client.get_attr(&["alice", "bob"]).await.unwrap();
    let accounts: Vec<&str> = read.users.iter().map(|user| user.account.as_str()).collect();
    assert_eq!(accounts, ["bob"]);
    assert_eq!((read.failed[0].account.as_str(), read.failed[0].code), ("alice", Code::Vendor(70107)));
}

#[tokio::test]
async fn a_check_and_an_import_name_accounts_by_position() {
    let server = ScriptedServer::start(vec![
        json(r#"{"ActionStatus":"OK","ErrorCode":0,"ErrorInfo":"","ResultItem":[{"UserID":"c","ResultCode":70402,"ResultInfo":"bad","AccountStatus":""},{"UserID":"B","ResultCode":0,"ResultInfo":"","AccountStatus":"NotImported"},{"UserID":"a","ResultCode":0,"AccountStatus":"Imported"}]}"#),
        json(OK),
        json(r#"{"ActionStatus":"OK","ErrorCode":0,"ErrorInfo":"","FailAccounts":["B"]}"#),
        json(OK),
        json(r#"{"ActionStatus":"OK","ErrorCode":0,"FailAccounts":["x"]}"#),
        json(r#"{"ActionStatus":"OK","ErrorCode":0,"FailAccounts":["x"]}"#),
    ])
    .await;
    let client = client(Service::Timpush, server.host(), None);
    let sent = ["a", "b", "c", "d"];
    let statuses = client.account_check(&sent).await.unwrap();
    let undetermined = AccountStatus::Undetermined;
    assert_eq!(statuses, [AccountStatus::Imported, AccountStatus::NotImported, undetermined, undetermined]);
    assert_eq!(client.account_check(&sent).await.unwrap_err().code.label(), "malformed", "OK without ResultItem");
    assert_eq!(client.account_import(&sent).await.unwrap(), [1]);
    assert_eq!(client.account_import(&sent).await.unwrap(), Vec::<usize>::new());
    let unmatched = client.account_import(&sent).await.unwrap_err().code;
    assert_eq!(unmatched, Code::UnmatchedErrorList, "smaller calls show which account is meant");
    assert_eq!(client.account_import(&["a"]).await.unwrap(), [0], "a single account is the one that is meant");
    let received = server.received();
    assert_eq!(received[0].path, "/v4/im_open_login_svc/account_check");
    assert_eq!(received[0].body, r#"{"CheckItem":[{"UserID":"a"},{"UserID":"b"},{"UserID":"c"},{"UserID":"d"}]}"#);
    assert_eq!(received[2].path, "/v4/im_open_login_svc/multiaccount_import");
    assert_eq!(received[2].body, r#"{"Accounts":["a","b","c","d"]}"#);
}

#[tokio::test]
async fn codes_of_a_wrong_data_centre_name_the_one_called() {
    for code in [70009, 70016, 70020] {
        let server = ScriptedServer::start(vec![fail(code, "no app")]).await;
        let error = set(&server.client()).await.unwrap_err();
        assert!(error.info.starts_with("no app; the call went to 127.0.0.1:"), "{error}");
        assert!(error.info.ends_with("(im.base_url)"), "{error}");
        assert!(error.code.advice().contains("`im.region`"), "{}", error.code.advice());
    }
}

#[tokio::test]
async fn only_a_refusal_of_the_whole_call_is_certain() {
    let server = ScriptedServer::start(vec![
        fail(90033, "bad name"),
        fail(91000, "internal"),
        fail(123_456, "news"),
        json(r#"{"ActionStatus":"OK","ErrorCode":90033}"#),
        json(r#"{"ActionStatus":"FAIL","ErrorCode":90033,"ErrorList":[{"To_Account":"alice","ErrorCode":90033}]}"#),
    ])
    .await;
    let client = server.client();
    let mut certain = Vec::new();
    for _ in 0..5 {
        let error = set(&client).await.unwrap_err();
        assert!(matches!(error.code, Code::Vendor(code) if code != 0));
        certain.push(!error.maybe_applied);
    }
    assert_eq!(certain, [true, false, false, false, false]);
}

#[tokio::test]
async fn a_request_id_that_contains_a_value_is_shown() {
    let server = ScriptedServer::start(vec![fail(90033, "value 2 of sex is bad")]).await;
    let error = server.client().set_attr(&[user("alice", &[("sex", "2"), ("x", "r")])]).await.unwrap_err();
    assert_eq!(error.request_id.as_deref(), Some("r-2"));
    assert_eq!(error.to_string(), "set_attr failed with code 90033: value … of sex is bad");
}
