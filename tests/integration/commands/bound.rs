//! The state is bound to a table, an account key and an app: another configuration is refused, with the remedies.

use imsync::simulator::{Simulator, SimulatorOptions};

use super::{people, state_tables};
use crate::support::{Setup, Stage};

#[tokio::test(flavor = "multi_thread")]
async fn another_app_is_refused_until_the_sync_is_rebound() {
    let stage = Stage::set_up(Setup::default()).await;
    stage.execute(&people(120)).await;
    stage.imsync(&["backfill"]).await.expect_code(0);
    let names = stage.handle().names().into_values().collect();
    let other = SimulatorOptions { sdk_app_id: 1_400_000_999, attribute_names: names, ..SimulatorOptions::default() };
    let other = Simulator::start(other).await.unwrap();
    stage.edit(&stage.im.base_url(), &other.base_url());
    stage.edit("1400000000", "1400000999");

    let before = state_tables(&stage.database).await;
    let refused: [&[&str]; 5] =
        [&["backfill"], &["run", "--once"], &["backfill", "--dry-run"], &["preview"], &["check"]];
    for arguments in refused {
        let ran = stage.imsync(arguments).await.expect_code(1);
        ran.expect_all(&["im.sdk_app_id", "1400000000", "1400000999", "another `name`", "migrate --rebind"]);
    }
    assert_eq!(state_tables(&stage.database).await, before);
    assert!(other.handle().users().is_empty());

    stage.imsync(&["migrate", "--rebind"]).await.expect_code(0).expect_all(&["1400000999", "unknown"]);
    let pass = stage.imsync(&["run", "--once", "--json"]).await.expect_code(0).json();
    assert_eq!((&pass["kind"], &pass["pushed"]), (&"full".into(), &120.into()), "every value goes to the other app");
    assert_eq!(other.handle().users(), stage.wanted_of_users().await);
    assert_eq!(stage.imsync(&["run", "--once", "--json"]).await.expect_code(0).json()["calls"], 0);
    stage.imsync(&["migrate", "--rebind"]).await.expect_code(1).expect_all(&["nothing to rebind"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_table_or_account_key_needs_another_name() {
    let stage = Stage::set_up(Setup::default()).await;
    stage.execute(&people(5)).await;
    stage.execute("CREATE TABLE people AS TABLE users; CREATE UNIQUE INDEX ON people (id)").await;
    stage.imsync(&["backfill"]).await.expect_code(0);
    let before = state_tables(&stage.database).await;

    stage.edit("table = \"public.users\"", "table = \"users\"");
    stage.imsync(&["check"]).await.expect_code(0); // The same table, spelt otherwise.
    stage.edit("table = \"users\"", "table = \"people\"");
    for arguments in [["run", "--once"], ["backfill", "-q"], ["migrate", "--rebind"]] {
        stage.imsync(&arguments).await.expect_code(1).expect_all(&["source.table", "people", "name"]);
    }
    stage.edit("table = \"people\"", "table = \"users\"\naccount_prefix = \"x\"");
    stage.imsync(&["backfill"]).await.expect_code(1).expect_all(&["source.account_prefix", "name"]);
    let after = state_tables(&stage.database).await;
    assert_eq!(after["sync"], before["sync"]);
    assert_eq!(after["account"], before["account"]);

    // Another name is another sync beside the first.
    stage.edit("name = \"users\"", "name = \"prefixed\"");
    stage.imsync(&["backfill"]).await.expect_code(0);
    assert_eq!(stage.handle().users().len(), 10);
}
