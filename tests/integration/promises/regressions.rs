//! Outcomes that are unknown settle by themselves, whatever the pass that left them came to. No full pass helps here.

use std::time::Duration;

use imsync::simulator::{Simulator, SimulatorOptions};

use crate::support::{Setup, TestEnvironment, ended, signal};

use super::state_truth::expect_truth;
use super::{fault, in_flight_twice, rejected, stage_of};

const NO_FULL_PASS: &str = "[schedule]\ninterval = \"200ms\"\nfull_every = \"never\"\n";

fn setup(im: &str) -> Setup {
    Setup {
        im: format!("timeout = \"1s\"\nretry_for = \"1s\"\n{im}\n"),
        more: NO_FULL_PASS.to_owned(),
        ..Setup::default()
    }
}

/// Backfilled and led by a daemon; nothing is new to the watermark.
async fn led(count: u32, setup: Setup) -> (TestEnvironment, tokio::process::Child) {
    let env = stage_of(count, setup).await;
    env.execute("UPDATE users SET updated_at = '2020-01-01'").await;
    env.imsync(&["backfill"]).await.expect_code(0);
    env.comes_to_rest().await;
    env.execute("DELETE FROM imsync.pass").await;
    let daemon = env.start("run", &["run"]);
    env.eventually("it leads", async || env.printed("run", "err").contains("leading")).await;
    (env, daemon)
}

async fn in_doubt(env: &TestEnvironment) -> i64 {
    env.number("SELECT count(*) FROM imsync.account WHERE in_doubt_retry_at IS NOT NULL").await
}

async fn full_passes(env: &TestEnvironment) -> i64 {
    env.number("SELECT count(*) FROM imsync.pass WHERE kind = 'full'").await
}

/// All is in IM, nothing is in doubt, nobody is rejected, and no full pass helped.
async fn settles(env: &TestEnvironment, mut daemon: tokio::process::Child) {
    env.converges(Duration::from_secs(20)).await;
    env.eventually("no doubt is left", async || in_doubt(env).await == 0).await;
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
    assert_eq!(env.handle().users(), env.wanted_of_users().await);
    expect_truth(env).await;
    assert_eq!(rejected(env).await, Vec::<serde_json::Value>::new());
    assert_eq!(full_passes(env).await, 0, "no full pass helped");
    assert_eq!(in_flight_twice(env), vec![]);
}

/// IM asks one call of a pass to come later until patience ends, and takes another call of the same pass.
async fn asked_to_come_later(im: &str, refusal: &str) {
    let (env, daemon) = led(6, setup(im)).await;
    let rule = fault(&env, refusal);
    env.execute(
        "UPDATE users SET city = 'moved', updated_at = now() WHERE id IN ('u00001', 'u00002');
             UPDATE users SET plan = 'gold', updated_at = now() WHERE id = 'u00003'",
    )
    .await;
    env.eventually("the others arrive", async || env.handle().user("u00003")["plan"] == "gold").await;
    env.eventually("it is in doubt", async || in_doubt(&env).await == 1).await;
    // The pass has ended well and its watermark has moved past the row.
    env
        .eventually("the watermark has moved on", async || {
            env.execute("UPDATE users SET plan = CASE plan WHEN 'pro' THEN 'free' ELSE 'pro' END, updated_at = now() WHERE id = 'u00006'").await;
            let past = "SELECT count(*) FROM imsync.sync, users WHERE users.id = 'u00001' \
                        AND watermark::timestamptz > users.updated_at";
            env.number(past).await == 1
        })
        .await;
    assert_ne!(env.handle().user("u00001")["city"], "moved");
    env.handle().remove_fault(rule);
    settles(&env, daemon).await;
    assert_eq!(env.handle().user("u00001")["city"], "moved");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_im_never_took_arrives_later() {
    tokio::join!(
        asked_to_come_later("users_per_call = 1", "refuse:60011:account=u00001"),
        asked_to_come_later("users_per_call = 1", "refuse:60007:account=u00001"),
        asked_to_come_later("service = \"timpush\"", "refuse:60007:per-account:account=u00001"),
    );
}

/// IM goes away in the middle of a pass: some of its calls were taken, the others find nobody who listens.
#[tokio::test(flavor = "multi_thread")]
async fn calls_that_find_nobody_arrive_when_im_is_back() {
    let (mut env, daemon) = led(100, setup("users_per_call = 1\nmax_in_flight = 8")).await;
    let address = env.im.address();
    env.handle().clear_records();
    // Some that are taken, some that are on their way when IM goes, and the rest.
    fault(&env, "hold:after=40");
    env.execute("UPDATE users SET city = 'moved', updated_at = now()").await;
    env.handle().wait_until(|counters| counters.held >= 1).await;
    let spare = Simulator::start(SimulatorOptions::default()).await.expect("a simulator starts");
    let gone = std::mem::replace(&mut env.im, spare);
    let held = gone.handle().clone();
    gone.stop().await;
    let ended_well = "SELECT count(*) FROM imsync.pass WHERE outcome = 'ok' AND calls > 40";
    env.eventually("the pass has ended, and well", async || env.number(ended_well).await > 0).await;
    assert!(in_doubt(&env).await > 0);
    // From now on only the doubts lead to them.
    env.execute("UPDATE users SET updated_at = '2020-01-01'").await;
    let missing = |held: &imsync::simulator::SimulatorHandle| {
        held.users().values().filter(|attributes| attributes["city"] != "moved").count()
    };
    assert!(missing(&held) > 0);

    // It comes back with what it held, and takes calls once it has that.
    let options = SimulatorOptions {
        listen: address,
        faults: vec!["http:503".parse().expect("a form that the simulator knows")],
        ..Setup::default().simulator
    };
    env.im = Simulator::start(options).await.expect("IM comes back");
    for (account, attributes) in held.users() {
        env.handle().set_user(&account, &attributes).expect("the names are set");
    }
    env.handle().clear_faults();
    settles(&env, daemon).await;
}

/// A removal that IM may have carried out or not; the next passes stop before they can send it again.
async fn removal_without_an_answer(held: &str) {
    let (env, daemon) = led(4, setup("")).await;
    fault(&env, &format!("{held}:times=1"));
    // Afterwards credentials that are refused stop every pass in its removals, before the outcome is known.
    fault(&env, "refuse:70003:command=remove_attr:after=1");
    env.execute("UPDATE users SET plan = NULL, updated_at = now() WHERE id = 'u00002'").await;
    env.eventually("it is in doubt", async || in_doubt(&env).await == 1).await;
    // From now on only the doubt leads to it.
    env.execute("UPDATE users SET updated_at = '2020-01-01' WHERE id = 'u00002'").await;
    let stopped = || env.handle().calls().iter().filter(|call| call.code == Some(70003)).count();
    let before = stopped();
    env.eventually("passes have stopped at the removal", async || stopped() >= before + 3).await;
    assert_eq!(in_doubt(&env).await, 1);
    env.handle().clear_faults();
    settles(&env, daemon).await;
    assert!(!env.handle().user("u00002").contains_key("plan"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_without_an_answer_settles_by_itself() {
    tokio::join!(
        removal_without_an_answer("hold:command=remove_attr"),
        removal_without_an_answer("apply-then-hold:command=remove_attr"),
    );
}
