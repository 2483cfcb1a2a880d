//! Twelve writers that commit late, while IM is unreachable for half of the time and the daemon is killed again and again.
//!
//! Owns: the troubles and their order. Must not know: single interleavings.
//!
//! The short run belongs to every test run; the long one (`make soak`) takes `IMSYNC_SOAK_SECONDS`, 45 by default.

use std::time::Duration;

use imsync::clock;
use imsync::simulator::{CallMatcher, FaultAction, FaultRule};

use super::daemon::Daemon;
use super::writers::{Writers, table};
use super::{Reader, setup};
use crate::support::{Setup, TestEnvironment};

/// How long a soak is asked to last.
pub(super) fn seconds() -> u64 {
    let seconds = std::env::var("IMSYNC_SOAK_SECONDS").ok();
    seconds.map_or(45, |text| text.parse().expect("IMSYNC_SOAK_SECONDS is a number of seconds"))
}

#[tokio::test(flavor = "multi_thread")]
async fn late_commits_with_failed_passes_and_kills_for_a_while() {
    soak(5).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes as long as it is told to: make soak"]
async fn soak_late_commits_with_failed_passes_and_kills() {
    soak(seconds()).await;
}

/// The daemon's role may not see when a transaction began. No full pass may run, so nothing hides a row that was missed.
async fn soak(seconds: u64) {
    let env = TestEnvironment::set_up(Setup { sql: table(), ..setup("") }).await;
    let reader = Reader::on(&env).await;
    let mut daemon = Daemon::start(&env);
    daemon.comes_to_rest().await;

    let writers = Writers::start(&env).await;
    let began = clock::monotonic();
    while began.elapsed() < Duration::from_secs(seconds) {
        let action = FaultAction::Refuse { code: 91000, per_account: false };
        let away = env.handle().add_fault(FaultRule { matcher: CallMatcher::default(), action });
        daemon.failed_polls(1).await;
        killed_and_started(&mut daemon).await;
        daemon.failed_polls(1).await;
        env.handle().remove_fault(away);
        daemon.polls(2).await;
        killed_and_started(&mut daemon).await;
        daemon.polls(2).await;
    }
    writers.stop();
    let transactions = writers.end().await;
    env.converges(Duration::from_mins(1)).await;
    daemon.has_made_no_further_full_pass();
    assert_eq!(env.handle().violations(), vec![]);
    let failed = daemon.passes().iter().filter(|pass| pass.outcome == "failed").count();
    println!("{transactions} transactions, {failed} failed passes, {} starts of the daemon; stale: 0", daemon.starts());
    daemon.stop().await;
    reader.leave(&env).await;
}

async fn killed_and_started(daemon: &mut Daemon<'_>) {
    daemon.kill().await;
    daemon.start_again();
}
