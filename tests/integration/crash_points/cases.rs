//! Fixed cases, found by the walk over all crash points or by analysis.
//!
//! Owns: these cases, each as small as possible. Must not know: the walk over all points.

use std::os::unix::process::ExitStatusExt;

use super::armed;
use crate::promises::state_truth::expect_truth;
use crate::support::{SOURCE, Setup, TestEnvironment};

/// Runs a command that aborts at this point, and waits until its sessions have ended.
pub(crate) async fn abort_at(env: &TestEnvironment, arguments: &[&str], at: &str) {
    let output = armed(env, arguments, at).output().await.expect("the binary can be run");
    assert_eq!(output.status.signal(), Some(6), "{at}: {output:?}");
    // The lease ends with its session, and the session with its process.
    env.eventually("the sessions of the aborted process have ended", async || {
        let sessions = "SELECT count(*) FROM pg_stat_activity \
                WHERE datname = current_database() AND application_name LIKE 'imsync%'";
        env.number(sessions).await == 0
    })
    .await;
}

/// A page of accounts in doubt whose removals wait must not hide the accounts in doubt after it. Nothing else finds one
/// of those if its row was set back with its old timestamp.
#[tokio::test(flavor = "multi_thread")]
async fn waiting_removals_do_not_hide_later_unknown_outcomes() {
    let env = TestEnvironment::set_up(Setup {
        source: format!("{SOURCE}page_size = 10\n"),
        more: "[removal]\nmax_share = 1.0\n".to_owned(),
        ..Setup::default()
    })
    .await;
    let rows = "INSERT INTO users (id, city, plan, updated_at) SELECT 'u' || lpad(g::text, 2, '0'), 'city', 'pro', '2020-01-01' FROM generate_series(1, 40) g";
    env.execute(rows).await;
    env.imsync(&["backfill"]).await.expect_code(0);
    let full_pass_due = "SELECT count(*) FROM imsync.sync WHERE full_pass_due IS NOT NULL";
    while env.number(full_pass_due).await > 0 {
        // A session that was open at the first transaction list makes one more full pass due. That pass would find the
        // rows in another way.
        env.imsync(&["run", "--once"]).await.expect_code(0);
    }
    env.execute("CREATE TABLE before AS TABLE users; UPDATE users SET plan = NULL, updated_at = now()").await;
    abort_at(&env, &["run", "--once"], "delivery: about to be recorded").await;
    assert!(env.handle().users().values().all(|attributes| attributes.len() == 1), "IM has applied the removals");
    env.execute(
        "UPDATE users u SET plan = b.plan, updated_at = b.updated_at FROM before b WHERE b.id = u.id AND u.id > 'u20'",
    )
    .await;
    // Exit code 1 is possible while a call of the aborted process may still be applied. Only the content of IM is
    // checked.
    env.imsync(&["run", "--once"]).await;
    assert_eq!(env.handle().users(), env.wanted_of_users().await);
    expect_truth(&env).await;
}

const OLD: &str = "sdk_app_id = 1400000000";
const NEW: &str = "sdk_app_id = 1400000001";

/// The rejections of the old app are deleted together with the change of the app, or not at all. Otherwise a rejected
/// account would be in no list, differ from the table, and be tried again only by the next full pass.
#[tokio::test(flavor = "multi_thread")]
async fn rejections_are_deleted_with_the_app_or_not_at_all() {
    let env = TestEnvironment::set_up(Setup::default()).await;
    env.execute("INSERT INTO users (id, city) VALUES ('u1', 'here'), ('u2', 'there')").await;
    let refusal = "refuse:70107:per-account:account=u2".parse().expect("the fault rule is valid");
    env.handle().add_fault(refusal);
    env.imsync(&["backfill"]).await.expect_code(3);
    let rejections = "SELECT count(*) FROM imsync.rejection";
    let generation = "SELECT generation::bigint FROM imsync.sync";
    assert_eq!((env.number(rejections).await, env.number(generation).await), (1, 1));

    env.edit(OLD, NEW);
    for (at, left) in [("generation: incremented, not committed", (1, 1)), ("generation: incremented", (0, 2))] {
        abort_at(&env, &["migrate", "--rebind"], at).await;
        assert_eq!((env.number(rejections).await, env.number(generation).await), left, "{at}");
    }
    env.edit(NEW, OLD);
    env.imsync(&["migrate", "--rebind"]).await.expect_code(0);
    // Every value counts as unknown, so every value is sent again, and the refused account is listed once more.
    let full = env.imsync(&["run", "--once", "--json"]).await.expect_code(3).json();
    assert_eq!((&full["kind"], &full["pushed"], &full["rejected"]), (&"full".into(), &1.into(), &1.into()), "{full}");
}
