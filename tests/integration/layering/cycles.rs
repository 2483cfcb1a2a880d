//! Cycles between the files of one module: which files import each other in a circle, and which import to remove.
//!
//! Owns: the graph of files inside a module of `src/`. Must not know: the order of the modules.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::imports::{Import, module_of};

/// One file of `src/` with what it imports outside its tests.
pub(super) struct SourceFile {
    pub(super) path: PathBuf,
    pub(super) imports: Vec<Import>,
}

/// What one file takes from another: the names, and the line of the first.
#[derive(Default)]
struct Arrow {
    names: BTreeSet<String>,
    line: usize,
}

type Graph<'a> = BTreeMap<&'a Path, BTreeMap<&'a Path, Arrow>>;

/// A sentence for each cycle of files inside one module. `mod.rs` is a file like any other: what it re-exports from a
/// child it imports, and a child that names it imports it.
pub(super) fn cycles(files: &[SourceFile]) -> Vec<String> {
    let graph = graph(files);
    let mut reported: BTreeSet<&Path> = BTreeSet::new();
    let mut sentences = Vec::new();
    for &file in graph.keys() {
        if reported.contains(file) {
            continue;
        }
        let circle: Vec<&Path> = graph
            .keys()
            .copied()
            .filter(|other| reaches(&graph, file, other) && reaches(&graph, other, file))
            .collect();
        if circle.is_empty() {
            continue;
        }
        reported.extend(&circle);
        sentences.push(sentence(&graph, &circle));
    }
    sentences
}

fn graph(files: &[SourceFile]) -> Graph<'_> {
    let by_module: BTreeMap<Vec<String>, &Path> =
        files.iter().map(|file| (module_of(&file.path), file.path.as_path())).collect();
    let mut graph = Graph::new();
    for file in files {
        let arrows = graph.entry(file.path.as_path()).or_default();
        let own = module_of(&file.path);
        for import in file.imports.iter().filter(|import| !import.foreign && !import.in_test) {
            if own.first().is_none_or(|module| module != import.module()) {
                continue;
            }
            let Some((target, depth)) = target(&by_module, &import.path) else { continue };
            if target == file.path {
                continue;
            }
            let arrow = arrows.entry(target).or_default();
            if arrow.names.is_empty() {
                arrow.line = import.line;
            }
            arrow.names.insert(import.path.get(depth).cloned().unwrap_or_else(|| "self".to_owned()));
        }
    }
    graph
}

/// The file in which a path ends, and how many of its names lead to that file.
fn target<'a>(by_module: &BTreeMap<Vec<String>, &'a Path>, path: &[String]) -> Option<(&'a Path, usize)> {
    (1..=path.len()).rev().find_map(|depth| by_module.get(&path[..depth]).map(|file| (*file, depth)))
}

/// Whether imports lead from one file to another, in at least one step.
fn reaches(graph: &Graph<'_>, from: &Path, to: &Path) -> bool {
    let mut open = vec![from];
    let mut seen = BTreeSet::new();
    while let Some(file) = open.pop() {
        for next in graph.get(file).into_iter().flat_map(BTreeMap::keys) {
            if *next == to {
                return true;
            }
            if seen.insert(*next) {
                open.push(next);
            }
        }
    }
    false
}

fn sentence(graph: &Graph<'_>, circle: &[&Path]) -> String {
    let arrows = circle.iter().flat_map(|from| {
        let targets = graph.get(from).into_iter().flatten();
        targets.filter(|(to, _)| circle.contains(to)).map(move |(to, arrow)| (*from, *to, arrow))
    });
    // A child should not import its parent, which declares it. Otherwise the arrow with the fewest names is the cheapest.
    let cost = |(from, to, arrow): &(&Path, &Path, &Arrow)| {
        let to_parent = module_of(from).starts_with(&module_of(to));
        (!to_parent, arrow.names.len())
    };
    let (from, to, arrow) = arrows.min_by_key(cost).expect("a cycle has arrows");
    let names: Vec<&str> = arrow.names.iter().map(String::as_str).collect();
    let files: Vec<String> = circle.iter().map(|file| format!("src/{}", file.display())).collect();
    format!(
        "{} import each other in a cycle; remove the import of {} by src/{}:{} ({}), for example by moving it to a file that \
         both import",
        files.join(", "),
        format_args!("src/{}", to.display()),
        from.display(),
        arrow.line,
        names.join(", ")
    )
}
