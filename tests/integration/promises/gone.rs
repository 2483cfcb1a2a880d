//! Accounts that left the table lose what imsync gave them; what others gave them stays.

use crate::support::{SOURCE, Setup, TestEnvironment};

use super::state_truth::expect_truth;
use super::{attributes, stage_of};

#[tokio::test(flavor = "multi_thread")]
async fn every_way_to_go_and_to_come_back() {
    let mut setup = Setup { source: format!("{SOURCE}filter = \"kind <> 'bot'\"\n"), ..Setup::default() };
    setup.simulator.attribute_names.push("theirs".to_owned());
    let env = stage_of(8, setup).await;
    env.execute("UPDATE users SET kind = 'person'").await;
    env.imsync(&["backfill"]).await.expect_code(0);
    let before = env.handle().users();
    assert_eq!(before.len(), 8);
    // Somebody else's attribute of an account that will go.
    let mut with_theirs = before["u00001"].clone();
    with_theirs.insert("theirs".to_owned(), "kept".to_owned());
    env.handle().set_user("u00001", &with_theirs).expect("the name is set");

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
    // No stamp tells of a deleted row, nor of the old id of a renamed one: the full pass finds them.
    env.imsync(&["backfill"]).await.expect_code(0);
    for gone in ["u00004", "u00005"] {
        assert_eq!(env.handle().user(gone), attributes(&[]), "{gone}");
    }
    assert_eq!(env.number("SELECT count(*) FROM imsync.account").await, 4);
    expect_truth(&env).await;

    // They come back.
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

    // A named account that is no longer there is treated as gone.
    env.execute("DELETE FROM users WHERE id = 'u00006'").await;
    env.imsync(&["backfill", "--account", "u00006"]).await.expect_code(0);
    assert_eq!(env.handle().user("u00006"), attributes(&[]));
    expect_truth(&env).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_boolean_tells_of_deletion_too_and_what_goes_can_be_kept() {
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
    assert_eq!(env.handle().users().len(), 4, "what is kept is not touched");
    expect_truth(&env).await;
    // Changing one's mind starts a full pass, which finds them.
    env.configure(&setup("remove"));
    env.imsync(&["run", "--once"]).await.expect_code(0);
    let mut cities: Vec<_> = env.handle().users().into_values().map(|attributes| attributes["city"].clone()).collect();
    cities.sort();
    assert_eq!(cities, ["city 3", "city 4"]);
    expect_truth(&env).await;
}

/// Accounts in the state that the column's type cannot hold are gone, and do not fail the look-up.
#[tokio::test(flavor = "multi_thread")]
async fn a_stored_account_that_is_no_longer_an_id_is_gone() {
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
    // As after a change of the column's type.
    env.execute("UPDATE imsync.account SET account = 'pabc' WHERE account = 'p2'").await;
    env.handle().set_user("pabc", &attributes(&[("city", "two")])).expect("the name is set");
    env.imsync(&["backfill"]).await.expect_code(0);
    assert_eq!(env.handle().user("pabc"), attributes(&[]));
    assert_eq!(env.handle().user("p2"), attributes(&[("city", "two")]));
    expect_truth(&env).await;
}
