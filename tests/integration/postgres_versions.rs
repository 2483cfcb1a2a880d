//! Tests what only newer versions of PostgreSQL have: generated columns that are virtual or get another expression,
//! constraints that were never validated, temporal keys, `transaction_timeout`, login triggers. On an older server a test
//! of something newer ends at once; `make test-postgres VERSION=18` runs them all.
//!
//! Owns: the features by version. Must not know: which statement reads a catalog.

use crate::support::{SOURCE, Setup, TestEnvironment, USERS, ended, signal};

/// Accounts `u1`, `u2`, … in the city `c0` or `c1`.
const PEOPLE: &str = "INSERT INTO users (id, city, plan, updated_at)
    SELECT 'u' || n, 'c' || n % 2, 'free', now() - interval '1 hour' FROM generate_series(1, 20) AS n;";

/// Only a full pass that is due for another reason than the schedule runs.
const NO_SCHEDULE: &str = "[schedule]\ninterval = \"200ms\"\nfull_every = \"never\"\n";

/// An environment, or `None` on a server that is older than this version.
async fn environment_since(version: i64, setup: Setup) -> Option<TestEnvironment> {
    let env = TestEnvironment::set_up(Setup { sql: String::new(), ..setup }).await;
    if env.number("SELECT current_setting('server_version_num')::bigint / 10000").await < version {
        eprintln!("not tested: this needs PostgreSQL {version}");
        return None;
    }
    env.execute(&setup.sql).await;
    Some(env)
}

/// The same for the usual table with 20 rows, after these statements.
async fn people_since(version: i64, prepare: &str, setup: Setup) -> Option<TestEnvironment> {
    let sql = format!("{USERS} {PEOPLE} {prepare}");
    environment_since(version, Setup { sql, more: NO_SCHEDULE.to_owned(), ..setup }).await
}

fn city(env: &TestEnvironment, account: &str) -> Option<String> {
    env.handle().users().get(account)?.get("city").cloned()
}

/// `city` is a generated column, or a view reads it. Its expression is replaced, which moves no `updated_at`.
async fn a_new_expression_is_followed(version: i64, prepare: &str, source: &str, replace: &str) {
    let setup = Setup { source: source.to_owned(), ..Setup::default() };
    let Some(env) = people_since(version, prepare, setup).await else { return };
    env.run_until_no_full_pass_is_due().await;
    assert_eq!(city(&env, "u4").as_deref(), Some("free 2"));
    let mut daemon = env.start("run", &["run"]);
    env.eventually("the daemon leads", async || env.printed("run", "err").contains("leading")).await;
    env.execute(replace).await;
    env.eventually("the new values arrive", async || city(&env, "u4").as_deref() == Some("2 free")).await;
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
    assert!(env.printed("run", "err").contains("the source has changed"), "{}", env.printed("run", "err"));
}

const STORED: &str =
    "ALTER TABLE users DROP city, ADD city text GENERATED ALWAYS AS (plan || ' ' || length(id)) STORED;";
const NEW_EXPRESSION: &str = "ALTER TABLE public.users ALTER city SET EXPRESSION AS (length(id) || ' ' || plan)";

#[tokio::test(flavor = "multi_thread")]
async fn a_new_expression_of_a_stored_column_is_followed() {
    a_new_expression_is_followed(17, STORED, SOURCE, NEW_EXPRESSION).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_expression_of_a_virtual_column_is_followed() {
    a_new_expression_is_followed(18, &STORED.replace("STORED", "VIRTUAL"), SOURCE, NEW_EXPRESSION).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_expression_below_a_view_is_followed() {
    let prepare = format!("{} CREATE VIEW people AS SELECT * FROM users;", STORED.replace("STORED", "VIRTUAL"));
    a_new_expression_is_followed(18, &prepare, &SOURCE.replace("users", "people"), NEW_EXPRESSION).await;
}

/// Without STORED a generated column is virtual since PostgreSQL 18. Its expression runs when a row is read.
#[tokio::test(flavor = "multi_thread")]
async fn an_error_in_a_virtual_column_harms_no_other_row() {
    let prepare =
        "ALTER TABLE users DROP city, ADD share int DEFAULT 4, ADD city int GENERATED ALWAYS AS (100 / share);";
    let Some(env) = people_since(18, prepare, Setup::default()).await else { return };
    env.run_until_no_full_pass_is_due().await;
    env.execute("UPDATE users SET share = 0, updated_at = now() WHERE id = 'u7'").await;
    env.execute("UPDATE users SET share = 5, updated_at = now() WHERE id = 'u8'").await;
    env.imsync(&["run", "--once"]).await.expect_code(3);
    assert_eq!((city(&env, "u7").as_deref(), city(&env, "u8").as_deref()), (Some("25"), Some("20")));
    env.imsync(&["rejected"]).await.expect_code(0).expect_all(&["u7", "22012"]);
    env.execute("UPDATE users SET share = 10, updated_at = now() WHERE id = 'u7'").await;
    env.imsync(&["run", "--once"]).await.expect_code(0);
    assert_eq!(city(&env, "u7").as_deref(), Some("10"));
}

/// No index can contain such a column, so the advice to create one could not be followed.
#[tokio::test(flavor = "multi_thread")]
async fn virtual_columns_get_advice_that_can_be_followed() {
    let prepare = "ALTER TABLE users ADD stamp timestamptz GENERATED ALWAYS AS (greatest(updated_at, deleted_at)),
        ADD account text GENERATED ALWAYS AS ('p_' || id);";
    let source = SOURCE.replace("updated_at", "stamp").replace("\"id\"", "\"account\"");
    let setup = Setup { source, ..Setup::default() };
    let Some(env) = people_since(18, prepare, setup).await else { return };
    let check = env.imsync(&["check"]).await;
    assert!(!check.stdout.contains("CREATE "), "{check:?}");
    check.expect_all(&["column stamp is a virtual", "column account is a virtual", "STORED"]);
    env.imsync(&["backfill"]).await.expect_code(0);
    env.execute("UPDATE users SET city = 'new', updated_at = now() WHERE id = 'u3'").await;
    env.imsync(&["run", "--once"]).await.expect_code(0);
    assert_eq!(city(&env, "p_u3").as_deref(), Some("new"));
}

/// `attnotnull` is true for a constraint that existing rows violate.
#[tokio::test(flavor = "multi_thread")]
async fn rows_without_account_below_an_unproved_constraint_count() {
    let prepare = "ALTER TABLE users DROP CONSTRAINT users_pkey, ALTER id DROP NOT NULL; UPDATE users SET id = NULL WHERE id = 'u5';
        ALTER TABLE users ADD CONSTRAINT named NOT NULL id NOT VALID; CREATE UNIQUE INDEX ON users (id);";
    let Some(env) = people_since(18, prepare, Setup::default()).await else { return };
    let planned = env.imsync(&["backfill", "--dry-run", "--json"]).await.expect_code(0).json();
    assert_eq!(planned["without_account"], 1, "{planned}");
    env.imsync(&["backfill"]).await.expect_code(0);
    assert_eq!(env.handle().users().len(), 19);
}

/// The key `(id, period WITHOUT OVERLAPS)` allows an account to have several rows, also under an index that is unique.
#[tokio::test(flavor = "multi_thread")]
async fn a_temporal_key_does_not_make_accounts_unique() {
    let sql = "CREATE TABLE users (id int4range, city text, plan text, gender text, updated_at timestamptz DEFAULT now(),
          deleted_at timestamptz, account text, period daterange, PRIMARY KEY (id, period WITHOUT OVERLAPS));
        CREATE INDEX ON users (updated_at, account); CREATE INDEX ON users (account, updated_at);
        INSERT INTO users (id, city, account, period) SELECT int4range(n, n, '[]'), 'c' || n, 'u' || n, '[2020-01-01,2021-01-01)'
          FROM generate_series(1, 10) AS n;
        INSERT INTO users (id, city, account, period) VALUES ('[3,4)', 'later', 'u3', '[2021-01-01,2022-01-01)');";
    let source = SOURCE.replace("\"id\"", "\"account\"");
    let setup = Setup { sql: sql.to_owned(), source, more: NO_SCHEDULE.to_owned(), ..Setup::default() };
    let Some(env) = environment_since(18, setup).await else { return };
    env.imsync(&["check"]).await.expect_all(&["no unique index"]);
    env.imsync(&["backfill"]).await.expect_code(3);
    assert_eq!(env.handle().users().len(), 9);
    env.imsync(&["rejected"]).await.expect_code(0).expect_all(&["u3", "rows"]);
    // One row for each account, as a view over the current period would show.
    env.edit("watermark_grace", "filter = \"period @> date '2021-06-01'\"\nwatermark_grace");
    env.execute("DELETE FROM users WHERE period @> date '2020-06-01'; CREATE UNIQUE INDEX ON users (account)").await;
    let check = env.imsync(&["check"]).await;
    assert!(!check.stdout.contains("no unique index"), "{check:?}");
}

/// A provider or an administrator limits transactions for the role or the database, of the source and of the state.
#[tokio::test(flavor = "multi_thread")]
async fn a_limit_for_transactions_ends_no_slow_page() {
    let prepare = "CREATE FUNCTION slow() RETURNS boolean LANGUAGE sql AS 'SELECT pg_sleep(2) IS NOT NULL';
        CREATE VIEW people AS SELECT * FROM users WHERE (SELECT slow());
        DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET transaction_timeout = ''1s''', current_database()); END $$;";
    let setup = Setup { source: SOURCE.replace("users", "people"), ..Setup::default() };
    let Some(env) = people_since(17, prepare, setup).await else { return };
    let first = env.imsync(&["run", "--once", "--json"]).await.expect_code(0).json();
    assert_eq!(first["rows_read"], 20, "{first}");
    assert_eq!(env.handle().users(), env.wanted_of_users().await);
}

/// imsync reads in read-only transactions, but a login must be able to write.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_trigger_that_writes_is_no_obstacle() {
    let prepare = "CREATE TABLE login (name text, at timestamptz);
        CREATE FUNCTION record_login() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
          BEGIN INSERT INTO public.login VALUES (session_user, now()); END $$;
        CREATE EVENT TRIGGER on_login ON login EXECUTE FUNCTION record_login();
        ALTER EVENT TRIGGER on_login ENABLE ALWAYS;";
    let Some(env) = people_since(17, prepare, Setup::default()).await else { return };
    env.imsync(&["check"]).await.expect_code(0);
    env.imsync(&["run", "--once"]).await.expect_code(0);
    assert_eq!(env.handle().users(), env.wanted_of_users().await);
    assert!(env.number("SELECT count(*) FROM login").await > 0);
}

/// A membership without INHERIT gives no privilege by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_membership_without_inherit_is_no_privilege() {
    let Some(env) = people_since(16, "", Setup::default()).await else { return };
    let name = format!(
        "reader_{}",
        env.number("SELECT oid::bigint FROM pg_database WHERE datname = current_database()").await
    );
    env.execute(&format!(
        "CREATE ROLE {name} LOGIN PASSWORD 'reader'; CREATE ROLE {name}_group; GRANT SELECT ON users TO {name}_group;
         GRANT {name}_group TO {name} WITH INHERIT FALSE;"
    ))
    .await;
    let mut url = url::Url::parse(env.database.url()).expect("the database's URL is one");
    url.set_username(&name).expect("it takes a user");
    url.set_password(Some("reader")).expect("it takes a password");
    let owner = env.database.url().to_owned();
    env.edit(&owner, url.as_str());
    env.edit("[schedule]", &format!("[state]\nurl = \"{owner}\"\n[schedule]"));
    env.imsync(&["check"]).await.expect_code(1).expect_all(&["lacks SELECT on", "GRANT SELECT"]);
    env.execute(&format!("GRANT SELECT ON users TO {name}")).await;
    env.imsync(&["check"]).await.expect_code(0);
    env.execute(&format!("DROP OWNED BY {name}, {name}_group; DROP ROLE {name}, {name}_group")).await;
}
