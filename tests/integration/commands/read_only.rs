//! Tests read-only commands. They create nothing, and without state tables they work as if nothing has been sent.
//!
//! Owns: the commands that read, run by a role that may only read. Must not know: the details of their output.

use super::{Role, has_state_schema, people};
use crate::support::{Setup, TestEnvironment};

#[tokio::test(flavor = "multi_thread")]
async fn read_only_commands_work_before_the_first_use() {
    let env = TestEnvironment::set_up(Setup::default()).await;
    env.execute(&people(30)).await;
    let role = Role::create(&env).await;
    env.execute(&format!("GRANT SELECT ON users TO {}", role.name)).await;
    role.configure(&env);

    let check = env.imsync(&["check"]).await.expect_code(1);
    check.expect_all(&["no tables in schema \"imsync\" yet", "FAIL  state.privileges: "]);
    assert_eq!(env.imsync(&["status", "--json"]).await.expect_code(0).json()["accounts"], 0);
    assert_eq!(env.imsync(&["preview", "--json"]).await.expect_code(0).json_lines().len(), 30);
    assert_eq!(env.imsync(&["preview", "--full", "--json"]).await.expect_code(0).json_lines().len(), 30);
    assert_eq!(env.imsync(&["preview", "--account", "u0002", "--json"]).await.expect_code(0).json_lines().len(), 1);
    env.imsync(&["explain", "u0002", "--json"]).await.expect_code(0).expect_all(&["\"pending\""]);
    assert_eq!(env.imsync(&["verify", "--json"]).await.expect_code(3).json()["checked"], 30);
    assert_eq!(env.imsync(&["history"]).await.expect_code(0).expect_all(&["nothing was sent"]).stdout, "");
    env.imsync(&["rejected"]).await.expect_code(0);
    assert_eq!(env.imsync(&["rejected", "--json"]).await.expect_code(0).stdout, "");
    assert_eq!(env.imsync(&["backfill", "--dry-run", "--json"]).await.expect_code(0).json()["set"], 30);
    env.imsync(&["migrate", "--print"]).await.expect_code(0).expect_all(&["CREATE SCHEMA \"imsync\""]);
    assert!(!has_state_schema(&env).await, "read-only commands create nothing");
    assert_eq!(env.handle().users().len(), 0);

    // One value cannot be sent. The dry run of the whole table exits with the same code as the pass would.
    env.execute("UPDATE users SET gender = 'x' WHERE id = 'u0001'").await;
    env.imsync(&["backfill", "--dry-run"]).await.expect_code(3);
    env.imsync(&["backfill", "--dry-run", "--account", "u0002"]).await.expect_code(0);
    role.drop(&env).await;
}
