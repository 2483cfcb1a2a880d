//! Damaged configurations and files that are none: no panic, every problem with its line, no secret in a message.

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::keys::{KEYS, split_path};
use super::super::problems::{MAX_PROBLEMS, Problems};
use super::{MINIMAL, problems, read};

const EXAMPLE: &str = include_str!("../../../config.example.toml");
/// It contains the word `hunter2` twice, so that one copy is intact if the other is damaged.
const SECRET: &str = "hunter2hunter2";

/// A valid file with a secret in every key that may have one.
fn with_secrets() -> String {
    let text = EXAMPLE
        .replace("postgres://imsync@localhost/app", &format!("postgres://imsync:{SECRET}@localhost/app"))
        .replace("# url = \"postgres://imsync@", &format!("url = \"postgres://imsync:{SECRET}@"))
        .replace("\"replace-me\"", &format!("\"{SECRET}\""))
        .replace("# webhook = \"https://alerts.example.com/imsync\"", &format!("webhook = \"https://x/{SECRET}\""));
    assert_eq!(text.matches(SECRET).count(), 4);
    assert!(read(&text).is_ok(), "{}", problems(&text));
    // Without comments, so that every damage changes a key or a value.
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
    lines.join("\n") + "\n"
}

/// A small change that a typing error or a tool makes to a file.
#[derive(Clone, Debug)]
enum FileDamage {
    Truncate(prop::sample::Index),
    Drop(prop::sample::Index, usize),
    Put(prop::sample::Index, String),
    /// Removes a line break.
    Join(prop::sample::Index),
    Swap(prop::sample::Index, prop::sample::Index),
    Twice(prop::sample::Index),
}

fn damage() -> impl Strategy<Value = FileDamage> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        at().prop_map(FileDamage::Truncate),
        (at(), 1..4_usize).prop_map(|(at, bytes)| FileDamage::Drop(at, bytes)),
        (at(), "[\\[\\]{}=\"'.,#\\\\a-z0-9 \n\u{0}\u{e9}\u{202e}]{1,3}").prop_map(|(at, put)| FileDamage::Put(at, put)),
        at().prop_map(FileDamage::Join),
        (at(), at()).prop_map(|(one, other)| FileDamage::Swap(one, other)),
        at().prop_map(FileDamage::Twice),
    ]
}

fn damaged(text: String, damages: Vec<FileDamage>) -> String {
    damages.into_iter().fold(text, |text, damage| {
        let mut lines: Vec<&str> = text.lines().collect();
        match damage {
            // A position inside a character that is not ASCII moves to the end of that character.
            FileDamage::Truncate(at) => text[..boundary(&text, at.index(text.len() + 1))].to_owned(),
            FileDamage::Drop(at, bytes) => {
                let start = boundary(&text, at.index(text.len() + 1));
                let end = boundary(&text, (start + bytes).min(text.len()));
                [&text[..start], &text[end..]].concat()
            }
            FileDamage::Put(at, put) => {
                let at = boundary(&text, at.index(text.len() + 1));
                [&text[..at], &put, &text[at..]].concat()
            }
            _ if lines.is_empty() => text,
            FileDamage::Join(at) => {
                let at = at.index(lines.len());
                let (before, after) = lines.split_at(at);
                [before.join("\n"), after.join("\n")].concat()
            }
            FileDamage::Swap(one, other) => {
                let (one, other) = (one.index(lines.len()), other.index(lines.len()));
                lines.swap(one, other);
                lines.join("\n")
            }
            FileDamage::Twice(at) => {
                let at = at.index(lines.len());
                lines.insert(at, lines[at]);
                lines.join("\n")
            }
        }
    })
}

fn boundary(text: &str, at: usize) -> usize {
    (at..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len())
}

/// Checks that every problem names the file and an existing line and is one line long; returns all of them.
fn checked_problems(text: &str, refused: &Problems) -> Result<String, TestCaseError> {
    let lines = text.split('\n').count();
    for problem in refused.as_slice() {
        prop_assert_eq!(&problem.file, "imsync.toml");
        prop_assert!(problem.line.is_none_or(|line| (1..=lines).contains(&line)), "{}", problem);
        prop_assert!(!problem.to_string().contains('\n'), "{}", problem);
    }
    prop_assert!(refused.as_slice().len() <= 2 * MAX_PROBLEMS + 1);
    Ok(refused.to_string())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn problems_of_a_damaged_file_never_show_a_secret(damages in vec(damage(), 1..4)) {
        let text = damaged(with_secrets(), damages);
        let shown = match read(&text) {
            // Only the warnings: a password that moved into the user name is no longer a secret.
            Ok(loaded) => loaded.warnings.join("\n"),
            Err(problems) => checked_problems(&text, &problems)?,
        };
        prop_assert!(!shown.contains("hunter2"), "{}\n{}", shown, text);
    }
}

/// Values that no key accepts: types that no key has, deep nesting, numbers that are too large.
const INVALID_VALUES: [&str; 9] = [
    "[]",
    "[[1], \"a\"]",
    "1979-05-27T07:32:00Z",
    "07:32:00",
    "1e400",
    "99999999999999999999999999999999999999",
    "0xffffffffffffffffffffffffffffffffff",
    "{ a = { b = { c = [ { d = 1 } ] } } }",
    "\"\\u0000\"",
];

/// The problem of each key with each of these values has the line and the key.
#[test]
fn every_key_refuses_invalid_values_with_its_line_and_name() {
    for key in KEYS.iter().filter(|key| !matches!(key.path, "attributes")) {
        let path = key.path.replace("NAME", "nick");
        let (section, name) = split_path(&path);
        for value in INVALID_VALUES {
            // The required keys are missing too, so there are other problems.
            let header = if section.is_empty() { String::new() } else { format!("[{section}]\n") };
            let text = format!("# Nothing here\n{header}{name} = {value}\n");
            let line = text.lines().count();
            let refused = read(&text).unwrap_err();
            let is_reported = refused.as_slice().iter().any(|problem| {
                let named = problem.key.as_deref().is_some_and(|key| key.split('.').any(|part| part == name));
                problem.line == Some(line) && (named || problem.key.is_none())
            });
            assert!(is_reported, "{path} = {value}:\n{refused}");
        }
    }
}

/// Texts around every length limit, of characters of one to four bytes, and with characters that are refused.
#[test]
fn long_and_unusual_texts_cause_a_short_message() {
    let mut texts: Vec<String> = ["a", "é", "北", "👍", "e\u{301}", "\u{202e}", "\"", "\\", "'", "%", "\u{feff}", " "]
        .iter()
        .flat_map(|character| [1, 16, 31, 32, 33, 50, 51, 63, 64, 1001, 100_000].map(|count| character.repeat(count)))
        .collect();
    texts.extend(["\u{1}", "\n", "\u{7f}", "\u{85}", "a\tb"].map(str::to_owned));
    for key in KEYS.iter().filter(|key| !matches!(key.path, "attributes")) {
        let path = key.path.replace("NAME", "nick");
        let (section, name) = split_path(&path);
        for text in &texts {
            let header = if section.is_empty() { String::new() } else { format!("[{section}]\n") };
            // JSON and TOML quote a string in the same way.
            let quoted = serde_json::Value::from(text.as_str());
            let refused = read(&format!("{header}{name} = {quoted}\n")).unwrap_err().to_string();
            let longest = refused.lines().map(str::len).max().unwrap_or_default();
            assert!(longest < 6000, "{path}: a line of {longest} bytes");
            assert!(!refused.contains(|c: char| c.is_control() && c != '\n'), "{path}: {refused:?}");
        }
    }
}

#[test]
fn deep_nesting_does_not_overflow_the_stack() {
    let deep = 100_000;
    for text in [
        "[".repeat(deep),
        "x = ".to_owned() + &"[".repeat(deep),
        "x = ".to_owned() + &"[".repeat(deep) + &"]".repeat(deep),
        "x = ".to_owned() + &"{a=".repeat(deep),
        "a".to_owned() + &".a".repeat(deep) + " = 1",
        format!("[a{}]\nx = 1", ".a".repeat(deep)),
        format!("[[a{}]]", ".a".repeat(deep)),
        format!("[attributes]\ncity = {}", "{ values = ".repeat(deep)),
        "\"".repeat(deep),
    ] {
        let reported = problems(&text);
        assert!(reported.contains("imsync.toml:"), "{reported}");
        assert!(reported.len() < 10_000, "{} bytes are reported", reported.len());
    }
}

/// A dump or a log that was given by mistake is refused quickly, with a limited number of problems.
#[test]
fn a_large_file_has_a_limited_number_of_problems() {
    let many = |line: &dyn Fn(u32) -> String| (0..40_000).map(line).collect::<String>();
    let values = many(&|number| format!("k{number} = 1, "));
    for text in [
        "=\n".repeat(200_000),
        many(&|number| format!("{number},\"Mary\",\"mary@example.com\"\n")),
        many(&|number| format!("2026-01-01 INFO line {number}\n")),
        many(&|number| format!("k{number} = 1\n")),
        many(&|number| format!("[s{number}]\n")),
        "[source]\n".to_owned() + &many(&|number| format!("k{number} = 1\n")),
        "[attributes]\n".to_owned() + &many(&|number| format!("k{number} = 1\n")),
        format!("[attributes.a]\ncolumn = \"a\"\nvalues = {{ {values} z = 1 }}\n"),
    ] {
        let reported = problems(&text);
        assert!((1..=2 * MAX_PROBLEMS + 1).contains(&reported.lines().count()), "{} lines", reported.lines().count());
        let is_complete =
            reported.contains("the file has more problems") || reported.contains("found 40000 attributes");
        assert!(is_complete, "{}", reported.lines().next().unwrap_or_default());
    }
    // A large `values` table is valid.
    let good = many(&|number| format!("k{number} = \"v\", "));
    assert!(read(&format!("{MINIMAL}[attributes.a]\ncolumn = \"a\"\nvalues = {{ {good} z = \"v\" }}\n")).is_ok());
}

#[test]
fn a_text_in_values_is_at_most_as_long_as_what_is_read() {
    let listed = |bytes: usize| {
        problems(&format!("{MINIMAL}[attributes.a]\ncolumn = \"a\"\nvalues = {{ {} = \"v\" }}\n", "k".repeat(bytes)))
    };
    assert_eq!(listed(1000), "");
    assert!(listed(1001).contains("the text to replace has more than 1000 bytes, the most that imsync compares"));
}
