//! Rejections and removals that must not stand in the way of anything else.

use std::time::Duration;

use imsync::clock::monotonic;
use imsync::simulator::RecordedCall;

use crate::support::{Setup, ended, signal};

use super::truth::expect_truth;
use super::{fault, rejected, stage_of, status};

fn setup(im: &str, retry: &str) -> Setup {
    Setup {
        im: im.to_owned(),
        more: format!("[schedule]\ninterval = \"200ms\"\nfull_every = \"never\"\nrejected_retry = \"{retry}\"\n"),
        ..Setup::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_without_an_answer_stands_in_nobodys_way() {
    let stage = stage_of(5, setup("timeout = \"2s\"\nretry_for = \"1s\"\n", "1s")).await;
    let refusal = fault(&stage, "refuse:70107:account=u00003");
    let mut daemon = stage.start("run", &["run"]);
    stage.eventually("it is rejected", async || rejected(&stage).await.len() == 1).await;
    let hold = fault(&stage, "hold:account=u00003");
    stage.handle().remove_fault(refusal);
    let next = "SELECT (extract(epoch FROM next_at) * 1000)::bigint FROM imsync.rejection WHERE account = 'u00003'";
    for round in 0..3 {
        let (due, arrived) = (stage.number(next).await, stage.handle().counters().arrived);
        stage
            .eventually("it was tried again and has another time", async || {
                stage.handle().counters().arrived > arrived && stage.number(next).await > due
            })
            .await;
        stage
            .execute(&format!("UPDATE users SET city = 'round {round}', updated_at = now() WHERE id = 'u00001'"))
            .await;
        let city = format!("round {round}");
        stage.eventually("another change arrives", async || stage.handle().user("u00001")["city"] == city).await;
    }
    let passes = status(&stage).await["last_passes"].clone();
    let outcomes: Vec<&str> =
        passes.as_array().into_iter().flatten().filter_map(|pass| pass["outcome"].as_str()).collect();
    assert!(outcomes.len() >= 4 && outcomes.iter().all(|outcome| *outcome == "rejected"), "{outcomes:?}");
    assert_eq!(rejected(&stage).await.len(), 1);
    expect_truth(&stage).await;

    stage.handle().remove_fault(hold);
    stage.converges(Duration::from_secs(15)).await;
    stage.eventually("the list is empty", async || rejected(&stage).await.is_empty()).await;
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
    expect_truth(&stage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_retries_do_not_hold_a_change_up() {
    let mut setup = setup("timeout = \"10s\"\n", "1h");
    setup.simulator.imported_accounts = Some((1..=10).map(super::account).collect());
    let stage = stage_of(10, setup).await;
    stage.imsync(&["backfill"]).await.expect_code(0);
    stage.comes_to_rest().await;
    // As if Chat had refused them an hour ago. What stands against them is not the value that they have by now, as after
    // a change that was missed: only the retries lead to them.
    stage
        .execute(
            "INSERT INTO users (id, city, plan, gender, updated_at)
                 SELECT 'x' || g, 'city', 'free', 'm', '2020-01-01' FROM generate_series(1, 3000) g;
             INSERT INTO imsync.rejection (sync_id, account, attribute, code, reason, desired_digest, first_at, last_at, attempts, next_at)
                 SELECT sync.id, users.id, '', 70107, 'as before', 0, now(), now(), 1, now() FROM imsync.sync, users WHERE users.id LIKE 'x%'",
        )
        .await;
    stage.handle().clear_records();
    let mut daemon = stage.start("run", &["run"]);
    for round in 0..3 {
        // In the middle of the retries.
        let arrived = stage.handle().counters().arrived;
        let retries = stage.handle().wait_until(|counters| counters.arrived > arrived + 20);
        tokio::time::timeout(Duration::from_mins(1), retries).await.expect("they are tried again");
        let city = format!("round {round}");
        stage.execute(&format!("UPDATE users SET city = '{city}', updated_at = now() WHERE id = 'u00001'")).await;
        let committed = stage.handle().calls().len();
        stage.eventually("the change arrives", async || stage.handle().user("u00001")["city"] == city).await;
        let calls = stage.handle().calls();
        let carries = |call: &RecordedCall| call.users.iter().any(|user| user.account == "u00001");
        let between = calls.iter().skip(committed).position(carries).unwrap_or(0);
        // At 100 calls a second, a few polls.
        assert!(between <= 500, "{between} calls went before the change");
    }
    let left = "SELECT count(*) FROM imsync.rejection WHERE attempts = 1 AND desired_digest = 0";
    assert!(stage.number(left).await > 0, "retries were still to come");
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
    assert_eq!(stage.number("SELECT count(*) FROM imsync.rejection").await, 3_000);
    expect_truth(&stage).await;
}

/// What the retries cost a fresh change, in time: 9,000 accounts that Chat never saw, all due, and one change after the other.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a minute and measures: make bench"]
async fn bench_fresh_changes_beside_nine_thousand_retries() {
    let mut setup = setup("timeout = \"5s\"\nretry_for = \"5s\"\nmax_rejected_share = 1.0\n", "1h");
    setup.simulator.imported_accounts = Some((1..=10).map(super::account).collect());
    setup.simulator.latency = Duration::from_millis(50);
    let stage = stage_of(10, setup).await;
    stage.imsync(&["backfill"]).await.expect_code(0);
    stage.comes_to_rest().await;
    stage
        .execute(
            "INSERT INTO users (id, city, plan, gender, updated_at)
                 SELECT 'x' || g, 'city', 'free', 'm', '2020-01-01' FROM generate_series(1, 9000) g;
             INSERT INTO imsync.rejection (sync_id, account, attribute, code, reason, desired_digest, first_at, last_at, attempts, next_at)
                 SELECT sync.id, users.id, '', 70107, 'as before', 0, now(), now(), 1, now() FROM imsync.sync, users WHERE users.id LIKE 'x%'",
        )
        .await;
    stage.handle().clear_records();
    let mut daemon = stage.start("run", &["run"]);
    stage.handle().wait_until(|counters| counters.arrived > 20).await;
    let begun = monotonic();
    let mut took = Vec::new();
    for round in 0..40 {
        let city = format!("round {round}");
        stage.execute(&format!("UPDATE users SET city = '{city}', updated_at = now() WHERE id = 'u00001'")).await;
        let committed = monotonic();
        stage.eventually("the change arrives", async || stage.handle().user("u00001")["city"] == city).await;
        took.push(committed.elapsed());
    }
    let (seconds, calls) = (begun.elapsed().as_secs_f64(), stage.handle().counters().arrived);
    let left = stage.number("SELECT count(*) FROM imsync.rejection WHERE attempts = 1 AND desired_digest = 0").await;
    took.sort();
    println!(
        "40 changes beside the retries of 9,000: median {:?}, 90 % {:?}, longest {:?}; {} retries with {calls} calls in {seconds:.0} s",
        took[20],
        took[36],
        took[39],
        9_000 - left
    );
    assert!(left > 0, "retries were still to come");
    // A round of retries is begun within a second of the pass, and takes as long again; then the pass waits 200 ms.
    assert!(took[36] < Duration::from_secs(4), "{took:?}");
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forced_backfill_removes_what_it_never_gave_without_tripping_the_guard() {
    let stage = stage_of(300, Setup::default()).await;
    stage.execute("UPDATE users SET plan = NULL WHERE id <= 'u00100'").await;
    stage.imsync(&["backfill"]).await.expect_code(0);
    // Somebody gave it to one of them, and took the city of another.
    for (account, take, give) in [("u00007", "nothing", "plan"), ("u00008", "city", "sex")] {
        let mut changed = stage.handle().user(account);
        changed.remove(take);
        changed.insert(give.to_owned(), "theirs".to_owned());
        stage.handle().set_user(account, &changed).expect("the name is set");
    }
    let forced = stage.imsync(&["backfill", "--force", "--json"]).await.expect_code(0).json();
    assert_eq!(forced["outcome"], "ok", "{forced}");
    let status = status(&stage).await;
    assert_eq!((&status["guard"], &status["in_doubt"]), (&serde_json::Value::Null, &0.into()));
    assert_eq!(stage.handle().users(), stage.wanted_of_users().await);
    expect_truth(&stage).await;
    let idle = stage.imsync(&["backfill", "--json"]).await.expect_code(0).json();
    assert_eq!(idle["calls"], 0, "{idle}");
}
