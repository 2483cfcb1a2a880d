//! Twelve writers that commit late, while IM is unreachable for half of the time and the daemon is killed repeatedly.
//!
//! Owns: the failures and their order. Must not know: single interleavings.
//!
//! The short run is part of every test run. The long one (`make soak`) takes `IMSYNC_SOAK_SECONDS`, 45 by default.

use std::time::Duration;

use imsync::clock;
use imsync::simulator::{CallMatcher, FaultAction, FaultRule};

use super::daemon::Daemon;
use super::writers::{Writers, table};
use super::{Reader, setup};
use crate::support::{Setup, TestEnvironment};

/// The duration of a soak test.
pub(super) fn seconds() -> u64 {
    let seconds = std::env::var("IMSYNC_SOAK_SECONDS").ok();
    seconds.map_or(45, |text| text.parse().expect("IMSYNC_SOAK_SECONDS is a number of seconds"))
}

#[tokio::test(flavor = "multi_thread")]
async fn late_commits_survive_failed_passes_and_kills() {
    soak(5).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes IMSYNC_SOAK_SECONDS; run with `make soak`"]
async fn soak_late_commits_with_failed_passes_and_kills() {
    soak(seconds()).await;
}

/// The daemon's role cannot see when a transaction began. No further full pass may run, so that none hides a missed
/// row.
async fn soak(seconds: u64) {
    let env = TestEnvironment::set_up(Setup { sql: table(), ..setup("") }).await;
    let reader = Reader::create_with_owner_state(&env).await;
    let mut daemon = Daemon::start(&env);
    daemon.wait_until_idle().await;

    let writers = Writers::start(&env).await;
    let began = clock::monotonic();
    while began.elapsed() < Duration::from_secs(seconds) {
        let action = FaultAction::Refuse { code: 91000, per_account: false };
        let away = env.handle().add_fault(FaultRule { matcher: CallMatcher::default(), action });
        daemon.wait_for_failed_passes(1).await;
        kill_and_restart(&mut daemon).await;
        daemon.wait_for_failed_passes(1).await;
        env.handle().remove_fault(away);
        daemon.wait_for_polls(2).await;
        kill_and_restart(&mut daemon).await;
        daemon.wait_for_polls(2).await;
    }
    writers.stop();
    let transactions = writers.end().await;
    env.converges(Duration::from_mins(1)).await;
    daemon.expect_no_further_full_pass();
    assert_eq!(env.handle().violations(), vec![]);
    let failed = daemon.passes().iter().filter(|pass| pass.outcome == "failed").count();
    println!("{transactions} transactions, {failed} failed passes, {} starts of the daemon; stale: 0", daemon.starts());
    daemon.stop().await;
    reader.drop_role(&env).await;
}

async fn kill_and_restart(daemon: &mut Daemon<'_>) {
    daemon.kill().await;
    daemon.restart();
}
