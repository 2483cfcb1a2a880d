//! The log lines of calls, and what must never appear in logs, errors and debug output.

use std::collections::HashSet;
use std::io::Write;

use super::*;

/// A log writer that keeps its text.
#[derive(Clone, Default)]
struct CapturedLog(Arc<Mutex<Vec<u8>>>);

impl Write for CapturedLog {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl CapturedLog {
    fn start() -> (Self, tracing::subscriber::DefaultGuard) {
        let logged = Self::default();
        let writer = logged.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        (logged, tracing::subscriber::set_default(subscriber))
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

#[tokio::test]
async fn every_call_is_logged_with_its_request_id() {
    let (logged, _guard) = CapturedLog::start();
    let server = ScriptedServer::start(vec![json(OK), fail(90033, "no such name")]).await;
    let client = server.client();
    set(&client).await.unwrap();
    set(&client).await.unwrap_err();
    let text = logged.text();
    let line = |id: &str| text.lines().find(|line| line.contains(id)).unwrap().to_owned();
    let good = line("request_id=\"r-1\"");
    assert!(good.contains("DEBUG") && good.contains("command=\"set_attr\"") && good.contains("users=1"), "{good}");
    assert!(good.contains("duration_ms="), "{good}");
    let bad = line("request_id=\"r-2\"");
    assert!(bad.contains("WARN") && bad.contains("code=\"90033\"") && bad.contains("no such name"), "{bad}");
}

/// Calls end in every possible way. The log at trace level, errors and debug output contain no secret.
#[tokio::test]
async fn secrets_and_values_are_never_shown() {
    let (logged, _guard) = CapturedLog::start();
    // The first client supplies the UserSig that the replies of the second server quote.
    let first = ScriptedServer::start(vec![json(OK)]).await;
    let learning = client(Service::AllMemberPush, first.host(), None);
    let signature = learning.signer.current(ticking_clock()).expose().to_owned();
    let quoting = format!("bad url /v4/x?sdkappid=1&usersig={signature}&random=1, sig {signature}, value Wuhan-Hidden");
    let replies = vec![
        json(OK),
        fail(70003, &quoting),
        fail(90033, &quoting),
        fail(91000, &quoting.replace('*', "%2A")),
        http("400 Bad ApiRequest", &quoting),
        http("200 OK", &quoting),
        json(&format!(r#"{{"ActionStatus":"OK","ErrorCode":"{quoting}"}}"#)),
        fail(70001, &quoting),
        fail(70052, &quoting),
        ScriptedReply::Cut,
        ScriptedReply::Hang,
    ];
    let count = replies.len();
    let server = ScriptedServer::start(replies).await;
    let mut client = client(Service::AllMemberPush, dead_host().await, Some(server.host()));
    client.signer = learning.signer;
    client.timeout = Duration::from_secs(2);
    let mut shown = Vec::new();
    while server.received().len() < count {
        if let Err(error) = set(&client).await {
            shown.push(format!("{error} {error:?}"));
        }
    }
    let password = "http://user:proxy-password@127.0.0.1:1/secret-path".parse().unwrap();
    let settings = ClientSettings { api_base: ApiBase::BaseUrl(password), ..settings(Service::AllMemberPush) };
    shown.push(format!("{settings:?} {client:?}"));
    let proxied = Client::new(settings).unwrap();
    let error = set(&proxied).await.unwrap_err();
    shown.push(format!("{proxied:?} {error} {error:?} {}", logged.text()));
    let shown = shown.join("\n");
    assert!(shown.contains("90033") && shown.contains("IM accepted a call"), "the log was captured");
    assert!(shown.contains("usersig=…&random=1, sig …, value …"), "the rest of the vendor's text is shown");
    let used: HashSet<String> = server.received().iter().map(|request| request.query["usersig"].clone()).collect();
    assert_eq!(used.len(), 2, "the renewed UserSig was used too");
    for signature in &used {
        assert!(!shown.contains(signature.as_str()));
        assert!(!shown.contains(&signature.replace('*', "%2A")));
    }
    for secret in [KEY, "Wuhan-Hidden", "proxy-password", "secret-path", "usersig=eJ"] {
        assert!(!shown.contains(secret), "{secret} is shown");
    }
}
