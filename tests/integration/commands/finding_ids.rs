//! The ids of findings: the table in `docs/operating.md` lists exactly those that the code has.
//!
//! Owns: the comparison. Must not know: what is checked.

use std::collections::BTreeSet;
use std::path::Path;

/// The ids that follow `Finding::ok(`, `warning(`, `error(` or `unchecked(` as a literal.
fn ids_in(text: &str) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    // `hidden` of `source/hidden_changes.rs` and `index_finding` of `source/warnings.rs` make warnings.
    let constructors = ["Finding::ok(", "Finding::warning(", "Finding::error(", "Finding::unchecked("];
    for constructor in constructors.into_iter().chain([" hidden(", "(hidden(", "index_finding("]) {
        for rest in text.split(constructor).skip(1) {
            let literal = rest.trim_start().strip_prefix('"').and_then(|rest| rest.split('"').next());
            ids.extend(literal.map(str::to_owned));
        }
    }
    ids
}

fn collect(directory: &Path, ids: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, ids);
        } else {
            ids.extend(ids_in(&std::fs::read_to_string(&path).unwrap()));
        }
    }
}

#[test]
fn the_documentation_lists_every_finding_id() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut in_code = BTreeSet::new();
    collect(&root.join("src"), &mut in_code);
    assert!(in_code.len() > 15, "{in_code:?}");
    for id in &in_code {
        let word = |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        let two = id.split_once('.').is_some_and(|(what, which)| word(what) && word(which));
        assert!(two, "the id {id:?} is not two words with a dot");
    }

    let text = std::fs::read_to_string(root.join("docs/operating.md")).unwrap();
    let (_, section) = text.split_once("\n## What check reports\n").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    let listed: Vec<String> = rows.filter_map(|row| row.split('`').next()).map(str::to_owned).collect();
    let documented: BTreeSet<String> = listed.iter().cloned().collect();
    assert_eq!(documented.len(), listed.len(), "an id is listed twice: {listed:?}");
    let missing: Vec<&String> = in_code.difference(&documented).collect();
    assert!(missing.is_empty(), "add to \"What check reports\" in docs/operating.md: {missing:?}");
    let unknown: Vec<&String> = documented.difference(&in_code).collect();
    assert!(unknown.is_empty(), "no code makes these findings of docs/operating.md: {unknown:?}");
}
