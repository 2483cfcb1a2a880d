//! Tests that rejections and removals do not delay or block anything else.
//!
//! Owns: fixed cases about retries of rejections, and a benchmark of them. Must not know: when a retry is due.

use std::time::Duration;

use imsync::clock::monotonic;
use imsync::simulator::RecordedCall;

use crate::support::{Setup, ended, signal};

use super::state_truth::expect_truth;
use super::{environment_of, fault, rejected, status};

fn setup(im: &str, retry: &str) -> Setup {
    Setup {
        im: im.to_owned(),
        more: format!("[schedule]\ninterval = \"200ms\"\nfull_every = \"never\"\nrejected_retry = \"{retry}\"\n"),
        ..Setup::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_without_an_answer_blocks_no_other_account() {
    let env = environment_of(5, setup("timeout = \"2s\"\nretry_for = \"1s\"\n", "1s")).await;
    let refusal = fault(&env, "refuse:70107:account=u00003");
    let mut daemon = env.start("run", &["run"]);
    env.eventually("the account is rejected", async || rejected(&env).await.len() == 1).await;
    let hold = fault(&env, "hold:account=u00003");
    env.handle().remove_fault(refusal);
    let next = "SELECT (extract(epoch FROM next_at) * 1000)::bigint FROM imsync.rejection WHERE account = 'u00003'";
    for round in 0..3 {
        let (due, arrived) = (env.number(next).await, env.handle().counters().arrived);
        env.eventually("the account was retried and has another retry time", async || {
            env.handle().counters().arrived > arrived && env.number(next).await > due
        })
        .await;
        env.execute(&format!("UPDATE users SET city = 'round {round}', updated_at = now() WHERE id = 'u00001'")).await;
        let city = format!("round {round}");
        env.eventually("a change of another account arrives", async || env.handle().user("u00001")["city"] == city)
            .await;
    }
    let passes = status(&env).await["last_passes"].clone();
    let outcomes: Vec<&str> =
        passes.as_array().into_iter().flatten().filter_map(|pass| pass["outcome"].as_str()).collect();
    assert!(outcomes.len() >= 4 && outcomes.iter().all(|outcome| *outcome == "rejected"), "{outcomes:?}");
    assert_eq!(rejected(&env).await.len(), 1);
    expect_truth(&env).await;

    env.handle().remove_fault(hold);
    env.converges(Duration::from_secs(15)).await;
    env.eventually("no account is rejected", async || rejected(&env).await.is_empty()).await;
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
    expect_truth(&env).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_retries_do_not_delay_a_change() {
    let mut setup = setup("timeout = \"10s\"\n", "1h");
    setup.simulator.imported_accounts = Some((1..=10).map(super::account).collect());
    // Without checks, each retry costs a call.
    let no_checks = "refuse:60009:command=account_check".parse().expect("the fault rule is valid");
    setup.simulator.faults.push(no_checks);
    let env = environment_of(10, setup).await;
    env.imsync(&["backfill"]).await.expect_code(0);
    env.run_until_no_full_pass_is_due().await;
    // These rejections look as if Chat had refused the accounts an hour ago. Their digest differs from the current
    // values, as after a missed change, so imsync finds the accounts only through the retries.
    env.execute(
        "INSERT INTO users (id, city, plan, gender, updated_at)
             SELECT 'x' || g, 'city', 'free', 'm', '2020-01-01' FROM generate_series(1, 3000) g;
         INSERT INTO imsync.rejection (sync_id, account, attribute, code, reason, desired_digest, first_at, last_at, attempts, next_at)
             SELECT sync.id, users.id, '', 70107, 'as before', 0, now(), now(), 1, now() FROM imsync.sync, users WHERE users.id LIKE 'x%'",
    )
    .await;
    env.handle().clear_records();
    let mut daemon = env.start("run", &["run"]);
    for round in 0..3 {
        // The change is made while the retries run.
        let arrived = env.handle().counters().arrived;
        let retries = env.handle().wait_until(|counters| counters.arrived > arrived + 20);
        tokio::time::timeout(Duration::from_mins(1), retries).await.expect("the accounts are retried");
        let city = format!("round {round}");
        env.execute(&format!("UPDATE users SET city = '{city}', updated_at = now() WHERE id = 'u00001'")).await;
        let committed = env.handle().calls().len();
        env.eventually("the change arrives", async || env.handle().user("u00001")["city"] == city).await;
        let calls = env.handle().calls();
        let sends_change = |call: &RecordedCall| call.users.iter().any(|user| user.account == "u00001");
        let between = calls.iter().skip(committed).position(sends_change).unwrap_or(0);
        // At 100 calls a second these are a few polls.
        assert!(between <= 500, "{between} calls came before the change");
    }
    let remaining = "SELECT count(*) FROM imsync.rejection WHERE attempts = 1 AND desired_digest = 0";
    assert!(env.number(remaining).await > 0, "some retries remain");
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
    assert_eq!(env.number("SELECT count(*) FROM imsync.rejection").await, 3_000);
    expect_truth(&env).await;
}

/// Measures how long new changes take while the retries of 9,000 accounts that Chat does not know are due.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a benchmark of one minute, run by `make bench-tests`"]
async fn bench_new_changes_during_nine_thousand_retries() {
    let mut setup = setup("timeout = \"5s\"\nretry_for = \"5s\"\nmax_rejected_share = 1.0\n", "1h");
    setup.simulator.imported_accounts = Some((1..=10).map(super::account).collect());
    setup.simulator.latency = Duration::from_millis(50);
    let no_checks = "refuse:60009:command=account_check".parse().expect("the fault rule is valid");
    setup.simulator.faults.push(no_checks);
    let env = environment_of(10, setup).await;
    env.imsync(&["backfill"]).await.expect_code(0);
    env.run_until_no_full_pass_is_due().await;
    env.execute(
        "INSERT INTO users (id, city, plan, gender, updated_at)
             SELECT 'x' || g, 'city', 'free', 'm', '2020-01-01' FROM generate_series(1, 9000) g;
         INSERT INTO imsync.rejection (sync_id, account, attribute, code, reason, desired_digest, first_at, last_at, attempts, next_at)
             SELECT sync.id, users.id, '', 70107, 'as before', 0, now(), now(), 1, now() FROM imsync.sync, users WHERE users.id LIKE 'x%'",
    )
    .await;
    env.handle().clear_records();
    let mut daemon = env.start("run", &["run"]);
    env.handle().wait_until(|counters| counters.arrived > 20).await;
    let started = monotonic();
    let mut took = Vec::new();
    for round in 0..40 {
        let city = format!("round {round}");
        env.execute(&format!("UPDATE users SET city = '{city}', updated_at = now() WHERE id = 'u00001'")).await;
        let committed = monotonic();
        env.eventually("the change arrives", async || env.handle().user("u00001")["city"] == city).await;
        took.push(committed.elapsed());
    }
    let (seconds, calls) = (started.elapsed().as_secs_f64(), env.handle().counters().arrived);
    let remaining = env.number("SELECT count(*) FROM imsync.rejection WHERE attempts = 1 AND desired_digest = 0").await;
    took.sort();
    println!(
        "40 changes during the retries of 9,000: median {:?}, 90 % {:?}, longest {:?}; {} retries with {calls} calls in {seconds:.0} s",
        took[20],
        took[36],
        took[39],
        9_000 - remaining
    );
    assert!(remaining > 0, "some retries remain");
    // A round of retries starts within a second of the pass and takes about another second. Then the pass waits 200 ms.
    assert!(took[36] < Duration::from_secs(4), "{took:?}");
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn forced_removal_of_foreign_values_does_not_trip_the_guard() {
    let env = environment_of(300, Setup::default()).await;
    env.execute("UPDATE users SET plan = NULL WHERE id <= 'u00100'").await;
    env.imsync(&["backfill"]).await.expect_code(0);
    // Another client gives a plan to one of these accounts, and removes the city of another.
    for (account, removed, added) in [("u00007", "nothing", "plan"), ("u00008", "city", "sex")] {
        let mut changed = env.handle().user(account);
        changed.remove(removed);
        changed.insert(added.to_owned(), "foreign".to_owned());
        env.handle().set_user(account, &changed).expect("the simulator knows the attributes");
    }
    let forced = env.imsync(&["backfill", "--force", "--json"]).await.expect_code(0).json();
    assert_eq!(forced["outcome"], "ok", "{forced}");
    let status = status(&env).await;
    assert_eq!((&status["guard"], &status["in_doubt"]), (&serde_json::Value::Null, &0.into()));
    assert_eq!(env.handle().users(), env.wanted_of_users().await);
    expect_truth(&env).await;
    let idle = env.imsync(&["backfill", "--json"]).await.expect_code(0).json();
    assert_eq!(idle["calls"], 0, "{idle}");
}
