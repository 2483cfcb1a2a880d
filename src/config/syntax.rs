//! TOML syntax errors: their lines and messages, and which other lines of the file are still reliable.
//!
//! Owns: the excerpt of a line in a message, which never shows a line that may contain a secret.
//! Must not know: what a value means.

use std::collections::BTreeSet;

use super::keys;
use super::problems::MAX_PROBLEMS;
use super::value_type::ValueType;

/// Lines of more bytes are not shown in a message.
const MAX_EXCERPT_BYTES: usize = 120;

/// One syntax error.
pub(super) struct SyntaxError {
    /// Counted from 1.
    pub(super) line: usize,
    pub(super) message: String,
}

/// The line of a byte offset in the text, counted from 1.
pub(super) fn line_at(text: &str, offset: usize) -> usize {
    1 + text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count()
}

/// One error per line: the first says what is wrong, and the others on the line are mostly its consequences.
pub(super) fn errors(text: &str, errors: &[toml::de::Error]) -> Vec<SyntaxError> {
    let mut lines = BTreeSet::new();
    let mut found = Vec::new();
    for error in errors.iter().take(MAX_PROBLEMS) {
        let span = error.span().unwrap_or(text.len()..text.len());
        let line = line_at(text, span.start);
        if lines.insert(line) {
            found.push(SyntaxError { line, message: message(text, line, span.start, error.message()) });
        }
    }
    found
}

fn message(text: &str, line: usize, offset: usize, parser_message: &str) -> String {
    let content = text.split('\n').nth(line - 1).unwrap_or_default().trim_end_matches('\r');
    let before = text.get(..offset).unwrap_or_default();
    let column = 1 + before[before.rfind('\n').map_or(0, |at| at + 1)..].chars().count();
    let explained = match parser_message {
        "duplicate key" => "this key or section stands above already; remove one of the two",
        other => other,
    };
    let message = format!("invalid TOML at column {column}: {explained}");
    match missing_quotes(content) {
        Some((key, value)) => format!("invalid TOML: a string needs quotes, as in {key} = \"{value}\""),
        None if may_be_shown(content) => format!("{message}, in `{}`", content.trim()),
        None => message,
    }
}

/// Key and value of a line `key = word`, which is the most common error. Only for lines that may be shown.
fn missing_quotes(line: &str) -> Option<(&str, &str)> {
    let (key, value) = line.split_once('=')?;
    let value = value.split('#').next()?.trim();
    let is_word_byte = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b':' | b'/');
    let is_word = !value.is_empty() && value.bytes().all(is_word_byte);
    let is_toml_value = toml::de::DeValue::parse(value).is_ok();
    (is_word && !is_toml_value && may_be_shown(line)).then_some((key.trim(), value))
}

/// Whether a line cannot contain a secret: a header, or a key that is known to have none. An unknown key may be a
/// mistyped key of a secret.
fn may_be_shown(line: &str) -> bool {
    let line = line.trim();
    // A terminal would execute other control characters; a tab is only white space.
    let is_unsafe = |c: char| c.is_control() && c != '\t';
    if line.len() > MAX_EXCERPT_BYTES || line.contains("://") || line.contains(is_unsafe) {
        return false;
    }
    // A second `=` shows that a line break is missing. What follows may be the key of a secret.
    if line.matches('=').count() > 1 {
        return false;
    }
    let name = line.split('=').next().unwrap_or_default().trim();
    let name = keys::split_path(name).1;
    (line.starts_with('[') && !line.contains(['"', '\'', '=']))
        || keys::KEYS.iter().any(|key| {
            keys::split_path(key.path).1 == name && !matches!(key.value_type, ValueType::Secret(_)) && name != "url"
        })
}

/// Returns a function that says whether the parser read a line as intended, although the file has syntax errors.
///
/// An error within a line that is a plain `key = value` affects only that line. An error in a header, an array, a table
/// or a multi-line string moves what follows to a wrong place, so the lines after it are not reliable.
///
/// `truncated`: `errors` is not complete, so the lines after the last error are not reliable either.
pub(super) fn reliable_lines(text: &str, errors: &[SyntaxError], truncated: bool) -> impl Fn(usize) -> bool + use<> {
    let broken: BTreeSet<usize> = errors.iter().map(|error| error.line).collect();
    let affects_one_line = |line: &usize| {
        let content = text.split('\n').nth(line - 1).unwrap_or_default();
        content.contains('=') && !["[", "{", "\"\"\"", "'''"].iter().any(|opening| content.contains(opening))
    };
    let last = if truncated { broken.last().copied() } else { None };
    let end = broken.iter().copied().find(|line| !affects_one_line(line)).or(last).unwrap_or(usize::MAX);
    move |line| line < end && !broken.contains(&line)
}
