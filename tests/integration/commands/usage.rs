//! Tests that wrong usage and a wrong configuration exit with 2 before imsync opens a connection. Tests the help texts
//! and the version.
//!
//! Owns: what the command line and the configuration file alone decide. Must not know: databases, IM.

use std::net::TcpListener;
use std::path::Path;

use tempfile::TempDir;

use crate::support::{CommandOutput, binary, run};

/// A directory with a valid configuration whose database and IM are at this port.
fn configured(port: u16) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let text = format!(
        "name = \"users\"\n[source]\nurl = \"postgres://imsync@127.0.0.1:{port}/none\"\ntable = \"users\"\naccount_column = \"id\"\n\
         [im]\nbase_url = \"http://127.0.0.1:{port}\"\nsdk_app_id = 1400000000\nidentifier = \"administrator\"\n\
         secret_key_file = \"secret_key\"\n[attributes]\ncity = \"city\"\n"
    );
    std::fs::write(directory.path().join("imsync.toml"), text).unwrap();
    std::fs::write(directory.path().join("secret_key"), "a-key\n").unwrap();
    directory
}

async fn imsync(directory: &Path, arguments: &[&str]) -> CommandOutput {
    let mut command = binary(directory);
    command.args(arguments);
    run(command).await
}

const EVERY_COMMAND: [&[&str]; 21] = [
    &["run"],
    &["run", "--once"],
    &["backfill"],
    &["backfill", "--dry-run"],
    &["check"],
    &["check", "--offline"],
    &["status"],
    &["preview"],
    &["explain", "u1"],
    &["explain", "u1", "--no-im"],
    &["verify"],
    &["verify", "--all", "--repair"],
    &["attributes"],
    &["attributes", "apply"],
    &["forget", "u1"],
    &["history"],
    &["rejected"],
    &["rejected", "retry"],
    &["migrate"],
    &["migrate", "--print"],
    &["migrate", "--rebind"],
];

/// A listener at the address of the database and IM that detects connections.
struct ConnectionDetector(TcpListener);

impl ConnectionDetector {
    fn bind() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        Self(listener)
    }

    fn port(&self) -> u16 {
        self.0.local_addr().unwrap().port()
    }

    #[track_caller]
    fn assert_unused(&self) {
        assert!(self.0.accept().is_err(), "imsync connected although the command line or the configuration is wrong");
    }
}

#[tokio::test]
async fn a_wrong_command_line_exits_with_2() {
    let detector = ConnectionDetector::bind();
    let directory = configured(detector.port());
    let wrong: [&[&str]; 20] = [
        &[],
        &["frobnicate"],
        &["run", "--json"],
        &["run", "--once", "surplus"],
        &["migrate", "--print", "--rebind"],
        &["preview", "--full", "--account", "u1"],
        &["preview", "--limit", "many"],
        &["backfill", "--account"],
        &["rejected", "--all", "retry"],
        &["attributes", "--json", "apply"],
        &["explain"],
        &["history", "--since", "yesterday"],
        &["history", "--limit", "0"],
        &["init", "--sdk-app-id", "0"],
        &["init", "postgres://localhost/app", "users", "surplus"],
        &["status", "-q", "-v"],
        &["status", "--log-format", "xml"],
        &["simulate", "--fault", "explode"],
        &["completions"],
        &["completions", "tcsh"],
    ];
    for arguments in wrong {
        let ran = imsync(directory.path(), arguments).await.expect_code(2);
        assert!(ran.stdout.is_empty(), "errors go to stderr: {ran:?}");
        assert!(!ran.stderr.is_empty(), "imsync {arguments:?} prints no error");
    }
    detector.assert_unused();
}

#[tokio::test]
async fn a_wrong_configuration_exits_with_2_and_lists_all_problems() {
    let detector = ConnectionDetector::bind();
    let directory = configured(detector.port());
    let file = directory.path().join("imsync.toml");
    let right = std::fs::read_to_string(&file).unwrap();
    let wrong = right
        .replace("account_column = \"id\"", "account_column = \"id\"\npage_sice = 100")
        .replace("sdk_app_id = 1400000000", "sdk_app_id = \"many\"\nusers_per_call = 101\nregion = \"singapore\"");
    std::fs::write(&file, &wrong).unwrap();
    for arguments in EVERY_COMMAND {
        imsync(directory.path(), arguments).await.expect_code(2).expect_all(&[
            "imsync.toml:6",
            "source.page_sice",
            "page_size",
            "imsync.toml:9",
            "im.sdk_app_id",
            "im.users_per_call",
            "100",
            "im.base_url",
            "im.region",
        ]);
    }
    let check = imsync(directory.path(), &["check", "--json"]).await.expect_code(2);
    assert_eq!(check.json()["ok"], false);

    // Only commands that call IM read the secret key.
    std::fs::write(&file, right).unwrap();
    std::fs::remove_file(directory.path().join("secret_key")).unwrap();
    let calling: [&[&str]; 10] = [
        &["run"],
        &["run", "--once"],
        &["backfill"],
        &["check"],
        &["check", "--offline"],
        &["explain", "u1"],
        &["verify"],
        &["attributes"],
        &["attributes", "apply"],
        &["forget", "u1"],
    ];
    for arguments in calling {
        imsync(directory.path(), arguments).await.expect_code(2).expect_all(&["im.secret_key_file", "secret_key"]);
    }
    detector.assert_unused();
    drop(detector);
    let reading: [&[&str]; 9] = [
        &["status"],
        &["preview"],
        &["explain", "u1", "--no-im"],
        &["backfill", "--dry-run"],
        &["history"],
        &["rejected"],
        &["rejected", "retry"],
        &["migrate"],
        &["migrate", "--print"],
    ];
    for arguments in reading {
        let ran = imsync(directory.path(), arguments).await.expect_code(1);
        assert!(ran.stderr.contains("refused"), "exit code 1 comes with the reason: {ran:?}");
    }
}

#[tokio::test]
async fn the_configuration_is_searched_in_the_documented_order() {
    let directory = configured(1);
    let elsewhere = tempfile::tempdir().unwrap();
    let offline = |environment: &[(&str, &Path)], arguments: &[&str]| {
        let mut command = binary(elsewhere.path());
        command.args(["check", "--offline", "-v"]).args(arguments);
        for (name, value) in environment {
            command.env(name, value);
        }
        run(command)
    };
    let file = directory.path().join("imsync.toml");
    let shown = file.display().to_string();

    imsync(directory.path(), &["check", "--offline"]).await.expect_code(0);
    offline(&[], &[]).await.expect_code(2).expect_all(&["IMSYNC_CONFIG", "/etc/imsync/imsync.toml"]);
    // The path of the configuration is logged. The key file is read from the directory of the configuration file.
    offline(&[("IMSYNC_CONFIG", &file)], &[]).await.expect_code(0).expect_all(&["configuration read", &shown]);
    offline(&[("IMSYNC_CONFIG", Path::new("missing.toml"))], &[])
        .await
        .expect_code(2)
        .expect_all(&["missing.toml", "IMSYNC_CONFIG"]);
    offline(&[("IMSYNC_CONFIG", Path::new("missing.toml"))], &["-c", &shown]).await.expect_code(0);
    offline(&[], &["-c", "nowhere.toml"]).await.expect_code(2).expect_all(&["nowhere.toml"]);

    // With `$CREDENTIALS_DIRECTORY` from systemd, relative names are looked up there.
    let credentials = tempfile::tempdir().unwrap();
    let places = [("IMSYNC_CONFIG", file.as_path()), ("CREDENTIALS_DIRECTORY", credentials.path())];
    offline(&places, &[]).await.expect_code(2).expect_all(&["secret_key"]);
    std::fs::rename(directory.path().join("secret_key"), credentials.path().join("secret_key")).unwrap();
    offline(&places, &[]).await.expect_code(0);
    offline(&[("IMSYNC_CONFIG", &file)], &[]).await.expect_code(2);
    offline(&[("IMSYNC_CONFIG", &file), ("IMSYNC_SECRET_KEY", Path::new("from-the-environment"))], &[])
        .await
        .expect_code(0);
}

/// The maximum width of a help text, in columns.
const HELP_WIDTH: usize = 100;

/// The arguments that print a help text, and the file that pins the text.
fn help_texts() -> Vec<(Vec<&'static str>, String)> {
    let commands = ["", "run", "backfill", "check", "status", "preview", "explain", "rejected", "rejected retry"];
    let mut texts = Vec::new();
    for command in commands.into_iter().chain([
        "verify",
        "attributes",
        "attributes apply",
        "forget",
        "history",
        "init",
        "migrate",
        "simulate",
        "demo",
        "completions",
    ]) {
        let name = if command.is_empty() { "imsync".to_owned() } else { command.replace(' ', "-") };
        for (flag, file) in [("--help", format!("{name}.txt")), ("-h", format!("{name}-short.txt"))] {
            texts.push((command.split_whitespace().chain([flag]).collect(), file));
        }
    }
    texts.push((vec!["simulate", "--help-faults"], "simulate-faults.txt".to_owned()));
    texts
}

#[tokio::test]
async fn every_command_has_its_help_text_pinned() {
    let directory = tempfile::tempdir().unwrap();
    let help = imsync(directory.path(), &["-h"]).await.expect_code(0).stdout;
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let pinned: Vec<String> = help_texts().into_iter().map(|(_, file)| file).collect();
    let mut names = commands.filter_map(|line| line.split_whitespace().next()).peekable();
    assert!(names.peek().is_some(), "{help}");
    for name in names {
        assert!(pinned.contains(&format!("{name}.txt")), "help_texts() lacks the command {name}");
    }
}

#[tokio::test]
async fn version_and_help_texts_are_unchanged() {
    let directory = tempfile::tempdir().unwrap();
    let version = imsync(directory.path(), &["--version"]).await.expect_code(0);
    assert_eq!(version.stdout, format!("imsync {}\n", env!("CARGO_PKG_VERSION")));

    let pinned = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/help");
    let update = std::env::var_os("UPDATE_HELP").is_some();
    let mut differing = Vec::new();
    for (arguments, file) in help_texts() {
        let mut command = binary(directory.path());
        command.args(&arguments).env("COLUMNS", HELP_WIDTH.to_string());
        let help = run(command).await.expect_code(0).stdout;
        for line in help.lines() {
            assert!(line.chars().count() <= HELP_WIDTH, "imsync {arguments:?}: this line is too long: {line}");
        }
        let file = pinned.join(file);
        if update {
            std::fs::write(&file, &help).unwrap();
        } else if std::fs::read_to_string(&file).unwrap_or_default() != help {
            differing.push(format!("{}\n{help}", file.display()));
        }
    }
    assert!(
        differing.is_empty(),
        "help texts have changed; if that is intended, run this test with UPDATE_HELP=1:\n{}",
        differing.join("\n")
    );
}

#[tokio::test]
async fn every_help_text_groups_the_global_options() {
    let directory = tempfile::tempdir().unwrap();
    for (arguments, _) in help_texts() {
        if arguments.contains(&"--help-faults") {
            continue;
        }
        let help = imsync(directory.path(), &arguments).await.expect_code(0).stdout;
        let (own, global) = help.split_once("\nGlobal options:\n").unwrap();
        for flag in ["--config", "--verbose", "--quiet", "--log-format", "-h, --help"] {
            assert!(global.contains(flag) && !own.contains(&format!("  {flag}")), "{arguments:?}: {flag}: {help}");
        }
        assert_eq!(help.contains("\nExamples:\n"), arguments.contains(&"--help"), "{arguments:?}: {help}");
    }
}
