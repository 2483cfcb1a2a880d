//! Rows that commit late: nothing is missed, and little is read twice.
//!
//! Owns: writers that take their stamps long before they commit, and what arrives in IM all the same. Must not know:
//! how the watermark is kept.
//!
//! `compare` is the mass of it beside four pollers of the usual kinds (`pollers`), `soak` the mass of it with troubles, both
//! by the same `writers`; `interleavings` are the single cases, each with the
//! daemon at work; `idle` is the session that sits in a transaction; `kinds` are other watermark columns. `cost` counts
//! what is read, `restart` ends the server under prepared transactions, `replica` reads from a standby, `moments` stops
//! a pass between two of its statements, `uncovered` is what only a full pass finds.

mod between_statements;
mod daemon;
mod first_full_passes;
mod held_back;
mod idle;
mod interleavings;
mod poller_comparison;
mod pollers;
mod read_cost;
mod replica;
mod restart;
mod soak;
mod watermark_kinds;
mod writers;
mod wrong_timestamps;

use imsync::cluster::{Cluster, ClusterOptions};
use sqlx::{AssertSqlSafe, Executor, PgConnection};

use crate::support::{Database, Setup, TestEnvironment};

/// So many accounts `u1`, `u2`, … that have not changed for an hour.
fn people(count: u32) -> String {
    format!(
        "INSERT INTO users (id, city, plan, updated_at)
         SELECT 'u' || n, 'old', 'free', now() - interval '1 hour' FROM generate_series(1, {count}) AS n;"
    )
}

/// The setup of these tests: full passes only where one is due, so that none hides a row that was missed.
fn setup(more: &str) -> Setup {
    Setup {
        im: "timeout = \"10s\"\nretry_for = \"1s\"\n".to_owned(),
        more: format!("{more}\n[schedule]\ninterval = \"200ms\"\nfull_every = \"never\"\n"),
        ..Setup::default()
    }
}

async fn run(session: &mut PgConnection, sql: &str) {
    session.execute(AssertSqlSafe(sql.to_owned())).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

/// A transaction that has taken its time and holds nothing yet.
async fn begun(env: &TestEnvironment) -> PgConnection {
    let mut session = env.database.connect().await;
    run(&mut session, "BEGIN; SELECT now()").await;
    session
}

/// What an application does to change a city.
fn moves(account: &str, city: &str) -> String {
    format!("UPDATE users SET city = '{city}', updated_at = now() WHERE id = '{account}'")
}

async fn text(env: &TestEnvironment, sql: &str) -> String {
    let sql = AssertSqlSafe(sql.to_owned());
    sqlx::query_scalar(sql).fetch_one(&mut env.database.connect().await).await.expect("a plain query")
}

/// A role that may read the table and sees of other sessions only that they are there, not when their transactions
/// began; the state stays with the role that made the database.
struct Reader {
    name: String,
}

impl Reader {
    /// Takes the place of the owner in the configuration; the state stays with the owner, in the same database.
    async fn on(env: &TestEnvironment) -> Self {
        let reader = Self::reads(env).await;
        let owner = env.database.url();
        let text = std::fs::read_to_string(env.config()).expect("the configuration is there");
        let text = text + &format!("[state]\nurl = \"{owner}\"\n");
        std::fs::write(env.config(), text).expect("the configuration can be written");
        reader
    }

    /// Takes the place of the owner at the source.
    async fn reads(env: &TestEnvironment) -> Self {
        let name = format!("{}_reader", text(env, "SELECT current_database()").await);
        let owner = env.database.url();
        let mut url = url::Url::parse(owner).expect("the database's URL is one");
        let password = url.password().unwrap_or_default();
        env.execute(&format!("CREATE ROLE {name} LOGIN PASSWORD '{password}'; GRANT SELECT ON users TO {name}")).await;
        url.set_username(&name).expect("a database's URL takes a user");
        env.edit(owner, url.as_str());
        Self { name }
    }

    /// Roles belong to the server, which may not be ours to throw away.
    async fn leave(self, env: &TestEnvironment) {
        env.execute(&format!("DROP OWNED BY {0}; DROP ROLE {0}", self.name)).await;
    }
}

/// A server of the test's own: nobody else's sessions are in its fences, and it may be ended. Blocks for a second or two.
async fn own_server(max_prepared_transactions: u32, settings: &[(&str, &str)]) -> Cluster {
    let settings = [("autovacuum", "off")].iter().chain(settings);
    let settings = settings.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let options = ClusterOptions { max_prepared_transactions, settings, ..ClusterOptions::default() };
    let started = tokio::task::spawn_blocking(|| Cluster::start(options)).await;
    started.expect("the task ends").expect("a private server")
}

/// A env in the database `app` of such a server; the state is in `state`, so that its sessions are in no fence.
async fn environment_on(server: &Cluster, setup: Setup) -> TestEnvironment {
    let app = server.create_database("app").await.expect("a database");
    let state = server.create_database("state").await.expect("a database");
    let more = format!("[state]\nurl = \"{state}\"\n{}", setup.more);
    TestEnvironment::set_up_on(Database::on_own_server(app), Setup { more, ..setup }).await
}
