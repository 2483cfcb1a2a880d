//! What is sent: the documented requests, one connection, one signature until it is refused.

use std::collections::HashSet;

use super::*;

#[tokio::test]
async fn requests_are_the_documented_ones_over_one_connection() {
    let server = Server::start(vec![json(OK), json(OK), json(r#"{"ActionStatus":"OK","ErrorCode":0}"#)]).await;
    let client = server.client();
    assert_eq!(set(&client).await.unwrap().request_id.as_deref(), Some("r-1"));
    client.remove_attr(&[RemoveUser { account: "alice", names: vec!["city"] }]).await.unwrap();
    client.attr_names().await.unwrap();
    client.set_attr_names(&BTreeMap::from([(0, "city".to_owned())])).await.unwrap();
    let seen = server.seen();
    let paths: Vec<&str> = seen.iter().map(|request| request.path.as_str()).collect();
    assert_eq!(
        paths,
        ["im_set_attr", "im_remove_attr", "im_get_attr_name", "im_set_attr_name"]
            .map(|command| format!("/v4/all_member_push/{command}"))
    );
    assert_eq!(seen[0].body, r#"{"UserAttrs":[{"To_Account":"alice","Attrs":{"city":"Wuhan-Hidden"}}]}"#);
    assert_eq!(seen[2].body, "{}", "a call without arguments sends an empty object");
    for request in &seen {
        assert!(request.head.starts_with("POST "));
        assert!(request.head.to_ascii_lowercase().contains("\r\ncontent-type: application/json"));
        assert!(request.head.contains("identifier=admin%20istrator%2B1&"), "{}", request.head);
        let names: Vec<&str> = request.query.keys().map(String::as_str).collect();
        assert_eq!(names, ["contenttype", "identifier", "random", "sdkappid", "usersig"]);
        assert_eq!(request.query["sdkappid"], "1400000000");
        assert_eq!(request.query["contenttype"], "json");
        assert!(request.query["random"].parse::<u32>().is_ok());
        assert_eq!(request.query["usersig"], seen[0].query["usersig"], "one signature serves many calls");
        assert_eq!(request.connection, 0, "the connection is kept alive");
    }
    let randoms: HashSet<&String> = seen.iter().map(|request| &request.query["random"]).collect();
    assert_eq!(randoms.len(), seen.len(), "random is fresh for each call");
}

#[tokio::test]
async fn timpush_has_paths_of_its_own_and_a_base_url_keeps_its_path() {
    let server = Server::start(vec![json(OK)]).await;
    let base: url::Url = format!("http://{}/im/proxy/", server.address).parse().unwrap();
    let client =
        Client::new(ClientSettings { endpoint: ApiBase::BaseUrl(base), ..settings(Service::Timpush) }).unwrap();
    set(&client).await.unwrap();
    assert_eq!(server.seen()[0].path, "/im/proxy/v4/timpush/set_attr");
    assert_eq!((client.service(), client.sdk_app_id()), (Service::Timpush, 1_400_000_000));
}

#[tokio::test]
async fn nobody_to_send_makes_no_call() {
    let server = Server::start(vec![json(OK)]).await;
    let client = server.client();
    client.set_attr(&[]).await.unwrap();
    client.remove_attr(&[]).await.unwrap();
    assert!(client.get_attr(&[]).await.unwrap().is_empty());
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn an_expired_signature_is_renewed_and_the_call_repeated_once() {
    for code in [70001, 70052] {
        let server = Server::start(vec![fail(code, "expired"), json(OK)]).await;
        let client = server.client();
        set(&client).await.unwrap();
        set(&client).await.unwrap();
        let signatures: Vec<String> = server.seen().iter().map(|request| request.query["usersig"].clone()).collect();
        assert_eq!(signatures.len(), 3);
        assert_ne!(signatures[0], signatures[1], "the repeat carries a fresh signature");
        assert_eq!(signatures[1], signatures[2], "which then stays in use");
    }
}

#[tokio::test]
async fn a_fresh_signature_that_is_refused_too_ends_the_call() {
    let server = Server::start(vec![fail(70001, "expired")]).await;
    let client = server.client();
    let error = set(&client).await.unwrap_err();
    assert_eq!((error.code, error.maybe_applied), (Code::Vendor(70001), false));
    assert_eq!(server.seen().len(), 2, "only one repeat");
    set(&client).await.unwrap_err();
    assert_eq!(server.seen().len(), 3, "no repeat at all while the fresh one is young");
    let server = Server::start(vec![fail(70003, "not valid")]).await;
    set(&server.client()).await.unwrap_err();
    assert_eq!(server.seen().len(), 1, "other refusals are not repeated");
}

#[test]
fn settings_that_cannot_work_are_refused_with_the_remedy() {
    let refused = |change: fn(&mut ClientSettings), word: &str| {
        let mut settings = settings(Service::AllMemberPush);
        change(&mut settings);
        let said = Client::new(settings).unwrap_err();
        assert!(said.contains(word), "{said}");
    };
    refused(|settings| settings.secret_key = "".into(), "secret key");
    refused(|settings| settings.identifier = String::new(), "im.identifier");
    refused(|settings| settings.timeout = Duration::ZERO, "im.timeout");
    refused(|settings| settings.usersig_lifetime = Duration::ZERO, "im.usersig_lifetime");
    let endpoint = |url: &str| ApiBase::BaseUrl(url.parse().unwrap());
    for (url, word) in [("ftp://host/", "http://"), ("unix:/run/im", "http://"), ("http://host/?a=1", "? or #")] {
        let said = Client::new(ClientSettings { endpoint: endpoint(url), ..settings(Service::Timpush) }).unwrap_err();
        assert!(said.contains(word), "{said}");
    }
}

#[test]
fn clients_of_every_region_can_be_made_one_after_the_other() {
    use crate::model::Region;
    for region in [Region::China, Region::Singapore] {
        let settings = ClientSettings { endpoint: ApiBase::Region(region), ..settings(Service::AllMemberPush) };
        let shown = format!("{:?}", Client::new(settings).unwrap());
        assert!(shown.contains("im.qcloud.com") || shown.contains("tim.qq.com"), "{shown}");
    }
}
