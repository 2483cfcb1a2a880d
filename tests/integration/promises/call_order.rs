//! One account, one order: an older value never lands on a newer one.

use std::time::Duration;

use crate::support::{Setup, ended, signal};

use super::state_truth::{StateWatcher, expect_truth};
use super::{fault, stage_of, violations};

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_values_in_quick_succession_end_with_the_last() {
    let setup =
        Setup { more: "[schedule]\ninterval = \"100ms\"\nfull_every = \"1s\"\n".to_owned(), ..Setup::default() };
    let env = stage_of(40, setup).await;
    env.imsync(&["backfill"]).await.expect_code(0);
    // Calls of different length, so that a second one could overtake the first.
    fault(&env, "slow:300ms:every=2");
    fault(&env, "slow:40ms:every=3");
    fault(&env, "apply-then-fail:http-502:every=5");
    let mut changes = env.handle().subscribe();
    let mut daemon = env.start("run", &["run"]);
    let watch = StateWatcher::start(&env);
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
    watch.end().await;
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
    assert_eq!(violations(&env), vec![]);
    expect_truth(&env).await;

    let mut newest = String::new();
    let mut seen = 0;
    while let Ok(change) = changes.try_recv() {
        if change.account == "u00001" && change.attribute == "city" {
            let value = change.new.expect("the city is never removed");
            assert!(value > newest, "{value} came after {newest}");
            newest = value;
            seen += 1;
        }
    }
    assert!(seen > 3, "only {seen} values were seen on the way");
}
