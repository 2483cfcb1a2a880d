//! Tests that the state is bound to a table, an account key and an app. imsync refuses another configuration and names
//! the possible fixes.
//!
//! Owns: changes of the binding and `migrate --rebind`. Must not know: other changes of the configuration.

use imsync::simulator::{Simulator, SimulatorOptions};

use super::{people, state_tables};
use crate::support::{Setup, TestEnvironment};

#[tokio::test(flavor = "multi_thread")]
async fn another_app_is_refused_until_the_sync_is_rebound() {
    let env = TestEnvironment::set_up(Setup::default()).await;
    env.execute(&people(120)).await;
    env.imsync(&["backfill"]).await.expect_code(0);
    let names = env.handle().names().into_values().collect();
    let other = SimulatorOptions { sdk_app_id: 1_400_000_999, attribute_names: names, ..SimulatorOptions::default() };
    let other = Simulator::start(other).await.unwrap();
    env.edit(&env.im.base_url(), &other.base_url());
    env.edit("1400000000", "1400000999");

    let before = state_tables(&env.database).await;
    let refused: [&[&str]; 5] =
        [&["backfill"], &["run", "--once"], &["backfill", "--dry-run"], &["preview"], &["check"]];
    for arguments in refused {
        let ran = env.imsync(arguments).await.expect_code(1);
        ran.expect_all(&["im.sdk_app_id", "1400000000", "1400000999", "another `name`", "migrate --rebind"]);
    }
    assert_eq!(state_tables(&env.database).await, before);
    assert!(other.handle().users().is_empty());

    env.imsync(&["migrate", "--rebind"]).await.expect_code(0).expect_all(&["1400000999", "unknown"]);
    let pass = env.imsync(&["run", "--once", "--json"]).await.expect_code(0).json();
    assert_eq!((&pass["kind"], &pass["pushed"]), (&"full".into(), &120.into()), "every value is sent to the other app");
    assert_eq!(other.handle().users(), env.wanted_of_users().await);
    assert_eq!(env.imsync(&["run", "--once", "--json"]).await.expect_code(0).json()["calls"], 0);
    env.imsync(&["migrate", "--rebind"]).await.expect_code(1).expect_all(&["nothing to rebind"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_table_or_account_key_needs_another_name() {
    let env = TestEnvironment::set_up(Setup::default()).await;
    env.execute(&people(5)).await;
    env.execute("CREATE TABLE people AS TABLE users; CREATE UNIQUE INDEX ON people (id)").await;
    env.imsync(&["backfill"]).await.expect_code(0);
    let before = state_tables(&env.database).await;

    env.edit("table = \"public.users\"", "table = \"users\"");
    env.imsync(&["check"]).await.expect_code(0); // This is the same table in another spelling.
    env.edit("table = \"users\"", "table = \"people\"");
    for arguments in [["run", "--once"], ["backfill", "-q"], ["migrate", "--rebind"]] {
        env.imsync(&arguments).await.expect_code(1).expect_all(&["source.table", "people", "name"]);
    }
    env.edit("table = \"people\"", "table = \"users\"\naccount_prefix = \"x\"");
    env.imsync(&["backfill"]).await.expect_code(1).expect_all(&["source.account_prefix", "name"]);
    let after = state_tables(&env.database).await;
    assert_eq!(after["sync"], before["sync"]);
    assert_eq!(after["account"], before["account"]);

    // Another name creates a second sync.
    env.edit("name = \"users\"", "name = \"prefixed\"");
    env.imsync(&["backfill"]).await.expect_code(0);
    assert_eq!(env.handle().users().len(), 10);
}
