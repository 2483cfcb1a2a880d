//! The ground under the other tests: databases that do not see each other.
//!
//! Owns: what `Database` promises. Must not know: imsync.

use super::Database;

#[tokio::test]
async fn each_test_has_a_database_of_its_own() {
    let (one, other) = (Database::fresh().await, Database::fresh().await);
    one.execute("CREATE TABLE mine (n int)").await;
    let seen = "SELECT to_regclass('mine') IS NOT NULL";
    let in_one: bool = sqlx::query_scalar(seen).fetch_one(&mut one.connect().await).await.expect("a plain query");
    let in_other: bool = sqlx::query_scalar(seen).fetch_one(&mut other.connect().await).await.expect("a plain query");
    assert!(in_one && !in_other);
}
