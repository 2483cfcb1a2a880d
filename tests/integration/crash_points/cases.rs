//! Fixed cases: what the walk, or thinking about it, has found.
//!
//! Owns: these cases, each as small as it can be. Must not know: the walk over all points.

use std::os::unix::process::ExitStatusExt;

use super::armed;
use crate::promises::state_truth::expect_truth;
use crate::support::{SOURCE, Setup, TestEnvironment};

async fn dies(env: &TestEnvironment, arguments: &[&str], at: &str) {
    let died = armed(env, arguments, at).output().await.expect("the binary can be run");
    assert_eq!(died.status.signal(), Some(6), "{at}: {died:?}");
    // The lease goes with its session, and that with its process.
    env.eventually("its sessions have ended", async || {
        let sessions = "SELECT count(*) FROM pg_stat_activity \
                WHERE datname = current_database() AND application_name LIKE 'imsync%'";
        env.number(sessions).await == 0
    })
    .await;
}

/// A page of doubts that wait for their removals must not hide the doubts that come after them: one of those is found by
/// nothing else, where its row was set back with its old stamp.
#[tokio::test(flavor = "multi_thread")]
async fn doubts_behind_a_page_of_waiting_removals_are_looked_into() {
    let env = TestEnvironment::set_up(Setup {
        source: format!("{SOURCE}page_size = 10\n"),
        more: "[removal]\nmax_share = 1.0\n".to_owned(),
        ..Setup::default()
    })
    .await;
    let rows = "INSERT INTO users (id, city, plan, updated_at) SELECT 'u' || lpad(g::text, 2, '0'), 'city', 'pro', '2020-01-01' FROM generate_series(1, 40) g";
    env.execute(rows).await;
    env.imsync(&["backfill"]).await.expect_code(0);
    let full_due = "SELECT count(*) FROM imsync.sync WHERE full_pass_due IS NOT NULL";
    while env.number(full_due).await > 0 {
        // A session that was open at the first fence has asked for one more; it would find what is to be found otherwise.
        env.imsync(&["run", "--once"]).await.expect_code(0);
    }
    env.execute("CREATE TABLE before AS TABLE users; UPDATE users SET plan = NULL, updated_at = now()").await;
    dies(&env, &["run", "--once"], "delivery: about to be recorded").await;
    assert!(
        env.handle().users().values().all(|attributes| attributes.len() == 1),
        "IM has removed what it was told to"
    );
    env.execute(
        "UPDATE users u SET plan = b.plan, updated_at = b.updated_at FROM before b WHERE b.id = u.id AND u.id > 'u20'",
    )
    .await;
    // Exit 1 where a call of the dead process may still land; what IM holds is what counts.
    env.imsync(&["run", "--once"]).await;
    assert_eq!(env.handle().users(), env.wanted_of_users().await);
    expect_truth(&env).await;
}

const OLD: &str = "sdk_app_id = 1400000000";
const NEW: &str = "sdk_app_id = 1400000001";

/// What the old app refuses is forgotten together with the app, or not at all: else a rejected account would stand in
/// no list, differ from the table, and be tried again by the next full pass only.
#[tokio::test(flavor = "multi_thread")]
async fn rejections_are_forgotten_with_the_app_or_not_at_all() {
    let env = TestEnvironment::set_up(Setup::default()).await;
    env.execute("INSERT INTO users (id, city) VALUES ('u1', 'here'), ('u2', 'there')").await;
    let refusal = "refuse:70107:per-account:account=u2".parse().expect("a form that the simulator knows");
    env.handle().add_fault(refusal);
    env.imsync(&["backfill"]).await.expect_code(3);
    let rejections = "SELECT count(*) FROM imsync.rejection";
    let generation = "SELECT generation::bigint FROM imsync.sync";
    assert_eq!((env.number(rejections).await, env.number(generation).await), (1, 1));

    env.edit(OLD, NEW);
    for (at, left) in [("generation: incremented, not committed", (1, 1)), ("generation: incremented", (0, 2))] {
        dies(&env, &["migrate", "--rebind"], at).await;
        assert_eq!((env.number(rejections).await, env.number(generation).await), left, "{at}");
    }
    env.edit(NEW, OLD);
    env.imsync(&["migrate", "--rebind"]).await.expect_code(0);
    // Everything counts as unknown, so everything is sent again; who is refused stands in the list once more.
    let full = env.imsync(&["run", "--once", "--json"]).await.expect_code(3).json();
    assert_eq!((&full["kind"], &full["pushed"], &full["rejected"]), (&"full".into(), &1.into(), &1.into()), "{full}");
}
