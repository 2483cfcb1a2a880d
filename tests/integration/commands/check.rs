//! Tests `check`, which prints one line for each finding with a fix, and changes nothing.
//!
//! Owns: the findings as a user sees them. Must not know: how a check is carried out.

use super::{Role, free_port, has_state_schema, people};
use crate::support::{Setup, TestEnvironment};

#[tokio::test(flavor = "multi_thread")]
async fn a_valid_configuration_passes_every_check() {
    let env = TestEnvironment::set_up(Setup::default()).await;
    env.execute(&people(3)).await;
    let check = env.imsync(&["check"]).await.expect_code(0);
    assert!(check.stdout.lines().all(|line| line.starts_with("ok  ")), "{check:?}");
    for part in ["configuration.valid", "source.table", "state.schema", "credentials.accepted", "attributes.known"] {
        assert!(check.stdout.contains(&format!("ok    {part}: ")), "no finding about {part}: {check:?}");
    }
    let document = env.imsync(&["check", "--json"]).await.expect_code(0).json();
    assert_eq!(document["ok"], true);
    for finding in document["findings"].as_array().unwrap() {
        super::assert_keys(finding, &["id", "what", "verdict", "message", "remedy"]);
        assert_eq!(finding.as_object().unwrap().len(), 5, "{finding}");
        assert_eq!(finding["verdict"], "ok");
    }
    assert!(!has_state_schema(&env).await, "check creates nothing");
    assert_eq!(env.handle().users().len(), 0);

    env.imsync(&["backfill"]).await.expect_code(0);
    env.imsync(&["check"]).await.expect_code(0).expect_all(&["ok    state.schema: schema \"imsync\""]);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_problem_is_reported_with_a_fix() {
    let env = TestEnvironment::set_up(Setup::default()).await;
    let key = env.directory().join("secret_key");

    // Two problems at once: each has its own line.
    let valid = std::fs::read(&key).unwrap();
    std::fs::write(&key, "another-key").unwrap();
    env.execute("ALTER TABLE users RENAME city TO town").await;
    let both = env.imsync(&["check"]).await.expect_code(1);
    assert_eq!(both.stdout.lines().filter(|line| line.starts_with("FAIL")).count(), 2, "{both:?}");
    both.expect_all(&["FAIL  source.columns:", "city", "FAIL  credentials.accepted:", "key"]);
    std::fs::write(&key, valid).unwrap();
    env.execute("ALTER TABLE users RENAME town TO city").await;

    env.handle().set_names(&["city".to_owned(), "age".to_owned()]);
    let names = env.imsync(&["check"]).await.expect_code(1);
    names.expect_all(&[
        "FAIL  attributes.known:",
        "\"plan\", \"sex\"",
        "it knows: \"city\", \"age\"",
        "run `imsync attributes apply`",
        "[attributes]",
    ]);
    env.handle().set_names(&["city", "plan", "sex"].map(str::to_owned));

    env.execute("ALTER TABLE users RENAME TO people").await;
    env.imsync(&["check"]).await.expect_code(1).expect_all(&["FAIL  source.table:", "users"]);
    env.execute("ALTER TABLE people RENAME TO users").await;

    let role = Role::create(&env).await;
    role.configure(&env);
    env.imsync(&["check"]).await.expect_code(1).expect_all(&["FAIL  source.select_privilege:", "GRANT", "users"]);
    env.execute(&format!("GRANT SELECT ON users TO {}", role.name)).await;
    let denied = env.imsync(&["check"]).await.expect_code(1);
    denied.expect_all(&[
        "FAIL  state.privileges: the role of [state] url may not create schema",
        "GRANT CREATE ON DATABASE",
    ]);
    env.imsync(&["backfill"]).await.expect_code(1).expect_all(&["state database denies access", "grant"]);
    let database = env.database.url().rsplit('/').next().and_then(|rest| rest.split('?').next()).unwrap();
    env.execute(&format!("GRANT CREATE ON DATABASE \"{database}\" TO {}", role.name)).await;
    env.imsync(&["check"]).await.expect_code(0);
    env.imsync(&["backfill"]).await.expect_code(0);
    // A table of the state that the role may not write.
    let schema_owner = "ALTER TABLE imsync.intent OWNER TO CURRENT_USER; REVOKE ALL ON imsync.intent FROM PUBLIC";
    env.execute(schema_owner).await;
    let denied = env.imsync(&["check", "--json"]).await.expect_code(1).json();
    let remedies: Vec<&str> =
        denied["findings"].as_array().unwrap().iter().filter_map(|finding| finding["remedy"].as_str()).collect();
    assert!(remedies.len() == 1 && remedies[0].starts_with("GRANT "), "{denied:#}");
    env.execute(remedies[0]).await;
    env.imsync(&["check"]).await.expect_code(0);
    env.execute("DROP SCHEMA imsync CASCADE").await;
    env.edit(&role.url, env.database.url());
    role.drop(&env).await;

    let unused = format!("http://127.0.0.1:{}", free_port());
    env.edit(&env.im.base_url(), &unused);
    env.imsync(&["check"]).await.expect_code(1).expect_all(&["FAIL  im.reachable:", "127.0.0.1", "im.base_url"]);
    env.edit(env.database.url(), &format!("postgres://imsync@127.0.0.1:{}/none", free_port()));
    let check = env.imsync(&["check", "--json"]).await.expect_code(1).json();
    let failed: Vec<&str> = check["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|finding| finding["verdict"] == "error")
        .map(|finding| finding["what"].as_str().unwrap())
        .collect();
    assert_eq!((check["ok"].as_bool(), failed), (Some(false), vec!["source", "state", "im"]));
    env.imsync(&["check", "--offline"]).await.expect_code(0);
    assert_eq!(env.handle().users().len(), 0);
}

/// Four problems of the table, an expired key, and an unreachable state: none hides another.
#[tokio::test(flavor = "multi_thread")]
async fn one_problem_does_not_hide_another() {
    let env = TestEnvironment::set_up(Setup::default()).await;
    std::fs::write(env.directory().join("secret_key"), "another-key").unwrap();
    env.execute("ALTER TABLE users RENAME city TO town; ALTER TABLE users ALTER updated_at TYPE date").await;
    env.execute("DROP INDEX users_updated_at_id_idx; ALTER TABLE users DROP CONSTRAINT users_pkey").await;
    env.edit("[im]", "filter = \"kind = 1\"\n[state]\nurl = \"postgres://imsync@127.0.0.1:1/none\"\n[im]");
    let check = env.imsync(&["check", "--json"]).await.expect_code(1).json();
    let found = |verdict: &str| -> Vec<&str> {
        let findings = check["findings"].as_array().unwrap().iter();
        findings
            .filter(|finding| finding["verdict"] == verdict)
            .map(|finding| finding["id"].as_str().unwrap())
            .collect()
    };
    assert_eq!(
        found("error"),
        ["source.columns", "source.watermark_column", "source.filter", "state.reachable", "credentials.accepted",],
        "{check:#}"
    );
    for id in ["source.account_index", "source.statements", "state.binding", "attributes.known"] {
        assert!(found("warning").contains(&id), "no {id} in {check:#}");
    }

    // A configuration that is not valid is exit 2, and the rest is not checked.
    env.edit("sdk_app_id", "sdk_app_idd");
    let offline = env.imsync(&["check", "--offline", "--json"]).await.expect_code(2).json();
    let messages = offline["findings"].to_string();
    assert!(messages.contains("sdk_app_idd") && messages.contains("im.sdk_app_id"), "{offline:#}");
    env.imsync(&["check"]).await.expect_code(2).expect_all(&[
        "FAIL  configuration.valid: ",
        "warn  source.reachable: not checked, because the configuration is not valid",
    ]);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_later_versions_produce_warnings() {
    let env = TestEnvironment::set_up(Setup {
        more: "[schedule]\ninterval = \"200ms\"\n[http]\nshow_accounts = true\n".to_owned(),
        ..Setup::default()
    })
    .await;
    let check = env.imsync(&["check", "--offline"]).await.expect_code(0);
    check.expect_all(&["warn  configuration.implemented: http.show_accounts"]);
}
