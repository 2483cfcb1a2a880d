//! Tests that an account for which IM never answers does not delay the others.
//!
//! Owns: the streams of changes and the time until each is in IM. Must not know: how an account is isolated.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::support::latencies::{Latencies, now};
use crate::support::{Setup, TestEnvironment, ended, signal};

/// The accounts that change, the silent one aside.
const OTHERS: u32 = 400;

/// One run of a daemon beside a silent account.
struct Run {
    /// How long changes are made.
    seconds: u64,
    /// The pause between two changes of the silent account.
    silent_every: Duration,
    /// The pause between two changes of the others.
    others_every: Duration,
    /// The `[im]` keys.
    im: &'static str,
}

/// The changes of the others that are on their way, by account: the city and when it was committed.
type Pending = BTreeMap<String, (String, Instant)>;

async fn change(database: &mut sqlx::PgConnection, account: &str, city: &str) {
    sqlx::query("UPDATE users SET city = $2, updated_at = clock_timestamp() WHERE id = $1")
        .bind(account)
        .bind(city)
        .execute(database)
        .await
        .expect("the statement succeeds");
}

/// Returns the latency of the changes of the others.
async fn change_beside_a_silent_account(run: &Run) -> Latencies {
    let setup = Setup { im: run.im.to_owned(), more: "[schedule]\ninterval = \"1s\"\n".to_owned(), ..Setup::default() };
    let env = TestEnvironment::set_up(setup).await;
    env.execute(&format!(
        "INSERT INTO users (id, city, plan, gender) SELECT 'u' || g, 'old', 'free', 'm' FROM generate_series(1, {OTHERS}) g;
         INSERT INTO users (id, city) VALUES ('silent', 'old')"
    ))
    .await;
    env.imsync(&["backfill"]).await.expect_code(0);
    env.handle().add_fault("late:600m:command=set_attr:account=silent".parse().expect("a valid fault"));
    let mut daemon = env.start("run", &["run"]);
    let mut database = env.database.connect().await;
    let (mut pending, mut latencies) = (Pending::new(), Vec::new());
    let began = now();
    let (mut next_silent, mut next_other, mut number) = (began, began, 0_u32);
    let end = Duration::from_secs(run.seconds);
    while began.elapsed() < end || (!pending.is_empty() && began.elapsed() < end + Duration::from_mins(1)) {
        if now() >= next_silent {
            next_silent = now() + run.silent_every;
            change(&mut database, "silent", &format!("silent {number}")).await;
        }
        if began.elapsed() < end && now() >= next_other {
            next_other = now() + run.others_every;
            number += 1;
            let (account, city) = (format!("u{}", number * 7919 % OTHERS + 1), format!("city {number}"));
            change(&mut database, &account, &city).await;
            pending.insert(account, (city, now()));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
        pending.retain(|account, (city, committed)| {
            let arrived = env.handle().user(account).get("city") == Some(city);
            if arrived {
                latencies.push(committed.elapsed());
            }
            !arrived
        });
    }
    assert!(pending.is_empty(), "{} changes have not arrived", pending.len());
    env.handle().clear_faults();
    env.converges(Duration::from_mins(2)).await;
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
    assert!(env.handle().violations().is_empty(), "{:?}", env.handle().violations());
    Latencies::of(latencies)
}

fn print(what: &str, latencies: &Latencies) {
    let [half, most, nearly_all, worst] = [0.5, 0.95, 0.99, 1.0].map(|share| latencies.quantile(share).as_secs_f64());
    println!(
        "{what}: {} changes of others, commit to IM {half:.2} s median, {most:.2} s at 95 %, {nearly_all:.2} s at 99 %, \
         {worst:.2} s at most",
        latencies.len()
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a benchmark, run by `make bench-tests`"]
async fn bench_changes_beside_a_silent_account() {
    let run =
        Run { seconds: 120, silent_every: Duration::from_secs(5), others_every: Duration::from_millis(50), im: "" };
    let latencies = change_beside_a_silent_account(&run).await;
    print("one silent account that changes every 5 s, interval 1s, 120 s", &latencies);
    assert!(latencies.quantile(0.99) <= Duration::from_secs(3));
}

/// With shorter time-outs. Accounts in one call with the silent one wait for it once.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_account_does_not_delay_others() {
    let run = Run {
        seconds: 20,
        silent_every: Duration::from_secs(3),
        others_every: Duration::from_millis(50),
        im: "timeout = \"3s\"\nretry_for = \"15s\"\n",
    };
    let latencies = change_beside_a_silent_account(&run).await;
    print("short form", &latencies);
    // Without the fix, half of the changes wait for the silent account.
    assert!(latencies.quantile(0.5) <= Duration::from_secs(2), "{:?}", latencies.quantile(0.5));
    assert!(latencies.quantile(0.8) <= Duration::from_secs(4), "{:?}", latencies.quantile(0.8));
}

/// The row changes while a slow call for it is in flight, and the watermark moves past it. Then the call is answered, and the
/// process is killed before the next pass. Nothing but the stored deferral finds the row.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_during_a_slow_call_survives_a_kill() {
    let setup =
        Setup { more: "[schedule]\ninterval = \"4s\"\nfull_every = \"never\"\n".to_owned(), ..Setup::default() };
    let env = TestEnvironment::set_up(setup).await;
    env.execute("INSERT INTO users (id, city) VALUES ('slow', 'old'), ('other', 'old')").await;
    env.imsync(&["backfill"]).await.expect_code(0);
    env.run_until_no_full_pass_is_due().await;
    let hold = env.handle().add_fault("hold:command=set_attr:account=slow".parse().expect("a valid fault"));
    let mut daemon = env.start("run", &["run"]);
    let mut database = env.database.connect().await;
    change(&mut database, "slow", "first").await;
    env.eventually("the call is in flight", async || env.number("SELECT count(*) FROM imsync.intent").await == 1).await;
    change(&mut database, "slow", "second").await;
    let deferred = "SELECT count(*) FROM imsync.deferred_account";
    env.eventually("the change is deferred", async || env.number(deferred).await == 1).await;
    change(&mut database, "other", "moved").await;
    let passed = "SELECT count(*) FROM imsync.sync, users
        WHERE users.id = 'slow' AND watermark::timestamptz > updated_at + interval '1.5 seconds'";
    env.eventually("the stored watermark is past the row and its slack", async || env.number(passed).await == 1).await;
    env.handle().release_held_calls(hold);
    env.handle().remove_fault(hold);
    env.eventually("the call is recorded", async || env.number("SELECT count(*) FROM imsync.intent").await == 0).await;
    daemon.kill().await.expect("the daemon can be killed");
    assert_eq!(env.handle().user("slow")["city"], "first", "the kill came before the look-up");
    assert_eq!(env.number(deferred).await, 1);
    let pass = env.imsync(&["run", "--once", "--json"]).await.expect_code(0).json();
    assert_eq!(pass["kind"], "incremental", "{pass}");
    assert_eq!(env.handle().user("slow")["city"], "second");
    assert_eq!(env.number(deferred).await, 0);
}
