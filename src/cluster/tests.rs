//! Tests of the private PostgreSQL server, with the installed programs: it starts, survives a kill, and leaves nothing
//! behind, however its owner ends.
//!
//! Owns: the tests of the whole module. Must not know: imsync's tables, IM.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use sqlx::{Connection, Executor, PgConnection, Row};

use super::binaries::{Binaries, UnprivilegedUser};
use super::supervisor::{MAX_POLLS, POLL_INTERVAL};
use super::{Cluster, ClusterError, ClusterOptions, create_database};

/// Waits until a cluster's directory has been removed.
fn wait_until_removed(directory: &Path) {
    for _ in 0..MAX_POLLS {
        if !directory.exists() {
            return;
        }
        std::thread::sleep(POLL_INTERVAL);
    }
    panic!("{} still exists", directory.display());
}

/// Number of processes whose working directory is in the cluster's directory: the server and its child processes.
fn processes_in(directory: &Path) -> usize {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries.filter(|entry| fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(directory))).count()
}

#[tokio::test]
async fn a_killed_server_recovers_and_a_dropped_one_leaves_nothing() {
    let mut cluster = Cluster::start(ClusterOptions {
        max_prepared_transactions: 3,
        settings: vec![("work_mem".to_owned(), "5MB".to_owned())],
        ..ClusterOptions::default()
    })
    .unwrap();
    let directory = cluster.directory().to_path_buf();
    let url = cluster.create_database("people").await.unwrap();
    let mut connection = PgConnection::connect(&url).await.unwrap();
    connection
        .execute("CREATE TABLE t AS SELECT 7 AS n; BEGIN; INSERT INTO t VALUES (8); PREPARE TRANSACTION 'kept'")
        .await
        .unwrap();
    let shown =
        sqlx::query("SELECT current_setting('work_mem') AS work_mem, current_setting('listen_addresses') AS listen")
            .fetch_one(&mut connection)
            .await
            .unwrap();
    assert_eq!(shown.get::<String, _>("work_mem"), "5MB");
    assert_eq!(shown.get::<String, _>("listen"), "127.0.0.1");

    cluster.kill().unwrap();
    PgConnection::connect(&url).await.expect_err("a killed server refuses connections");
    cluster.restart().unwrap();
    let mut connection = PgConnection::connect(&url).await.unwrap();
    connection.execute("COMMIT PREPARED 'kept'").await.unwrap();
    let sum: i64 = sqlx::query_scalar("SELECT sum(n) FROM t").fetch_one(&mut connection).await.unwrap();
    assert_eq!(sum, 15);

    assert!(processes_in(&directory) > 0);
    drop(cluster);
    assert!(!directory.exists());
    assert_eq!(processes_in(&directory), 0);
}

#[tokio::test]
async fn a_standby_follows_its_primary_and_leaves_nothing() {
    let settings = [("wal_level", "replica"), ("max_wal_senders", "3")].map(|(key, value)| (key.into(), value.into()));
    let mut primary =
        Cluster::start(ClusterOptions { settings: settings.to_vec(), ..ClusterOptions::default() }).unwrap();
    let url = primary.create_database("people").await.unwrap();
    let standby = primary.standby().unwrap();
    let mut writer = PgConnection::connect(&url).await.unwrap();
    writer.execute("CREATE TABLE t AS SELECT 7 AS n").await.unwrap();
    let mut reader = PgConnection::connect(&standby.url("people")).await.unwrap();
    let mut arrived = false;
    for _ in 0..MAX_POLLS {
        let found = sqlx::query_scalar("SELECT pg_is_in_recovery() AND to_regclass('t') IS NOT NULL");
        arrived = found.fetch_one(&mut reader).await.unwrap();
        if arrived {
            break;
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    assert!(arrived, "{}", standby.last_log_lines());
    let directory = standby.directory().to_path_buf();
    drop(standby);
    assert!(!directory.exists());
    assert_eq!(processes_in(&directory), 0);
    writer.execute("INSERT INTO t VALUES (8)").await.unwrap();
}

#[tokio::test]
async fn a_name_that_would_need_quoting_is_refused() {
    for name in ["", "a b", "x; DROP DATABASE y", "Übung", "1st"] {
        let refused = create_database("postgres://127.0.0.1:1/postgres", name, "template0").await;
        assert!(matches!(refused, Err(ClusterError::Name(_))), "{name}");
    }
}

/// Not a test of its own: the process that the next test kills.
#[test]
#[ignore = "started by the next test"]
fn own_a_cluster() {
    let cluster = Cluster::start(ClusterOptions::default()).unwrap();
    println!("\ncluster {}", cluster.directory().display());
    std::thread::sleep(Duration::from_mins(5));
}

#[test]
fn a_killed_owner_leaves_nothing() {
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "cluster::tests::own_a_cluster", "--ignored", "--nocapture"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(owner.stdout.take().unwrap()).lines();
    let directory =
        lines.map_while(Result::ok).find_map(|line| line.strip_prefix("cluster ").map(PathBuf::from)).unwrap();
    assert!(processes_in(&directory) > 0);
    owner.kill().unwrap();
    owner.wait().unwrap();
    wait_until_removed(&directory);
    assert_eq!(processes_in(&directory), 0);
}

#[test]
fn a_missing_postgresql_is_reported_with_what_to_install() {
    let empty = tempfile::tempdir().unwrap();
    let error = Binaries::search(OsStr::new(""), empty.path()).unwrap_err().to_string();
    assert!(error.contains("apt-get install postgresql"), "{error}");
}

fn write_fake_programs(directory: &Path, version: &str) {
    fs::create_dir_all(directory).unwrap();
    for program in ["initdb", "postgres"] {
        fs::write(directory.join(program), format!("#!/bin/sh\necho 'postgres (PostgreSQL) {version}'\n")).unwrap();
        fs::set_permissions(directory.join(program), fs::Permissions::from_mode(0o755)).unwrap();
    }
}

#[test]
fn a_supported_version_on_path_comes_before_the_newest_other() {
    let root = tempfile::tempdir().unwrap();
    let (path, versioned) = (root.path().join("path"), root.path().join("versioned"));
    write_fake_programs(&path, "13.4");
    let too_old = Binaries::search(path.as_os_str(), &versioned).unwrap_err();
    assert!(matches!(too_old, ClusterError::TooOld { major: 13 }), "{too_old}");
    write_fake_programs(&versioned.join("9.6/bin"), "9.6.24");
    write_fake_programs(&versioned.join("15/bin"), "15.18 (Debian 15.18-0+deb12u1)");
    write_fake_programs(&versioned.join("18/bin"), "18beta1");
    let found = Binaries::search(path.as_os_str(), &versioned).unwrap();
    assert_eq!((found.major, found.directory), (18, versioned.join("18/bin")));
    write_fake_programs(&path, "14.1");
    assert_eq!(Binaries::search(path.as_os_str(), &versioned).unwrap().directory, path);
}

#[test]
fn the_unprivileged_user_is_postgres_or_nobody_never_root() {
    let nobody = "root:x:0:0::/:/bin/sh\nnobody:x:65534:65533:nobody:/:/bin/false\n";
    assert_eq!(UnprivilegedUser::from_passwd(nobody), Some(UnprivilegedUser { uid: 65534, gid: 65533 }));
    let both = format!("{nobody}postgres:x:101:104:PostgreSQL administrator,,,:/var/lib/postgresql:/bin/bash\n");
    assert_eq!(UnprivilegedUser::from_passwd(&both), Some(UnprivilegedUser { uid: 101, gid: 104 }));
    assert_eq!(UnprivilegedUser::from_passwd("postgres:x:0:0::/:/bin/sh\n"), None);
}
