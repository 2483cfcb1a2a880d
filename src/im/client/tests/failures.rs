//! Calls without an answer: broken and refused connections, hanging servers, the backup host.

use super::*;

#[tokio::test]
async fn a_broken_connection_leaves_the_outcome_unknown() {
    let truncated = format!("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{OK}");
    let server = ScriptedServer::start(vec![
        ScriptedReply::Cut,
        ScriptedReply::Partial(truncated.into_bytes()),
        ScriptedReply::Partial(b"HTTP/1.1 200 O".to_vec()),
        ScriptedReply::Partial(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()),
    ])
    .await;
    let client = server.client();
    for number in 0..4 {
        let error = set(&client).await.unwrap_err();
        assert_eq!(error.code, Code::Connect, "reply {number}: {error}");
        assert!(error.maybe_applied, "reply {number}");
        assert!(error.info.contains("broke"), "{error}");
    }
    assert_eq!(server.received().len(), 4, "a request that was sent is never sent again");
}

#[tokio::test]
async fn a_broken_keep_alive_connection_does_not_send_twice() {
    let server = ScriptedServer::start(vec![json(OK), ScriptedReply::Cut, json(OK)]).await;
    let client = server.client();
    set(&client).await.unwrap();
    let error = set(&client).await.unwrap_err();
    assert_eq!((error.code, error.maybe_applied), (Code::Connect, true), "{error}");
    assert_eq!(server.received().iter().map(|request| request.connection).collect::<Vec<_>>(), [0, 0]);
}

#[tokio::test]
async fn a_call_to_a_hanging_server_ends_after_the_timeout() {
    let half = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", OK.len()).into_bytes();
    let server = ScriptedServer::start(vec![ScriptedReply::Hang, ScriptedReply::Bytes(half)]).await;
    let settings = ClientSettings { timeout: Duration::from_secs(1), ..settings(Service::AllMemberPush) };
    let client = Client::with_hosts(settings, ApiHosts::new(server.host(), None), ticking_clock).unwrap();
    for _ in 0..2 {
        let error = set(&client).await.unwrap_err();
        assert_eq!(error.code, Code::Timeout);
        assert!(error.maybe_applied);
        assert_eq!(error.info, "no complete answer within 1s");
    }
}

#[tokio::test]
async fn a_request_that_was_not_sent_was_not_applied() {
    let refused = set(&client(Service::AllMemberPush, dead_host().await, None)).await.unwrap_err();
    assert_eq!((refused.code, refused.maybe_applied), (Code::Connect, false), "{refused}");
    assert!(refused.info.to_ascii_lowercase().contains("refused"), "{refused}");
    // The server waits for a head and the client for the TLS handshake, until the connect timeout.
    let plain = ScriptedServer::start(vec![json(OK)]).await;
    let api_base = ApiBase::BaseUrl(format!("https://{}", plain.address).parse().unwrap());
    let settings = ClientSettings { api_base, timeout: Duration::from_millis(300), ..settings(Service::AllMemberPush) };
    let handshake = set(&Client::new(settings).unwrap()).await.unwrap_err();
    assert_eq!((handshake.code, handshake.maybe_applied), (Code::Connect, false), "{handshake}");
    assert!(plain.received().is_empty());
}

#[tokio::test]
async fn the_backup_host_is_called_for_a_while() {
    let backup = ScriptedServer::start(vec![json(OK)]).await;
    let first = dead_host().await;
    let first_address = first.shown.clone();
    let client = client(Service::AllMemberPush, first, Some(backup.host()));
    set(&client).await.unwrap();
    // The primary host listens again, but for a while only the backup host is called.
    let listener = TcpListener::bind(&first_address).await.unwrap();
    set(&client).await.unwrap();
    assert_eq!(backup.received().len(), 2);
    let connection = tokio::time::timeout(Duration::from_millis(20), listener.accept()).await;
    assert!(connection.is_err(), "no connection to the primary host");
}

#[tokio::test]
async fn a_call_that_was_sent_never_goes_to_the_backup_host() {
    let backup = ScriptedServer::start(vec![json(OK)]).await;
    let first =
        ScriptedServer::start(vec![ScriptedReply::Cut, http("502 Bad Gateway", ""), fail(91000, "internal")]).await;
    let client = client(Service::AllMemberPush, first.host(), Some(backup.host()));
    for _ in 0..3 {
        assert!(set(&client).await.unwrap_err().maybe_applied);
    }
    assert_eq!((first.received().len(), backup.received().len()), (3, 0));
}

#[tokio::test]
async fn the_error_names_both_unreachable_hosts() {
    let (first, backup) = (dead_host().await, dead_host().await);
    let names = [first.shown.clone(), backup.shown.clone()];
    let error = set(&client(Service::AllMemberPush, first, Some(backup))).await.unwrap_err();
    assert_eq!((error.code, error.maybe_applied), (Code::Connect, false));
    assert!(names.iter().all(|name| error.info.contains(name)), "{error}");
}
