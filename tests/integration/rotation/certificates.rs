//! Tests that a renewed client certificate and its key are used for new connections.
//!
//! Owns: a server that asks for client certificates, and the authorities that sign them. Must not know: passwords.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::{Command, Stdio};

use imsync::cluster::{Cluster, ClusterOptions};

use super::{logged, replace, stop, syncs, users};
use crate::support::{Database, Setup, TestEnvironment, TlsServer};

/// The name in the client's certificate, which is the name of the role.
const ROLE: &str = "certified";

fn openssl(directory: &Path, arguments: &[&str]) {
    let status = Command::new("openssl")
        .args(arguments)
        .current_dir(directory)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("openssl can be executed");
    assert!(status.success(), "openssl {arguments:?}");
}

/// A certificate and a key named `name`, signed by `ca`, in the directory.
fn sign(directory: &Path, ca: &str, name: &str, subject: &str) {
    let (certificate, key) = (format!("{name}.crt"), format!("{name}.key"));
    let (ca_certificate, ca_key, subject) = (format!("{ca}.crt"), format!("{ca}.key"), format!("/CN={subject}"));
    let new = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", &subject];
    let signed = ["-CA", &ca_certificate, "-CAkey", &ca_key, "-keyout", &key, "-out", &certificate];
    openssl(directory, &[&new[..], &signed[..]].concat());
}

fn authority(directory: &Path, name: &str) {
    let (certificate, key) = (format!("{name}.crt"), format!("{name}.key"));
    let subject = format!("/CN={name}");
    let new = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", &subject];
    openssl(directory, &[&new[..], &["-keyout", &key, "-out", &certificate]].concat());
}

/// Copies a file for the server, which may run as another user.
fn give_to_server(cluster: &Cluster, from: &Path, name: &str) {
    let (owner, to) = (std::fs::metadata(cluster.directory().join("data")).unwrap(), cluster.directory().join(name));
    std::fs::copy(from, &to).unwrap();
    std::fs::set_permissions(&to, PermissionsExt::from_mode(0o600)).unwrap();
    chown(&to, Some(owner.uid()), Some(owner.gid())).unwrap();
}

/// Puts a pair where imsync looks for it: the key first, so that certificate and key do not fit for a moment.
fn install(directory: &Path, pair: &str) {
    for (from, to) in [("key", "client.key"), ("crt", "client.crt")] {
        let new = directory.join("client.new");
        std::fs::copy(directory.join(format!("{pair}.{from}")), &new).unwrap();
        std::fs::rename(new, directory.join(to)).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_client_certificate_is_used() {
    let certificates = tempfile::tempdir().unwrap();
    let directory = certificates.path();
    for ca in ["ca1", "ca2"] {
        authority(directory, ca);
    }
    sign(directory, "ca1", "server", "localhost");
    sign(directory, "ca1", "pair1", ROLE);
    sign(directory, "ca2", "pair2", ROLE);
    install(directory, "pair1");

    let cluster = tokio::task::spawn_blocking(|| Cluster::start(ClusterOptions::default())).await.unwrap().unwrap();
    let database = Database::on_own_server(cluster.url("postgres"));
    for (from, to) in [("server.crt", "server.crt"), ("server.key", "server.key"), ("ca1.crt", "clients.crt")] {
        give_to_server(&cluster, &directory.join(from), to);
    }
    let hba = directory.join("hba");
    std::fs::write(&hba, format!("hostssl all {ROLE} all cert\nhost all {ROLE} all reject\nlocal all all trust\nhost all all all scram-sha-256\n")).unwrap();
    give_to_server(&cluster, &hba, "data/pg_hba.conf");
    let of_server = |name: &str| cluster.directory().join(name).display().to_string();
    for (setting, value) in [
        ("ssl_cert_file", of_server("server.crt")),
        ("ssl_key_file", of_server("server.key")),
        ("ssl_ca_file", of_server("clients.crt")),
        ("ssl", "on".to_owned()),
    ] {
        database.execute(&format!("ALTER SYSTEM SET {setting} = '{value}'")).await;
    }
    database.execute("SELECT pg_reload_conf()").await;
    database.execute(&format!("CREATE ROLE {ROLE} LOGIN; GRANT CREATE ON DATABASE postgres TO {ROLE}")).await;

    let env = TestEnvironment::set_up_on(database, Setup::default()).await;
    env.execute(&format!("GRANT SELECT ON users TO {ROLE}")).await;
    env.execute(&users(5)).await;
    let url = format!(
        "postgres://{ROLE}@127.0.0.1:{}/postgres?sslmode=require&sslcert={}&sslkey={}",
        cluster.port(),
        directory.join("client.crt").display(),
        directory.join("client.key").display()
    );
    env.edit(env.database.url(), &url);
    let daemon = env.start("run", &["run"]);
    syncs(&env, "with the first certificate").await;

    // The server trusts another authority from now on, and ends the sessions.
    give_to_server(&cluster, &directory.join("ca2.crt"), "clients.crt");
    env.execute("SELECT pg_reload_conf()").await;
    let terminate = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{ROLE}'");
    env.execute(&terminate).await;
    env.eventually("the old certificate is refused", async || logged(&env, "; retrying") > 0).await;
    install(directory, "pair2");
    syncs(&env, "with the renewed certificate").await;
    stop(daemon).await;
}

/// The TLS library words these errors, and the server does not answer to a login.
#[tokio::test(flavor = "multi_thread")]
async fn a_url_whose_certificate_does_not_fit_is_reported() {
    let server = TlsServer::start().await;
    let database = Database::on_own_server(server.database.url().to_owned());
    let env = TestEnvironment::set_up_on(database, Setup::default()).await;
    env.execute(&users(5)).await;
    let file = env.directory().join("database_url");
    replace(&file, &server.url("localhost", "sslmode=require"));
    env.edit(&format!("url = \"{}\"", env.database.url()), "url_file = \"database_url\"");
    let daemon = env.start("run", &["run"]);
    syncs(&env, "at the start").await;
    let other = format!("sslmode=verify-full&sslrootcert={}", server.other_authority().display());
    replace(&file, &server.url("localhost", &other));
    env.cut_sessions().await;
    env.eventually("the file and the reason are logged", async || {
        let log = env.printed("run", "err");
        let mut lines = log.lines().filter(|line| line.contains("new content of a secret file is not used"));
        lines.any(|line| line.contains("database_url") && line.contains("was not issued by the authority"))
    })
    .await;
    syncs(&env, "with the old URL").await;
    stop(daemon).await;
}
