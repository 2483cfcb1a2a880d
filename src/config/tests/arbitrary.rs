//! No text makes the reader panic, whatever it is; and what it says is one line each, of this file.

use proptest::prelude::*;

use super::super::keys::{KEYS, split};
use super::{MINIMAL, read};

/// A value of any type, likely and unlikely ones.
fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("\"\"".to_owned()),
        Just("{}".to_owned()),
        Just("[[1], \"a\"]".to_owned()),
        Just("1979-05-27T07:32:00Z".to_owned()),
        Just("-inf".to_owned()),
        Just("1e400".to_owned()),
        Just("99999999999999999999999".to_owned()),
        Just("0xffff_ffff_ffff".to_owned()),
        Just("{ column = \"x\", values = { a = [] } }".to_owned()),
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f64>().prop_map(|number| format!("{number:?}").to_lowercase()),
        any::<bool>().prop_map(|switch| switch.to_string()),
        "[a-z0-9:/@.\\[\\]é\u{0}]{0,40}".prop_map(|text| toml_text(&text)),
        "[0-9]{0,25}(ms|s|m|h|d|)".prop_map(|text| toml_text(&text)),
        "\\PC{0,20}",
    ]
}

fn toml_text(text: &str) -> String {
    let mut quoted = String::from("\"");
    for sign in text.chars() {
        match sign {
            '"' | '\\' => quoted.extend(['\\', sign]),
            '\0' => quoted.push_str("\\u0000"),
            _ => quoted.push(sign),
        }
    }
    quoted + "\""
}

/// A line with a known key, as it stands or mistyped, below its header or another's.
fn line() -> impl Strategy<Value = String> {
    (0..KEYS.len(), 0..KEYS.len(), value(), "[a-z]?", any::<bool>()).prop_map(|(key, other, value, typo, at_home)| {
        let (section, name) = split(KEYS[key].path);
        let section = if at_home { section } else { split(KEYS[other].path).0 };
        let header = if section.is_empty() { String::new() } else { format!("[{section}]\n") };
        format!("{header}{name}{typo} = {value}\n")
    })
}

fn says_something_sensible(text: &str) -> Result<(), TestCaseError> {
    if let Err(problems) = read(text) {
        prop_assert!(!problems.as_slice().is_empty());
        let lines = text.split('\n').count();
        for problem in problems.as_slice() {
            prop_assert_eq!(&problem.file, "imsync.toml");
            prop_assert!(problem.line.is_none_or(|line| (1..=lines).contains(&line)), "{}", problem);
            prop_assert!(!problem.to_string().contains('\n'), "{}", problem);
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn random_text(text in "(?s).{0,200}") {
        says_something_sensible(&text)?;
    }

    #[test]
    fn random_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        says_something_sensible(&String::from_utf8_lossy(&bytes))?;
    }

    #[test]
    fn random_lines_of_known_keys(lines in prop::collection::vec(line(), 0..12)) {
        says_something_sensible(&lines.concat())?;
    }

    #[test]
    fn a_good_file_with_damage(at in 0..MINIMAL.len(), cut in 0..8_usize, put in "[\\[\\]{}=\"'.,#a-z0-9 \n\u{e9}]{0,6}") {
        let mut text = MINIMAL.to_owned();
        text.replace_range(at..(at + cut).min(MINIMAL.len()), &put);
        says_something_sensible(&text)?;
    }
}
