//! Tests the support module itself: databases of different tests are separate.
//!
//! Owns: the guarantees of `Database`. Must not know: imsync.

use super::Database;

#[tokio::test]
async fn each_test_has_its_own_database() {
    let (one, other) = (Database::fresh().await, Database::fresh().await);
    one.execute("CREATE TABLE mine (n int)").await;
    let seen = "SELECT to_regclass('mine') IS NOT NULL";
    let in_one: bool = sqlx::query_scalar(seen).fetch_one(&mut one.connect().await).await.expect("the query succeeds");
    let in_other: bool =
        sqlx::query_scalar(seen).fetch_one(&mut other.connect().await).await.expect("the query succeeds");
    assert!(in_one && !in_other);
}
