//! Tests `migrate`: the state tables, the printed SQL, and tables of an unsupported version.
//!
//! Owns: the schema from outside. Must not know: the single migrations.

use sqlx::{AssertSqlSafe, Executor};

use super::{has_state_schema, people, state_tables};
use crate::support::{Database, Setup, TestEnvironment};

/// The definition of the state schema: columns, keys, indexes, comments and applied migrations.
async fn schema_definition(database: &Database) -> Vec<String> {
    let mut connection = database.connect().await;
    sqlx::query_scalar(
        "SELECT concat_ws(' ', 'column', c.relname, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
                a.attidentity, a.attcollation::regcollation, pg_get_expr(d.adbin, d.adrelid), col_description(c.oid, a.attnum))
         FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid AND c.relkind = 'r'
         LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
         WHERE c.relnamespace = 'imsync'::regnamespace AND a.attnum > 0
         UNION ALL SELECT concat_ws(' ', 'table', relname, reloptions::text, obj_description(oid, 'pg_class')) FROM pg_class
         WHERE relnamespace = 'imsync'::regnamespace
         UNION ALL SELECT concat_ws(' ', 'constraint', conrelid::regclass, conname, pg_get_constraintdef(oid)) FROM pg_constraint
         WHERE connamespace = 'imsync'::regnamespace
         UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'imsync'
         UNION ALL SELECT concat_ws(' ', 'migration', version, name) FROM imsync.migration
         ORDER BY 1",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn printed_and_applied_migrations_are_the_same() {
    let (printed, applied) =
        tokio::join!(TestEnvironment::set_up(Setup::default()), TestEnvironment::set_up(Setup::default()));
    let script = printed.imsync(&["migrate", "--print"]).await.expect_code(0).stdout;
    assert!(!has_state_schema(&printed).await, "--print runs nothing");
    printed.database.connect().await.execute(sqlx::raw_sql(AssertSqlSafe(script))).await.unwrap();
    applied.imsync(&["migrate"]).await.expect_code(0).expect_all(&["created the state tables"]);
    let definition = schema_definition(&printed.database).await;
    assert_eq!(definition, schema_definition(&applied.database).await);
    assert!(definition.iter().any(|line| line.starts_with("column account 1 ")), "{definition:#?}");

    // No migration is pending. A second run changes nothing, even if the tables contain rows.
    let nothing_pending = printed.imsync(&["migrate", "--print"]).await.expect_code(0).expect_all(&["is up to date"]);
    assert_eq!(nothing_pending.stdout, "");
    printed.execute(&people(10)).await;
    printed.imsync(&["backfill"]).await.expect_code(0);
    let before = state_tables(&printed.database).await;
    printed.imsync(&["migrate"]).await.expect_code(0).expect_all(&["up to date"]);
    assert_eq!(state_tables(&printed.database).await, before);
    assert_eq!(printed.imsync(&["run", "--once", "--json"]).await.expect_code(0).json()["calls"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_another_version_are_not_changed() {
    let setup = || Setup { more: "[state]\nmigrate = false\n".to_owned(), ..Setup::default() };
    let env = TestEnvironment::set_up(setup()).await;
    env.execute(&people(10)).await;
    for arguments in [["backfill", "-q"], ["run", "--once"]] {
        env.imsync(&arguments).await.expect_code(1).expect_all(&[
            "has no state tables",
            "imsync migrate",
            "migrate is false",
        ]);
    }
    env.imsync(&["check"]).await.expect_code(1).expect_all(&["FAIL  state.schema:", "imsync migrate"]);
    assert!(!has_state_schema(&env).await);
    // The command `migrate` creates the tables despite `migrate = false`.
    env.imsync(&["migrate"]).await.expect_code(0);
    env.imsync(&["backfill"]).await.expect_code(0);

    env.execute("INSERT INTO imsync.migration (version, name) VALUES (9999, 'of a later release')").await;
    let before = state_tables(&env.database).await;
    let refused: [&[&str]; 6] = [
        &["run", "--once"],
        &["backfill"],
        &["backfill", "--dry-run"],
        &["migrate"],
        &["migrate", "--print"],
        &["rejected", "retry"],
    ];
    let supported = format!("supports version {} at most", imsync::state::migrate::LATEST_VERSION);
    for arguments in refused {
        env.imsync(arguments).await.expect_code(1).expect_all(&["version 9999", &supported]);
    }
    env.imsync(&["check"]).await.expect_code(1).expect_all(&["FAIL  state.schema:", "9999"]);
    assert_eq!(state_tables(&env.database).await, before);
}
