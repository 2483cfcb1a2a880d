//! The crash points themselves: every one is listed and used, and a release contains none.
//!
//! Owns: reading the project's sources and manifest. Must not know: what happens at a point.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use imsync::crash::POINTS;

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the source folder can be read") {
        let path = entry.expect("a folder entry can be read").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The walk would never arrive at a point that is only in the list, and never visit one that is only in the code.
#[test]
fn every_point_is_listed_and_used() {
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    let mut used = BTreeSet::new();
    for file in files {
        let text = fs::read_to_string(file).expect("a source file is text");
        for rest in text.split("crash::point(").skip(1) {
            let name = rest.split('"').nth(1).expect("the name of a point is a string literal");
            used.insert(name.to_owned());
        }
    }
    let listed: BTreeSet<String> = POINTS.iter().map(|point| (*point).to_owned()).collect();
    assert_eq!(used, listed);
    assert_eq!(POINTS.len(), listed.len(), "a point is listed twice");
}

/// The features of the package as a build resolves them.
fn features(edges: &str) -> String {
    let mut tree = Command::new(env!("CARGO"));
    tree.args(["tree", "--offline", "--locked", "--depth", "0", "--format", "features:{f};", "--edges", edges]);
    let output = tree.current_dir(env!("CARGO_MANIFEST_DIR")).output().expect("cargo can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// `src/crash.rs` is empty without the feature, which only a test build enables.
#[test]
fn a_release_has_no_crash_points() {
    let release = features("normal,build");
    assert!(release.contains("features:") && !release.contains("crash-points"), "{release}");
    let test = features("normal,build,dev");
    assert!(test.contains("crash-points"), "{test}");
}
