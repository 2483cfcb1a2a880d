//! Tests of the probe: the acknowledged value that is sent again to find out whether rows or the app are at fault.
//!
//! Owns: probes beside calls of the same account, and probes of a process that is killed. Must not know: which code leads to
//! a probe.

use crate::support::{Setup, TestEnvironment, ended, signal};

use super::state_truth::expect_truth;
use super::{account, environment_of, fault, in_flight_twice, rejected, status};

/// Rows that IM refuses although nothing is wrong with the app, so that a probe has to find out.
const REFUSED: std::ops::RangeInclusive<u32> = 101..=140;

/// Inserts the refused rows, and has IM refuse each of them.
async fn refuse_rows(env: &TestEnvironment) {
    let names: Vec<String> = REFUSED.map(account).collect();
    fault(env, &format!("refuse:70402:command=set_attr:account={}", names.join(",")));
    let values = names.iter().map(|name| format!("('{name}', 'refused')")).collect::<Vec<_>>().join(", ");
    env.execute(&format!("INSERT INTO users (id, city) VALUES {values}")).await;
}

/// Counts the probe's account if it is in doubt. A refused account is in doubt too.
const IN_DOUBT: &str = "SELECT count(*) FROM imsync.account WHERE account = 'u00001' AND in_doubt_retry_at IS NOT NULL";

async fn wait_until_known(env: &TestEnvironment) {
    env.eventually("the account is not in doubt", async || env.number(IN_DOUBT).await == 0).await;
}

/// A full pass has sent the newest value of the only acknowledged account, and its answer is slow. Meanwhile an incremental
/// pass needs a probe. The state still holds the older value.
#[tokio::test(flavor = "multi_thread")]
async fn a_probe_beside_a_slow_answer_sends_no_old_value() {
    let setup =
        Setup { more: "[schedule]\ninterval = \"200ms\"\nfull_every = \"1s\"\n".to_owned(), ..Setup::default() };
    let env = environment_of(1, setup).await;
    env.imsync(&["backfill"]).await.expect_code(0);
    let held = fault(&env, "apply-then-hold:command=set_attr:account=u00001:times=1");
    let mut daemon = env.start("run", &["run"]);
    // Only a full pass finds a row whose timestamp is old.
    env.execute("UPDATE users SET city = 'newest', updated_at = '2020-01-01' WHERE id = 'u00001'").await;
    env.handle().wait_until(|counters| counters.held >= 1).await;
    refuse_rows(&env).await;
    env.eventually("an incremental pass has examined the refusals", async || {
        let last = status(&env).await["last_passes"][0].clone();
        last["kind"] == "incremental" && (last["outcome"] == "failed" || last["rejected"] == REFUSED.count())
    })
    .await;
    env.handle().remove_fault(held);
    env.eventually("the refused rows are rejected", async || rejected(&env).await.len() == REFUSED.count()).await;
    wait_until_known(&env).await;
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
    assert_eq!(env.handle().user("u00001")["city"], "newest");
    assert_eq!(in_flight_twice(&env), vec![]);
    expect_truth(&env).await;
}

/// The account of a probe changes while the probe is in flight: the change waits, and ends as the last value.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_probes_account_arrives_after_the_probe() {
    let env = environment_of(1, Setup::default()).await;
    env.imsync(&["backfill"]).await.expect_code(0);
    let held = fault(&env, "hold:command=set_attr:account=u00001:times=1");
    let mut daemon = env.start("run", &["run"]);
    refuse_rows(&env).await;
    env.handle().wait_until(|counters| counters.held >= 1).await;
    env.execute("UPDATE users SET city = 'newest', updated_at = now() WHERE id = 'u00001'").await;
    env.handle().remove_fault(held);
    env.eventually("the newest value arrives", async || env.handle().user("u00001")["city"] == "newest").await;
    env.eventually("the refused rows are rejected", async || rejected(&env).await.len() == REFUSED.count()).await;
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
    assert_eq!(in_flight_twice(&env), vec![]);
    expect_truth(&env).await;
}

/// IM applies a probe of a killed process after the next process has sent a newer value.
#[tokio::test(flavor = "multi_thread")]
async fn a_late_probe_of_a_killed_process_is_corrected() {
    let setup = Setup { im: "timeout = \"3s\"\nretry_for = \"3s\"\n".to_owned(), ..Setup::default() };
    let env = environment_of(1, setup).await;
    env.imsync(&["backfill"]).await.expect_code(0);
    let late = fault(&env, "late:4s:command=set_attr:account=u00001");
    let mut daemon = env.start("run", &["run"]);
    refuse_rows(&env).await;
    let probes = || {
        let calls = env.handle().calls();
        calls.into_iter().filter(|call| call.users.iter().any(|user| user.account == "u00001")).skip(1).count()
    };
    env.eventually("the probe is in flight", async || probes() >= 1).await;
    daemon.kill().await.expect("the daemon can be killed");
    let mut changes = env.handle().subscribe();
    env.handle().remove_fault(late);
    env.execute("UPDATE users SET city = 'newest', updated_at = now() WHERE id = 'u00001'").await;
    let mut daemon = env.start("run", &["run"]);
    env.eventually("the late probe is applied over the newest value", async || {
        std::iter::from_fn(|| changes.try_recv().ok()).any(|change| {
            change.attribute == "city" && change.account == "u00001" && change.new.as_deref() == Some("city 1")
        })
    })
    .await;
    env.eventually("the newest value is sent again", async || env.handle().user("u00001")["city"] == "newest").await;
    wait_until_known(&env).await;
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
    assert_eq!(env.handle().user("u00001")["city"], "newest");
    expect_truth(&env).await;
}

/// A probe without an answer may be applied later, over a newer value of its account.
#[tokio::test(flavor = "multi_thread")]
async fn a_late_probe_of_a_running_process_is_corrected() {
    let setup = Setup { im: "timeout = \"1s\"\nretry_for = \"1s\"\n".to_owned(), ..Setup::default() };
    let env = environment_of(4, setup).await;
    env.imsync(&["backfill"]).await.expect_code(0);
    let late = fault(&env, "late:800ms:command=set_attr:account=u00001,u00002,u00003,u00004:times=1");
    let mut daemon = env.start("run", &["run"]);
    refuse_rows(&env).await;
    let in_doubt = "FROM imsync.account WHERE account < 'u00100' AND in_doubt_retry_at IS NOT NULL";
    let count = format!("SELECT count(*) {in_doubt}");
    env.eventually("the probe has no answer", async || env.number(&count).await == 1).await;
    env.handle().remove_fault(late);
    env.execute(&format!(
        "UPDATE users SET city = 'newest', updated_at = now() WHERE id IN (SELECT account {in_doubt})"
    ))
    .await;
    let has_newest = || env.handle().users().values().any(|attributes| attributes["city"] == "newest");
    env.eventually("the newest value is in IM", async || has_newest()).await;
    env.eventually("nothing but the refused rows is in doubt", async || env.number(&count).await == 0).await;
    assert!(has_newest());
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
    expect_truth(&env).await;
}
