//! Changes that no timestamp shows. An incremental pass does not find them; the full pass does, and counts them as
//! repaired.
//!
//! Owns: one change of each kind. Must not know: how the full pass compares.

use super::single_passes::{city, finish_full_passes, incremental, pass_after_slack, run_once};
use super::{Reader, people, run, setup, update_city};
use crate::support::{SOURCE, Setup, TestEnvironment, USERS};

/// The timestamp comes from a trigger, the plan from another table that has no timestamp, the gender from a column that
/// is added later.
const SCHEMA: &str = "
    CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.updated_at := now(); RETURN NEW; END $$;
    CREATE TRIGGER stamp BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION stamp();
    ALTER TABLE users ALTER updated_at DROP NOT NULL;
    CREATE TABLE plans AS SELECT id, 'free' AS name FROM users;
    CREATE VIEW people AS SELECT users.id, city, name AS plan, to_jsonb(users) ->> 'sex' AS gender, updated_at, deleted_at
        FROM users LEFT JOIN plans ON plans.id = users.id;";

#[tokio::test(flavor = "multi_thread")]
async fn changes_without_a_timestamp_are_repaired_by_the_full_pass() {
    let mut setup = Setup { sql: format!("{USERS} {} {SCHEMA}", people(50)), ..setup("") };
    setup.source = SOURCE.replace("public.users", "public.people");
    let env = TestEnvironment::set_up(setup).await;
    finish_full_passes(&env).await;

    let changes = [
        ("an update that bypasses the trigger", "UPDATE users SET city = 'restored' WHERE id = 'u1'"),
        (
            "an application's clock beyond the grace, a timestamp computed before BEGIN",
            "UPDATE users SET city = 'slow clock', updated_at = now() - interval '10 minutes' WHERE id = 'u2'",
        ),
        (
            "a row restored or replicated with its old timestamp",
            "INSERT INTO users (id, city, updated_at) VALUES ('u51', 'replicated', now() - interval '1 day')",
        ),
        ("a timestamp that is NULL", "UPDATE users SET city = 'unstamped', updated_at = NULL WHERE id = 'u3'"),
        ("a hard delete", "DELETE FROM users WHERE id = 'u4'"),
        ("a table of the view that has no timestamp", "UPDATE plans SET name = 'pro' WHERE id = 'u5'"),
    ];
    for (_, sql) in changes {
        let bypass = format!("ALTER TABLE users DISABLE TRIGGER stamp; {sql}; ALTER TABLE users ENABLE TRIGGER stamp");
        env.execute(&bypass).await;
    }
    // A changed account id is a new account, which its timestamp shows, and a hard delete of the old one.
    env.execute("UPDATE users SET id = 'u52' WHERE id = 'u6'").await;
    let pass = incremental(&env).await;
    assert_eq!(pass["changed"], 1, "{pass}");
    assert_eq!(city(&env, "u52"), "old");
    assert_eq!(incremental(&env).await["calls"], 0);
    let full = env.imsync(&["backfill", "--json"]).await.expect_code(0).json();
    let expected = changes.len() + 1;
    assert_eq!((&full["changed"], &full["repaired"]), (&expected.into(), &expected.into()), "{full}");
    let wanted = "SELECT id, a.name, a.value FROM people, LATERAL (VALUES ('city', city), ('plan', plan), ('sex',
        CASE gender WHEN 'm' THEN 'male' END)) AS a (name, value) WHERE a.value <> ''";
    assert_eq!(env.handle().users(), env.wanted(wanted).await);

    env.eventually("the rows are older than the slack", async || incremental(&env).await["rows_read"] == 0).await;
    // A new column with a default fills every row at once and changes no timestamp. The view shows it as it is, because
    // another definition of the view would start a full pass.
    env.execute("ALTER TABLE users ADD sex text DEFAULT 'm'").await;
    assert_eq!(incremental(&env).await["calls"], 0);
    let full = env.imsync(&["backfill", "--json"]).await.expect_code(0).json();
    assert_eq!((&full["changed"], &full["repaired"]), (&50.into(), &50.into()), "{full}");
    assert_eq!(env.handle().users(), env.wanted(wanted).await);
}

/// The second transaction of one message has the timestamp of the message; a chained one has that of the COMMIT before
/// it. If the role cannot see when a transaction began, its lower bound comes from the transaction lists in between,
/// which is too late.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_transaction_of_one_message_needs_a_full_pass() {
    let env = TestEnvironment::set_up(Setup { sql: format!("{USERS} {}", people(20)), ..setup("") }).await;
    let reader = Reader::create_with_owner_state(&env).await;
    finish_full_passes(&env).await;
    let (mut first, mut second, mut writer) =
        (env.database.connect().await, env.database.connect().await, env.database.connect().await);
    run(&mut first, "SELECT pg_advisory_lock(1)").await;
    run(&mut second, "SELECT pg_advisory_lock(2)").await;
    let message = format!(
        "BEGIN; SELECT pg_advisory_xact_lock(1); COMMIT; BEGIN; {}; SELECT pg_advisory_xact_lock(2); COMMIT",
        update_city("u1", "second")
    );
    let running_writer = tokio::spawn(async move { run(&mut writer, &message).await });
    let waits = async |lock: u8| {
        let waiting = format!(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = {lock} AND NOT granted
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        );
        env.eventually("the writer waits for the lock", async || env.number(&waiting).await == 1).await;
    };
    waits(1).await;
    pass_after_slack(&env).await;
    run(&mut first, "SELECT pg_advisory_unlock(1)").await;
    waits(2).await;
    assert_eq!(incremental(&env).await["calls"], 0);
    run(&mut second, "SELECT pg_advisory_unlock(2)").await;
    running_writer.await.expect("the writer ends");
    run_once(&env).await;
    let full = env.imsync(&["backfill", "--json"]).await.expect_code(0).json();
    assert_eq!(full["outcome"], "ok");
    assert_eq!(city(&env, "u1"), "second");
    reader.drop_role(&env).await;
}
