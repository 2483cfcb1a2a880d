//! Tests that a full pass finds exactly what differs, whether or not the accounts of a page lie side by side in the state.
//!
//! Owns: the order of the accounts in the table. Must not know: how the state is read.

use crate::support::{SOURCE, Setup, TestEnvironment};

use super::environment_of;
use super::state_truth::expect_truth;

/// The order of the state, and one in which 10 comes after 9, so that a page has accounts from all over the state.
const ORDERS: [&str; 2] = ["C", "by_number"];

/// Silent changes of rows, and rows of the state that are missing, of an older generation or in doubt, all over the table.
const DIFFERENCES: [(&str, u32); 4] = [
    ("UPDATE users SET city = 'moved' WHERE substr(id, 2)::int % 97 = 3", 31),
    ("DELETE FROM imsync.account WHERE substr(account, 2)::int % 101 = 7", 30),
    ("UPDATE imsync.account SET generation = generation - 1 WHERE substr(account, 2)::int % 103 = 5", 30),
    (
        "UPDATE imsync.account SET acknowledged = '[0]', digest = 0, in_doubt_retry_at = now() + '1 hour'
         WHERE substr(account, 2)::int % 107 = 9",
        28,
    ),
];

async fn ordered(order: &str) -> TestEnvironment {
    let env = environment_of(0, Setup { source: format!("{SOURCE}page_size = 100\n"), ..Setup::default() }).await;
    env.execute(&format!(
        "CREATE COLLATION by_number (provider = icu, locale = 'en-u-kn-true');
         ALTER TABLE users ALTER id TYPE text COLLATE \"{order}\";
         INSERT INTO users (id, city, updated_at) SELECT 'u' || n, 'c' || n % 7, '2020-01-01' FROM generate_series(1, 3000) n"
    ))
    .await;
    env.run_until_no_full_pass_is_due().await;
    env
}

#[tokio::test(flavor = "multi_thread")]
async fn each_order_of_accounts_finds_exactly_what_differs() {
    for order in ORDERS {
        let env = ordered(order).await;
        for (sql, differing) in DIFFERENCES {
            env.execute(sql).await;
            let report = env.imsync(&["backfill", "--json"]).await.expect_code(0).json();
            assert_eq!((&report["changed"], &report["rows_read"]), (&differing.into(), &3000.into()), "{order}: {sql}");
            assert_eq!(env.handle().users(), env.wanted_of_users().await, "{order}: {sql}");
            let report = env.imsync(&["backfill", "--json"]).await.expect_code(0).json();
            assert_eq!((&report["changed"], &report["calls"]), (&0.into(), &0.into()), "{order}: {sql}");
        }
        expect_truth(&env).await;
    }
}
