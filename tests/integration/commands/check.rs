//! `check`: one line for each finding, with how to mend it; it touches nothing.

use super::{Role, free_port, has_state_schema, people};
use crate::support::{ATTRIBUTES, Setup, Stage};

#[tokio::test(flavor = "multi_thread")]
async fn a_right_configuration_is_right_in_every_line() {
    let stage = Stage::set_up(Setup::default()).await;
    stage.execute(&people(3)).await;
    let check = stage.imsync(&["check"]).await.expect_code(0);
    assert!(check.stdout.lines().all(|line| line.starts_with("ok  ")), "{check:?}");
    for part in ["configuration", "source", "state", "credentials", "attributes"] {
        assert!(check.stdout.contains(&format!("ok    {part}: ")), "no word of {part}: {check:?}");
    }
    let document = stage.imsync(&["check", "--json"]).await.expect_code(0).json();
    assert_eq!(document["ok"], true);
    for finding in document["findings"].as_array().unwrap() {
        super::assert_keys(finding, &["what", "verdict", "message"]);
        assert_eq!(finding["verdict"], "ok");
    }
    assert!(!has_state_schema(&stage).await, "check creates nothing");
    assert_eq!(stage.handle().users().len(), 0);

    stage.imsync(&["backfill"]).await.expect_code(0);
    stage.imsync(&["check"]).await.expect_code(0).expect_all(&["ok    state: schema \"imsync\""]);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_fault_is_named_with_its_remedy() {
    let stage = Stage::set_up(Setup::default()).await;
    let key = stage.directory().join("secret_key");

    // Several at once, each in a line of its own.
    let right = std::fs::read(&key).unwrap();
    std::fs::write(&key, "another-key").unwrap();
    stage.execute("ALTER TABLE users RENAME city TO town").await;
    let both = stage.imsync(&["check"]).await.expect_code(1);
    assert_eq!(both.stdout.lines().filter(|line| line.starts_with("FAIL")).count(), 2, "{both:?}");
    both.expect_all(&["FAIL  source:", "city", "FAIL  credentials:", "key"]);
    std::fs::write(&key, right).unwrap();
    stage.execute("ALTER TABLE users RENAME town TO city").await;

    stage.handle().set_names(&["city".to_owned(), "age".to_owned()]);
    let names = stage.imsync(&["check"]).await.expect_code(1);
    names.expect_all(&[
        "FAIL  attributes:",
        "\"plan\", \"sex\"",
        "it knows: \"city\", \"age\"",
        "console",
        "[attributes]",
    ]);
    stage.handle().set_names(&["city", "plan", "sex"].map(str::to_owned));

    stage.execute("ALTER TABLE users RENAME TO people").await;
    stage.imsync(&["check"]).await.expect_code(1).expect_all(&["FAIL  source:", "users"]);
    stage.execute("ALTER TABLE people RENAME TO users").await;

    let role = Role::make(&stage).await;
    role.put_into(&stage);
    stage.imsync(&["check"]).await.expect_code(1).expect_all(&["FAIL  source:", "GRANT", "users"]);
    stage.execute(&format!("GRANT SELECT ON users TO {}", role.name)).await;
    stage.imsync(&["check"]).await.expect_code(0);
    stage.imsync(&["backfill"]).await.expect_code(1).expect_all(&["state database denies access", "grant"]);
    stage.edit(&role.url, stage.database.url());
    role.drop(&stage).await;

    let nobody = format!("http://127.0.0.1:{}", free_port());
    stage.edit(&stage.im.base_url(), &nobody);
    stage.imsync(&["check"]).await.expect_code(1).expect_all(&["FAIL  im:", "127.0.0.1", "im.base_url"]);
    stage.edit(stage.database.url(), &format!("postgres://imsync@127.0.0.1:{}/none", free_port()));
    let away = stage.imsync(&["check", "--json"]).await.expect_code(1).json();
    let failed: Vec<&str> = away["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|finding| finding["verdict"] == "error")
        .map(|finding| finding["what"].as_str().unwrap())
        .collect();
    assert_eq!((away["ok"].as_bool(), failed), (Some(false), vec!["source", "state", "im"]));
    stage.imsync(&["check", "--offline"]).await.expect_code(0);
    assert_eq!(stage.handle().users().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_for_later_versions_are_warned_of() {
    let stage = Stage::set_up(Setup {
        attributes: format!("{ATTRIBUTES}[history]\nkeep = \"30d\"\n"),
        more: "[schedule]\nnotify_channel = \"imsync\"\nverify_every = \"1h\"\n".to_owned(),
        ..Setup::default()
    })
    .await;
    let check = stage.imsync(&["check", "--offline"]).await.expect_code(0);
    check.expect_all(&["warn  configuration: schedule.notify_channel", "schedule.verify_every", "history.keep"]);
}
