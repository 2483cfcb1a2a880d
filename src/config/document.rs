//! One configuration file as parsed TOML, and everything found wrong with it so far.
//!
//! Owns: places (lines, keys), defaults, the lists of problems and notices. Must not know: what a key is for.

use toml::de::{DeTable, DeValue};

use super::keys::{self, Absent, Takes};
use super::problems::Problem;
use super::syntax::SyntaxError;
use super::{syntax, unknown};

/// Nobody mends more at once; and each costs a look through the file, which may be no configuration at all.
pub(super) const MOST_TOLD: usize = 100;

/// The file, its values, and the lists that grow while it is read.
pub(super) struct Document<'t> {
    /// As people named it.
    file: String,
    text: &'t str,
    root: DeTable<'t>,
    problems: Vec<Problem>,
    notices: Vec<String>,
    syntax_errors: Vec<SyntaxError>,
    /// There is more wrong than is told.
    more: bool,
}

impl<'t> Document<'t> {
    /// Parses, and records syntax errors and unknown keys.
    pub(super) fn new(file: String, text: &'t str) -> Self {
        let (root, errors) = DeTable::parse_recoverable(text);
        let mut document = Self {
            file,
            text,
            root: root.into_inner(),
            problems: Vec::new(),
            notices: Vec::new(),
            syntax_errors: syntax::errors(text, &errors),
            more: errors.len() > MOST_TOLD,
        };
        for unknown in unknown::keys(&document.root) {
            if !document.has_room() {
                break;
            }
            let line = syntax::line_at(text, unknown.offset);
            document.record(Some(line), &written(&unknown.parts), unknown.message);
        }
        document
    }

    /// What was found wrong and worth saying. Beside syntax errors only problems of lines that were certainly understood.
    pub(super) fn finish(self) -> (Vec<Problem>, Vec<String>) {
        let Self { file, text, root: _, mut problems, notices, syntax_errors, more } = self;
        if !syntax_errors.is_empty() {
            let reliable = syntax::reliable_lines(text, &syntax_errors, more);
            problems.retain(|problem| problem.file != file || problem.line.is_some_and(&reliable));
        }
        problems.extend(syntax_errors.into_iter().map(|error| Problem {
            file: file.clone(),
            line: Some(error.line),
            key: None,
            message: error.message,
        }));
        if more {
            let message = "there is more that is wrong; mend these first, or look whether it is the right file";
            problems.push(Problem { file, line: None, key: None, message: message.to_owned() });
        }
        (problems, notices)
    }

    /// One problem more can be told; otherwise it is noted that there is one.
    fn has_room(&mut self) -> bool {
        let room = self.problems.len() < MOST_TOLD;
        self.more |= !room;
        room
    }

    /// Problems that have no place in this file.
    pub(super) fn problem_elsewhere(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// A problem with a key. It carries the line of the key, else of its section, where there is one.
    pub(super) fn problem(&mut self, path: &str, message: impl Into<String>) {
        self.problem_at(&path.split('.').collect::<Vec<_>>(), message);
    }

    /// The same for a path whose parts may hold any sign.
    pub(super) fn problem_at(&mut self, parts: &[&str], message: impl Into<String>) {
        if !self.has_room() {
            return;
        }
        let line = (1..=parts.len()).rev().find_map(|depth| self.find(&parts[..depth])).map(|(line, _)| line);
        self.record(line, &written(parts), message.into());
    }

    fn record(&mut self, line: Option<usize>, path: &str, message: String) {
        self.problems.push(Problem { file: self.file.clone(), line, key: Some(path.to_owned()), message });
    }

    /// A required key is not there.
    pub(super) fn missing(&mut self, path: &str, message: impl Into<String>) {
        self.missing_at(&path.split('.').collect::<Vec<_>>(), message);
    }

    fn missing_at(&mut self, parts: &[&str], message: impl Into<String>) {
        // Where the whole section is of a wrong type, that alone is told.
        let section = parts.split_last().and_then(|(_, section)| self.find(section));
        let covered = section.is_some_and(|(_, value)| !matches!(value, DeValue::Table(_)));
        // After a syntax error it may stand on a line that could not be read.
        if self.syntax_errors.is_empty() && !covered {
            self.problem_at(parts, message);
        }
    }

    /// Worth saying, and no reason to refuse. With the key's place, if it is in the file.
    pub(super) fn notice(&mut self, parts: &[&str], message: &str) {
        let line = self.find(parts).map(|(line, _)| format!(":{line}")).unwrap_or_default();
        self.notices.push(format!("{}{line}: {}: {message}", self.file, written(parts)));
    }

    /// A notice without a key.
    pub(super) fn notice_elsewhere(&mut self, notice: String) {
        self.notices.push(notice);
    }

    /// The value of a key, unchecked.
    pub(super) fn value(&self, path: &str) -> Option<&DeValue<'t>> {
        self.value_at(&path.split('.').collect::<Vec<_>>())
    }

    pub(super) fn value_at(&self, parts: &[&str]) -> Option<&DeValue<'t>> {
        self.find(parts).map(|(_, value)| value)
    }

    /// The value of a key, checked; or its default, or a recorded problem. `None` also for a key that may be absent.
    pub(super) fn read<T>(
        &mut self,
        path: &str,
        check: impl Fn(&DeValue<'_>, &Takes) -> Result<T, String>,
    ) -> Option<T> {
        self.read_at(&path.split('.').collect::<Vec<_>>(), path, check)
    }

    /// The same where the table of keys has the rules under another path (`attributes.NAME.…`).
    pub(super) fn read_at<T>(
        &mut self,
        parts: &[&str],
        rules: &str,
        check: impl Fn(&DeValue<'_>, &Takes) -> Result<T, String>,
    ) -> Option<T> {
        let key = keys::find(rules)?;
        let checked = match (self.value_at(parts), &key.absent) {
            (Some(value), _) => check(value, &key.takes),
            (None, Absent::Nothing) => return None,
            (None, Absent::Refused) => {
                self.missing_at(parts, format!("missing; it takes {}", key.takes));
                return None;
            }
            (None, Absent::Means(toml)) => match DeValue::parse(toml) {
                Ok(value) => check(value.get_ref(), &key.takes),
                Err(error) => Err(error.message().to_owned()),
            },
        };
        checked.map_err(|message| self.problem_at(parts, message)).ok()
    }

    /// The keys of a table in the file; nothing when there is no such table.
    pub(super) fn names_in(&self, parts: &[&str]) -> Vec<String> {
        match self.value_at(parts) {
            Some(DeValue::Table(table)) => table.keys().map(|key| key.get_ref().to_string()).collect(),
            _ => Vec::new(),
        }
    }

    /// The line and the value of a key.
    fn find(&self, parts: &[&str]) -> Option<(usize, &DeValue<'t>)> {
        let (last, tables) = parts.split_last()?;
        let mut table = &self.root;
        for part in tables {
            let DeValue::Table(inner) = table.get(*part)?.get_ref() else { return None };
            table = inner;
        }
        let (key, value) = table.get_key_value(*last)?;
        Some((syntax::line_at(self.text, key.span().start), value.get_ref()))
    }
}

/// A path as TOML writes it.
fn written<S: AsRef<str>>(parts: &[S]) -> String {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    let written = parts
        .iter()
        .map(AsRef::as_ref)
        .map(|part| if !part.is_empty() && part.bytes().all(bare) { part.to_owned() } else { format!("{part:?}") });
    written.collect::<Vec<_>>().join(".")
}
