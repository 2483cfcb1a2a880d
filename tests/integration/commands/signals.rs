//! Tests one and two stop signals, and a closed standard output.
//!
//! Owns: exit codes and progress of interrupted commands. Must not know: how a pass stores its position.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};

use super::people;
use crate::support::{SOURCE, Setup, TestEnvironment, ended, signal};

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_backfill_shows_progress_and_resumes() {
    let env = TestEnvironment::set_up(Setup {
        source: format!("{SOURCE}page_size = 1000\n"),
        im: "max_in_flight = 20\ntimeout = \"30s\"\n".to_owned(),
        ..Setup::default()
    })
    .await;
    env.execute(&people(40_000)).await;
    env.handle().add_fault("slow:1s:command=set_attr".parse().unwrap());
    let mut backfill = env.start("backfill", &["backfill", "-v"]);
    env.eventually("the log contains a progress line", async || env.printed("backfill", "err").contains("rows/s"))
        .await;
    let positions = "SELECT count(full_pass_position) FROM imsync.sync";
    env.eventually("a page is recorded completely", async || env.number(positions).await == 1).await;
    signal(&backfill, "TERM");
    assert_eq!(ended(&mut backfill).await, Some(1), "an interrupted backfill exits with 1");
    let log = env.printed("backfill", "err");
    assert!(log.contains("`imsync backfill` with the same flags resumes where it stopped"), "{log}");
    assert!(!log.contains('\u{1b}') && !log.contains('\r'), "without a terminal the log has plain lines: {log:?}");
    assert!(log.contains("pushed"), "{log}");
    assert_eq!(env.printed("backfill", "out"), "");
    let status = env.imsync(&["status", "--json"]).await.json();
    assert_eq!((&status["last_passes"][0]["outcome"], &status["in_doubt"]), (&"interrupted".into(), &0.into()));
    assert!(status["lease"].is_null() && status["running"].is_null(), "{status:#}");
    let before = env.handle().users().len();
    assert!((1000..40_000).contains(&before), "{before}");
    assert_eq!(status["accounts"], before, "the outcomes of calls in flight are recorded");

    env.handle().clear_faults();
    env.handle().clear_records();
    let rest = env.imsync(&["backfill", "--json", "-v"]).await.expect_code(0);
    assert!(rest.stderr.contains("resuming the interrupted full pass"), "{rest:?}");
    assert!(rest.json()["rows_read"].as_u64().unwrap() < 40_000, "the backfill does not start again: {rest:?}");
    assert_eq!(rest.json()["pushed"], 40_000 - before, "nothing is sent twice");
    assert_eq!(env.handle().users(), env.wanted_of_users().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_the_process_at_once() {
    let setup = || Setup { im: "timeout = \"30s\"\nretry_for = \"40s\"\n".to_owned(), ..Setup::default() };
    let environments = tokio::join!(
        TestEnvironment::set_up(setup()),
        TestEnvironment::set_up(setup()),
        TestEnvironment::set_up(setup())
    );
    let cases = [
        (&environments.0, vec!["run"], ["TERM", "TERM"], 143),
        (&environments.1, vec!["backfill", "-v"], ["INT", "INT"], 130),
        // One-shot commands handle SIGHUP like SIGTERM.
        (&environments.2, vec!["run", "--once", "-v"], ["HUP", "TERM"], 143),
    ];
    for (env, arguments, signals, code) in cases {
        env.execute(&people(10)).await;
        env.handle().add_fault("hold".parse().unwrap());
        let mut child = env.start("run", &arguments);
        env.handle().wait_until(|counters| counters.arrived > 0).await;
        signal(&child, signals[0]);
        env.eventually("the command begins to stop", async || {
            env.printed("run", "err").contains("stopping: calls in flight")
        })
        .await;
        assert!(child.try_wait().unwrap().is_none(), "a call is in flight");
        signal(&child, signals[1]);
        assert_eq!(ended(&mut child).await, Some(code), "{arguments:?}");
    }
    // The outcome of the calls in flight is unknown. The next command resolves it.
    let env = &environments.1;
    env.handle().clear_faults();
    env.eventually("the lease is free", async || env.imsync(&["status", "--json"]).await.json()["lease"].is_null())
        .await;
    env.imsync(&["backfill"]).await.expect_code(0);
    assert_eq!(env.handle().users(), env.wanted_of_users().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_stdout_does_not_change_the_exit_code() {
    let env = TestEnvironment::set_up(Setup::default()).await;
    env.execute(&people(4000)).await;
    let read_one_line = async |arguments: &[&str]| {
        let mut child = env.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.next_line().await.unwrap().is_some(), "{arguments:?} prints something");
        drop(lines);
        let output = tokio::time::timeout(Duration::from_mins(1), child.wait_with_output()).await.unwrap().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(read_one_line(&["preview"]).await, (Some(0), String::new()));
    env.execute("UPDATE users SET gender = 'x', updated_at = now()").await;
    let unread = async |arguments: &[&str]| {
        let mut child = env.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        ended(&mut child).await
    };
    assert_eq!(unread(&["backfill", "--dry-run"]).await, Some(3));
    assert_eq!(unread(&["backfill", "--json"]).await, Some(3), "the exit code tells how the pass ended");
    assert_eq!(unread(&["run", "--once"]).await, Some(3));
    assert_eq!(unread(&["status"]).await, Some(0));
    assert_eq!(read_one_line(&["rejected", "--json"]).await, (Some(0), String::new()));
}
