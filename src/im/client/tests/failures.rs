//! What does not come back: broken and refused connections, hanging servers, the backup host.

use super::*;

#[tokio::test]
async fn a_broken_connection_leaves_the_outcome_unknown() {
    let truncated = format!("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{OK}");
    let server = Server::start(vec![
        Reply::Cut,
        Reply::Partial(truncated.into_bytes()),
        Reply::Partial(b"HTTP/1.1 200 O".to_vec()),
        Reply::Partial(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()),
    ])
    .await;
    let client = server.client();
    for number in 0..4 {
        let error = set(&client).await.unwrap_err();
        assert_eq!(error.code, Code::Connect, "reply {number}: {error}");
        assert!(error.maybe_applied, "reply {number}");
        assert!(error.info.contains("broke"), "{error}");
    }
    assert_eq!(server.seen().len(), 4, "a request that was sent is never sent again");
}

#[tokio::test]
async fn a_kept_connection_that_breaks_under_a_request_does_not_send_it_twice() {
    let server = Server::start(vec![json(OK), Reply::Cut, json(OK)]).await;
    let client = server.client();
    set(&client).await.unwrap();
    let error = set(&client).await.unwrap_err();
    assert_eq!((error.code, error.maybe_applied), (Code::Connect, true), "{error}");
    assert_eq!(server.seen().iter().map(|request| request.connection).collect::<Vec<_>>(), [0, 0]);
}

#[tokio::test]
async fn a_server_that_hangs_is_left_after_the_time_out() {
    let half = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", OK.len()).into_bytes();
    let server = Server::start(vec![Reply::Hang, Reply::Bytes(half)]).await;
    let settings = ClientSettings { timeout: Duration::from_secs(1), ..settings(Service::AllMemberPush) };
    let client = Client::with_hosts(settings, Hosts::new(server.host(), None), ticking).unwrap();
    for _ in 0..2 {
        let error = set(&client).await.unwrap_err();
        assert_eq!(error.code, Code::Timeout);
        assert!(error.maybe_applied);
        assert_eq!(error.info, "no complete answer within 1s");
    }
}

#[tokio::test]
async fn what_was_certainly_not_sent_is_told_apart() {
    let refused = set(&client(Service::AllMemberPush, dead_host().await, None)).await.unwrap_err();
    assert_eq!((refused.code, refused.maybe_applied), (Code::Connect, false), "{refused}");
    assert!(refused.info.to_ascii_lowercase().contains("refused"), "{refused}");
    // The server waits for a head in vain and the client for its half of the handshake: the connect time-out ends it.
    let plain = Server::start(vec![json(OK)]).await;
    let endpoint = ApiBase::BaseUrl(format!("https://{}", plain.address).parse().unwrap());
    let hurried = ClientSettings { endpoint, timeout: Duration::from_millis(300), ..settings(Service::AllMemberPush) };
    let handshake = set(&Client::new(hurried).unwrap()).await.unwrap_err();
    assert_eq!((handshake.code, handshake.maybe_applied), (Code::Connect, false), "{handshake}");
    assert!(plain.seen().is_empty());
}

#[tokio::test]
async fn the_backup_host_takes_over_and_is_remembered() {
    let backup = Server::start(vec![json(OK)]).await;
    let first = dead_host().await;
    let first_address = first.shown.clone();
    let client = client(Service::AllMemberPush, first, Some(backup.host()));
    set(&client).await.unwrap();
    // The first host is back, but for a while the backup is called without a detour.
    let listener = TcpListener::bind(&first_address).await.unwrap();
    set(&client).await.unwrap();
    assert_eq!(backup.seen().len(), 2);
    let nobody = tokio::time::timeout(Duration::from_millis(20), listener.accept()).await;
    assert!(nobody.is_err(), "nobody came to the first host");
}

#[tokio::test]
async fn the_backup_host_never_gets_a_call_that_may_have_reached_the_first() {
    let backup = Server::start(vec![json(OK)]).await;
    let first = Server::start(vec![Reply::Cut, http("502 Bad Gateway", ""), fail(91000, "internal")]).await;
    let client = client(Service::AllMemberPush, first.host(), Some(backup.host()));
    for _ in 0..3 {
        assert!(set(&client).await.unwrap_err().maybe_applied);
    }
    assert_eq!((first.seen().len(), backup.seen().len()), (3, 0));
}

#[tokio::test]
async fn when_both_hosts_are_away_both_are_named() {
    let (first, backup) = (dead_host().await, dead_host().await);
    let names = [first.shown.clone(), backup.shown.clone()];
    let error = set(&client(Service::AllMemberPush, first, Some(backup))).await.unwrap_err();
    assert_eq!((error.code, error.maybe_applied), (Code::Connect, false));
    assert!(names.iter().all(|name| error.info.contains(name)), "{error}");
}
