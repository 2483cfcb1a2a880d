//! Tests `rejected` and `rejected retry`.
//!
//! Owns: the output of the listing, and retries beside a daemon. Must not know: when a rejection is due.

use std::time::Duration;

use super::{assert_keys, assert_time, people};
use crate::support::{Setup, TestEnvironment, ended, signal};

#[tokio::test(flavor = "multi_thread")]
async fn rejections_are_listed_with_reasons_and_retried() {
    let env = TestEnvironment::set_up(Setup::default()).await;
    env.execute(&people(60)).await;
    env.execute("UPDATE users SET gender = 'very private' WHERE id IN ('u0010', 'u0011', 'u0012')").await;
    let fault = "refuse:70107:account=u0020,u0021:command=set_attr".parse().unwrap();
    env.handle().add_fault(fault);
    env.imsync(&["rejected"]).await.expect_code(0).expect_all(&["has not run yet"]);
    assert_eq!(env.imsync(&["rejected", "--json"]).await.expect_code(0).stdout, "");
    let pass = env.imsync(&["run", "--once", "--json"]).await.expect_code(3).json();
    assert_eq!((&pass["outcome"], &pass["rejected"]), (&"rejected".into(), &5.into()));
    assert_eq!(env.handle().users().len(), 58, "the other accounts of the batch arrive");

    let grouped = env.imsync(&["rejected"]).await.expect_code(0);
    assert!(!grouped.stdout.contains("very private"), "a reason never contains a value: {grouped:?}");
    grouped.expect_all(&[
        "2 (code 70107, whole account)",
        "u0020, u0021",
        "3 (refused by imsync, attribute sex)",
        "u0010, u0011, u0012",
        "5 accounts in all",
        "imsync rejected retry",
    ]);
    let all = env.imsync(&["rejected", "--all"]).await.expect_code(0);
    assert_eq!(all.stdout.lines().count(), 5, "{all:?}");
    let lines = env.imsync(&["rejected", "--json"]).await.expect_code(0);
    assert!(!lines.stdout.contains("very private"), "{lines:?}");
    let lines = lines.json_lines();
    assert_eq!(lines.len(), 5);
    for line in &lines {
        assert_keys(line, &["account", "attribute", "code", "reason", "first_at", "last_at", "attempts", "next_at"]);
        for time in ["first_at", "last_at", "next_at"] {
            assert_time(&line[time]);
        }
        assert_eq!(line["attempts"], 1);
        let refused_by_imsync = line["code"].is_null();
        assert_eq!(line["attribute"].is_null(), !refused_by_imsync, "{line}");
    }

    let mut daemon = env.start("run", &["run"]);
    env.eventually("the daemon holds the lease", async || {
        env.imsync(&["status", "--json"]).await.json()["lease"].is_object()
    })
    .await;
    env.handle().clear_faults();
    env.imsync(&["rejected", "retry", "--account", "u0020"]).await.expect_code(0).expect_all(&["1 account"]);
    env.eventually("u0020 is in IM", async || !env.handle().user("u0020").is_empty()).await;
    assert!(env.handle().user("u0021").is_empty(), "an account without a request is not retried before its time");
    env.imsync(&["rejected", "retry"]).await.expect_code(0).expect_all(&["4 accounts"]);
    env.eventually("u0021 is in IM", async || !env.handle().user("u0021").is_empty()).await;
    env.execute("UPDATE users SET gender = 'f', updated_at = now() WHERE gender = 'very private'").await;
    env.converges(Duration::from_secs(10)).await;
    env.eventually("no account is rejected", async || {
        env.imsync(&["rejected"]).await.expect_code(0).stdout.contains("nothing is rejected")
    })
    .await;
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
    env.imsync(&["run", "--once"]).await.expect_code(0);
}
