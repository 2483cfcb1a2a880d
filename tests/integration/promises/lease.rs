//! One at a time: who holds the lease writes, nobody else, and an idle holder writes nothing.

use std::time::Duration;

use crate::support::{Setup, Stage, ended, signal};

use super::state_truth::{StateWatcher, expect_truth};
use super::{fault, in_flight_twice, stage_of, status};

async fn pid_of_holder(stage: &Stage) -> Option<u32> {
    let holder = status(stage).await["lease"]["holder"].as_str()?.to_owned();
    holder.split("pid ").nth(1)?.split(' ').next()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_leader_is_replaced_and_stands_by_when_it_wakes() {
    let stage =
        stage_of(400, Setup { im: "users_per_call = 10\ntimeout = \"10s\"\n".to_owned(), ..Setup::default() }).await;
    fault(&stage, "slow:40ms");
    let first = stage.start("first", &["run"]);
    let watch = StateWatcher::start(&stage);
    let first_pid = first.id();
    stage.eventually("the first leads", async || pid_of_holder(&stage).await == first_pid).await;
    let mut second = stage.start("run", &["run"]);
    stage.eventually("the second stands by", async || stage.printed("run", "err").contains("standing by")).await;

    // Stopped in the middle of its work.
    stage.execute("UPDATE users SET city = 'work', updated_at = now()").await;
    let arrived = stage.handle().counters().arrived;
    stage.handle().wait_until(|counters| counters.arrived > arrived + 2).await;
    signal(&first, "STOP");
    let second_pid = second.id();
    stage.eventually("the second leads", async || pid_of_holder(&stage).await == second_pid).await;
    stage.converges(Duration::from_secs(20)).await;

    // It wakes up with work in hand, and makes no call.
    stage.execute("UPDATE users SET city = 'newer', updated_at = now()").await;
    stage.converges(Duration::from_secs(20)).await;
    stage.eventually("nothing is left to be settled", async || status(&stage).await["in_doubt"] == 0).await;
    let before = stage.handle().counters().arrived;
    signal(&first, "CONT");
    stage
        .eventually("the first stands by", async || {
            let printed = stage.printed("first", "err");
            printed.rfind("standing by:") > printed.rfind(" leading") && printed.contains("standing by:")
        })
        .await;
    assert_eq!(stage.handle().counters().arrived, before, "the table is at rest, so every call is one too many");
    stage.execute("UPDATE users SET city = 'newest', updated_at = now() WHERE right(id, 1) = '1'").await;
    stage.converges(Duration::from_secs(20)).await;
    watch.end().await;
    expect_truth(&stage).await;

    // The second is killed: the first takes over again.
    second.kill().await.expect("the daemon can be killed");
    stage.execute("UPDATE users SET city = 'last', updated_at = now() WHERE right(id, 1) = '2'").await;
    stage.converges(Duration::from_secs(20)).await;
    assert_eq!(pid_of_holder(&stage).await, first_pid);
    let mut first = first;
    signal(&first, "TERM");
    assert_eq!(ended(&mut first).await, Some(0));
    assert_eq!(in_flight_twice(&stage), vec![]);
    expect_truth(&stage).await;
}

/// As if another holder had taken over without this one noticing: its writes roll back, and it begins anew.
#[tokio::test(flavor = "multi_thread")]
async fn a_raised_epoch_ends_every_write_of_the_former_holder() {
    let stage = stage_of(100, Setup::default()).await;
    let mut daemon = stage.start("run", &["run"]);
    stage.converges(Duration::from_secs(15)).await;
    stage.eventually("it leads", async || !status(&stage).await["lease"].is_null()).await;
    let hold = fault(&stage, "hold:command=set_attr");
    stage.execute("UPDATE users SET city = 'held', updated_at = now() WHERE id = 'u00001'").await;
    stage.handle().wait_until(|counters| counters.held >= 1).await;
    // The call is out, its intent is stored. Now the epoch moves on, and what the table says as well.
    stage.execute("UPDATE imsync.sync SET lease_epoch = lease_epoch + 100").await;
    let all = "SELECT md5(string_agg(account || acknowledged::text, ',' ORDER BY account))::text FROM imsync.account";
    let digest = async || {
        let digest: String =
            sqlx::query_scalar(all).fetch_one(&mut stage.database.connect().await).await.expect("a plain query");
        digest
    };
    let before = digest().await;
    let epoch = stage.number("SELECT lease_epoch FROM imsync.sync").await;
    stage.handle().remove_fault(hold);
    stage
        .eventually("it has taken the lease anew", async || {
            stage.number("SELECT lease_epoch FROM imsync.sync").await > epoch
        })
        .await;
    assert!(stage.printed("run", "err").contains("was lost to another imsync"), "{}", stage.printed("run", "err"));
    stage.converges(Duration::from_secs(15)).await;
    stage.eventually("the new holder has recorded the change", async || digest().await != before).await;
    stage
        .eventually("nothing is left over", async || stage.number("SELECT count(*) FROM imsync.intent").await == 0)
        .await;
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
    expect_truth(&stage).await;
}

/// An idle daemon polls without a write and without a call.
#[tokio::test(flavor = "multi_thread")]
async fn an_idle_daemon_writes_nothing_and_calls_nobody() {
    let setup = Setup { more: "[schedule]\ninterval = \"100ms\"\n".to_owned(), ..Setup::default() };
    let stage = stage_of(100, setup).await;
    let mut daemon = stage.start("run", &["run"]);
    stage.converges(Duration::from_secs(15)).await;
    stage.execute("UPDATE users SET city = 'x', updated_at = now() WHERE id = 'u00001'").await;
    stage.converges(Duration::from_secs(15)).await;
    let writes =
        "SELECT (sum(n_tup_ins + n_tup_upd + n_tup_del))::bigint FROM pg_stat_user_tables WHERE schemaname = 'imsync'";
    let reads = "SELECT (sum(coalesce(seq_scan, 0) + coalesce(idx_scan, 0)))::bigint FROM pg_stat_user_tables WHERE schemaname = 'public'";
    // The first passes store what they found, and so does one in a minute. An entry in the statistics takes up to a second
    // to show. The statistics are those of this database, so that others in this server do not matter.
    stage
        .eventually("ten polls without a write or a call", async || {
            tokio::time::sleep(Duration::from_millis(1_200)).await;
            let before = (stage.number(writes).await, stage.handle().counters().arrived);
            let polls = stage.number(reads).await;
            stage.eventually("ten polls went by", async || stage.number(reads).await >= polls + 10).await;
            tokio::time::sleep(Duration::from_millis(1_200)).await;
            (stage.number(writes).await, stage.handle().counters().arrived) == before
        })
        .await;
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
}
