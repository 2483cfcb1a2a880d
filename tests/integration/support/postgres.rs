//! One PostgreSQL server for the test run, and one database for each test.
//!
//! Owns: the address of the server, and when databases are created and dropped. Must not know: the tables of imsync.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use imsync::cluster::{self, Cluster, ClusterOptions};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

/// The variable with the URL of an existing server. The role must be allowed to create databases.
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

/// Rust never drops this static. The supervisor of the private server stops the server when this process ends.
fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| match std::env::var(OWN_SERVER) {
        Ok(url) if !url.is_empty() => Server::Own(url),
        _ => {
            // A vacuum in the first transaction list of a sync would require one more full pass, at an unpredictable
            // moment of the test.
            let settings = [("max_connections", "500"), ("autovacuum", "off")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .to_vec();
            let options = ClusterOptions { max_prepared_transactions: 50, settings, ..ClusterOptions::default() };
            match Cluster::start(options) {
                Ok(cluster) => Server::Private(cluster),
                Err(error) => panic!("{error}; to use an existing server, set {OWN_SERVER}"),
            }
        }
    })
}

/// An empty database that one test uses. On an existing server, the database is dropped together with this value.
#[derive(Debug)]
pub(crate) struct Database {
    name: String,
    url: String,
}

impl Database {
    /// Creates a database on the shared server.
    pub(crate) async fn fresh() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("imsync_test_{}_{count}", std::process::id());
        let server = tokio::task::spawn_blocking(|| server().url()).await.expect("the server starts");
        let url = cluster::create_database(&server, &name, "template0").await.expect("the database can be created");
        Self { name, url }
    }

    /// A database on a server that belongs to one test. It is not dropped, because the server is removed with it.
    pub(crate) fn on_own_server(url: String) -> Self {
        Self { name: String::new(), url }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Opens a connection.
    pub(crate) async fn connect(&self) -> PgConnection {
        PgConnection::connect(self.url()).await.expect("the database accepts connections")
    }

    /// Executes statements without parameters on a new connection.
    pub(crate) async fn execute(&self, statements: &str) {
        let mut connection = self.connect().await;
        connection.execute(AssertSqlSafe(statements.to_owned())).await.expect("the statements are valid");
        connection.close().await.expect("the connection closes");
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if self.name.is_empty() {
            return;
        }
        let Server::Own(url) = server() else { return };
        let statement = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        // This needs a separate runtime: the runtime of the test may be shutting down, and it may have only one thread.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let mut connection = PgConnection::connect(url).await?;
                connection.execute(AssertSqlSafe(statement)).await?;
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
            })
        });
        if !matches!(dropped.join(), Ok(Ok(()))) {
            eprintln!("the test database {} could not be dropped", self.name);
        }
    }
}
