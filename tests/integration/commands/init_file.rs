//! Tests the file of `init`: never over another one, mode 0600, no secret that was not given, and what is refused before.
//!
//! Owns: the file on disk, the arguments. Must not know: how columns are chosen.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use super::init::{CUSTOMERS, FILE, assert_active, environment, init, init_with, written};
use super::{Role, free_port};
use crate::support::{binary, run};

#[tokio::test(flavor = "multi_thread")]
async fn no_file_is_overwritten_and_none_is_left_half_written() {
    let env = environment(CUSTOMERS, &[]).await;
    let path = env.directory().join(FILE);
    let files = || std::fs::read_dir(env.directory()).unwrap().count();
    let before = files();

    init(&env, &["customers"]).await.expect_code(0);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(files(), before + 1, "nothing else is left");
    let text = written(&env);
    init(&env, &["customers"]).await.expect_code(2).expect_all(&["new.toml exists already", "-c FILE"]);
    assert_eq!(written(&env), text);

    // A link counts, also one that leads nowhere.
    std::fs::remove_file(&path).unwrap();
    let elsewhere = env.directory().join("elsewhere.toml");
    symlink(&elsewhere, &path).unwrap();
    init(&env, &["customers"]).await.expect_code(2).expect_all(&["exists already"]);
    assert!(!elsewhere.exists());
    std::fs::remove_file(&path).unwrap();

    let unreachable = format!("postgres://imsync:pw-Zebra-4711@127.0.0.1:{}/none", free_port());
    let ran = init_with(&env, &unreachable, &["customers"]).await.expect_code(1).expect_all(&["unreachable"]);
    assert!(!format!("{ran:?}").contains("Zebra"), "{ran:?}");
    init(&env, &["custommers"]).await.expect_code(1).expect_all(&["similar: public.customers"]);
    assert_eq!(files(), before, "no file is left");
    let mut nowhere = binary(env.directory());
    nowhere.args(["init", "-c", "missing/new.toml", env.database.url(), "customers"]);
    run(nowhere).await.expect_code(2).expect_all(&["missing/new.toml", "no such file or directory"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_printed_and_no_value_is_written() {
    let env = environment(CUSTOMERS, &[]).await;
    env.execute("ANALYZE customers").await;
    let role = Role::create(&env).await;
    let database = url::Url::parse(env.database.url()).unwrap().path().trim_start_matches('/').to_owned();
    let grants = format!("GRANT SELECT ON customers TO {0}; GRANT CREATE ON DATABASE \"{database}\" TO {0}", role.name);
    env.execute(&grants).await;
    let with_variable = async |name: &str, value: &str, arguments: &[&str]| {
        let mut command = binary(env.directory());
        command.args(["init", "-vv", "-c", FILE]).args(arguments).env(name, value);
        run(command).await
    };
    let wrong = role.url.replace(Role::PASSWORD, &format!("{}-wrong", Role::PASSWORD));
    let invalid = role.url.replace("postgres://", "postgress://");
    std::fs::write(env.directory().join("the_url"), format!("{}\n", role.url)).unwrap();
    let path = env.directory().join(FILE);
    let outputs = [
        with_variable("NONE", "", &[&role.url]).await,
        with_variable("NONE", "", &[&wrong]).await,
        with_variable("NONE", "", &[&wrong, "customers"]).await,
        with_variable("NONE", "", &[&invalid, "customers"]).await.expect_code(2),
        with_variable("NONE", "", &["customers", &role.url]).await.expect_code(2),
        with_variable("NONE", "", &[&role.url.replace("://", ":/")]).await.expect_code(2),
        with_variable("IMSYNC_SOURCE_URL", &role.url, &[&role.url, "customers"]).await.expect_code(2),
        with_variable("IMSYNC_SOURCE_URL", &role.url, &["customers"]).await.expect_code(0),
    ];
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("came from IMSYNC_SOURCE_URL") && !text.contains(Role::PASSWORD), "{text}");
    std::fs::remove_file(&path).unwrap();
    let of_file = with_variable("IMSYNC_SOURCE_URL_FILE", "the_url", &["customers"]).await.expect_code(0);
    let text = std::fs::read_to_string(&path).unwrap();
    assert_active(&text, &["url_file = \"the_url\""]);
    assert!(!text.contains(Role::PASSWORD), "{text}");
    std::fs::remove_file(&path).unwrap();
    let of_argument = with_variable("NONE", "", &[&role.url, "customers"]).await.expect_code(0);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(Role::PASSWORD), "the file with mode 0600 holds the URL as it was given");
    for value in ["secretmail", "Kyoto", "+49"] {
        assert!(!text.contains(value), "{value} of a row is in\n{text}");
    }
    for output in outputs.iter().chain([&of_file, &of_argument]) {
        let shown = format!("{}{}", output.stdout, output.stderr);
        for secret in [Role::PASSWORD, "secretmail", "Kyoto"] {
            assert!(!shown.contains(secret), "{secret} in {shown}");
        }
    }
    role.drop(&env).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_usage_is_refused_before_anything_is_touched() {
    let directory = tempfile::tempdir().unwrap();
    let refused = async |arguments: &[&str], parts: &[&str]| {
        let mut command = binary(directory.path());
        command.args(["init"]).args(arguments);
        run(command).await.expect_code(2).expect_all(parts);
    };
    let url = format!("postgres://imsync@127.0.0.1:{}/none", free_port());
    refused(&[], &["the URL of the database is missing", "IMSYNC_SOURCE_URL"]).await;
    refused(&["users"], &["the URL of the database is missing"]).await;
    refused(&["app", "users"], &["not a database URL"]).await;
    refused(&[&url, "my-table"], &["needs double quotes"]).await;
    refused(&[&url, "--attributes", "city"], &["give the table too"]).await;
    refused(&[&url, "users", "--region", "singapur"], &["--region: found \"singapur\"", "did you mean \"singapore\""])
        .await;
    refused(&[&url, "users", "--base-url", "ftp://x"], &["--base-url: "]).await;
    refused(&[&url, "users", "--identifier", &"x".repeat(33)], &["--identifier: "]).await;
    refused(&[&url, "users", "--secret-key-file", "nowhere"], &["--secret-key-file: cannot read nowhere"]).await;
    refused(&[&url, "users", "--region", "seoul", "--base-url", "http://127.0.0.1"], &["cannot be used with"]).await;
    assert_eq!(std::fs::read_dir(Path::new(directory.path())).unwrap().count(), 0);
}
