//! Tests `imsync demo` as a process: at its end IM equals the table, and no file or process remains, even after a kill.
//!
//! Owns: the tests of the whole demo. Must not know: the parts of the demo.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

/// A world-writable directory for temporary files, like /tmp. When root runs the tests, the private PostgreSQL runs as
/// another user, and that user must be able to write there.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder can be created");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o1777)).expect("the owner can set the mode");
    folder
}

/// Starts a demo that would run for ten minutes.
fn start_demo(folder: &TempDir) -> Child {
    Command::new(env!("CARGO_BIN_EXE_imsync"))
        .args(["demo", "--users", "500", "--seconds", "600"])
        .env("TMPDIR", folder.path())
        // The demo must not depend on the environment.
        .env("IMSYNC_SOURCE_URL", "postgres://nobody@127.0.0.1:1/nowhere")
        .env("PGSSLMODE", "require")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("imsync starts")
}

/// The number of files and directories in the folder.
fn entries(folder: &Path) -> usize {
    fs::read_dir(folder).expect("the folder exists").count()
}

/// The number of processes whose working directory is in the folder or whose arguments name it: the server, its
/// supervisor, and the imsync child processes.
fn processes_of(folder: &Path) -> usize {
    let name = folder.to_str().expect("the path is valid UTF-8").as_bytes();
    let uses_folder = |entry: &fs::DirEntry| {
        let arguments = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let works_there = fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder));
        works_there || arguments.windows(name.len()).any(|part| part == name)
    };
    fs::read_dir("/proc").expect("this is a Linux system").flatten().filter(uses_folder).count()
}

#[test]
fn a_demo_ends_without_differences_or_leftovers() {
    let folder = folder();
    let mut child = start_demo(&folder);
    let mut lines = BufReader::new(child.stdout.take().expect("stdout is a pipe")).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains(" → ")), "a change arrives before the demo is stopped");
    // Ctrl-C in a terminal sends this signal.
    let kill =
        Command::new("kill").args(["-s", "INT", &child.id().to_string()]).status().expect("kill can be executed");
    assert!(kill.success());
    let rest: Vec<String> = lines.collect();
    let status = child.wait().expect("the exit status can be read");
    assert!(status.success(), "{status}\n{rest:#?}");
    assert!(rest.last().is_some_and(|last| last.ends_with(" accounts, 0 differ")), "{rest:#?}");
    assert_eq!((entries(folder.path()), processes_of(folder.path())), (0, 0));
}

#[test]
fn a_killed_demo_leaves_no_files_or_processes() {
    let folder = folder();
    let mut child = start_demo(&folder);
    let lines = BufReader::new(child.stdout.take().expect("stdout is a pipe")).lines();
    let arrived = lines.map_while(Result::ok).any(|line| line.contains(" → "));
    assert!(arrived, "a change arrives before the demo is killed");
    assert!(processes_of(folder.path()) > 2);
    child.kill().expect("the demo is running");
    child.wait().expect("the exit status can be read");
    for _ in 0..6_000 {
        if entries(folder.path()) == 0 && processes_of(folder.path()) == 0 {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{} entries and {} processes remain", entries(folder.path()), processes_of(folder.path()));
}
