//! The order of the modules: this test reads `src/` and fails on an import against the order, or on a cycle of files.
//!
//! Owns: the order, and which module may import which. Must not know: what the modules do.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use self::cycles::{SourceFile, cycles};
use self::imports::{Import, imports};
use self::type_names::shared_names;

mod cycles;
mod imports;
mod samples;
mod type_names;

/// From the bottom to the top. A module imports only from lines above its own; modules of one line do not import each other.
const ORDER: [&[&str]; 19] = [
    &["model", "quote", "sqlstate", "finding"],
    &["clock", "crash", "call_share", "secret_file", "http_client"],
    &["metrics"],
    &["postgres"],
    &["logging"],
    &["cluster", "simulator"],
    &["config"],
    &["im"],
    &["source"],
    &["mapping"],
    &["diff"],
    &["push"],
    &["state"],
    &["pass"],
    &["status"],
    &["service"],
    &["commands"],
    &["cli"],
    &["main"],
];

/// What a module must not import although the order allows it: module, imports, reason.
const FORBIDDEN: [(&str, &[&str], &str); 7] = [
    ("source", &["im"], "the source does not know IM"),
    ("mapping", &["im", "source"], "the mapping is pure: it knows neither IM nor PostgreSQL"),
    ("diff", &["im", "source"], "the diff is pure: it knows neither IM nor PostgreSQL"),
    (
        "state",
        &["im", "source", "mapping", "push"],
        "the state only stores: it knows neither IM nor the customer's table",
    ),
    ("push", &["source", "mapping", "diff"], "push receives changes; it knows neither SQL nor rows"),
    (
        "cli",
        &["source", "mapping", "diff", "push", "state", "im"],
        "cli parses arguments, calls a command and returns its exit code",
    ),
    ("main", &["source", "mapping", "diff", "push", "state", "im", "pass"], "main only calls cli"),
];

/// Modules for the demo and for tests: a private PostgreSQL and a simulated IM.
const STAND_INS: [&str; 2] = ["cluster", "simulator"];

/// Modules that contain no SQL.
const WITHOUT_SQL: [&str; 9] = ["model", "clock", "metrics", "config", "im", "mapping", "diff", "push", "simulator"];

/// An import or a file that is not allowed, as a sentence.
#[derive(Debug, PartialEq, Eq)]
struct Offence(String);

impl fmt::Display for Offence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn level(module: &str) -> Option<usize> {
    ORDER.iter().position(|level| level.contains(&module))
}

/// The top-level module of a file: `push/call.rs` belongs to `push`, `clock.rs` to `clock`, `lib.rs` to none.
fn top_module(file: &Path) -> Option<String> {
    let first = file.iter().next()?.to_str()?;
    match first.strip_suffix(".rs").unwrap_or(first) {
        "lib" => None,
        module => Some(module.to_owned()),
    }
}

/// The offences of one file; `file` is relative to `src/`.
fn examine(file: &Path, text: &str) -> Vec<Offence> {
    let shown = format!("src/{}", file.display());
    let mut offences = Vec::new();
    if !text.starts_with("//!") {
        offences.push(Offence(format!(
            "{shown} does not begin with //!; say what the file owns and what it must not know"
        )));
    }
    let Some(module) = top_module(file) else { return offences };
    let Some(own_level) = level(&module) else {
        offences.push(Offence(format!(
            "{shown}: the module `{module}` has no place in the order; add it to ORDER in tests/integration/layering.rs"
        )));
        return offences;
    };
    for import in imports(file, text) {
        if let Some(reason) = violation(&module, own_level, file, &import) {
            offences.push(Offence(format!("{shown}:{} imports {}: {reason}", import.line, import.display())));
        }
    }
    // A group that names several items of one module is one offence.
    offences.dedup();
    offences
}

/// Why this import is not allowed; `None` when it is.
fn violation(module: &str, own_level: usize, file: &Path, import: &Import) -> Option<String> {
    let target = import.module();
    if import.foreign {
        let speaks_sql = target == "sqlx" && WITHOUT_SQL.contains(&module) && !import.in_test && !is_test(file);
        return speaks_sql.then(|| format!("`{module}` contains no SQL"));
    }
    if target == module {
        return None;
    }
    if target == "*" {
        return Some("a star hides which modules are used; name them".to_owned());
    }
    let Some(target_level) = level(target) else {
        return Some("it is not a module; import an item from the module that owns it".to_owned());
    };
    if module == "simulator" {
        return Some(
            "the simulator is an island: it imports nothing from the crate, otherwise client and simulator could share a bug"
                .to_owned(),
        );
    }
    if target_level >= own_level {
        return Some(format!("`{target}` does not come before `{module}` in the order of the modules"));
    }
    if let Some((_, _, reason)) = FORBIDDEN.iter().find(|(of, what, _)| *of == module && what.contains(&target)) {
        return Some((*reason).to_owned());
    }
    let test = import.in_test || is_test(file);
    if STAND_INS.contains(&target) && !test && !matches!(module, "commands" | "cli" | "main") {
        return Some(format!("`{target}` is for the demo and for tests"));
    }
    None
}

/// Whether the file is `tests.rs` or lies in a folder `tests`.
fn is_test(file: &Path) -> bool {
    file.iter().any(|part| part == "tests" || part == "tests.rs")
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(folder).expect("src can be read");
    for entry in entries {
        let path = entry.expect("src can be read").path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Every file of `src/` with its path relative to `src/` and its text.
fn sources() -> Vec<(PathBuf, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&src, &mut files);
    files.sort();
    assert!(files.len() > 5, "too few files in {} to mean anything", src.display());
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("src can be read");
        (path.strip_prefix(&src).expect("found below src").to_owned(), text)
    };
    files.into_iter().map(read).collect()
}

#[test]
fn every_import_follows_the_order_of_the_modules() {
    let offences: Vec<String> =
        sources().iter().flat_map(|(file, text)| examine(file, text)).map(|offence| offence.to_string()).collect();
    assert!(offences.is_empty(), "\n{}\n", offences.join("\n"));
}

#[test]
fn no_files_of_a_module_import_each_other_in_a_cycle() {
    let files: Vec<SourceFile> = sources()
        .into_iter()
        .filter(|(path, _)| !is_test(path) && top_module(path).is_some())
        .map(|(path, text)| SourceFile { imports: imports(&path, &text), path })
        .collect();
    let sentences = cycles(&files);
    assert!(sentences.is_empty(), "\n{}\n", sentences.join("\n"));
}

#[test]
fn no_type_name_is_defined_twice() {
    let files = sources();
    let sentences = shared_names(files.iter().map(|(path, text)| (path.as_path(), text.as_str())));
    assert!(sentences.is_empty(), "\n{}\n", sentences.join("\n"));
}
