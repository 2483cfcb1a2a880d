//! The order of the rooms, kept by a test: `src/` is read, and an import against the order fails with a sentence.
//!
//! Owns: the order, and which room may use what. Must not know: what the rooms do.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use self::imports::{Import, imports};

mod imports;
mod samples;

/// From the bottom to the top. A room imports only from rows above its own; within a row, nothing but itself.
const ORDER: [&[&str]; 18] = [
    &["model", "quote"],
    &["clock", "crash"],
    &["metrics"],
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

/// What a room must not import although it stands before it: room, what, why.
const FORBIDDEN: [(&str, &[&str], &str); 7] = [
    ("source", &["im"], "the source knows no IM"),
    ("mapping", &["im", "source"], "the mapping is pure: it knows neither IM nor Postgres"),
    ("diff", &["im", "source"], "the diff is pure: it knows neither IM nor Postgres"),
    (
        "state",
        &["im", "source", "mapping", "push"],
        "the state keeps what it is told: it knows neither IM nor the customer's table",
    ),
    ("push", &["source", "mapping", "diff"], "the push stage takes changes: it knows no SQL and no rows"),
    ("cli", &["source", "mapping", "diff", "push", "state", "im"], "cli parses, calls a command, gives the exit code"),
    ("main", &["source", "mapping", "diff", "push", "state", "im", "pass"], "main calls cli"),
];

/// Test rooms and stand-ins, for the commands that show them and for tests.
const STAND_INS: [&str; 2] = ["cluster", "simulator"];

/// Rooms that speak no SQL.
const WITHOUT_SQL: [&str; 9] = ["model", "clock", "metrics", "config", "im", "mapping", "diff", "push", "simulator"];

/// An import, or a file, that is not allowed.
#[derive(Debug, PartialEq, Eq)]
struct Offence(String);

impl fmt::Display for Offence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn row(room: &str) -> Option<usize> {
    ORDER.iter().position(|row| row.contains(&room))
}

/// `push/call.rs` is of the room `push`, `clock.rs` of `clock`, `lib.rs` of none: it is the door.
fn room_of(file: &Path) -> Option<String> {
    let first = file.iter().next()?.to_str()?;
    match first.strip_suffix(".rs").unwrap_or(first) {
        "lib" => None,
        room => Some(room.to_owned()),
    }
}

/// Everything that is wrong with one file, `file` relative to `src/`.
fn examine(file: &Path, text: &str) -> Vec<Offence> {
    let shown = format!("src/{}", file.display());
    let mut offences = Vec::new();
    if !text.starts_with("//!") {
        offences.push(Offence(format!("{shown} does not begin with //!: say what it owns and what it must not know")));
    }
    let Some(room) = room_of(file) else { return offences };
    let Some(own_row) = row(&room) else {
        offences.push(Offence(format!(
            "{shown}: the room `{room}` has no place in the order; give it one in tests/integration/layering.rs"
        )));
        return offences;
    };
    for import in imports(file, text) {
        if let Some(why) = refusal(&room, own_row, file, &import) {
            offences.push(Offence(format!("{shown}:{} imports {}: {why}", import.line, import.shown())));
        }
    }
    offences
}

/// Why this import is not allowed; `None` when it is.
fn refusal(room: &str, own_row: usize, file: &Path, import: &Import) -> Option<String> {
    let target = import.room.as_str();
    if import.foreign {
        let speaks_sql = target == "sqlx" && WITHOUT_SQL.contains(&room) && !import.in_test && !is_test(file);
        return speaks_sql.then(|| format!("`{room}` knows no SQL"));
    }
    if target == room {
        return None;
    }
    if target == "*" {
        return Some("a star hides which rooms are used; name them".to_owned());
    }
    let Some(target_row) = row(target) else {
        return Some("it is no room; import a word from the room that owns it".to_owned());
    };
    if room == "simulator" {
        return Some(
            "the simulator is an island: it imports nothing of ours, so that client and fake are not wrong together"
                .to_owned(),
        );
    }
    if target_row >= own_row {
        return Some(format!("`{target}` does not stand before `{room}` in the order of the rooms"));
    }
    if let Some((_, _, why)) = FORBIDDEN.iter().find(|(of, what, _)| *of == room && what.contains(&target)) {
        return Some((*why).to_owned());
    }
    let test = import.in_test || is_test(file);
    if STAND_INS.contains(&target) && !test && !matches!(room, "commands" | "cli" | "main") {
        return Some(format!("`{target}` is for the demo and for tests"));
    }
    None
}

/// `tests.rs`, or anything in a folder `tests`.
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

#[test]
fn every_import_goes_one_way() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&src, &mut files);
    files.sort();
    assert!(files.len() > 5, "too few files in {} to mean anything", src.display());
    let mut offences = Vec::new();
    for path in files {
        let text = fs::read_to_string(&path).expect("src can be read");
        let file = path.strip_prefix(&src).expect("found below src");
        offences.extend(examine(file, &text));
    }
    let sentences: Vec<String> = offences.iter().map(ToString::to_string).collect();
    assert!(sentences.is_empty(), "\n{}\n", sentences.join("\n"));
}
