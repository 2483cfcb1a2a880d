//! Tests connections by unusual routes: IPv6 addresses, files that vanish, variables of the environment.
//!
//! Owns: the servers at these routes. Must not know: how the driver is called.

use imsync::cluster::{Cluster, ClusterOptions};

use super::{Role, ask, free_port};
use crate::support::{Database, Setup, TcpProxy, TestEnvironment, TlsServer, ended, run, signal};

/// What `check` prints with this URL for both databases.
async fn check(env: &TestEnvironment, url: &str, variables: &[(&str, &str)]) -> String {
    let mut command = env.command(&["check"]);
    command.env("IMSYNC_SOURCE_URL", url).env_remove("IMSYNC_STATE_URL").envs(variables.iter().copied());
    run(command).await.stdout
}

/// A connection that succeeds is compared with the next one, and the sessions of the state are renewed.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_an_ipv6_address_is_synced() {
    if let Err(reason) = std::net::TcpListener::bind("[::1]:0") {
        eprintln!("skipped: this machine has no IPv6 address [::1] ({reason})");
        return;
    }
    let settings = vec![("listen_addresses".to_owned(), "127.0.0.1,::1".to_owned())];
    let start = || Cluster::start(ClusterOptions { settings, ..ClusterOptions::default() });
    let cluster = tokio::task::spawn_blocking(start).await.unwrap().unwrap();
    let database = Database::on_own_server(cluster.url("postgres"));
    let env = TestEnvironment::set_up_on(database, Setup::default()).await;
    env.execute("INSERT INTO users (id, city) VALUES ('u1', 'Bonn')").await;
    let url = env.database.url().to_owned();
    let literal = url.replace("127.0.0.1", "[::1]");
    let without_host = url.replace(&format!("127.0.0.1:{}", cluster.port()), "");
    let port = cluster.port().to_string();
    for (url, variables) in [
        (literal.clone(), &[][..]),
        (format!("{without_host}&hostaddr=::1&port={port}"), &[]),
        (without_host, &[("PGHOST", "::1"), ("PGPORT", &port)]),
    ] {
        let printed = check(&env, &url, variables).await;
        assert!(printed.contains("ok    state.writable") && !printed.contains("FAIL"), "{printed}");
    }
    env.edit(&url, &literal);
    let mut daemon = env.start("daemon", &["run"]);
    env.eventually("the first pass ends", async || env.handle().users().len() == 1).await;
    // Source and state open their sessions again.
    env.cut_sessions().await;
    env.execute("UPDATE users SET city = 'Ulm', updated_at = now()").await;
    env.eventually("the change arrives", async || env.handle().user("u1").get("city").is_some_and(|c| c == "Ulm"))
        .await;
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
    assert!(!env.printed("daemon", "err").contains("panicked"), "{}", env.printed("daemon", "err"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_certificate_file_is_a_configuration_error() {
    let env = TestEnvironment::set_up(Setup::default()).await;
    for parameter in ["sslrootcert", "sslcert", "sslkey"] {
        let more = if parameter == "sslkey" { "&sslcert=/etc/hostname" } else { "" };
        let mut command = env.command(&["check", "--offline"]);
        command.env(
            "IMSYNC_SOURCE_URL",
            format!("postgres://me:pw-Zebra-4711@h/app?sslmode=require&{parameter}=/no/{parameter}{more}"),
        );
        let output = run(command).await.expect_code(2);
        assert!(output.stdout.contains("IMSYNC_SOURCE_URL: ssl"), "{output:?}");
        assert!(!format!("{output:?}").contains("pw-Zebra-4711"), "{output:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_file_that_vanishes_is_named() {
    let server = TlsServer::start().await;
    let database = Database::on_own_server(server.database.url().to_owned());
    let env = TestEnvironment::set_up_on(database, Setup::default()).await;
    env.execute("INSERT INTO users (id, city) VALUES ('u1', 'Bonn')").await;
    let root = env.directory().join("root.crt");
    std::fs::copy(server.authority(), &root).unwrap();
    let parameters = format!("sslmode=verify-full&sslrootcert={}", root.display());
    env.edit(env.database.url(), &server.url("localhost", &parameters));
    let mut daemon = env.start("daemon", &["run"]);
    env.eventually("the first pass ends", async || env.handle().users().len() == 1).await;
    std::fs::remove_file(&root).unwrap();
    env.cut_sessions().await;
    env.eventually("the file is named", async || env.printed("daemon", "err").contains("sslrootcert: cannot read "))
        .await;
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
}

/// The driver would look for the password of its default host, and send it to another one.
#[tokio::test(flavor = "multi_thread")]
async fn a_password_of_another_host_is_not_sent() {
    let env = TestEnvironment::set_up(Setup::default()).await;
    let role = Role::create(&env).await;
    let file = env.directory().join(".pgpass");
    std::fs::write(&file, format!("localhost:*:*:*:{}\n", Role::PASSWORD)).unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let url = role.url.replace(&format!(":{}@", Role::PASSWORD), "@");
    let separator = if url.contains('?') { '&' } else { '?' };
    let home = env.directory().display().to_string();
    let printed = check(&env, &format!("{url}{separator}options=-c%20geqo%3Doff"), &[("HOME", &home)]).await;
    assert!(printed.contains("asks for a password, and there is none"), "{printed}");
    role.drop(&env).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_follows_a_failover() {
    let port = free_port();
    let more = format!("[http]\nlisten = \"127.0.0.1:{port}\"\n[schedule]\ninterval = \"200ms\"\n");
    let env = TestEnvironment::set_up(Setup { more, ..Setup::default() }).await;
    let url = env.database.url().to_owned();
    let (first, second) = (TcpProxy::start(&env.database, None).await, TcpProxy::start(&env.database, None).await);
    let host = |text: &str| {
        let url = url::Url::parse(text).unwrap();
        format!("127.0.0.1:{}", url.port().unwrap())
    };
    let both = format!("{},{}", host(first.url()), host(second.url()));
    env.edit(&url, &first.url().replace(&host(first.url()), &both));
    let mut daemon = env.start("daemon", &["run"]);
    let has_status = async || ask(port, "/status").await.is_some_and(|(code, _)| code == 200);
    env.eventually("the status is shown", has_status).await;
    drop(first);
    env.cut_sessions().await;
    env.eventually("the lost server is noticed", async || !has_status().await).await;
    env.eventually("the status is read from the other server", has_status).await;
    assert!(second.connections() > 0);
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
}
