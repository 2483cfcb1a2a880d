//! `imsync demo` as a process: it ends in equality, and leaves nothing behind however it ends.
//!
//! Owns: what a newcomer sees first. Must not know: the demo's parts.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

/// A folder for temporary files like /tmp: root's private PostgreSQL runs as a user of its own, who must write there.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o1777)).expect("it is ours");
    folder
}

fn demo(folder: &TempDir, seconds: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_imsync"))
        .args(["demo", "--users", "500", "--seconds", seconds])
        .env("TMPDIR", folder.path())
        // The demo is to be had whatever the environment says.
        .env("IMSYNC_SOURCE_URL", "postgres://nobody@127.0.0.1:1/nowhere")
        .env("PGSSLMODE", "require")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("imsync starts")
}

fn entries(folder: &Path) -> usize {
    fs::read_dir(folder).expect("the folder is there").count()
}

/// Processes that work in the folder or were told of it: the server, its supervisor, imsync's own children.
fn processes_of(folder: &Path) -> usize {
    let name = folder.to_str().expect("plain characters").as_bytes();
    let told = |entry: &fs::DirEntry| {
        let arguments = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let works_there = fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder));
        works_there || arguments.windows(name.len()).any(|part| part == name)
    };
    fs::read_dir("/proc").expect("Linux").flatten().filter(told).count()
}

#[test]
fn it_ends_with_table_and_im_equal_and_leaves_nothing() {
    let folder = folder();
    let output = demo(&folder, "5").wait_with_output().expect("imsync ends");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(output.status.success(), "{}\n{text}", output.status);
    let last = text.lines().last().unwrap_or_default();
    assert!(last.ends_with(" accounts, 0 differ"), "{text}");
    assert!(text.contains(" → "), "something arrived: {text}");
    assert_eq!((entries(folder.path()), processes_of(folder.path())), (0, 0));
}

#[test]
fn killed_it_leaves_nothing() {
    let folder = folder();
    let mut child = demo(&folder, "600");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let arrived = lines.map_while(Result::ok).any(|line| line.contains(" → "));
    assert!(arrived, "something arrives before it is killed");
    assert!(processes_of(folder.path()) > 2);
    child.kill().expect("it runs");
    child.wait().expect("it is our child");
    for _ in 0..6_000 {
        if entries(folder.path()) == 0 && processes_of(folder.path()) == 0 {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{} entries and {} processes are left", entries(folder.path()), processes_of(folder.path()));
}
