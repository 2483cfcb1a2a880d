//! Arbitrary texts as configuration files: no panic, and every problem is one line that names this file.

use proptest::prelude::*;

use super::super::keys::{KEYS, split_path};
use super::{MINIMAL, read};

/// A value of any type, plausible or not.
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
        any::<bool>().prop_map(|boolean| boolean.to_string()),
        "[a-z0-9:/@.\\[\\]é\u{0}]{0,40}".prop_map(|text| toml_text(&text)),
        "[0-9]{0,25}(ms|s|m|h|d|)".prop_map(|text| toml_text(&text)),
        "\\PC{0,20}",
    ]
}

fn toml_text(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\0' => quoted.push_str("\\u0000"),
            _ => quoted.push(character),
        }
    }
    quoted + "\""
}

/// A line with a known key, correct or mistyped, below its own section header or another.
fn line() -> impl Strategy<Value = String> {
    (0..KEYS.len(), 0..KEYS.len(), value(), "[a-z]?", any::<bool>()).prop_map(
        |(key, other, value, typo, own_section)| {
            let (section, name) = split_path(KEYS[key].path);
            let section = if own_section { section } else { split_path(KEYS[other].path).0 };
            let header = if section.is_empty() { String::new() } else { format!("[{section}]\n") };
            format!("{header}{name}{typo} = {value}\n")
        },
    )
}

fn check_problems(text: &str) -> Result<(), TestCaseError> {
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
    fn random_text_does_not_panic(text in "(?s).{0,200}") {
        check_problems(&text)?;
    }

    #[test]
    fn random_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        check_problems(&String::from_utf8_lossy(&bytes))?;
    }

    #[test]
    fn random_lines_with_known_keys_do_not_panic(lines in prop::collection::vec(line(), 0..12)) {
        check_problems(&lines.concat())?;
    }

    #[test]
    fn a_damaged_valid_file_does_not_panic(at in 0..MINIMAL.len(), cut in 0..8_usize, put in "[\\[\\]{}=\"'.,#a-z0-9 \n\u{e9}]{0,6}") {
        let mut text = MINIMAL.to_owned();
        text.replace_range(at..(at + cut).min(MINIMAL.len()), &put);
        check_problems(&text)?;
    }
}
