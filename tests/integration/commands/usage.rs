//! Wrong usage and wrong configuration end with 2, before anything is touched; help and version.

use std::net::TcpListener;
use std::path::Path;

use tempfile::TempDir;

use crate::support::{Ran, binary, run};

/// A directory with a configuration that is right, for a database and an IM at this port.
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

async fn imsync(directory: &Path, arguments: &[&str]) -> Ran {
    let mut command = binary(directory);
    command.args(arguments);
    run(command).await
}

const EVERY_COMMAND: [&[&str]; 13] = [
    &["run"],
    &["run", "--once"],
    &["backfill"],
    &["backfill", "--dry-run"],
    &["check"],
    &["check", "--offline"],
    &["status"],
    &["preview"],
    &["rejected"],
    &["rejected", "retry"],
    &["migrate"],
    &["migrate", "--print"],
    &["migrate", "--rebind"],
];

/// Stands where database and IM are meant to be, and sees who comes.
struct ConnectionDetector(TcpListener);

impl ConnectionDetector {
    fn stand() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        Self(listener)
    }

    fn port(&self) -> u16 {
        self.0.local_addr().unwrap().port()
    }

    #[track_caller]
    fn saw_nobody(&self) {
        assert!(self.0.accept().is_err(), "somebody connected although the command line or configuration is wrong");
    }
}

#[tokio::test]
async fn a_wrong_command_line_ends_with_2() {
    let bystander = ConnectionDetector::stand();
    let directory = configured(bystander.port());
    let wrong: [&[&str]; 12] = [
        &[],
        &["frobnicate"],
        &["run", "--json"],
        &["run", "--once", "surplus"],
        &["migrate", "--print", "--rebind"],
        &["preview", "--full", "--account", "u1"],
        &["preview", "--limit", "many"],
        &["backfill", "--account"],
        &["rejected", "--all", "retry"],
        &["status", "-q", "-v"],
        &["status", "--log-format", "xml"],
        &["simulate", "--fault", "explode"],
    ];
    for arguments in wrong {
        let ran = imsync(directory.path(), arguments).await.expect_code(2);
        assert!(ran.stdout.is_empty(), "complaints go to stderr: {ran:?}");
        assert!(!ran.stderr.is_empty(), "imsync {arguments:?} says nothing");
    }
    for later in ["explain", "verify", "attributes", "init", "history", "forget", "completions"] {
        imsync(directory.path(), &[later]).await.expect_code(2).expect_all(&["unrecognized subcommand", later]);
    }
    bystander.saw_nobody();
}

#[tokio::test]
async fn a_wrong_configuration_ends_every_command_with_2_and_all_that_is_wrong() {
    let bystander = ConnectionDetector::stand();
    let directory = configured(bystander.port());
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
    let calling: [&[&str]; 5] = [&["run"], &["run", "--once"], &["backfill"], &["check"], &["check", "--offline"]];
    for arguments in calling {
        imsync(directory.path(), arguments).await.expect_code(2).expect_all(&["im.secret_key_file", "secret_key"]);
    }
    bystander.saw_nobody();
    drop(bystander);
    let reading: [&[&str]; 7] = [
        &["status"],
        &["preview"],
        &["backfill", "--dry-run"],
        &["rejected"],
        &["rejected", "retry"],
        &["migrate"],
        &["migrate", "--print"],
    ];
    for arguments in reading {
        let ran = imsync(directory.path(), arguments).await.expect_code(1);
        assert!(ran.stderr.contains("refused"), "a database that is away is 1, and the reason is told: {ran:?}");
    }
}

#[tokio::test]
async fn the_configuration_is_found_where_it_is_said_to_be() {
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
    // The path taken is logged; the key file is looked up beside the configuration, wherever the command runs.
    offline(&[("IMSYNC_CONFIG", &file)], &[]).await.expect_code(0).expect_all(&["configuration read", &shown]);
    offline(&[("IMSYNC_CONFIG", Path::new("missing.toml"))], &[])
        .await
        .expect_code(2)
        .expect_all(&["missing.toml", "IMSYNC_CONFIG"]);
    offline(&[("IMSYNC_CONFIG", Path::new("missing.toml"))], &["-c", &shown]).await.expect_code(0);
    offline(&[], &["-c", "nowhere.toml"]).await.expect_code(2).expect_all(&["nowhere.toml"]);

    // Credentials that systemd hands over are the place for relative names.
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

#[tokio::test]
async fn version_and_help_are_as_they_were() {
    let directory = tempfile::tempdir().unwrap();
    let version = imsync(directory.path(), &["--version"]).await.expect_code(0);
    assert_eq!(version.stdout, format!("imsync {}\n", env!("CARGO_PKG_VERSION")));

    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/help");
    let update = std::env::var_os("UPDATE_HELP").is_some();
    let mut differing = Vec::new();
    let commands = ["", "run", "backfill", "check", "status", "preview", "rejected", "rejected retry", "migrate"];
    for command in commands.into_iter().chain(["simulate", "demo"]) {
        let mut asked = binary(directory.path());
        asked.args(command.split_whitespace()).arg("--help").env("COLUMNS", "100");
        let help = run(asked).await.expect_code(0).stdout;
        let name = if command.is_empty() { "imsync".to_owned() } else { command.replace(' ', "-") };
        let file = place.join(format!("{name}.txt"));
        if update {
            std::fs::write(&file, &help).unwrap();
        } else if std::fs::read_to_string(&file).unwrap_or_default() != help {
            differing.push(format!("{}\n{help}", file.display()));
        }
    }
    assert!(
        differing.is_empty(),
        "help texts changed; if that is meant, run this test with UPDATE_HELP=1:\n{}",
        differing.join("\n")
    );
}
