//! The problems of a configuration, each with its place.
//!
//! Owns: how a problem is written as text and as JSON, and their order. Must not know: the rules of the keys.

use std::fmt;

use serde::Serialize;

use super::environment;

/// How many problems are reported. Nobody fixes more at once, and each costs a search through the file, which may be
/// something else than a configuration.
pub(super) const MAX_PROBLEMS: usize = 100;

/// One problem to fix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The path of the configuration file as it was given, or `environment`.
    pub file: String,
    /// The line, counted from 1. `None` if there is none: for the environment, or if a section is missing.
    pub line: Option<usize>,
    /// The key with its section, or the name of an environment variable.
    pub key: Option<String>,
    /// What was found, what is expected and what to do, on one line. It never contains a secret.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if let Some(key) = &self.key {
            write!(f, ": {key}")?;
        }
        write!(f, ": {}", self.message)
    }
}

/// All problems of a configuration; there is at least one. They are in the order of the file, followed by those of the
/// environment. `Display` writes one per line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Sorts the problems. The caller passes at least one.
    pub(super) fn new(mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| {
            (problem.file == environment::PROBLEM_FILE, problem.line.is_none(), problem.line.unwrap_or_default())
        });
        Self(problems)
    }

    /// The problems in order.
    pub fn as_slice(&self) -> &[Problem] {
        &self.0
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

impl IntoIterator for Problems {
    type Item = Problem;
    type IntoIter = std::vec::IntoIter<Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
