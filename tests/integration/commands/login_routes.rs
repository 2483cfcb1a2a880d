//! Tests connections by unusual routes: IPv6 addresses, files that vanish, variables of the environment.
//!
//! Owns: the servers at these routes. Must not know: how the driver is called.

use imsync::cluster::{Cluster, ClusterOptions};

use crate::support::{Database, Setup, TestEnvironment, ended, run, signal};

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
    env.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'imsync%'").await;
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
