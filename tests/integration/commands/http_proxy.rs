//! Tests that calls to IM take the proxy that the environment names, and no call to this machine does.
//!
//! Owns: an HTTP proxy in front of the simulator. Must not know: how requests are made.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::people;
use crate::support::{CommandOutput, Setup, TestEnvironment, run};

/// The password of the proxy.
const PASSWORD: &str = "sesame-of-the-proxy";
/// A host that only the proxy knows.
const HOST: &str = "im.internal.test";

/// An HTTP proxy. Whatever the host, it forwards plain requests to `im`, and refuses tunnels.
struct Proxy {
    address: SocketAddr,
    /// The heads of the first requests of its connections, each with its headers.
    heads: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    async fn start(im: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port is free");
        let address = listener.local_addr().expect("the listener has an address");
        let heads = Arc::new(Mutex::new(Vec::new()));
        let seen = heads.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(forward(client, im, seen.clone()));
            }
        });
        Self { address, heads }
    }

    /// The URL as an environment variable has it.
    fn url(&self) -> String {
        format!("http://user:{PASSWORD}@{}", self.address)
    }

    /// The first lines of these heads, without the query, which holds the UserSig.
    fn requests(&self) -> Vec<String> {
        let heads = self.heads.lock().expect("no test has panicked");
        heads.iter().filter_map(|head| Some(head.split(['?', '\r']).next()?.to_owned())).collect()
    }

    fn all_authorized(&self) -> bool {
        let heads = self.heads.lock().expect("no test has panicked");
        heads.iter().all(|head| head.to_lowercase().contains("proxy-authorization: basic "))
    }
}

async fn forward(mut client: TcpStream, im: SocketAddr, heads: Arc<Mutex<Vec<String>>>) {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut buffer = [0; 4096];
        let Ok(length @ 1..) = client.read(&mut buffer).await else { return };
        head.extend_from_slice(&buffer[..length]);
    }
    heads.lock().expect("no test has panicked").push(String::from_utf8_lossy(&head).into_owned());
    if head.starts_with(b"CONNECT ") {
        let _ = client.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n").await;
        return;
    }
    let Ok(mut server) = TcpStream::connect(im).await else { return };
    if server.write_all(&head).await.is_ok() {
        let _ = copy_bidirectional(&mut client, &mut server).await;
    }
}

async fn set_up() -> (TestEnvironment, Proxy) {
    let env = TestEnvironment::set_up(Setup::default()).await;
    env.execute(&people(150)).await;
    let proxy = Proxy::start(env.im.address()).await;
    (env, proxy)
}

/// Runs a command with these environment variables. Nothing that it prints contains the password of the proxy.
async fn imsync(env: &TestEnvironment, arguments: &[&str], variables: &[(&str, &str)]) -> CommandOutput {
    let mut command = env.command(arguments);
    command.envs(variables.iter().copied());
    let output = run(command).await;
    assert!(!format!("{output:?}").contains(PASSWORD), "{output:?}");
    output
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_take_the_proxy_of_the_environment() {
    for variable in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
        let (env, proxy) = set_up().await;
        env.edit(&env.im.base_url(), &format!("http://{HOST}"));
        // Both sides of NO_PROXY: another host, and this one.
        imsync(&env, &["backfill"], &[(variable, &proxy.url()), ("NO_PROXY", "other.test")]).await.expect_code(0);
        assert_eq!(env.handle().users(), env.wanted_of_users().await, "{variable}");
        assert!(proxy.all_authorized());
        let requests = proxy.requests();
        assert!(requests.iter().all(|request| request.starts_with(&format!("POST http://{HOST}/v4/"))), "{requests:?}");

        for exception in [HOST, ".test", "internal.test", "*"] {
            let variables = [(variable, proxy.url()), ("no_proxy", exception.to_owned())];
            let variables: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let direct = imsync(&env, &["check"], &variables).await.expect_code(1);
            direct.expect_all(&["FAIL  im.reachable:", HOST]);
            assert_eq!(proxy.requests(), requests, "{exception}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_refuses_or_is_away_is_named() {
    let (env, proxy) = set_up().await;
    env.edit(&format!("base_url = \"{}\"", env.im.base_url()), "region = \"singapore\"");
    let refused = imsync(&env, &["check"], &[("HTTPS_PROXY", &proxy.url())]).await.expect_code(1);
    refused.expect_all(&["FAIL  im.reachable:", "HTTPS_PROXY"]);
    let requests = proxy.requests();
    assert!(!requests.is_empty());
    assert!(requests.iter().all(|request| request.starts_with("CONNECT adminapi")), "{requests:?}");
    // The port is taken, so that no other test listens there, and nothing listens at it.
    let taken = TcpSocket::new_v4().expect("a socket");
    taken.bind("127.0.0.1:0".parse().expect("an address")).expect("a port is free");
    let away = format!("http://user:{PASSWORD}@{}", taken.local_addr().expect("the socket has an address"));
    let away = imsync(&env, &["run", "--once"], &[("HTTPS_PROXY", &away)]).await.expect_code(1);
    away.expect_all(&["HTTPS_PROXY"]);
}

/// The simulator, or a proxy on this machine, is always asked directly.
#[tokio::test(flavor = "multi_thread")]
async fn calls_to_this_machine_take_no_proxy() {
    let (env, proxy) = set_up().await;
    let url = proxy.url();
    let everything = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"].map(|variable| (variable, url.as_str()));
    imsync(&env, &["backfill"], &everything).await.expect_code(0);
    assert_eq!(env.handle().users(), env.wanted_of_users().await);
    assert_eq!(proxy.requests(), Vec::<String>::new());
}
