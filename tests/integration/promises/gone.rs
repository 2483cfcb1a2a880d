//! Tests accounts that disappear from the table: imsync removes the attributes that it has set, and no others.
//!
//! Owns: each way to disappear and to return. Must not know: the removal guard.

use crate::support::{SOURCE, Setup, TestEnvironment};

use super::state_truth::expect_truth;
use super::{attributes, environment_of};

#[tokio::test(flavor = "multi_thread")]
async fn accounts_disappear_and_return_in_every_way() {
    let mut setup = Setup { source: format!("{SOURCE}filter = \"kind <> 'bot'\"\n"), ..Setup::default() };
    setup.simulator.attribute_names.push("theirs".to_owned());
    let env = environment_of(8, setup).await;
    env.execute("UPDATE users SET kind = 'person'").await;
    env.imsync(&["backfill"]).await.expect_code(0);
    let before = env.handle().users();
    assert_eq!(before.len(), 8);
    // An account that will disappear has an attribute that imsync did not set.
    let mut with_theirs = before["u00001"].clone();
    with_theirs.insert("theirs".to_owned(), "kept".to_owned());
    env.handle().set_user("u00001", &with_theirs).expect("the simulator knows the attribute");

    env.execute(
        "UPDATE users SET deleted_at = now(), updated_at = now() WHERE id = 'u00001';
             UPDATE users SET kind = 'bot', updated_at = now() WHERE id = 'u00002';
             UPDATE users SET kind = NULL, updated_at = now() WHERE id = 'u00003';
             UPDATE users SET id = 'renamed', updated_at = now() WHERE id = 'u00004';
             DELETE FROM users WHERE id = 'u00005'",
    )
    .await;
    env.imsync(&["run", "--once"]).await.expect_code(0);
    assert_eq!(env.handle().user("u00001"), attributes(&[("theirs", "kept")]));
    for gone in ["u00002", "u00003"] {
        assert_eq!(env.handle().user(gone), attributes(&[]), "{gone}");
    }
    assert_eq!(env.handle().user("renamed"), before["u00004"]);
    expect_truth(&env).await;
    // No timestamp shows a deleted row or the old ID of a renamed row. The full pass finds them.
    env.imsync(&["backfill"]).await.expect_code(0);
    for gone in ["u00004", "u00005"] {
        assert_eq!(env.handle().user(gone), attributes(&[]), "{gone}");
    }
    assert_eq!(env.number("SELECT count(*) FROM imsync.account").await, 4);
    expect_truth(&env).await;

    // The accounts return.
    env.execute(
        "UPDATE users SET deleted_at = NULL, updated_at = now() WHERE id = 'u00001';
             UPDATE users SET kind = 'person', updated_at = now() WHERE id IN ('u00002', 'u00003');
             UPDATE users SET id = 'u00004', updated_at = now() WHERE id = 'renamed';
             INSERT INTO users (id, city, plan, gender, kind) VALUES ('u00005', 'back', 'pro', 'm', 'person')",
    )
    .await;
    env.imsync(&["run", "--once"]).await.expect_code(0);
    assert_eq!(env.handle().user("u00001"), with_theirs);
    assert_eq!(env.handle().user("u00002"), before["u00002"]);
    assert_eq!(env.handle().user("u00005")["city"], "back");
    env.imsync(&["backfill"]).await.expect_code(0);
    assert_eq!(env.handle().user("renamed"), attributes(&[]));
    assert_eq!(env.handle().user("u00004"), before["u00004"]);
    env.handle().clear_records();
    env.imsync(&["backfill"]).await.expect_code(0);
    assert_eq!(env.handle().counters().arrived, 0);

    // A selected account that is no longer in the table loses its attributes.
    env.execute("DELETE FROM users WHERE id = 'u00006'").await;
    env.imsync(&["backfill", "--account", "u00006"]).await.expect_code(0);
    assert_eq!(env.handle().user("u00006"), attributes(&[]));
    expect_truth(&env).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_boolean_can_mark_deletion_and_values_can_be_kept() {
    let sql = "CREATE TABLE users (id uuid PRIMARY KEY, city text, deleted_at boolean, updated_at timestamptz NOT NULL DEFAULT now());
        INSERT INTO users (id, city, deleted_at) SELECT md5(g::text)::uuid, 'city ' || g, CASE g % 2 WHEN 0 THEN false END FROM generate_series(1, 4) g";
    let setup = |gone: &str| Setup {
        sql: sql.to_owned(),
        source: format!("{SOURCE}account_format = \"hex\"\n"),
        attributes: "city = \"city\"\n".to_owned(),
        more: format!("[removal]\ngone = \"{gone}\"\n"),
        ..Setup::default()
    };
    let env = TestEnvironment::set_up(setup("keep")).await;
    env.imsync(&["backfill"]).await.expect_code(0);
    assert_eq!(env.handle().users().len(), 4);
    assert!(env.handle().users().keys().all(|account| account.len() == 32));
    env.execute(
        "UPDATE users SET deleted_at = true, updated_at = now() WHERE city = 'city 1';
             DELETE FROM users WHERE city = 'city 2'",
    )
    .await;
    env.imsync(&["run", "--once"]).await.expect_code(0);
    env.imsync(&["backfill"]).await.expect_code(0);
    assert_eq!(env.handle().users().len(), 4, "with gone = \"keep\" the attributes stay");
    expect_truth(&env).await;
    // The changed setting starts a full pass, which finds the accounts.
    env.configure(&setup("remove"));
    env.imsync(&["run", "--once"]).await.expect_code(0);
    let mut cities: Vec<_> = env.handle().users().into_values().map(|attributes| attributes["city"].clone()).collect();
    cities.sort();
    assert_eq!(cities, ["city 3", "city 4"]);
    expect_truth(&env).await;
}

/// The state contains an account that the type of the column cannot hold. The account is removed, and the query by
/// account does not fail.
#[tokio::test(flavor = "multi_thread")]
async fn a_stored_account_that_is_not_a_valid_id_is_removed() {
    let setup = Setup {
        sql: "CREATE TABLE users (id bigint PRIMARY KEY, city text, deleted_at timestamptz, updated_at timestamptz NOT NULL DEFAULT now());
              INSERT INTO users (id, city) VALUES (1, 'one'), (2, 'two')"
            .to_owned(),
        source: format!("{SOURCE}account_prefix = \"p\"\n"),
        attributes: "city = \"city\"\n".to_owned(),
        ..Setup::default()
    };
    let env = TestEnvironment::set_up(setup).await;
    env.imsync(&["backfill"]).await.expect_code(0);
    // A change of the type of the column has this effect.
    env.execute("UPDATE imsync.account SET account = 'pabc' WHERE account = 'p2'").await;
    env.handle().set_user("pabc", &attributes(&[("city", "two")])).expect("the simulator knows the attribute");
    env.imsync(&["backfill"]).await.expect_code(0);
    assert_eq!(env.handle().user("pabc"), attributes(&[]));
    assert_eq!(env.handle().user("p2"), attributes(&[("city", "two")]));
    expect_truth(&env).await;
}
