//! One configuration file as parsed TOML, with every problem found in it so far.
//!
//! Owns: the line of each key, applying defaults, the lists of problems and warnings. Must not know: what a key is used
//! for.

use toml::de::{DeTable, DeValue};

use super::keys::{self, DefaultValue};
use super::problems::{MAX_PROBLEMS, Problem};
use super::syntax::{self, SyntaxError};
use super::unknown_keys;
use super::value_type::ValueType;

/// The file, its values, and the problems and warnings that are collected while it is read.
pub(super) struct ConfigDocument<'t> {
    /// The path as it was given.
    file: String,
    text: &'t str,
    root: DeTable<'t>,
    problems: Vec<Problem>,
    warnings: Vec<String>,
    syntax_errors: Vec<SyntaxError>,
    /// There are more problems than [`MAX_PROBLEMS`].
    truncated: bool,
}

impl<'t> ConfigDocument<'t> {
    /// Parses the text, and records syntax errors and unknown keys.
    pub(super) fn new(file: String, text: &'t str) -> Self {
        let (root, errors) = DeTable::parse_recoverable(text);
        let mut document = Self {
            file,
            text,
            root: root.into_inner(),
            problems: Vec::new(),
            warnings: Vec::new(),
            syntax_errors: syntax::errors(text, &errors),
            truncated: errors.len() > MAX_PROBLEMS,
        };
        for unknown in unknown_keys::find(&document.root) {
            if !document.can_add_problem() {
                break;
            }
            let line = syntax::line_at(text, unknown.offset);
            document.add_problem(Some(line), &toml_path(&unknown.parts), unknown.message);
        }
        document
    }

    /// The problems and the warnings. If there are syntax errors, problems of lines that are not reliable are left out.
    pub(super) fn finish(self) -> (Vec<Problem>, Vec<String>) {
        let Self { file, text, root: _, mut problems, warnings, syntax_errors, truncated } = self;
        if !syntax_errors.is_empty() {
            let is_reliable = syntax::reliable_lines(text, &syntax_errors, truncated);
            problems.retain(|problem| problem.file != file || problem.line.is_some_and(&is_reliable));
        }
        problems.extend(syntax_errors.into_iter().map(|error| Problem {
            file: file.clone(),
            line: Some(error.line),
            key: None,
            message: error.message,
        }));
        if truncated {
            let message = "the file has more problems; fix these first, or check that it is the right file";
            problems.push(Problem { file, line: None, key: None, message: message.to_owned() });
        }
        (problems, warnings)
    }

    /// Whether another problem can be reported. If not, the document remembers that the list is truncated.
    fn can_add_problem(&mut self) -> bool {
        let can_add = self.problems.len() < MAX_PROBLEMS;
        self.truncated |= !can_add;
        can_add
    }

    /// Records a problem that has no place in this file.
    pub(super) fn external_problem(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// Records a problem with a key, with the line of the key or, if it is not in the file, of its section.
    pub(super) fn problem(&mut self, path: &str, message: impl Into<String>) {
        self.problem_at(&path.split('.').collect::<Vec<_>>(), message);
    }

    /// Like [`Self::problem`], for a path whose parts may contain any character.
    pub(super) fn problem_at(&mut self, parts: &[&str], message: impl Into<String>) {
        if !self.can_add_problem() {
            return;
        }
        let line = (1..=parts.len()).rev().find_map(|depth| self.find(&parts[..depth])).map(|(line, _)| line);
        self.add_problem(line, &toml_path(parts), message.into());
    }

    fn add_problem(&mut self, line: Option<usize>, path: &str, message: String) {
        self.problems.push(Problem { file: self.file.clone(), line, key: Some(path.to_owned()), message });
    }

    /// Records that a required key is missing, unless another problem already explains it.
    pub(super) fn missing(&mut self, path: &str, message: impl Into<String>) {
        self.missing_at(&path.split('.').collect::<Vec<_>>(), message);
    }

    fn missing_at(&mut self, parts: &[&str], message: impl Into<String>) {
        // If the section is not a table, only that is reported.
        let section = parts.split_last().and_then(|(_, section)| self.find(section));
        let is_explained = section.is_some_and(|(_, value)| !matches!(value, DeValue::Table(_)));
        // After a syntax error, the key may be on a line that could not be parsed.
        if self.syntax_errors.is_empty() && !is_explained {
            self.problem_at(parts, message);
        }
    }

    /// Records a warning about a key, with the key's line if it is in the file.
    pub(super) fn warning(&mut self, parts: &[&str], message: &str) {
        let line = self.find(parts).map(|(line, _)| format!(":{line}")).unwrap_or_default();
        self.warnings.push(format!("{}{line}: {}: {message}", self.file, toml_path(parts)));
    }

    /// Records a warning that is not about a key of this file.
    pub(super) fn external_warning(&mut self, warning: String) {
        self.warnings.push(warning);
    }

    /// The unchecked value of a key.
    pub(super) fn value(&self, path: &str) -> Option<&DeValue<'t>> {
        self.value_at(&path.split('.').collect::<Vec<_>>())
    }

    /// Like [`Self::value`], for a path whose parts may contain any character.
    pub(super) fn value_at(&self, parts: &[&str]) -> Option<&DeValue<'t>> {
        self.find(parts).map(|(_, value)| value)
    }

    /// The checked value of a key, or its default. `None`: a problem was recorded, or an optional key is missing.
    pub(super) fn read<T>(
        &mut self,
        path: &str,
        check: impl Fn(&DeValue<'_>, &ValueType) -> Result<T, String>,
    ) -> Option<T> {
        self.read_at(&path.split('.').collect::<Vec<_>>(), path, check)
    }

    /// Like [`Self::read`], for a key whose rules have another path in the table of keys (`attributes.NAME.…`).
    pub(super) fn read_at<T>(
        &mut self,
        parts: &[&str],
        rules_path: &str,
        check: impl Fn(&DeValue<'_>, &ValueType) -> Result<T, String>,
    ) -> Option<T> {
        let key = keys::find_key(rules_path);
        debug_assert!(key.is_some(), "the key {rules_path} is read but has no row in KEYS");
        let key = key?;
        let checked = match (self.value_at(parts), &key.default) {
            (Some(value), _) => check(value, &key.value_type),
            (None, DefaultValue::Optional) => return None,
            (None, DefaultValue::Required) => {
                self.missing_at(parts, format!("this key is required; expected {}", key.value_type));
                return None;
            }
            (None, DefaultValue::Toml(toml)) => match DeValue::parse(toml) {
                Ok(value) => check(value.get_ref(), &key.value_type),
                Err(error) => Err(error.message().to_owned()),
            },
        };
        checked.map_err(|message| self.problem_at(parts, message)).ok()
    }

    /// The keys of a table in the file; none if there is no such table.
    pub(super) fn keys_of_table(&self, parts: &[&str]) -> Vec<String> {
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

/// A path in TOML syntax, with quotes where a part needs them.
fn toml_path<S: AsRef<str>>(parts: &[S]) -> String {
    let is_bare = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    let parts = parts
        .iter()
        .map(AsRef::as_ref)
        .map(|part| if !part.is_empty() && part.bytes().all(is_bare) { part.to_owned() } else { format!("{part:?}") });
    parts.collect::<Vec<_>>().join(".")
}
