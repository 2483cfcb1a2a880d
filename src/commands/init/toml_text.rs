//! TOML as text: strings, keys and comments.
//!
//! Owns: what is escaped, and how a comment is wrapped. Must not know: keys of the configuration.
//!
//! The crate `toml` is built without its writer, which writes no comments.

use std::fmt::Write as _;

use crate::commands::output::escape_for_terminal;

/// The mark of a line to fill in.
pub(super) const TO_FILL_IN: &str = "# <-";
/// The longest line of a comment in characters, unless one word is longer.
const WIDTH: usize = 118;

/// A string. Quotes and backslashes stay readable where a literal string can hold them.
pub(super) fn string(text: &str) -> String {
    let needs_escape = text.contains(['"', '\\']);
    if needs_escape && !text.contains('\'') && !text.chars().any(char::is_control) {
        return format!("'{text}'");
    }
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() => {
                // Writing to a String cannot fail.
                let _ = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

/// A key: without quotes where TOML allows that.
pub(super) fn key(name: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if !name.is_empty() && name.chars().all(is_bare) { name.to_owned() } else { string(name) }
}

/// A line with a key and its string.
pub(super) fn entry(name: &str, text: &str) -> String {
    format!("{} = {}\n", key(name), string(text))
}

/// A line that is to be uncommented and filled in. `example`: a value as TOML.
pub(super) fn gap(name: &str, example: &str) -> String {
    format!("# {name} = {example} {TO_FILL_IN}\n")
}

/// A comment over as many lines as it needs. Each line of `text` begins a new one.
pub(super) fn comment(text: &str) -> String {
    let mut comment = String::new();
    for paragraph in text.lines() {
        let mut line = String::from("#");
        for word in paragraph.split(' ') {
            if line.chars().count() + 1 + word.chars().count() > WIDTH && line.len() > 1 {
                comment.push_str(&escape_for_terminal(&line));
                comment.push('\n');
                "#".clone_into(&mut line);
            }
            line.push(' ');
            line.push_str(word);
        }
        comment.push_str(escape_for_terminal(&line).trim_end());
        comment.push('\n');
    }
    comment
}

/// One line of a comment that is not wrapped, to be copied.
pub(super) fn verbatim(text: &str) -> String {
    format!("#   {}\n", escape_for_terminal(text))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use toml::de::DeTable;

    use super::{comment, key, string};

    #[test]
    fn comments_are_wrapped_and_stay_comments() {
        assert_eq!(comment("a b"), "# a b\n");
        assert_eq!(comment("a\nb\rc"), "# a\n# b\\u{d}c\n");
        let long = comment(&"word ".repeat(60));
        assert!(long.lines().count() > 2 && long.lines().all(|line| line.starts_with("# word") && line.len() <= 118));
    }

    proptest! {
        #[test]
        fn every_text_is_read_as_it_was_written(name in "\\PC{0,20}|.{0,20}", value in ".{0,30}", note in "(?s).{0,300}") {
            let text = format!("{}{} = {}\n{}", comment(&note), key(&name), string(&value), comment(&note));
            let table = DeTable::parse(&text).map_err(|error| TestCaseError::fail(format!("{error}: {text}")))?;
            prop_assert_eq!(table.get_ref().len(), 1);
            let (found, held) = table.get_ref().iter().next().expect("there is one");
            prop_assert_eq!(found.get_ref().to_string(), name);
            prop_assert_eq!(held.get_ref().as_str(), Some(value.as_str()));
        }
    }
}
