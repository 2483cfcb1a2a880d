//! Commands that only look: they create nothing, and without state tables they work as if nothing had been sent.

use super::{Role, has_state_schema, people};
use crate::support::{Setup, Stage};

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_may_only_read_can_look_before_the_first_use() {
    let stage = Stage::set_up(Setup::default()).await;
    stage.execute(&people(30)).await;
    let role = Role::make(&stage).await;
    stage.execute(&format!("GRANT SELECT ON users TO {}", role.name)).await;
    role.put_into(&stage);

    stage.imsync(&["check"]).await.expect_code(0).expect_all(&["no tables in schema \"imsync\" yet"]);
    assert_eq!(stage.imsync(&["status", "--json"]).await.expect_code(0).json()["accounts"], 0);
    assert_eq!(stage.imsync(&["preview", "--json"]).await.expect_code(0).json_lines().len(), 30);
    assert_eq!(stage.imsync(&["preview", "--full", "--json"]).await.expect_code(0).json_lines().len(), 30);
    assert_eq!(stage.imsync(&["preview", "--account", "u0002", "--json"]).await.expect_code(0).json_lines().len(), 1);
    stage.imsync(&["rejected"]).await.expect_code(0);
    assert_eq!(stage.imsync(&["rejected", "--json"]).await.expect_code(0).stdout, "");
    assert_eq!(stage.imsync(&["backfill", "--dry-run", "--json"]).await.expect_code(0).json()["set"], 30);
    stage.imsync(&["migrate", "--print"]).await.expect_code(0).expect_all(&["CREATE SCHEMA \"imsync\""]);
    assert!(!has_state_schema(&stage).await, "looking creates nothing");
    assert_eq!(stage.handle().users().len(), 0);

    // The whole table is refused where a value cannot be sent: the dry run's code is that of the pass.
    stage.execute("UPDATE users SET gender = 'x' WHERE id = 'u0001'").await;
    stage.imsync(&["backfill", "--dry-run"]).await.expect_code(3);
    stage.imsync(&["backfill", "--dry-run", "--account", "u0002"]).await.expect_code(0);
    role.drop(&stage).await;
}
