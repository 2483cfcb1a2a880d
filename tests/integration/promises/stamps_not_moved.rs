//! Tests that imsync says when rows have changed without their stamp moving: only a full pass finds such changes.
//!
//! Owns: the number, the examples and the remedy in the log, `status` and `check`. Must not know: how a full pass compares.

use serde_json::{Value, json};

use crate::support::{SOURCE, Setup, TestEnvironment};

use super::{environment_of, fault, status};

/// A table of which each name needs quotes, with a stamp of this type.
fn odd_table(stamp: &str) -> String {
    format!(
        "CREATE SCHEMA \"My App\"; CREATE TABLE \"My App\".\"The Users\" (\"ID\" text PRIMARY KEY, city text, \"changed At\" {stamp});
         CREATE INDEX ON \"My App\".\"The Users\" (\"changed At\", \"ID\");
         INSERT INTO \"My App\".\"The Users\" (\"ID\", city) SELECT 'u' || n, 'old' FROM generate_series(1, 40) n;
         CREATE FUNCTION \"My App\".\"touch_The Users\"() RETURNS int LANGUAGE sql AS 'SELECT 1';"
    )
}

fn odd_setup(stamp: &str, zone: &str) -> Setup {
    Setup {
        sql: odd_table(stamp),
        source: format!(
            "table = '\"My App\".\"The Users\"'\naccount_column = \"ID\"\naccount_prefix = \"p-\"\nwatermark_column = \"changed At\"\nwatermark_grace = \"1s\"\n{zone}"
        ),
        attributes: "city = \"city\"\n".to_owned(),
        ..Setup::default()
    }
}

/// The finding of `check` about stamps, if there is one.
async fn finding(env: &TestEnvironment) -> Option<(String, String)> {
    let document = env.imsync(&["check", "--json"]).await.json();
    let findings = document["findings"].as_array().expect("a list").clone();
    let about = findings.into_iter().find(|finding| finding.to_string().contains("moving, for example"))?;
    assert_eq!(about["verdict"], "warning", "{about}");
    Some((about["message"].as_str()?.to_owned(), about["remedy"].as_str()?.to_owned()))
}

async fn repaired(env: &TestEnvironment) -> Value {
    let full_pass = status(env).await["full_pass"].clone();
    assert!(full_pass["finished_at"].is_string(), "{full_pass}");
    json!([full_pass["repaired"], full_pass["examples"]])
}

/// A role with no privilege but those on the table inserts u42 and updates it. It stamps nothing itself.
async fn write_as_application(env: &TestEnvironment) {
    let role = format!("app_{}", std::process::id());
    let role =
        format!("{role}_{}", env.number("SELECT oid::int8 FROM pg_database WHERE datname = current_database()").await);
    env.execute(&format!(
        "CREATE ROLE {role}; GRANT USAGE ON SCHEMA \"My App\" TO {role}; GRANT SELECT, INSERT, UPDATE, DELETE ON \"My App\".\"The Users\" TO {role};
         SET ROLE {role}; DELETE FROM \"My App\".\"The Users\" WHERE \"ID\" = 'u42';
         INSERT INTO \"My App\".\"The Users\" (\"ID\", city, \"changed At\") VALUES ('u42', 'new', NULL);
         UPDATE \"My App\".\"The Users\" SET city = 'newer' WHERE \"ID\" = 'u42';
         RESET ROLE; DROP OWNED BY {role}; DROP ROLE {role}"
    ))
    .await;
}

/// Hidden changes are counted and named until a full pass finds none. The trigger that `check` prints, pasted as it is,
/// ends them.
async fn expect_finding_and_remedy(setup: Setup, stamps_of_old: &str) {
    let env = TestEnvironment::set_up(setup).await;
    assert_eq!(status(&env).await["full_pass"], Value::Null);
    env.execute(&format!("UPDATE \"My App\".\"The Users\" SET \"changed At\" = {stamps_of_old}")).await;
    env.run_until_no_full_pass_is_due().await;
    assert_eq!(repaired(&env).await, json!([0, []]), "the first full pass repairs nothing");
    assert_eq!(finding(&env).await, None);

    let hidden = "UPDATE \"My App\".\"The Users\" SET city = city || ' moved' WHERE \"ID\" IN ('u3', 'u5');
         DELETE FROM \"My App\".\"The Users\" WHERE \"ID\" = 'u40'";
    env.execute(hidden).await;
    assert_eq!(env.imsync(&["run", "--once", "--json"]).await.json()["changed"], 0, "no incremental pass sees them");
    env.imsync(&["backfill"]).await.expect_code(0).expect_all(&[
        "2 accounts changed without their `changed At` moving, for example p-u3, p-u5",
        "CREATE OR REPLACE TRIGGER",
    ]);
    assert_eq!(repaired(&env).await, json!([2, ["p-u3", "p-u5"]]), "a hard delete is none of them");
    env.imsync(&["status"]).await.expect_code(0).expect_all(&["full pass   ended", "2 accounts changed without their"]);
    let (message, remedy) = finding(&env).await.expect("check remembers");
    assert!(
        message.contains("2 accounts changed without their `changed At` moving, for example p-u3, p-u5"),
        "{message}"
    );
    // Each start says it again.
    env.imsync(&["run", "--once"]).await.expect_all(&["2 accounts changed without their `changed At` moving"]);

    env.execute(&remedy).await;
    write_as_application(&env).await;
    let newest = "SELECT count(*) FROM \"My App\".\"The Users\" WHERE \"ID\" = 'u42' AND \"changed At\" = (SELECT max(\"changed At\") FROM \"My App\".\"The Users\")";
    assert_eq!(env.number(newest).await, 1, "an insert of the application is stamped");
    env.execute(&remedy).await;
    write_as_application(&env).await;
    assert_eq!(env.number(newest).await, 1, "the same after the remedy ran again");
    let own = "SELECT count(*) FROM pg_proc AS p WHERE proname LIKE 'touch%' AND prosrc = 'SELECT 1'";
    assert_eq!(env.number(own).await, 1, "a function of the user stays");
    env.imsync(&["backfill"]).await.expect_code(0);
    assert_eq!(repaired(&env).await, json!([0, []]), "a full pass that finds none ends it");
    assert_eq!(finding(&env).await, None);
    env.execute("UPDATE \"My App\".\"The Users\" SET city = 'seen' WHERE \"ID\" <= 'u2'").await;
    let pass = env.imsync(&["run", "--once", "--json"]).await.expect_code(0).json();
    assert!(pass["pushed"].as_u64() >= Some(2), "the trigger moves the stamp: {pass}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bulk_update_that_leaves_timestamptz_is_reported() {
    expect_finding_and_remedy(odd_setup("timestamptz NOT NULL DEFAULT now()", ""), "'2020-01-01'").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bulk_update_that_leaves_local_stamps_is_reported() {
    let zone = "watermark_timezone = \"Asia/Kathmandu\"\n";
    expect_finding_and_remedy(odd_setup("timestamp", zone), "'2020-01-01'").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bulk_update_that_leaves_a_counter_is_reported() {
    let counter = "substr(\"ID\", 2)::bigint";
    expect_finding_and_remedy(odd_setup("bigint", ""), counter).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bulk_update_that_leaves_a_serial_is_reported() {
    expect_finding_and_remedy(odd_setup("bigserial", ""), "\"changed At\"").await;
}

/// Whatever explains the differences of a full pass, they are not repairs.
#[tokio::test(flavor = "multi_thread")]
async fn explained_differences_are_no_repairs() {
    let env = environment_of(100, Setup::default()).await;
    env.execute("UPDATE users SET updated_at = '2020-01-01'").await;
    env.run_until_no_full_pass_is_due().await;
    let expect_none = async |what: &str| {
        let full = env.imsync(&["backfill", "--json"]).await.json();
        assert!(full["changed"].as_u64() > Some(0), "{what}: {full}");
        assert_eq!(repaired(&env).await, json!([0, []]), "{what}");
    };
    env.execute("UPDATE users SET city = 'stamped', updated_at = now() WHERE id <= 'u00010'").await;
    expect_none("rows that the next incremental pass would have read").await;
    env.execute("UPDATE users SET city = 'later', updated_at = 'infinity' WHERE id <= 'u00010'").await;
    expect_none("stamps in the future").await;
    env.edit("values = { m = \"male\", f = \"female\" }", "values = { m = \"man\", f = \"woman\" }");
    expect_none("an edited mapping").await;
    env.edit("[source]\n", "[source]\nfilter = \"id > 'u00005'\"\n");
    expect_none("an edited filter").await;
    env.execute("ALTER TABLE users ALTER city TYPE varchar(40) USING city || '!'").await;
    expect_none("another type of a column").await;
    // The calls for five accounts get no answer. The next pass sends them again, and repairs nothing.
    let silent = fault(&env, "hold:command=set_attr");
    env.execute("UPDATE users SET plan = 'doubtful', updated_at = now() WHERE id BETWEEN 'u00020' AND 'u00024'").await;
    env.edit("timeout = \"10s\"\nretry_for = \"20s\"", "timeout = \"1s\"\nretry_for = \"1s\"");
    env.imsync(&["run", "--once"]).await;
    env.handle().remove_fault(silent);
    env.execute("UPDATE users SET updated_at = '2020-01-01'").await;
    env.imsync(&["backfill"]).await;
    assert_eq!(repaired(&env).await, json!([0, []]), "accounts in doubt");
    env.imsync(&["backfill", "--force"]).await.expect_code(0);
    assert_eq!(repaired(&env).await, json!([0, []]), "--force");
    assert_eq!(env.handle().user("u00020")["plan"], "doubtful");
}

/// Without a watermark column every pass compares every row, so nothing is repaired. A dry run counts nothing.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_repaired_without_watermark_or_by_a_dry_run() {
    let source = SOURCE.replace("watermark_column = \"updated_at\"\nwatermark_grace = \"1s\"\n", "");
    let env = environment_of(30, Setup { source, ..Setup::default() }).await;
    env.imsync(&["backfill"]).await.expect_code(0);
    env.execute("UPDATE users SET city = 'changed' WHERE id <= 'u00003'").await;
    assert_eq!(env.imsync(&["backfill", "--json"]).await.json()["changed"], 3);
    assert_eq!(repaired(&env).await, json!([0, []]));

    let env = environment_of(30, Setup::default()).await;
    env.execute("UPDATE users SET updated_at = '2020-01-01'").await;
    env.run_until_no_full_pass_is_due().await;
    env.execute("UPDATE users SET city = 'hidden' WHERE id <= 'u00003'").await;
    env.imsync(&["backfill", "--dry-run"]).await.expect_code(0);
    assert_eq!(repaired(&env).await, json!([0, []]));
    env.imsync(&["backfill"]).await.expect_code(0);
    assert_eq!(repaired(&env).await[0], 3);
    env.imsync(&["backfill", "--dry-run"]).await.expect_code(0);
    assert_eq!(repaired(&env).await[0], 3, "a dry run ends nothing");
}

/// A killed full pass and the one that resumes it count each hidden change once, also those between its stored position and
/// the kill.
#[tokio::test(flavor = "multi_thread")]
async fn a_resumed_full_pass_keeps_the_count_of_repairs() {
    let setup = Setup {
        source: format!("{SOURCE}page_size = 500\n"),
        // At this rate two deliveries of 1,000 accounts are open at once, and positions are stored once a second.
        im: "users_per_call = 25\ncalls_per_second = 50\nmax_in_flight = 4\ntimeout = \"30s\"\n".to_owned(),
        ..Setup::default()
    };
    let env = environment_of(6_000, setup).await;
    env.execute("UPDATE users SET updated_at = '2020-01-01'").await;
    env.run_until_no_full_pass_is_due().await;
    env.execute("UPDATE users SET city = 'hidden ' || id").await;
    let hold = fault(&env, "hold:after=130:command=set_attr");
    let mut backfill = env.start("run", &["backfill"]);
    env.handle().wait_until(|counters| counters.held >= 1).await;
    let counted = "SELECT count(*) FROM imsync.sync WHERE full_pass_repairs_so_far IS NOT NULL AND full_pass_position IS NOT NULL";
    env.eventually("a count and a position are stored", async || env.number(counted).await == 1).await;
    backfill.kill().await.expect("the backfill can be killed");
    env.handle().remove_fault(hold);
    env.imsync(&["backfill"]).await.expect_code(0).expect_all(&["6000 accounts changed without"]);
    let examples = ["u00001", "u00002", "u00003", "u00004", "u00005"];
    assert_eq!(repaired(&env).await, json!([6_000, examples]));
    assert_eq!(env.handle().users(), env.wanted_of_users().await);
}
