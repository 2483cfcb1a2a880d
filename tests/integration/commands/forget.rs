//! Tests `forget`: nothing of an account is left, in IM and in any table of the state.
//!
//! Owns: the traces that an account can leave. Must not know: which tables there are.

use super::{people, state_tables};
use crate::support::{SOURCE, Setup, TestEnvironment, ended, signal};

const ACCOUNT: &str = "distinctive-4711";

/// A sync with one account that has an unusual name, and 30 others.
async fn environment(source: &str, more: &str) -> TestEnvironment {
    let source = format!("{SOURCE}{source}");
    let more = format!("{}{more}", Setup::default().more);
    let env = TestEnvironment::set_up(Setup { source, more, ..Setup::default() }).await;
    env.execute(&people(30)).await;
    env.execute(&format!("INSERT INTO users (id, city, plan) VALUES ('{ACCOUNT}', 'Lima', 'pro')")).await;
    env.imsync(&["backfill"]).await.expect_code(0);
    env
}

/// The rows of the state that name the account.
async fn traces(env: &TestEnvironment) -> Vec<String> {
    let tables = state_tables(&env.database).await;
    tables.into_values().flatten().filter(|row| row.contains(ACCOUNT)).collect()
}

async fn expect_forgotten(env: &TestEnvironment) {
    assert_eq!(traces(env).await, Vec::<String>::new());
    assert!(env.handle().user(ACCOUNT).is_empty(), "{:?}", env.handle().user(ACCOUNT));
    assert!(!env.handle().user("u0001").is_empty(), "other accounts stay");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_an_account_is_left() {
    let env = environment("", "[removal]\ngone = \"keep\"\n[history]\nkeep = \"30d\"\n").await;
    // A rejection, an example of a change that only a full pass has seen, and a value that the mapping no longer names.
    env.execute("UPDATE users SET updated_at = now() - interval '1 day'").await;
    env.imsync(&["backfill"]).await.expect_code(0);
    env.execute(&format!("UPDATE users SET city = 'moved' WHERE id = '{ACCOUNT}'")).await;
    env.imsync(&["backfill"]).await.expect_code(0);
    env.execute(&format!("UPDATE users SET gender = 'x', updated_at = now() WHERE id = '{ACCOUNT}'")).await;
    env.imsync(&["run", "--once"]).await.expect_code(3);
    env.edit("plan = \"plan\"\n", "");
    assert!(traces(&env).await.len() >= 6, "{:?}", traces(&env).await);
    env.execute(&format!("DELETE FROM users WHERE id = '{ACCOUNT}'")).await;
    env.imsync(&["forget", ACCOUNT]).await.expect_code(0).expect_all(&["no trace of distinctive-4711 is left"]);
    expect_forgotten(&env).await;
    // Once more, and after it passes run as before.
    env.imsync(&["forget", ACCOUNT]).await.expect_code(0);
    env.imsync(&["backfill"]).await.expect_code(0);
    expect_forgotten(&env).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_with_a_row_is_not_forgotten() {
    let env = environment("filter = \"kind IS DISTINCT FROM 'bot'\"\n", "").await;
    let before = env.handle().user(ACCOUNT);
    for (change, why) in [
        ("city = 'Lima'", "has a row for distinctive-4711, and"),
        ("deleted_at = now()", "which is marked as deleted in deleted_at"),
        ("deleted_at = NULL, kind = 'bot'", "which source.filter leaves out"),
    ] {
        env.execute(&format!("UPDATE users SET {change} WHERE id = '{ACCOUNT}'")).await;
        env.imsync(&["forget", ACCOUNT]).await.expect_code(1).expect_all(&[why, "delete the row first"]);
    }
    assert_eq!(env.handle().user(ACCOUNT), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_im_does_not_confirm_is_finished_by_the_next_run() {
    let env = environment("", "").await;
    env.edit("timeout = \"10s\"\nretry_for = \"20s\"", "timeout = \"3s\"\nretry_for = \"1s\"");
    env.execute(&format!("DELETE FROM users WHERE id = '{ACCOUNT}'")).await;
    env.handle().add_fault("fail:cut:command=remove_attr".parse().unwrap());
    env.imsync(&["forget", ACCOUNT]).await.expect_code(1).expect_all(&["run the command again"]);
    assert!(!traces(&env).await.is_empty(), "the state keeps what IM may hold");
    env.handle().clear_faults();
    env.handle().add_fault("refuse:60015:command=remove_attr".parse().unwrap());
    env.imsync(&["forget", ACCOUNT]).await.expect_code(1).expect_all(&["is not forgotten"]);
    env.handle().clear_faults();
    // Until the first call can no longer be applied.
    env.imsync(&["forget", ACCOUNT]).await.expect_code(1).expect_all(&["an earlier call may still be applied for"]);
    env.eventually("the account is forgotten", async || env.imsync(&["forget", ACCOUNT]).await.code == Some(0)).await;
    expect_forgotten(&env).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_chat_does_not_know_is_forgotten() {
    let env = environment("", "").await;
    env.execute(&format!("DELETE FROM users WHERE id = '{ACCOUNT}'")).await;
    env.handle().add_fault(format!("refuse:70107:account={ACCOUNT}").parse().unwrap());
    env.imsync(&["forget", ACCOUNT]).await.expect_code(0);
    assert_eq!(traces(&env).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_a_daemon_the_holder_of_the_lease_is_named() {
    let env = environment("", "[removal]\ngone = \"keep\"\n").await;
    env.execute(&format!("DELETE FROM users WHERE id = '{ACCOUNT}'")).await;
    let mut daemon = env.start("run", &["run"]);
    env.eventually("the daemon leads", async || env.printed("run", "err").contains("leading")).await;
    env.imsync(&["forget", ACCOUNT]).await.expect_code(1).expect_all(&["imsync run (pid", "holds the lease"]);
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
    env.imsync(&["forget", ACCOUNT]).await.expect_code(0);
    expect_forgotten(&env).await;
}
