//! Rows that commit late: no row is missed, and few rows are read twice.
//!
//! Owns: writers that take their timestamps long before they commit, and the check that their rows arrive in IM. Must
//! not know: how the watermark is kept.
//!
//! `poller_comparison` compares imsync under load with four common kinds of pollers (`pollers`). `soak` adds failed
//! passes and kills. Both use `writers`. `interleavings` holds single cases with a running daemon. `idle` covers a
//! session that sits in a transaction, `idle_poll` polls that find nothing, `held_back` the log message about it, `watermark_kinds` other watermark columns.
//! `read_cost` counts the rows read, `restart` kills the server under prepared transactions, `replica` reads from a
//! standby. `between_statements` interrupts a pass between two statements. `wrong_timestamps` covers the changes that
//! only a full pass finds.

mod between_statements;
mod daemon;
mod held_back;
mod idle;
mod idle_poll;
mod interleavings;
mod poller_comparison;
mod pollers;
mod read_cost;
mod replica;
mod restart;
mod single_passes;
mod soak;
mod watermark_kinds;
mod writers;
mod wrong_timestamps;

use imsync::cluster::{Cluster, ClusterOptions};
use sqlx::{AssertSqlSafe, Executor, PgConnection};

use crate::support::{Database, Setup, TestEnvironment};

/// Inserts accounts `u1`, `u2`, … that have not changed for an hour.
fn people(count: u32) -> String {
    format!(
        "INSERT INTO users (id, city, plan, updated_at)
         SELECT 'u' || n, 'old', 'free', now() - interval '1 hour' FROM generate_series(1, {count}) AS n;"
    )
}

/// The setup of these tests. Full passes run only when one is due, so that none hides a missed row.
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

/// A transaction that has fixed its `now()` and holds no lock yet.
async fn open_transaction(env: &TestEnvironment) -> PgConnection {
    let mut session = env.database.connect().await;
    run(&mut session, "BEGIN; SELECT now()").await;
    session
}

/// The statement by which an application changes a city.
fn update_city(account: &str, city: &str) -> String {
    format!("UPDATE users SET city = '{city}', updated_at = now() WHERE id = '{account}'")
}

async fn text(env: &TestEnvironment, sql: &str) -> String {
    let sql = AssertSqlSafe(sql.to_owned());
    sqlx::query_scalar(sql).fetch_one(&mut env.database.connect().await).await.expect("a plain query")
}

/// A role that may read the table but cannot see when other sessions' transactions began. The state stays with the role
/// that created the database.
struct Reader {
    name: String,
}

impl Reader {
    /// Replaces the owner in the configuration. The state stays with the owner, in the same database.
    async fn create_with_owner_state(env: &TestEnvironment) -> Self {
        let reader = Self::create(env).await;
        let owner = env.database.url();
        let text = std::fs::read_to_string(env.config()).expect("the configuration is there");
        let text = text + &format!("[state]\nurl = \"{owner}\"\n");
        std::fs::write(env.config(), text).expect("the configuration can be written");
        reader
    }

    /// Replaces the owner as the source's role.
    async fn create(env: &TestEnvironment) -> Self {
        let name = format!("{}_reader", text(env, "SELECT current_database()").await);
        let owner = env.database.url();
        let mut url = url::Url::parse(owner).expect("the database's URL is one");
        let password = url.password().unwrap_or_default();
        env.execute(&format!("CREATE ROLE {name} LOGIN PASSWORD '{password}'; GRANT SELECT ON users TO {name}")).await;
        url.set_username(&name).expect("a database's URL takes a user");
        env.edit(owner, url.as_str());
        Self { name }
    }

    /// Drops the role. Roles belong to the server, which may be shared.
    async fn drop_role(self, env: &TestEnvironment) {
        env.execute(&format!("DROP OWNED BY {0}; DROP ROLE {0}", self.name)).await;
    }
}

/// A private server: its transaction lists hold no foreign sessions, and it may be stopped. Starting it blocks for a
/// second or two.
async fn private_server(max_prepared_transactions: u32, settings: &[(&str, &str)]) -> Cluster {
    let settings = [("autovacuum", "off")].iter().chain(settings);
    let settings = settings.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let options = ClusterOptions { max_prepared_transactions, settings, ..ClusterOptions::default() };
    let started = tokio::task::spawn_blocking(|| Cluster::start(options)).await;
    started.expect("the task ends").expect("a private server")
}

/// An environment in the database `app` of such a server. The state is in the database `state`, so that its sessions
/// appear in no transaction list.
async fn environment_on(server: &Cluster, setup: Setup) -> TestEnvironment {
    let app = server.create_database("app").await.expect("a database");
    let state = server.create_database("state").await.expect("a database");
    let more = format!("[state]\nurl = \"{state}\"\n{}", setup.more);
    TestEnvironment::set_up_on(Database::on_own_server(app), Setup { more, ..setup }).await
}
