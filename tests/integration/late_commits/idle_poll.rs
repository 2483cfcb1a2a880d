//! What a poll costs that finds nothing to do: statements, and writes to the state.
//!
//! Owns: the tables and states in which there is nothing to do. Must not know: which statements a poll makes.

use std::collections::HashSet;
use std::time::Duration;

use super::daemon::Daemon;
use super::{people, private_server, setup, text};
use crate::support::{Database, SOURCE, Setup, TestEnvironment, USERS};

/// Further polls of a daemon, whatever their outcome.
async fn wait_for_polls(env: &TestEnvironment, daemon: &Daemon<'_>, count: usize) {
    let until = daemon.incremental_passes().len() + count;
    env.eventually("further polls end", async || daemon.incremental_passes().len() >= until).await;
}

/// What is to be done once the first pass has run, and whether the state is then as the case wants it.
struct Case {
    name: &'static str,
    setup: Setup,
    then: &'static str,
    is_reached: &'static str,
    /// The rows that each poll reads again, and the statements of a poll.
    again: (u64, usize),
}

fn case(name: &'static str, then: &'static str, is_reached: &'static str) -> Case {
    Case {
        name,
        setup: Setup { sql: format!("{USERS} {}", people(300)), ..setup("") },
        then,
        is_reached,
        again: (0, 4),
    }
}

fn cases() -> Vec<Case> {
    let mut nullable = case("a stamp may be missing", "", "SELECT 1::int8");
    nullable.setup.sql.push_str("ALTER TABLE users ALTER updated_at DROP NOT NULL;");
    let mut counter = case("a counter", "", "SELECT 1::int8");
    counter.setup.sql.push_str("ALTER TABLE users ADD version bigserial; CREATE INDEX ON users (version, id);");
    counter.setup.source = SOURCE.replace("updated_at", "version");
    // Another row may have the largest value too, so it is read again and compared.
    counter.again = (1, 6);
    let mut view = case("a view", "", "SELECT 1::int8");
    view.setup.sql.push_str("ALTER TABLE users RENAME TO base; CREATE VIEW users AS SELECT * FROM base;");
    let too_long = "UPDATE users SET city = repeat('x', 60), updated_at = now() WHERE id = 'u5'";
    let half_gone = "UPDATE users SET deleted_at = now(), updated_at = now() WHERE substr(id, 2)::int > 150";
    let hangs = "UPDATE imsync.account SET in_doubt_retry_at = 'infinity', acknowledged = '[0]' WHERE account = 'u7'";
    vec![
        case("nothing", "", "SELECT 1::int8"),
        nullable,
        counter,
        view,
        case("a rejection stands", too_long, "SELECT count(*) FROM imsync.rejection"),
        case("the guard is tripped", half_gone, "SELECT count(*) FROM imsync.sync WHERE guard IS NOT NULL"),
        case("a value stays in doubt", hangs, "SELECT in_doubt FROM imsync.account_count"),
    ]
}

/// The statements that imsync has run on this server, as the server logs them.
const STATEMENTS: &str = "SELECT (length(log) - length(replace(log, mark, ''))) / length(mark)::int8
    FROM (SELECT pg_read_file(pg_current_logfile()) AS log, 'imsync users' || '|LOG:  execute ' AS mark) AS logged";

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_poll_makes_at_most_four_statements() {
    // Of its own, because a session that logs in to any database makes a poll repeat a statement.
    let log = [("logging_collector", "on"), ("log_statement", "all"), ("log_line_prefix", "%a|")];
    let server = private_server(0, &log).await;
    for Case { name, setup, then, is_reached, again: (rows, limit) } in cases() {
        let database = server.create_database(&format!("app_{}", name.replace(' ', "_"))).await.expect("a database");
        let env = TestEnvironment::set_up_on(Database::on_own_server(database), setup).await;
        env.run_until_no_full_pass_is_due().await;
        let mut daemon = Daemon::start(&env);
        if !then.is_empty() {
            env.execute(then).await;
        }
        env.eventually(name, async || env.number(is_reached).await > 0).await;
        env.eventually(name, async || {
            let passes = daemon.incremental_passes();
            passes.len() > 6 && passes[passes.len() - 3..].iter().all(|pass| pass.calls == 0 && pass.rows_read == rows)
        })
        .await;
        // With the pings of the lease, one a second, and what is stored once a minute.
        let (polls_before, before) = (daemon.incremental_passes().len(), env.number(STATEMENTS).await);
        wait_for_polls(&env, &daemon, 30).await;
        let statements = usize::try_from(env.number(STATEMENTS).await - before).expect("the log grows");
        let polls = daemon.incremental_passes().len() - polls_before;
        assert!(statements <= limit * polls, "{name}: {statements} statements in {polls} polls\n{}", daemon.log());
        daemon.stop().await;
    }
}

/// The whole state, as far as a write would change it.
const WRITES: &str =
    "SELECT concat_ws(' ', (SELECT string_agg(xmin::text, ',') FROM imsync.sync), (SELECT count(*) FROM imsync.pass),
    (SELECT string_agg(xmin::text, ',') FROM imsync.account_count))";

#[tokio::test(flavor = "multi_thread")]
async fn idle_polls_write_at_most_once_a_minute() {
    let env = TestEnvironment::set_up(Setup { sql: format!("{USERS} {}", people(300)), ..setup("") }).await;
    let mut daemon = Daemon::start(&env);
    daemon.wait_until_idle().await;
    let (from, mut seen) = (daemon.incremental_passes().len(), HashSet::new());
    env.eventually("further polls end", async || {
        seen.insert(text(&env, WRITES).await);
        daemon.incremental_passes().len() >= from + 30
    })
    .await;
    assert!(seen.len() <= 2, "{seen:?}");
    daemon.stop().await;
}

/// The daemon goes on with the table that now has the name. A pass that meets the change between two of its statements fails
/// with it, and the next one follows.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_replaced_is_compared_again() {
    let env = TestEnvironment::set_up(Setup { sql: format!("{USERS} {}", people(50)), ..setup("") }).await;
    let mut daemon = Daemon::start(&env);
    daemon.wait_until_idle().await;
    let full_passes = daemon.full_pass_count();
    env.execute(
        "SET search_path = public; BEGIN; ALTER TABLE users RENAME TO old; CREATE TABLE users (LIKE old INCLUDING ALL);
         INSERT INTO users SELECT id, city || '!', plan, gender, kind, '2020-01-01' FROM old; DROP TABLE old; COMMIT",
    )
    .await;
    env.converges(Duration::from_secs(20)).await;
    daemon.wait_for_full_passes(full_passes + 1).await;
    daemon.wait_for_polls(1).await;
    let failed = daemon.passes().iter().filter(|pass| pass.outcome == "failed").count();
    assert!(failed <= 1, "{}", daemon.log());
    daemon.stop().await;
}
