//! A sync that is bound to another app, and dies before or after that is committed.
//!
//! Owns: what is still known of the old app, and what the new one is owed. Must not know: the walk over all points.

use std::os::unix::process::ExitStatusExt;

use super::armed;
use crate::support::{Setup, Stage};

const OLD: &str = "sdk_app_id = 1400000000";
const NEW: &str = "sdk_app_id = 1400000001";

/// What the old app refuses is forgotten together with the app, or not at all: else a rejected account would stand in
/// no list, differ from the table, and be tried again by the next full pass only.
#[tokio::test(flavor = "multi_thread")]
async fn rejections_are_forgotten_with_the_app_or_not_at_all() {
    let stage = Stage::set_up(Setup::default()).await;
    stage.execute("INSERT INTO users (id, city) VALUES ('u1', 'here'), ('u2', 'there')").await;
    let refusal = "refuse:70107:per-account:account=u2".parse().expect("a form that the simulator knows");
    stage.handle().add_fault(refusal);
    stage.imsync(&["backfill"]).await.expect_code(3);
    let rejections = "SELECT count(*) FROM imsync.rejection";
    let generation = "SELECT generation::bigint FROM imsync.sync";
    assert_eq!((stage.number(rejections).await, stage.number(generation).await), (1, 1));

    stage.edit(OLD, NEW);
    for (at, left) in [("generation: raised, not committed", (1, 1)), ("generation: raised", (0, 2))] {
        let died = armed(&stage, &["migrate", "--rebind"], at).output().await.expect("the binary can be run");
        assert_eq!(died.status.signal(), Some(6), "{at}: {died:?}");
        // The lock goes with the session, and that with its process.
        stage
            .eventually("its sessions have ended", async || {
                let sessions = "SELECT count(*) FROM pg_stat_activity \
                    WHERE datname = current_database() AND application_name LIKE 'imsync%'";
                stage.number(sessions).await == 0
            })
            .await;
        assert_eq!((stage.number(rejections).await, stage.number(generation).await), left, "{at}");
    }
    stage.edit(NEW, OLD);
    stage.imsync(&["migrate", "--rebind"]).await.expect_code(0);
    // Everything counts as unknown, so everything is sent again; who is refused stands in the list once more.
    let full = stage.imsync(&["run", "--once", "--json"]).await.expect_code(3).json();
    assert_eq!((&full["kind"], &full["pushed"], &full["rejected"]), (&"full".into(), &1.into(), &1.into()), "{full}");
}
