//! Tests that the calls of one account keep their order: an older value never overwrites a newer one.
//!
//! Owns: many changes of one account in quick succession. Must not know: calls that IM applies after a time-out.

use std::time::Duration;

use crate::support::{Setup, ended, signal};

use super::state_truth::{StateWatcher, expect_truth};
use super::{environment_of, fault, violations};

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_quick_changes_end_with_the_last_value() {
    let setup =
        Setup { more: "[schedule]\ninterval = \"100ms\"\nfull_every = \"1s\"\n".to_owned(), ..Setup::default() };
    let env = environment_of(40, setup).await;
    env.imsync(&["backfill"]).await.expect_code(0);
    // Calls take different times, so that a later call could overtake an earlier one.
    fault(&env, "slow:300ms:every=2");
    fault(&env, "slow:40ms:every=3");
    fault(&env, "apply-then-fail:http-502:every=5");
    let mut changes = env.handle().subscribe();
    let mut daemon = env.start("run", &["run"]);
    let watcher = StateWatcher::start(&env);
    for value in 0..100 {
        env.execute(&format!(
            "UPDATE users SET city = 'value {value:03}', updated_at = now() WHERE id IN ('u00001', 'u00002');
                 UPDATE users SET plan = nullif('{}', 'no'), updated_at = now() WHERE id = 'u00001'",
            if value % 3 == 0 { "no" } else { "yes" }
        ))
        .await;
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
    env.converges(Duration::from_secs(20)).await;
    env.handle().clear_faults();
    assert_eq!(env.handle().user("u00001")["city"], "value 099");
    watcher.end().await;
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
    assert_eq!(violations(&env), vec![]);
    expect_truth(&env).await;

    let mut newest = String::new();
    let mut count = 0;
    while let Ok(change) = changes.try_recv() {
        if change.account == "u00001" && change.attribute == "city" {
            let value = change.new.expect("the city is never removed");
            assert!(value > newest, "{value} came after {newest}");
            newest = value;
            count += 1;
        }
    }
    assert!(count > 3, "only {count} values arrived");
}
