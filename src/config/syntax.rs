//! Errors of TOML's syntax: their lines, their words, and what of the rest of the file can still be believed.
//!
//! Owns: the excerpt, which never shows a line that may hold a secret. Must not know: what a value means.

use std::collections::BTreeSet;

use super::document::MOST_TOLD;
use super::keys::{self, Takes};

/// One syntax error.
pub(super) struct SyntaxError {
    pub(super) line: usize,
    pub(super) message: String,
}

/// The line of a place in the text, from 1.
pub(super) fn line_at(text: &str, offset: usize) -> usize {
    1 + text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count()
}

/// One error for each line: the first says what is wrong, the ones after it are mostly its echo.
pub(super) fn errors(text: &str, errors: &[toml::de::Error]) -> Vec<SyntaxError> {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for error in errors.iter().take(MOST_TOLD) {
        let span = error.span().unwrap_or(text.len()..text.len());
        let line = line_at(text, span.start);
        if seen.insert(line) {
            found.push(SyntaxError { line, message: message(text, line, span.start, error.message()) });
        }
    }
    found
}

fn message(text: &str, line: usize, offset: usize, parser: &str) -> String {
    let content = text.split('\n').nth(line - 1).unwrap_or_default().trim_end_matches('\r');
    let before = text.get(..offset).unwrap_or_default();
    let column = 1 + before[before.rfind('\n').map_or(0, |at| at + 1)..].chars().count();
    let mut message = format!("not valid TOML at column {column}: {parser}");
    match quotes_forgotten(content) {
        Some((key, value)) => message = format!("not valid TOML: text is written in quotes, as in {key} = \"{value}\""),
        None if may_be_shown(content) => message = format!("{message}, in `{}`", content.trim()),
        None => {}
    }
    message
}

/// `key = word`: the commonest slip. Only for lines that may be shown.
fn quotes_forgotten(line: &str) -> Option<(&str, &str)> {
    let (key, value) = line.split_once('=')?;
    let value = value.split('#').next()?.trim();
    let word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b':' | b'/');
    let is_word = !value.is_empty() && value.bytes().all(word);
    let is_value = toml::de::DeValue::parse(value).is_ok();
    (is_word && !is_value && may_be_shown(line)).then_some((key.trim(), value))
}

/// Only headers and keys known to hold no secret: a mistyped key may be one that does.
fn may_be_shown(line: &str) -> bool {
    let line = line.trim();
    // A control character would steer the terminal; a tab is only white space.
    let steers = |c: char| c.is_control() && c != '\t';
    if line.len() > 120 || line.contains("://") || line.contains(steers) {
        return false;
    }
    let name = line.split('=').next().unwrap_or_default().trim();
    let name = keys::split(name).1;
    // What follows a forgotten line break belongs to another key, which may be a secret's.
    if line.matches('=').count() > 1 {
        return false;
    }
    (line.starts_with('[') && !line.contains(['"', '\'', '=']))
        || keys::KEYS
            .iter()
            .any(|key| keys::split(key.path).1 == name && !matches!(key.takes, Takes::Secret(_)) && name != "url")
}

/// Which lines were read as they were meant although the file has errors.
///
/// An error within one line that is a plain `key = value` harms that line only. A broken header, list, table or long
/// text puts what follows into a wrong place, so nothing behind it is believed.
///
/// `more`: not all errors are among these, so nothing behind the last of them is believed either.
pub(super) fn reliable_lines(text: &str, errors: &[SyntaxError], more: bool) -> impl Fn(usize) -> bool + use<> {
    let broken: BTreeSet<usize> = errors.iter().map(|error| error.line).collect();
    let contained = |line: &usize| {
        let content = text.split('\n').nth(line - 1).unwrap_or_default();
        content.contains('=') && !["[", "{", "\"\"\"", "'''"].iter().any(|opens| content.contains(opens))
    };
    let last = if more { broken.last().copied() } else { None };
    let end = broken.iter().copied().find(|line| !contained(line)).or(last).unwrap_or(usize::MAX);
    move |line| line < end && !broken.contains(&line)
}
