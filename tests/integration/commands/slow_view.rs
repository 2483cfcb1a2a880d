//! Tests a view that takes long: imsync starts, waits for it, and shows that it waits.
//!
//! Owns: a view that sleeps or fails, as a control table says. Must not know: which questions imsync asks.

use std::time::Duration;

use imsync::clock::monotonic;

use super::{ask, free_port, people};
use crate::support::{SOURCE, Setup, TestEnvironment, USERS, ended, signal};

/// Every query of the view first sleeps as the table `control` says. The question for the newest stamp, which only serves
/// a warning, sleeps or fails on its own.
const SLOW_VIEW: &str = "
CREATE TABLE control (page float8, advice float8, advice_fails boolean);
INSERT INTO control VALUES (0, 0, false);
CREATE FUNCTION slow() RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE c control; is_advice boolean := current_query() LIKE '%DESC LIMIT 1%';
BEGIN
  SELECT * INTO c FROM control;
  IF is_advice AND c.advice_fails THEN RAISE EXCEPTION 'no advice today' USING ERRCODE = '22012'; END IF;
  PERFORM pg_sleep(CASE WHEN is_advice THEN c.advice ELSE c.page END);
  RETURN true;
END $$;
CREATE VIEW slow_users AS SELECT * FROM users WHERE (SELECT slow());";

fn setup(port: u16) -> Setup {
    Setup {
        sql: format!("{USERS}{SLOW_VIEW}"),
        source: SOURCE.replace("public.users", "slow_users"),
        more: format!("[schedule]\ninterval = \"200ms\"\n[http]\nlisten = \"127.0.0.1:{port}\"\n"),
        ..Setup::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn advice_that_fails_or_takes_long_decides_nothing() {
    let env = TestEnvironment::set_up(setup(free_port())).await;
    env.execute(&people(5)).await;
    env.execute("UPDATE control SET advice_fails = true").await;
    env.imsync(&["check"]).await.expect_code(0);
    env.imsync(&["backfill", "--dry-run"]).await.expect_code(0);
    env.imsync(&["run", "--once"]).await.expect_code(0);
    // Longer than all of connecting once was allowed to take.
    env.execute(
        "UPDATE control SET advice_fails = false, advice = 90; UPDATE users SET city = 'new', updated_at = now()",
    )
    .await;
    let started = monotonic();
    let output = env.imsync(&["run", "--once"]).await.expect_code(0);
    assert!(started.elapsed() < Duration::from_mins(1), "{output:?}");
    let told: Vec<&str> = output.stderr.lines().filter(|line| !line.contains("slow_users uses slow()")).collect();
    assert_eq!(told, Vec::<&str>::new(), "advice that is missing is no warning");
    assert_eq!(env.handle().users(), env.wanted_of_users().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_takes_long_is_shown_as_work_under_way() {
    let port = free_port();
    let env = TestEnvironment::set_up(setup(port)).await;
    env.execute(&people(5)).await;
    env.execute("UPDATE control SET page = 36").await;
    let mut daemon = env.start("run", &["run"]);
    let ready = async || ask(port, "/readyz").await.is_some_and(|(code, _)| code == 200);
    env.eventually("the daemon is ready while the first page is read", ready).await;
    env.eventually("status shows what runs", async || {
        let running = env.imsync(&["status", "--json"]).await.json()["running"].clone();
        running["kind"] == "full"
            && running["phase"] == "reading the table"
            && running["waiting_for_source_seconds"].as_u64().is_some()
    })
    .await;
    env.imsync(&["status"]).await.expect_all(&["full pass (reading the table, one statement since"]);
    // Later statements are fast again. This one sleeps on.
    env.execute("UPDATE control SET page = 0").await;
    env.eventually("the log says it", async || {
        assert!(ready().await, "the daemon stays ready: {:?}", ask(port, "/readyz").await);
        env.printed("run", "err").contains("the source has been running one statement for 3")
    })
    .await;
    env.converges(Duration::from_mins(1)).await;

    // The same for a poll. Its limit since the last pass is 5 s.
    env.execute("UPDATE control SET page = 9; UPDATE users SET city = 'new', updated_at = now()").await;
    let mut polls = 0;
    env.eventually("a slow poll is over", async || {
        assert!(ready().await, "the daemon stays ready: {:?}", ask(port, "/readyz").await);
        polls += 1;
        env.handle().users() == env.wanted_of_users().await
    })
    .await;
    assert!(polls > 20, "the poll took its time");
    env.execute("UPDATE control SET page = 0").await;
    env.eventually("nothing runs any more", async || {
        env.imsync(&["status", "--json"]).await.json()["running"].is_null()
    })
    .await;
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
}
