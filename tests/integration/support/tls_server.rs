//! A private PostgreSQL server with TLS, and the authority that issued its certificate.
//!
//! Owns: making the certificates with the program openssl. Must not know: imsync.

use std::path::{Path, PathBuf};
use std::process::Command;

use imsync::cluster::{self, Cluster, ClusterOptions};
use sqlx::{Connection, Executor, PgConnection};

use super::Database;

/// A running server whose certificate is for `localhost` only.
pub(crate) struct TlsServer {
    pub(crate) database: Database,
    folder: tempfile::TempDir,
    _cluster: Cluster,
}

impl TlsServer {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder can be created");
        make_certificates(folder.path());
        let (cluster, url) = tokio::task::spawn_blocking(|| {
            let cluster = Cluster::start(ClusterOptions::default()).expect("the server starts");
            let url = cluster.url("postgres");
            (cluster, url)
        })
        .await
        .expect("the server starts");
        let mut connection = PgConnection::connect(&url).await.expect("the server accepts connections");
        for file in ["server.crt", "server.key"] {
            let text = std::fs::read_to_string(folder.path().join(file)).expect("openssl has made the file");
            // The server writes the file itself, so that its user owns it. It refuses a key that others can read.
            let copy = format!(
                "COPY (SELECT unnest(string_to_array('{}', E'\\n'))) TO PROGRAM 'umask 077; cat > {file}'",
                text.trim_end()
            );
            connection.execute(sqlx::AssertSqlSafe(copy)).await.expect("the server writes the file");
        }
        connection.execute("ALTER SYSTEM SET ssl = on").await.expect("a superuser may");
        connection.execute("SELECT pg_reload_conf()").await.expect("a superuser may");
        let url = cluster::create_database(&url, "app", "template0").await.expect("the database can be created");
        let server = Self { database: Database::on_own_server(url), folder, _cluster: cluster };
        server.wait_for_tls().await;
        server
    }

    /// Waits until new sessions see the setting.
    async fn wait_for_tls(&self) {
        loop {
            let mut connection = self.database.connect().await;
            let on: String = sqlx::query_scalar("SHOW ssl").fetch_one(&mut connection).await.expect("it can be read");
            if on == "on" {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    /// The certificate of the authority that issued the server's.
    pub(crate) fn authority(&self) -> PathBuf {
        self.folder.path().join("ca.crt")
    }

    /// The certificate of an authority that issued nothing.
    pub(crate) fn other_authority(&self) -> PathBuf {
        self.folder.path().join("other.crt")
    }

    /// The URL of the database at this host, with these parameters.
    pub(crate) fn url(&self, host: &str, parameters: &str) -> String {
        let mut url = url::Url::parse(self.database.url()).expect("the database has a URL");
        url.set_host(Some(host)).expect("the URL can have a host");
        url.set_query(Some(parameters));
        url.to_string()
    }
}

fn make_certificates(folder: &Path) {
    const KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc";
    for name in ["ca", "other"] {
        openssl(folder, &format!("req -x509 {KEY} -keyout {name}.key -out {name}.crt -days 2 -subj /CN={name}"));
    }
    openssl(folder, &format!("req {KEY} -keyout server.key -out server.csr -subj /CN=localhost"));
    std::fs::write(folder.join("names"), "subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n")
        .expect("the folder can be written");
    let sign =
        "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.crt";
    openssl(folder, sign);
}

fn openssl(folder: &Path, arguments: &str) {
    let output = Command::new("openssl").args(arguments.split(' ')).current_dir(folder).output();
    let output = output.expect("the program openssl is installed");
    assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}
