//! Tests that no change is missed while passwords and the secret key rotate, and measures how long nothing arrives.
//!
//! Owns: a writer with a steady rate and the longest pause between two arrivals. Must not know: the content of files.

use std::time::Duration;

use imsync::clock::monotonic;
use imsync::simulator::SimulatorHandle;
use sqlx::{AssertSqlSafe, Executor};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{IN_USE, RotatingRole, logged, replace, stop, syncs, users};
use crate::support::{Setup, TestEnvironment};

/// The rate of the changes.
const CHANGES_PER_SECOND: u32 = 20;
/// So many changes before, during and after a rotation. Each changes another account.
const CHANGES: u32 = 300;
/// The first half of the changes is before the rotation. Connecting again and a busy machine take seconds, never minutes.
const LONGEST_PAUSE: Duration = Duration::from_secs(20);

/// Changes one account after the other.
fn start_writer(env: &TestEnvironment, round: u32) -> JoinHandle<()> {
    let database = env.database.url().to_owned();
    tokio::spawn(async move {
        let mut connection = <sqlx::PgConnection as sqlx::Connection>::connect(&database).await.unwrap();
        let mut ticks = tokio::time::interval(Duration::from_secs(1) / CHANGES_PER_SECOND);
        for number in 1..=CHANGES {
            ticks.tick().await;
            let sql = format!(
                "UPDATE users SET city = 'round {round} change {number}', updated_at = now() WHERE id = 'u' || lpad('{number}', 4, '0')"
            );
            connection.execute(AssertSqlSafe(sql)).await.unwrap();
        }
    })
}

/// The longest time without an arrival until all changes of a round have arrived.
fn watch_arrivals(handle: &SimulatorHandle, round: u32) -> JoinHandle<(u32, Duration)> {
    let mut changes = handle.subscribe();
    let prefix = format!("round {round} ");
    tokio::spawn(async move {
        let (mut arrived, mut longest, mut last) = (0, Duration::ZERO, None::<Instant>);
        while arrived < CHANGES {
            let Ok(change) = changes.recv().await else { break };
            if !change.new.is_some_and(|value| value.starts_with(&prefix)) {
                continue;
            }
            arrived += 1;
            longest = longest.max(last.map_or(Duration::ZERO, |last| last.elapsed()));
            last = Some(monotonic());
        }
        (arrived, longest)
    })
}

async fn half_has_arrived(env: &TestEnvironment, round: u32) {
    let wanted = format!("round {round} change {}", CHANGES / 2);
    let account = format!("u{:04}", CHANGES / 2);
    env.eventually("half of the changes have arrived", async || {
        env.handle().user(&account).get("city").is_some_and(|held| *held == wanted)
    })
    .await;
}

/// Writes changes, rotates in the middle, and returns the longest time without an arrival once nothing is missing.
async fn rotate_under_load(env: &TestEnvironment, round: u32, rotate: impl AsyncFnOnce()) -> Duration {
    let arrivals = watch_arrivals(env.handle(), round);
    let writer = start_writer(env, round);
    half_has_arrived(env, round).await;
    rotate().await;
    writer.await.unwrap();
    env.converges(Duration::from_mins(1)).await;
    let (arrived, longest) = tokio::time::timeout(Duration::from_mins(1), arrivals).await.unwrap().unwrap();
    assert_eq!(arrived, CHANGES, "every change arrives");
    assert!(longest < LONGEST_PAUSE, "nothing arrived for {longest:?}");
    longest
}

/// A daemon that reads both URLs and the key from files.
async fn set_up() -> (TestEnvironment, RotatingRole, RotatingRole) {
    let setup = Setup {
        more: "[state]\nurl_file = \"state_url\"\n[schedule]\ninterval = \"100ms\"\n".to_owned(),
        ..Setup::default()
    };
    let env = TestEnvironment::set_up(setup).await;
    env.execute(&users(CHANGES)).await;
    let source = RotatingRole::create(&env, "source", "database_url").await;
    let state = RotatingRole::create(&env, "state", "state_url").await;
    env.edit(&format!("url = \"{}\"", env.database.url()), "url_file = \"database_url\"");
    (env, source, state)
}

/// Prints the longest time without an arrival for each rotation.
#[tokio::test(flavor = "multi_thread")]
async fn rotations_under_twenty_changes_a_second_miss_nothing() {
    let (env, source, state) = set_up().await;
    let daemon = env.start("run", &["run"]);
    env.converges(Duration::from_secs(20)).await;

    let passwords = async || {
        for role in [&source, &state] {
            role.set_password(&env, "second").await;
            replace(&role.file, &role.url_with("second"));
        }
        for role in [&source, &state] {
            role.terminate_sessions(&env).await;
        }
    };
    let pause = rotate_under_load(&env, 1, passwords).await;
    println!("both passwords, sessions terminated: 0 changes missed, {:.1} s without progress", pause.as_secs_f64());

    let late_file = async || {
        source.set_password(&env, "third").await;
        let refused = || logged(&env, "rejects the login") > 0;
        source.terminate_sessions_until(&env, "the old password is refused", refused).await;
        replace(&source.file, &source.url_with("third"));
    };
    let pause = rotate_under_load(&env, 2, late_file).await;
    println!("the file after the database: 0 changes missed, {:.1} s without progress", pause.as_secs_f64());

    let key = env.directory().join("secret_key");
    let early_file = async || {
        replace(&key, "second-key");
        syncs(&env, "with the old key").await;
        env.handle().set_secret_keys(&["second-key"]);
    };
    let pause = rotate_under_load(&env, 3, early_file).await;
    println!("the secret key, file first: 0 changes missed, {:.1} s without progress", pause.as_secs_f64());

    let late_key = async || {
        env.handle().set_secret_keys(&["third-key"]);
        env.eventually("the old key is refused", async || logged(&env, "IM refuses every call") > 0).await;
        replace(&key, "third-key");
    };
    let pause = rotate_under_load(&env, 4, late_key).await;
    println!("the secret key, console first: 0 changes missed, {:.1} s without progress", pause.as_secs_f64());

    assert_eq!(logged(&env, IN_USE), 5, "{}", env.printed("run", "err"));
    for secret in ["second@", ":third", "second-key", "third-key"] {
        assert_eq!(logged(&env, secret), 0, "{secret}");
    }
    stop(daemon).await;
    for role in [source, state] {
        role.drop(&env).await;
    }
}
