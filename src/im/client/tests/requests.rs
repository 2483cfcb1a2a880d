//! Requests: their documented form, one connection, one UserSig until it is refused.

use std::collections::HashSet;

use super::*;

#[tokio::test]
async fn requests_have_the_documented_form() {
    let server = ScriptedServer::start(vec![json(OK), json(OK), json(r#"{"ActionStatus":"OK","ErrorCode":0}"#)]).await;
    let client = server.client();
    assert_eq!(set(&client).await.unwrap().request_id.as_deref(), Some("r-1"));
    client.remove_attr(&[RemoveUser { account: "alice", names: vec!["city"] }]).await.unwrap();
    client.attr_names().await.unwrap();
    client.set_attr_names(&BTreeMap::from([(0, "city".to_owned())]), None).await.unwrap();
    let received = server.received();
    let paths: Vec<&str> = received.iter().map(|request| request.path.as_str()).collect();
    assert_eq!(
        paths,
        ["im_set_attr", "im_remove_attr", "im_get_attr_name", "im_set_attr_name"]
            .map(|command| format!("/v4/all_member_push/{command}"))
    );
    assert_eq!(received[0].body, r#"{"UserAttrs":[{"To_Account":"alice","Attrs":{"city":"Wuhan-Hidden"}}]}"#);
    assert_eq!(received[2].body, "{}", "a call without arguments sends an empty object");
    for request in &received {
        assert!(request.head.starts_with("POST "));
        assert!(request.head.to_ascii_lowercase().contains("\r\ncontent-type: application/json"));
        assert!(request.head.contains("identifier=admin%20istrator%2B1&"), "{}", request.head);
        let names: Vec<&str> = request.query.keys().map(String::as_str).collect();
        assert_eq!(names, ["contenttype", "identifier", "random", "sdkappid", "usersig"]);
        assert_eq!(request.query["sdkappid"], "1400000000");
        assert_eq!(request.query["contenttype"], "json");
        assert!(request.query["random"].parse::<u32>().is_ok());
        assert_eq!(request.query["usersig"], received[0].query["usersig"], "many calls use one UserSig");
        assert_eq!(request.connection, 0, "the connection is kept alive");
    }
    let randoms: HashSet<&String> = received.iter().map(|request| &request.query["random"]).collect();
    assert_eq!(randoms.len(), received.len(), "random differs for each call");
}

#[tokio::test]
async fn timpush_has_its_own_paths_and_a_base_url_keeps_its_path() {
    let server = ScriptedServer::start(vec![json(OK)]).await;
    let base: url::Url = format!("http://{}/im/proxy/", server.address).parse().unwrap();
    let client =
        Client::new(ClientSettings { api_base: ApiBase::BaseUrl(base), ..settings(Service::Timpush) }).unwrap();
    set(&client).await.unwrap();
    let received = server.received();
    assert_eq!(received[0].path, "/im/proxy/v4/timpush/set_attr");
    assert_eq!(received[0].query["sdkappid"], "1400000000");
}

#[tokio::test]
async fn without_users_no_call_is_made() {
    let server = ScriptedServer::start(vec![json(OK)]).await;
    let client = server.client();
    client.set_attr(&[]).await.unwrap();
    client.remove_attr(&[]).await.unwrap();
    assert!(client.get_attr(&[]).await.unwrap().users.is_empty());
    assert!(server.received().is_empty());
}

#[tokio::test]
async fn an_expired_usersig_is_renewed_and_the_call_repeated() {
    for code in [70001, 70052] {
        let server = ScriptedServer::start(vec![fail(code, "expired"), json(OK)]).await;
        let client = server.client();
        set(&client).await.unwrap();
        set(&client).await.unwrap();
        let usersigs: Vec<String> = server.received().iter().map(|request| request.query["usersig"].clone()).collect();
        assert_eq!(usersigs.len(), 3);
        assert_ne!(usersigs[0], usersigs[1], "the repetition carries a fresh UserSig");
        assert_eq!(usersigs[1], usersigs[2], "later calls use the fresh UserSig");
    }
}

#[tokio::test]
async fn a_refused_fresh_usersig_ends_the_call() {
    let server = ScriptedServer::start(vec![fail(70001, "expired")]).await;
    let client = server.client();
    let error = set(&client).await.unwrap_err();
    assert_eq!((error.code, error.maybe_applied), (Code::Vendor(70001), false));
    assert_eq!(server.received().len(), 2, "only one repetition");
    set(&client).await.unwrap_err();
    assert_eq!(server.received().len(), 3, "no repetition within a minute of the renewal");
    let server = ScriptedServer::start(vec![fail(70003, "not valid")]).await;
    set(&server.client()).await.unwrap_err();
    assert_eq!(server.received().len(), 1, "other refusals are not repeated");
}

#[test]
fn wrong_settings_are_refused_with_the_remedy() {
    let refused = |change: fn(&mut ClientSettings), word: &str| {
        let mut settings = settings(Service::AllMemberPush);
        change(&mut settings);
        let message = Client::new(settings).unwrap_err();
        assert!(message.contains(word), "{message}");
    };
    refused(|settings| settings.secret_key = "".into(), "secret key");
    refused(|settings| settings.identifier = String::new(), "im.identifier");
    refused(|settings| settings.timeout = Duration::ZERO, "im.timeout");
    refused(|settings| settings.usersig_lifetime = Duration::ZERO, "im.usersig_lifetime");
    let api_base = |url: &str| ApiBase::BaseUrl(url.parse().unwrap());
    for (url, word) in [("ftp://host/", "http://"), ("unix:/run/im", "http://"), ("http://host/?a=1", "? or #")] {
        let message =
            Client::new(ClientSettings { api_base: api_base(url), ..settings(Service::Timpush) }).unwrap_err();
        assert!(message.contains(word), "{message}");
    }
}

#[test]
fn several_clients_can_be_made_in_one_process() {
    use crate::model::Region;
    for region in [Region::China, Region::Singapore] {
        let settings = ClientSettings { api_base: ApiBase::Region(region), ..settings(Service::AllMemberPush) };
        let debug = format!("{:?}", Client::new(settings).unwrap());
        assert!(debug.contains("im.qcloud.com") || debug.contains("tim.qq.com"), "{debug}");
    }
}
