//! Files that are no configuration, and good ones that came to harm: no panic, every key with its place, no secret.

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::Problems;
use super::super::document::MOST_TOLD;
use super::super::keys::{KEYS, split};
use super::{MINIMAL, problems, read};

const EXAMPLE: &str = include_str!("../../../config.example.toml");
/// Twice, so that one is left whole when a damage hits the other.
const SECRET: &str = "hunter2hunter2";

/// A good file with a secret wherever one can stand.
fn with_secrets() -> String {
    let text = EXAMPLE
        .replace("postgres://imsync@localhost/app", &format!("postgres://imsync:{SECRET}@localhost/app"))
        .replace("# url = \"postgres://imsync@", &format!("url = \"postgres://imsync:{SECRET}@"))
        .replace("\"replace-me\"", &format!("\"{SECRET}\""))
        .replace("# webhook = \"https://alerts.example.com/imsync\"", &format!("webhook = \"https://x/{SECRET}\""));
    assert_eq!(text.matches(SECRET).count(), 4);
    assert!(read(&text).is_ok(), "{}", problems(&text));
    // Without the comments, so that a damage meets something.
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
    lines.join("\n") + "\n"
}

/// What slips of hands and tools do to a file.
#[derive(Clone, Debug)]
enum Slip {
    Truncate(prop::sample::Index),
    Drop(prop::sample::Index, usize),
    Put(prop::sample::Index, String),
    /// A line break that is gone.
    Join(prop::sample::Index),
    Swap(prop::sample::Index, prop::sample::Index),
    Twice(prop::sample::Index),
}

fn slip() -> impl Strategy<Value = Slip> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        at().prop_map(Slip::Truncate),
        (at(), 1..4_usize).prop_map(|(at, bytes)| Slip::Drop(at, bytes)),
        (at(), "[\\[\\]{}=\"'.,#\\\\a-z0-9 \n\u{0}\u{e9}\u{202e}]{1,3}").prop_map(|(at, put)| Slip::Put(at, put)),
        at().prop_map(Slip::Join),
        (at(), at()).prop_map(|(one, other)| Slip::Swap(one, other)),
        at().prop_map(Slip::Twice),
    ]
}

fn harmed(text: String, slips: Vec<Slip>) -> String {
    slips.into_iter().fold(text, |text, slip| {
        let mut lines: Vec<&str> = text.lines().collect();
        match slip {
            // Everything here is ASCII or put in by a slip; places inside a letter move to its end.
            Slip::Truncate(at) => text[..boundary(&text, at.index(text.len() + 1))].to_owned(),
            Slip::Drop(at, bytes) => {
                let start = boundary(&text, at.index(text.len() + 1));
                let end = boundary(&text, (start + bytes).min(text.len()));
                [&text[..start], &text[end..]].concat()
            }
            Slip::Put(at, put) => {
                let at = boundary(&text, at.index(text.len() + 1));
                [&text[..at], &put, &text[at..]].concat()
            }
            _ if lines.is_empty() => text,
            Slip::Join(at) => {
                let at = at.index(lines.len());
                let (before, after) = lines.split_at(at);
                [before.join("\n"), after.join("\n")].concat()
            }
            Slip::Swap(one, other) => {
                let (one, other) = (one.index(lines.len()), other.index(lines.len()));
                lines.swap(one, other);
                lines.join("\n")
            }
            Slip::Twice(at) => {
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

/// Refused with the file, a line of it, and words on one line.
fn told(text: &str, refused: &Problems) -> Result<String, TestCaseError> {
    let lines = text.split('\n').count();
    for problem in refused.as_slice() {
        prop_assert_eq!(&problem.file, "imsync.toml");
        prop_assert!(problem.line.is_none_or(|line| (1..=lines).contains(&line)), "{}", problem);
        prop_assert!(!problem.to_string().contains('\n'), "{}", problem);
    }
    prop_assert!(refused.as_slice().len() <= 2 * MOST_TOLD + 1);
    Ok(refused.to_string())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_file_that_came_to_harm_never_shows_its_secrets(slips in vec(slip(), 1..4)) {
        let text = harmed(with_secrets(), slips);
        let shown = match read(&text) {
            // Not all of it: a password that slipped into the user's name is none any more.
            Ok(loaded) => loaded.notices.join("\n"),
            Err(problems) => told(&text, &problems)?,
        };
        prop_assert!(!shown.contains("hunter2"), "{}\n{}", shown, text);
    }
}

/// Values that no key takes: of types that TOML has and we do not, too deep, too large.
const NO_VALUES: [&str; 9] = [
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

/// Each key, with each of them: told with the line and the key, and nothing else goes wrong.
#[test]
fn every_key_refuses_what_it_cannot_be_with_its_line_and_name() {
    for key in KEYS.iter().filter(|key| !matches!(key.path, "attributes")) {
        let path = key.path.replace("NAME", "nick");
        let (section, name) = split(&path);
        for value in NO_VALUES {
            // Alone in a file: what else is missing is told too.
            let header = if section.is_empty() { String::new() } else { format!("[{section}]\n") };
            let text = format!("# Nothing here\n{header}{name} = {value}\n");
            let line = text.lines().count();
            let refused = read(&text).unwrap_err();
            let of_it = refused.as_slice().iter().any(|problem| {
                let named = problem.key.as_deref().is_some_and(|key| key.split('.').any(|part| part == name));
                problem.line == Some(line) && (named || problem.key.is_none())
            });
            assert!(of_it, "{path} = {value}:\n{refused}");
        }
    }
}

/// Texts at and over every limit, in letters of one to four bytes, with what may not be in them.
#[test]
fn every_key_bears_long_and_odd_texts() {
    let mut texts: Vec<String> = ["a", "é", "北", "👍", "e\u{301}", "\u{202e}", "\"", "\\", "'", "%", "\u{feff}", " "]
        .iter()
        .flat_map(|sign| [1, 16, 31, 32, 33, 50, 51, 63, 64, 1001, 100_000].map(|count| sign.repeat(count)))
        .collect();
    texts.extend(["\u{1}", "\n", "\u{7f}", "\u{85}", "a\tb"].map(str::to_owned));
    for key in KEYS.iter().filter(|key| !matches!(key.path, "attributes")) {
        let path = key.path.replace("NAME", "nick");
        let (section, name) = split(&path);
        for text in &texts {
            let header = if section.is_empty() { String::new() } else { format!("[{section}]\n") };
            // JSON writes texts as TOML does.
            let quoted = serde_json::Value::from(text.as_str());
            let refused = read(&format!("{header}{name} = {quoted}\n")).unwrap_err().to_string();
            let longest = refused.lines().map(str::len).max().unwrap_or_default();
            assert!(longest < 6000, "{path}: a line of {longest} bytes");
            assert!(!refused.contains(|c: char| c.is_control() && c != '\n'), "{path}: {refused:?}");
        }
    }
}

#[test]
fn no_depth_harms_the_reader() {
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
        let told = problems(&text);
        assert!(told.contains("imsync.toml:"), "{told}");
        assert!(told.len() < 10_000, "{} bytes are told", told.len());
    }
}

/// A dump or a log that was named by mistake: told at once, a screen of it and not a line for each line.
#[test]
fn a_large_file_that_is_no_configuration_is_told_in_a_hundred_lines() {
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
        let told = problems(&text);
        assert!((1..=2 * MOST_TOLD + 1).contains(&told.lines().count()), "{} lines", told.lines().count());
        let all_told = told.contains("there is more that is wrong") || told.contains("found 40000 attributes");
        assert!(all_told, "{}", told.lines().next().unwrap_or_default());
    }
    // What many look-ups list is not wrong for being many.
    let good = many(&|number| format!("k{number} = \"v\", "));
    assert!(read(&format!("{MINIMAL}[attributes.a]\ncolumn = \"a\"\nvalues = {{ {good} z = \"v\" }}\n")).is_ok());
}

#[test]
fn a_listed_text_is_no_longer_than_what_is_looked_at() {
    let listed = |bytes: usize| {
        problems(&format!("{MINIMAL}[attributes.a]\ncolumn = \"a\"\nvalues = {{ {} = \"v\" }}\n", "k".repeat(bytes)))
    };
    assert_eq!(listed(1000), "");
    assert!(listed(1001).contains("the text is longer than 1000 bytes, and no more of a column is looked at"));
}
