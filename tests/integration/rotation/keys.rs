//! Tests that the secret key rotates, whatever code IM refuses the old one with.
//!
//! Owns: the codes and the order of console and file. Must not know: databases.

use super::{IN_USE, logged, replace, stop, syncs, users};
use crate::support::{Setup, TestEnvironment};

#[tokio::test(flavor = "multi_thread")]
async fn every_code_of_a_refused_key_reads_the_file_again() {
    let env = TestEnvironment::set_up(Setup::default()).await;
    env.execute(&users(5)).await;
    let key = env.directory().join("secret_key");
    let daemon = env.start("run", &["run"]);
    syncs(&env, "at the start").await;
    let mut previous = std::fs::read_to_string(&key).unwrap();
    for code in [70001, 70003, 70005, 70009, 70013, 70014, 70016, 70052] {
        let (text, city) = (format!("key-for-{code}"), format!("after {code}"));
        // The vendor takes both keys for a while, and refuses a single call: the next one has the new key.
        replace(&key, &format!("\u{feff}{text}\r\n"));
        env.handle().set_secret_keys(&[&previous, &text]);
        env.handle().add_fault(format!("refuse:{code}:command=set_attr:times=1").parse().unwrap());
        env.handle().clear_records();
        syncs(&env, &city).await;
        let codes: Vec<_> = env.handle().calls().iter().map(|call| call.code).collect();
        assert_eq!(codes, [Some(code), Some(0)], "{code}: one refused call, then the new key");
        env.handle().set_secret_keys(&[&text]);
        previous = text;
    }
    let log = env.printed("run", "err");
    assert_eq!(logged(&env, IN_USE), 8, "{log}");
    assert_eq!(logged(&env, "IM refuses every call"), 0, "no pass fails: {log}");
    assert!(!log.contains("key-for-"), "{log}");
    stop(daemon).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unusable_key_file_leaves_the_key_that_im_accepts() {
    let env = TestEnvironment::set_up(Setup::default()).await;
    env.execute(&users(5)).await;
    let key = env.directory().join("secret_key");
    let first = std::fs::read_to_string(&key).unwrap();
    let daemon = env.start("run", &["run"]);
    syncs(&env, "at the start").await;
    for (number, content) in ["", "\n", "half of", "another-key", "\u{feff}\n"].iter().enumerate() {
        replace(&key, content);
        // A refusal that has another cause makes imsync read the file.
        env.handle().add_fault("refuse:70003:command=set_attr:times=1".parse().unwrap());
        syncs(&env, &format!("with content {number}")).await;
        replace(&key, &first);
    }
    assert_eq!(logged(&env, IN_USE), 0, "{}", env.printed("run", "err"));
    for reason in ["is empty", "contains white space"] {
        assert!(logged(&env, reason) > 0, "{reason}: {}", env.printed("run", "err"));
    }
    stop(daemon).await;
}
