//! Tests servers that deny functions, refuse writes, or have several nodes: `check` names the remedy, the daemon says why.
//!
//! Owns: the simulated servers, and the harness that executes every SQL remedy. Must not know: how a check is carried out.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Role, ask, free_port, people};
use crate::support::{SOURCE, Setup, TestEnvironment};

/// The findings of `check --json`.
async fn check(env: &TestEnvironment) -> Vec<Value> {
    env.imsync(&["check", "--json"]).await.json()["findings"].as_array().unwrap().clone()
}

/// The ids of findings that are not `ok`.
fn problems(findings: &[Value]) -> BTreeSet<String> {
    let bad = findings.iter().filter(|finding| finding["verdict"] != "ok");
    bad.map(|finding| finding["id"].as_str().unwrap().to_owned()).collect()
}

/// The remedy, if it is SQL.
fn sql_of(finding: &Value) -> Option<&str> {
    let remedy = finding["remedy"].as_str()?;
    let verb = remedy.split(' ').next()?;
    (remedy.ends_with(';') && !verb.is_empty() && verb.chars().all(|c| c.is_ascii_uppercase())).then_some(remedy)
}

/// Executes the SQL remedies as an administrator, in order, each as psql sends it. Returns their ids.
async fn execute_remedies(env: &TestEnvironment, findings: &[Value]) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    for finding in findings {
        let Some(sql) = sql_of(finding) else { continue };
        // CREATE INDEX CONCURRENTLY cannot run in the transaction of several statements.
        if sql.contains("CONCURRENTLY") {
            for statement in sql.split_inclusive(';') {
                env.execute(statement).await;
            }
        } else {
            env.execute(sql).await;
        }
        ids.insert(finding["id"].as_str().unwrap().to_owned());
    }
    ids
}

/// A role with the documented grants, on the table and on a state schema of its own.
async fn documented_role(env: &TestEnvironment) -> Role {
    let role = Role::create(env).await;
    let name = &role.name;
    env.execute(&format!("GRANT SELECT ON users TO {name}; CREATE SCHEMA imsync AUTHORIZATION {name}")).await;
    role.configure(env);
    role
}

const DENY_IDENTITY: &str = "REVOKE EXECUTE ON FUNCTION pg_control_system(), pg_control_checkpoint(), \
     pg_control_recovery() FROM PUBLIC";

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hides_its_identity_is_synced() {
    let env = TestEnvironment::set_up(Setup::default()).await;
    env.execute(&people(5)).await;
    let role = documented_role(&env).await;
    env.execute(DENY_IDENTITY).await;
    let findings = check(&env).await;
    assert_eq!(problems(&findings), BTreeSet::from(["source.functions".to_owned(), "state.functions".to_owned()]));
    env.imsync(&["backfill"]).await.expect_code(0);
    assert_eq!(env.handle().users(), env.wanted_of_users().await);
    env.run_until_no_full_pass_is_due().await;

    // The privilege comes and goes: the server is the same, so nothing is sent again and no full pass runs.
    let revoke = format!("{DENY_IDENTITY}, {}", role.name);
    for remedy in [None, Some(revoke.as_str())] {
        match remedy {
            None => drop(execute_remedies(&env, &findings).await),
            Some(revoke) => env.execute(revoke).await,
        }
        for _ in 0..2 {
            let pass = env.imsync(&["run", "--once", "--json"]).await.expect_code(0).json();
            assert_eq!((&pass["kind"], &pass["calls"]), (&Value::from("incremental"), &Value::from(0)), "{pass}");
        }
        assert_eq!(problems(&check(&env).await).is_empty(), remedy.is_none());
    }
    role.drop(&env).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_is_read_only_is_reported_not_overridden() {
    let port = free_port();
    let more = format!("[schedule]\ninterval = \"200ms\"\n[http]\nlisten = \"127.0.0.1:{port}\"\n");
    let env = TestEnvironment::set_up(Setup { more, ..Setup::default() }).await;
    env.execute(&people(3)).await;
    let role = documented_role(&env).await;
    env.execute(&format!("ALTER ROLE {} SET default_transaction_read_only = on", role.name)).await;
    let findings = check(&env).await;
    assert_eq!(problems(&findings), BTreeSet::from(["state.writable".to_owned()]));
    env.imsync(&["backfill"]).await.expect_code(1).expect_all(&["default_transaction_read_only", "ALTER ROLE"]);
    assert!(env.handle().users().is_empty());

    // The daemon stays up and says it.
    let mut daemon = env.start("daemon", &["run"]);
    env.eventually("/readyz says why", async || {
        ask(port, "/readyz").await.is_some_and(|(code, body)| code == 503 && body.contains("read_only"))
    })
    .await;
    execute_remedies(&env, &findings).await;
    env.converges(std::time::Duration::ZERO).await;
    daemon.kill().await.unwrap();
    assert!(env.printed("daemon", "err").contains("the state cannot be written"));
    role.drop(&env).await;
}

/// The setting can come from four places. Each has a remedy of its own.
#[tokio::test(flavor = "multi_thread")]
async fn each_source_of_read_only_transactions_has_its_remedy() {
    for place in ["ROLE {role}", "DATABASE {database}", "ROLE {role} IN DATABASE {database}"] {
        let env = TestEnvironment::set_up(Setup::default()).await;
        env.execute(&people(3)).await;
        let role = documented_role(&env).await;
        let database = env.database.url().rsplit('/').next().and_then(|rest| rest.split('?').next()).unwrap();
        let [name, database] = [&role.name, database].map(|name| format!("\"{name}\""));
        let place = place.replace("{role}", &name).replace("{database}", &database);
        env.execute(&format!("ALTER {place} SET default_transaction_read_only = on")).await;
        let findings = check(&env).await;
        assert_eq!(problems(&findings), BTreeSet::from(["state.writable".to_owned()]), "{place}");
        let remedy: Vec<&str> = findings.iter().filter_map(sql_of).collect();
        assert_eq!(remedy, [format!("ALTER {place} RESET default_transaction_read_only;")]);
        env.imsync(&["backfill"]).await.expect_code(1).expect_all(&remedy);
        execute_in_writable_session(&env, remedy[0]).await;
        env.imsync(&["backfill"]).await.expect_code(0);
        role.drop(&env).await;
    }
    let env = TestEnvironment::set_up(Setup::default()).await;
    let options = "?options=-c%20default_transaction_read_only%3Don";
    env.edit(env.database.url(), &format!("{}{options}", env.database.url().split('?').next().unwrap()));
    env.imsync(&["backfill"])
        .await
        .expect_code(1)
        .expect_all(&["remove default_transaction_read_only from the options"]);
}

/// As an administrator who has read the remedy: the sessions of this database may be read-only too.
async fn execute_in_writable_session(env: &TestEnvironment, sql: &str) {
    env.execute(&format!("SET transaction_read_only = off; {sql}")).await;
}

/// Citus has an entry in `pg_extension` and a list of nodes; Aurora Limitless a view.
#[tokio::test(flavor = "multi_thread")]
async fn a_watermark_is_refused_where_locks_are_per_node() {
    let citus = "SET allow_system_table_mods = on;
         CREATE TABLE pg_catalog.pg_dist_node (groupid int);
         INSERT INTO pg_catalog.pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion)
         VALUES (99999, 'citus', 10, 11, false, '12.1')";
    let limitless = "CREATE SCHEMA rds_aurora; CREATE VIEW rds_aurora.limitless_subclusters AS SELECT 1 AS id";
    for (sql, engine) in [(citus, "Citus"), (limitless, "Aurora Limitless")] {
        let env = TestEnvironment::set_up(Setup::default()).await;
        env.execute(&people(3)).await;
        env.execute(sql).await;
        if engine == "Citus" {
            env.imsync(&["check"]).await.expect_code(0);
            env.execute("INSERT INTO pg_catalog.pg_dist_node VALUES (0), (1), (2)").await;
        }
        env.imsync(&["check"]).await.expect_code(1).expect_all(&[
            "FAIL  source.distributed:",
            engine,
            "watermark_column",
        ]);
        env.imsync(&["run", "--once"]).await.expect_code(1).expect_all(&[engine, "remove watermark_column"]);
        env.edit("watermark_column = \"updated_at\"\nwatermark_grace = \"1s\"\n", "");
        env.imsync(&["check"]).await.expect_code(0);
        env.imsync(&["backfill"]).await.expect_code(0);
        assert_eq!(env.handle().users(), env.wanted_of_users().await);
    }
}

/// Sixteen conditions at once. `check` finds each of them; after its SQL was executed, those findings are gone.
#[tokio::test(flavor = "multi_thread")]
async fn every_sql_remedy_of_check_works() {
    let env = TestEnvironment::set_up(Setup {
        sql: "CREATE SCHEMA \"My App\"; CREATE TABLE \"My App\".\"The Users\" (\"ID\" text, city text, plan text, gender text,
                  \"Pay\" money, \"changed At\" timestamptz NOT NULL DEFAULT now());
              INSERT INTO \"My App\".\"The Users\" SELECT 'u' || g, 'city', 'free', 'm', 1, now() + interval '3 hours'
              FROM generate_series(1, 20000) g;
              ALTER TABLE \"My App\".\"The Users\" ENABLE ROW LEVEL SECURITY; ANALYZE"
            .to_owned(),
        source: SOURCE
            .replace("public.users", "\\\"My App\\\".\\\"The Users\\\"")
            .replace("\"id\"", "\"ID\"")
            .replace("updated_at", "changed At")
            .replace("deleted_column = \"deleted_at\"\n", ""),
        attributes: "city = \"city\"\nplan = \"plan\"\nsex = \"gender\"\nwage = \"Pay\"\n".to_owned(),
        more: "[http]\nshow_accounts = true\n".to_owned(),
        ..Setup::default()
    })
    .await;
    let role = Role::create(&env).await;
    role.configure(&env);
    env.execute(&format!(
        "CREATE SCHEMA imsync AUTHORIZATION {0}; ALTER ROLE {0} SET default_transaction_read_only = on",
        role.name
    ))
    .await;
    env.execute(
        "REVOKE EXECUTE ON FUNCTION pg_control_system(), pg_lock_status(), pg_prepared_xact(), pg_stat_get_activity(int),
             pg_postmaster_start_time(), pg_current_wal_lsn(), pg_try_advisory_lock(bigint) FROM PUBLIC;
         REVOKE SELECT ON pg_locks, pg_stat_activity FROM PUBLIC",
    )
    .await;
    let before = env.imsync(&["check"]).await.expect_code(1);
    println!("before:\n{}", before.stdout);
    let mut findings = check(&env).await;
    let expected = [
        "configuration.implemented",
        "source.functions",
        "source.schema_privilege",
        "source.select_privilege",
        "source.row_security",
        "source.money",
        "source.watermark_index",
        "source.account_index",
        "state.functions",
        "state.writable",
        "attributes.known",
    ];
    for id in expected {
        assert!(problems(&findings).contains(id), "no {id} in {findings:#?}");
    }
    let denied = findings.iter().filter(|finding| finding["id"] == "source.functions").count();
    assert_eq!(denied, 6, "{findings:#?}");

    // What a privilege hid shows in the next round.
    let mut fixed = BTreeSet::new();
    for _ in 0..3 {
        fixed.extend(execute_remedies(&env, &findings).await);
        findings = check(&env).await;
    }
    assert!(fixed.len() >= 8, "{fixed:?}");
    let left = problems(&findings);
    assert!(left.is_disjoint(&fixed), "{left:?} of {fixed:?} are left: {findings:#?}");
    assert!(findings.iter().all(|finding| sql_of(finding).is_none()), "{findings:#?}");
    assert!(left.contains("source.newest_stamp") && left.contains("attributes.known"), "{left:?}");
    let after = env.imsync(&["check"]).await.expect_code(1);
    println!("after:\n{}", after.stdout);
    role.drop(&env).await;
}
