//! Tests that a row for which the database raises an error harms no other row, whichever scan reads it, and that the text
//! of the error is shown nowhere.
//!
//! Owns: filters, views, functions and encodings that fail for single rows. Must not know: how the row is found.

use serde_json::Value;

use crate::support::{ATTRIBUTES, CommandOutput, Database, SOURCE, Setup, TestEnvironment, USERS, ended, signal};

use super::{account, environment_of, rejected};

/// What a row contains that must be shown nowhere. The line break would be an assignment in a notification to systemd.
const SECRET: &str = "s3cret-of-a-user\nREADY=1";

fn setup(source: &str, more: &str) -> Setup {
    Setup {
        sql: format!("{USERS} ALTER TABLE users ADD extra text DEFAULT '1';"),
        source: format!("{SOURCE}{source}\n"),
        more: format!("[schedule]\ninterval = \"200ms\"\n{more}\n"),
        ..Setup::default()
    }
}

fn number_filter(more: &str) -> Setup {
    setup("filter = \"extra::int >= 0\"", more)
}

async fn break_row(env: &TestEnvironment, number: u32) {
    let touch = "updated_at = now()";
    let account = account(number);
    env.execute(&format!("UPDATE users SET extra = '{SECRET}', city = 'unseen', {touch} WHERE id = '{account}'")).await;
}

fn holds_no_secret(output: &CommandOutput) {
    for text in [&output.stdout, &output.stderr] {
        assert!(!text.contains("s3cret") && !text.contains("READY=1"), "{text}");
    }
}

/// The rejection of an account, which has no vendor code.
async fn reason_of(env: &TestEnvironment, account: &str) -> Option<String> {
    let found = rejected(env).await.into_iter().find(|line| line["account"] == account)?;
    assert_eq!((&found["code"], &found["attribute"]), (&Value::Null, &Value::Null));
    found["reason"].as_str().map(str::to_owned)
}

const REASON: &str = "the row cannot be read: the database raises 22P02 (a text is not a valid value of its type) while it \
                      evaluates the row; correct the row, source.filter or the view";

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_fails_the_filter_harms_no_other_row() {
    let env = environment_of(300, number_filter("")).await;
    env.run_until_no_full_pass_is_due().await;
    let before = env.handle().user(&account(7));
    break_row(&env, 7).await;
    env.execute("UPDATE users SET city = 'moved', updated_at = now() WHERE id IN ('u00001', 'u00299')").await;
    let mut daemon = env.start("run", &["run", "-vv"]);
    env.eventually("the others arrive", async || {
        ["u00001", "u00299"].iter().all(|account| env.handle().user(account)["city"] == "moved")
    })
    .await;
    env.eventually("the row is rejected", async || reason_of(&env, &account(7)).await.is_some()).await;
    assert_eq!(reason_of(&env, &account(7)).await.as_deref(), Some(REASON));
    assert_eq!(env.handle().user(&account(7)), before, "IM keeps what it holds");
    // A full pass and look-ups treat it the same way: it is not gone.
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
    assert!(!env.printed("run", "err").contains("s3cret"), "the log quotes no value");
    for command in [
        &["backfill", "--json"][..],
        &["backfill", "--account", "u00007"],
        &["backfill", "--dry-run"],
        &["preview", "--full", "--json"],
        &["preview", "--account", "u00007"],
        &["run", "--once", "--json"],
        &["status", "--json"],
        &["rejected", "--json"],
        &["check", "--json"],
    ] {
        holds_no_secret(&env.imsync(command).await);
        assert_eq!(env.handle().user(&account(7)), before, "after {command:?}");
    }
    env.imsync(&["backfill", "--json"]).await.expect_code(3);
    // Corrected, the row is sent and its rejection ends.
    env.execute("UPDATE users SET extra = '5', updated_at = now() WHERE id = 'u00007'").await;
    env.imsync(&["run", "--once"]).await.expect_code(0);
    assert_eq!(env.handle().user(&account(7))["city"], "unseen");
    assert!(rejected(&env).await.is_empty());
}

/// The filter is corrected instead of the row, whose timestamp does not move.
#[tokio::test(flavor = "multi_thread")]
async fn a_corrected_filter_ends_the_rejections() {
    let env = environment_of(50, number_filter("")).await;
    break_row(&env, 3).await;
    env.imsync(&["backfill"]).await.expect_code(3);
    assert!(reason_of(&env, &account(3)).await.is_some());
    env.edit("extra::int >= 0", "extra IS NOT NULL");
    env.imsync(&["run", "--once"]).await.expect_code(0);
    assert!(rejected(&env).await.is_empty());
    assert_eq!(env.handle().users(), env.wanted_of_users().await);
}

/// Errors of a view, of a function with a code of its own, and of a division, in tables with and without a watermark and
/// with several rows of an account.
#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_expression_fails_for_its_row_only() {
    let view = "ALTER TABLE users RENAME TO base;
        CREATE FUNCTION checked(t text) RETURNS text LANGUAGE plpgsql STABLE AS $$ BEGIN
            IF t LIKE 's3cret%' THEN RAISE EXCEPTION 'bad %', t USING ERRCODE = 'IM001'; END IF; RETURN t; END $$;
        CREATE VIEW users AS SELECT id, city, plan, gender, kind, updated_at, deleted_at, extra,
            EXPRESSION AS derived FROM base;";
    for (expression, raised) in [
        ("extra::int", "22P02 (a text is not a valid value of its type)"),
        ("checked(extra)", "IM001 (an error of the server)"),
        ("1 / (length(extra) - 24)", "22012 (a division by zero)"),
        ("(SELECT city FROM base AS b WHERE length(base.extra) = 24)", "21000 (a subquery returns more than one row)"),
        ("extra::json->>'a'", "22P02 (a text is not a valid value of its type)"),
    ] {
        for watermark in ["", "# "] {
            let mut setup = setup("", "");
            setup.source = setup.source.replace("watermark_", &format!("{watermark}watermark_"));
            setup.source += "page_size = 20\n";
            let env = environment_of(64, setup).await;
            env.execute(&format!(
                "UPDATE users SET extra = E's3cret-of-a-user\\nREADY=1' WHERE id = 'u00033'; {}",
                view.replace("EXPRESSION", expression)
            ))
            .await;
            env.edit("plan = \"plan\"", "plan = \"derived\"");
            let output = env.imsync(&["backfill"]).await.expect_code(3);
            holds_no_secret(&output);
            assert_eq!(env.handle().users().len(), 63, "{expression}: {output:?}");
            let reason = reason_of(&env, "u00033").await.unwrap_or_default();
            assert!(reason.contains(&format!("raises {raised} while")), "{reason}");
        }
    }
}

/// A view whose own condition fails, or that calls a VOLATILE function for every row: the row cannot be told from others.
#[tokio::test(flavor = "multi_thread")]
async fn a_view_that_cannot_be_read_apart_says_so() {
    let function = "CREATE FUNCTION checked(t text) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN t::int; END $$;";
    for (columns, condition) in [("extra", "WHERE extra::int >= 0"), ("checked(extra) AS extra", "")] {
        let env = environment_of(20, setup("", "")).await;
        break_row(&env, 5).await;
        env.execute(&format!(
            "ALTER TABLE users RENAME TO base; {function} CREATE VIEW users AS
             SELECT id, city, plan, gender, kind, updated_at, deleted_at, {columns} FROM base {condition}"
        ))
        .await;
        let output = env.imsync(&["backfill"]).await.expect_code(1);
        holds_no_secret(&output);
        output.expect_all(&["raises 22P02", "cannot be told from others", "STABLE"]);
    }
}

/// The cost: a page with bad rows takes a few statements for each of them.
#[tokio::test(flavor = "multi_thread")]
async fn a_filter_that_always_fails_stops_with_a_sentence() {
    let env = environment_of(3000, number_filter("")).await;
    env.execute(&format!("UPDATE users SET extra = '{SECRET}'")).await;
    let output = env.imsync(&["backfill"]).await.expect_code(1);
    holds_no_secret(&output);
    output.expect_all(&["more than half of the rows cannot be read", "22P02", "correct source.filter or the view"]);
    assert!(env.handle().calls().is_empty());
    // A tenth of them is rejected row by row.
    env.execute("UPDATE users SET extra = '1' WHERE right(id, 1) <> '3'").await;
    env.imsync(&["backfill"]).await.expect_code(3);
    assert_eq!(rejected(&env).await.len(), 300);
    assert_eq!(env.handle().users().len(), 2700);
}

/// Rows of accounts in doubt, of rejections that are due, and of accounts without a unique index are looked up.
#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_row_that_is_looked_up_harms_no_other() {
    let mut setup = number_filter("rejected_retry = \"1s\"");
    setup.sql = setup.sql.replace("PRIMARY KEY", "NOT NULL");
    let env = environment_of(40, setup).await;
    env.run_until_no_full_pass_is_due().await;
    for number in [2, 9, 31] {
        break_row(&env, number).await;
    }
    env.execute(
        "INSERT INTO users (id, city, extra) VALUES ('u00031', 'second', '1'); DELETE FROM users WHERE id = 'u00020'",
    )
    .await;
    let mut daemon = env.start("run", &["run"]);
    env.eventually("three rows are rejected", async || rejected(&env).await.len() == 3).await;
    env.eventually("they are retried", async || {
        rejected(&env).await.iter().any(|line| line["attempts"].as_u64() > Some(1))
    })
    .await;
    env.execute("UPDATE users SET extra = '1' WHERE id = 'u00009'").await;
    env.eventually("the retry finds the corrected row", async || env.handle().user("u00009")["city"] == "unseen").await;
    signal(&daemon, "TERM");
    ended(&mut daemon).await;
    env.imsync(&["backfill"]).await.expect_code(3);
    assert_eq!(env.handle().users().len(), 39, "the deleted account is gone, the rejected ones are not");
    assert_eq!(env.handle().user("u00002")["city"], "city 2");
}

/// A text that is not UTF-8, in a database that accepts any bytes.
#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_is_not_utf_8_rejects_its_row_only() {
    let template = Database::fresh().await;
    let name = format!("imsync_ascii_{}", std::process::id());
    template
        .execute(&format!("CREATE DATABASE {name} ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"))
        .await;
    let mut url = url::Url::parse(template.url()).expect("the URL is valid");
    url.set_path(&name);
    let setup = Setup { attributes: ATTRIBUTES.to_owned(), ..Setup::default() };
    let env = TestEnvironment::set_up_on(Database::on_own_server(url.to_string()), setup).await;
    env.execute(
        "INSERT INTO users (id, city) SELECT 'u' || n, 'x' FROM generate_series(1, 30) AS n;
        UPDATE users SET city = E'caf\\xe9' WHERE id = 'u17'",
    )
    .await;
    env.imsync(&["backfill"]).await.expect_code(3);
    assert_eq!(env.handle().users().len(), 29);
    assert!(reason_of(&env, "u17").await.is_some_and(|reason| reason.contains("22021")));
}

/// Most rows of a poll, and all that are retried, raise an error. They are rejections, and no pass fails.
#[tokio::test(flavor = "multi_thread")]
async fn many_rows_that_raise_at_once_harm_no_other() {
    let env = environment_of(300, number_filter("rejected_retry = \"1s\"")).await;
    env.run_until_no_full_pass_is_due().await;
    env.execute(&format!(
        "UPDATE users SET extra = '{SECRET}', updated_at = now() WHERE id <= 'u00120';
         UPDATE users SET city = 'moved', updated_at = now() WHERE id = 'u00200'"
    ))
    .await;
    env.imsync(&["run", "--once"]).await.expect_code(3);
    assert_eq!(env.handle().user("u00200")["city"], "moved");
    assert_eq!(rejected(&env).await.len(), 120);
    env.eventually("all of them are retried", async || {
        env.imsync(&["run", "--once"]).await.expect_code(3);
        rejected(&env).await.iter().all(|line| line["attempts"].as_u64() > Some(1))
    })
    .await;
}
