//! Tests of the files of database URLs: contents that are not used, and ways in which a file is given and replaced.
//!
//! Owns: the contents and the ways. Must not know: the secret key.

use std::os::unix::fs::symlink;
use std::process::Stdio;

use tokio::process::Child;

use super::{IN_USE, RotatingRole, logged, replace, stop, syncs, users};
use crate::support::{Setup, TestEnvironment};

const NOT_USED: &str = "the new content of a secret file is not used, the old secret stays in force";

async fn set_up(url: &str) -> (TestEnvironment, RotatingRole) {
    let env = TestEnvironment::set_up(Setup::default()).await;
    env.execute(&users(5)).await;
    let role = RotatingRole::create(&env, "role", "database_url").await;
    env.edit(&format!("url = \"{}\"", env.database.url()), url);
    (env, role)
}

/// The password changes, and every session ends until the new one is in use.
async fn rotates(env: &TestEnvironment, role: &RotatingRole, password: &str) {
    let before = logged(env, IN_USE);
    role.set_password(env, password).await;
    role.terminate_sessions_until(env, "the new password is in use", || logged(env, IN_USE) > before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_content_that_cannot_be_right_leaves_the_old_secret() {
    let (env, role) = set_up("url_file = \"database_url\"").await;
    let daemon = env.start("run", &["run"]);
    syncs(&env, "at the start").await;
    let good = role.url_with("first");
    let database = role.url.path().to_owned();
    let port = role.url.port().unwrap().to_string();
    // The content, the reason in the log, and the reason of `check` where a new process can see it.
    let cases = [
        (String::new(), "is empty", Some("is empty")),
        ("\n".to_owned(), "is empty", Some("is empty")),
        ("\u{feff}".to_owned(), "is empty", Some("is empty")),
        (good[..10].to_owned(), "invalid content", Some("invalid file content")),
        ("hunter2".to_owned(), "does not start with postgres://", Some("does not start with postgres://")),
        ("postgres://imsync:4711".to_owned(), "could not be found out", None),
        (good.replace(&database, "/postgres"), "needs a restart", None),
        (good.replace(&port, "1"), "could not be found out", None),
        (good.replace("first", "wrong"), "the server refuses its login", Some("rejects the login")),
        (good.replace(&role.name, "nobody_at_all"), "the server refuses its login", Some("rejects the login")),
    ];
    for (number, (content, reason, of_check)) in cases.iter().enumerate() {
        let before = logged(&env, NOT_USED);
        replace(&role.file, content);
        role.terminate_sessions_until(&env, reason, || logged(&env, NOT_USED) > before).await;
        let log = env.printed("run", "err");
        let line = log.lines().rfind(|line| line.contains(NOT_USED)).unwrap();
        assert!(line.contains(reason) && line.contains("database_url"), "{content:?}: {line}");
        syncs(&env, &format!("with content {number}")).await;
        if let Some(of_check) = of_check {
            let checked = env.imsync(&["check"]).await;
            assert_ne!(checked.code, Some(0));
            checked.expect_all(&[of_check]);
        }
        replace(&role.file, &good);
        role.terminate_sessions(&env).await;
        syncs(&env, &format!("after content {number}")).await;
    }
    std::fs::remove_file(&role.file).unwrap();
    let missing = || logged(&env, "no such file or directory") > 0;
    role.terminate_sessions_until(&env, "the missing file is reported", missing).await;
    syncs(&env, "without a file").await;
    env.imsync(&["check"]).await.expect_code(2).expect_all(&["database_url", "no such file or directory"]);
    for secret in ["first@", "hunter2", "wrong@", "4711"] {
        assert_eq!(logged(&env, secret), 0, "{secret} is in the log");
    }
    assert_eq!(logged(&env, IN_USE), 0);
    stop(daemon).await;
    role.drop(&env).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_read_again_however_it_is_replaced() {
    let (env, role) = set_up("url_file = \"database_url\"").await;
    // As Kubernetes mounts a secret: the file is a link into a folder that is a link itself.
    let folder = |name: &str| env.directory().join(name);
    let swap = |version: &str, text: &str| {
        std::fs::create_dir(folder(version)).unwrap();
        std::fs::write(folder(version).join("database_url"), text).unwrap();
        symlink(version, folder("..data_tmp")).unwrap();
        std::fs::rename(folder("..data_tmp"), folder("..data")).unwrap();
    };
    swap("..1", &role.url_with("first"));
    std::fs::remove_file(&role.file).unwrap();
    symlink("..data/database_url", &role.file).unwrap();
    let daemon = env.start("run", &["run"]);
    syncs(&env, "at the start").await;

    swap("..2", &format!("\u{feff}{}\r\n", role.url_with("swapped")));
    rotates(&env, &role, "swapped").await;
    syncs(&env, "after a swap of links").await;

    std::fs::write(&role.file, format!("{}\n", role.url_with("written"))).unwrap();
    rotates(&env, &role, "written").await;
    syncs(&env, "after a write into the file").await;

    role.set_password(&env, "renamed").await;
    role.terminate_sessions(&env).await;
    replace(&role.file, &role.url_with("renamed"));
    role.terminate_sessions_until(&env, "the renamed file is in use", || logged(&env, IN_USE) == 3).await;
    syncs(&env, "after a rename").await;

    // Another role, as some providers rotate: the new one exists before the old one ends.
    let other = RotatingRole::create(&env, "other", "other_url").await;
    env.execute(&format!("GRANT {} TO {}", role.name, other.name)).await;
    replace(&role.file, &other.url_with("first"));
    env.execute(&format!("ALTER ROLE {} NOLOGIN", role.name)).await;
    role.terminate_sessions_until(&env, "the other role is in use", || logged(&env, IN_USE) == 4).await;
    syncs(&env, "with another role").await;
    assert_eq!(logged(&env, IN_USE), 4, "{}", env.printed("run", "err"));
    stop(daemon).await;
    for role in [other, role] {
        role.drop(&env).await;
    }
}

/// Starts the daemon with variables that name paths in the directory of the test.
fn start_with(env: &TestEnvironment, variables: &[(&str, &str)]) -> Child {
    let log = std::fs::File::create(env.directory().join("run.err")).unwrap();
    let mut command = env.command(&["run"]);
    command.stdout(Stdio::null()).stderr(log);
    for (name, path) in variables {
        command.env(name, env.directory().join(path));
    }
    command.spawn().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_a_variable_or_of_the_credentials_is_read_again() {
    for (url, variable, path, file) in [
        ("# of the variable", "IMSYNC_SOURCE_URL_FILE", "database_url", "database_url"),
        ("url_file = \"database_url\"", "CREDENTIALS_DIRECTORY", "credentials", "credentials/database_url"),
    ] {
        let (env, role) = set_up(url).await;
        let file = env.directory().join(file);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        replace(&file, &role.url_with("first"));
        std::fs::copy(env.directory().join("secret_key"), file.with_file_name("secret_key.copy")).unwrap();
        std::fs::rename(file.with_file_name("secret_key.copy"), file.with_file_name("secret_key")).unwrap();
        let daemon = start_with(&env, &[(variable, path)]);
        syncs(&env, "at the start").await;
        replace(&file, &role.url_with("second"));
        rotates(&env, &role, "second").await;
        syncs(&env, "after the rotation").await;
        assert_eq!(logged(&env, IN_USE), 1, "{variable}: {}", env.printed("run", "err"));
        stop(daemon).await;
        role.drop(&env).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_is_valid_for_minutes_needs_no_restart() {
    let (env, role) = set_up("url_file = \"database_url\"").await;
    let daemon = env.start("run", &["run"]);
    syncs(&env, "at the start").await;
    replace(&role.file, &role.url_with("second"));
    env.execute(&format!("ALTER ROLE {} PASSWORD 'second'", role.name)).await;
    // Sessions outlive the password that opened them.
    syncs(&env, "after the rotation").await;
    // A single session ends, as with a connection that a firewall forgets: of the source, the pool or the lease.
    for number in 0..6 {
        let one = format!(
            "SELECT pg_terminate_backend(pid) FROM (SELECT pid FROM pg_stat_activity WHERE usename = '{}'
             ORDER BY backend_start LIMIT 1) AS oldest",
            role.name
        );
        env.execute(&one).await;
        syncs(&env, &format!("after the end of session {number}")).await;
    }
    assert_eq!(logged(&env, IN_USE), 1, "{}", env.printed("run", "err"));
    stop(daemon).await;
    role.drop(&env).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_of_the_password_file_rotates_too() {
    let (env, role) = set_up("url_file = \"database_url\"").await;
    let mut url = role.url.clone();
    url.set_password(None).unwrap();
    replace(&role.file, url.as_str());
    let passfile = env.directory().join("pgpass");
    let line = |password: &str| format!("*:*:*:{}:{password}\n", role.name);
    replace(&passfile, &line("first"));
    let daemon = start_with(&env, &[("PGPASSFILE", "pgpass")]);
    syncs(&env, "at the start").await;
    replace(&passfile, &line("second"));
    role.set_password(&env, "second").await;
    role.terminate_sessions(&env).await;
    syncs(&env, "after the rotation").await;
    role.set_password(&env, "third").await;
    let refused = || logged(&env, "rejects the login") > 0;
    role.terminate_sessions_until(&env, "the old password is refused", refused).await;
    replace(&passfile, &line("third"));
    syncs(&env, "after the late rotation").await;
    stop(daemon).await;
    role.drop(&env).await;
}

/// The host cannot be told from another server before a connection has succeeded.
#[tokio::test(flavor = "multi_thread")]
async fn a_mistyped_host_is_corrected_in_the_file() {
    let (env, role) = set_up("url_file = \"database_url\"").await;
    let good = role.url_with("first");
    replace(&role.file, &good.replace(&format!(":{}/", role.url.port().unwrap()), ":1/"));
    let daemon = env.start("run", &["run"]);
    env.eventually("the first attempt fails", async || logged(&env, "nothing listens at") > 0).await;
    replace(&role.file, &good);
    syncs(&env, "with the right host").await;
    stop(daemon).await;
    role.drop(&env).await;
}
