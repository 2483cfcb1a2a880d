//! The private server for real: it starts, survives a kill, and leaves nothing behind however its holder ends.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};

use sqlx::Row;

use super::*;

/// Waits until nothing is left of a cluster that nobody holds any more.
fn wait_until_gone(directory: &Path) {
    for _ in 0..PATIENCE {
        if !directory.exists() {
            return;
        }
        std::thread::sleep(POLL);
    }
    panic!("{} is still there", directory.display());
}

/// Processes whose working directory lies in the cluster's: the server and everything it started.
fn processes_in(directory: &Path) -> usize {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries.filter(|entry| fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(directory))).count()
}

#[tokio::test]
async fn starts_takes_statements_comes_back_from_a_kill_and_leaves_nothing() {
    let mut cluster = Cluster::start(Options {
        max_prepared_transactions: 3,
        settings: vec![("work_mem".to_owned(), "5MB".to_owned())],
        ..Options::default()
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
    PgConnection::connect(&url).await.expect_err("a killed server takes no connection");
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
    let primary = Cluster::start(Options { settings: settings.to_vec(), ..Options::default() }).unwrap();
    let url = primary.create_database("people").await.unwrap();
    let standby = primary.standby().unwrap();
    let mut writer = PgConnection::connect(&url).await.unwrap();
    writer.execute("CREATE TABLE t AS SELECT 7 AS n").await.unwrap();
    let mut reader = PgConnection::connect(&standby.url("people")).await.unwrap();
    let mut arrived = false;
    for _ in 0..PATIENCE {
        let found = sqlx::query_scalar("SELECT pg_is_in_recovery() AND to_regclass('t') IS NOT NULL");
        arrived = found.fetch_one(&mut reader).await.unwrap();
        if arrived {
            break;
        }
        tokio::time::sleep(POLL).await;
    }
    assert!(arrived, "{}", standby.last_words());
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

/// Not a test: the process that the next test kills.
#[test]
#[ignore = "started by the test below"]
fn hold_a_cluster() {
    let cluster = Cluster::start(Options::default()).unwrap();
    println!("\nheld {}", cluster.directory().display());
    std::thread::sleep(Duration::from_mins(5));
}

#[test]
fn a_killed_holder_leaves_nothing() {
    let mut holder = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "cluster::tests::hold_a_cluster", "--ignored", "--nocapture"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(holder.stdout.take().unwrap()).lines();
    let directory = lines.map_while(Result::ok).find_map(|line| line.strip_prefix("held ").map(PathBuf::from)).unwrap();
    assert!(processes_in(&directory) > 0);
    holder.kill().unwrap();
    holder.wait().unwrap();
    wait_until_gone(&directory);
    assert_eq!(processes_in(&directory), 0);
}

#[test]
fn without_the_programs_the_sentence_says_what_to_install() {
    let nowhere = tempfile::tempdir().unwrap();
    let error = Binaries::search(OsStr::new(""), nowhere.path()).unwrap_err().to_string();
    assert!(error.contains("apt-get install postgresql"), "{error}");
}

fn pretend_server(folder: &Path, version: &str) {
    fs::create_dir_all(folder).unwrap();
    for program in ["initdb", "postgres"] {
        fs::write(folder.join(program), format!("#!/bin/sh\necho 'postgres (PostgreSQL) {version}'\n")).unwrap();
        fs::set_permissions(folder.join(program), fs::Permissions::from_mode(0o755)).unwrap();
    }
}

#[test]
fn the_newest_of_the_versioned_folders_is_taken_and_an_old_one_on_path_passed_over() {
    let root = tempfile::tempdir().unwrap();
    let (path, versioned) = (root.path().join("path"), root.path().join("versioned"));
    pretend_server(&path, "13.4");
    let too_old = Binaries::search(path.as_os_str(), &versioned).unwrap_err();
    assert!(matches!(too_old, ClusterError::TooOld { major: 13 }), "{too_old}");
    pretend_server(&versioned.join("9.6/bin"), "9.6.24");
    pretend_server(&versioned.join("15/bin"), "15.18 (Debian 15.18-0+deb12u1)");
    pretend_server(&versioned.join("18/bin"), "18beta1");
    let found = Binaries::search(path.as_os_str(), &versioned).unwrap();
    assert_eq!((found.major, found.folder), (18, versioned.join("18/bin")));
    pretend_server(&path, "14.1");
    assert_eq!(Binaries::search(path.as_os_str(), &versioned).unwrap().folder, path);
}

#[test]
fn the_unprivileged_user_is_postgres_before_nobody_and_never_root() {
    let nobody = "root:x:0:0::/:/bin/sh\nnobody:x:65534:65533:nobody:/:/bin/false\n";
    assert_eq!(Unprivileged::from_passwd(nobody), Some(Unprivileged { uid: 65534, gid: 65533 }));
    let both = format!("{nobody}postgres:x:101:104:PostgreSQL administrator,,,:/var/lib/postgresql:/bin/bash\n");
    assert_eq!(Unprivileged::from_passwd(&both), Some(Unprivileged { uid: 101, gid: 104 }));
    assert_eq!(Unprivileged::from_passwd("postgres:x:0:0::/:/bin/sh\n"), None);
}
