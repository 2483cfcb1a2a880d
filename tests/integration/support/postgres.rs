//! One server for the run, one database for each test.
//!
//! Owns: where the server is, how databases are named and when they are dropped. Must not know: imsync's tables.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use imsync::cluster::{self, Cluster, ClusterOptions};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

/// A developer's own server; the role must be allowed to create databases.
const OWN_SERVER: &str = "IMSYNC_TEST_PG_URL";

enum Server {
    Private(Cluster),
    Own(String),
}

impl Server {
    fn url(&self) -> String {
        match self {
            Self::Private(cluster) => cluster.url("postgres"),
            Self::Own(url) => url.clone(),
        }
    }
}

/// Statics are not dropped: the private server ends when its supervisor sees that this process has ended.
fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| match std::env::var(OWN_SERVER) {
        Ok(url) if !url.is_empty() => Server::Own(url),
        _ => {
            // A vacuum in a sync's first fence would ask for one more full pass, at moments that no test can foresee.
            let settings = [("max_connections", "500"), ("autovacuum", "off")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .to_vec();
            let options = ClusterOptions { max_prepared_transactions: 50, settings, ..ClusterOptions::default() };
            match Cluster::start(options) {
                Ok(cluster) => Server::Private(cluster),
                Err(error) => panic!("{error}; or name a server of your own in {OWN_SERVER}"),
            }
        }
    })
}

/// An empty database that only one test uses. Dropped with this value where the server is not ours to throw away.
#[derive(Debug)]
pub(crate) struct Database {
    name: String,
    url: String,
}

impl Database {
    pub(crate) async fn fresh() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("imsync_test_{}_{count}", std::process::id());
        let server = tokio::task::spawn_blocking(|| server().url()).await.expect("the server starts");
        let url = cluster::create_database(&server, &name, "template0").await.expect("the database can be made");
        Self { name, url }
    }

    /// A database of a server that the test has for itself, and that takes it along when it ends.
    pub(crate) fn on_own_server(url: String) -> Self {
        Self { name: String::new(), url }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) async fn connect(&self) -> PgConnection {
        PgConnection::connect(self.url()).await.expect("the database takes connections")
    }

    /// Runs statements without parameters, on a connection of their own.
    pub(crate) async fn execute(&self, statements: &str) {
        let mut connection = self.connect().await;
        connection.execute(AssertSqlSafe(statements.to_owned())).await.expect("the statements are valid");
        connection.close().await.expect("the connection ends in order");
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if self.name.is_empty() {
            return;
        }
        let Server::Own(url) = server() else { return };
        let drop_it = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        // A runtime of its own: the test's may be at its end, and it may have one thread only.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let mut connection = PgConnection::connect(url).await?;
                connection.execute(AssertSqlSafe(drop_it)).await?;
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
            })
        });
        if !matches!(dropped.join(), Ok(Ok(()))) {
            eprintln!("the test database {} could not be dropped", self.name);
        }
    }
}
