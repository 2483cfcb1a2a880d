//! What a check found: a stable id, a severity, a sentence, and the remedy.
//!
//! Owns: the form of a finding in JSON and as a line of text. Must not know: what is checked, or who prints it.
//!
//! An id is written where the finding is made, as a literal: `Finding::warning("source.watermark_index", …)`. It names what
//! was checked, not the result: the same id may be `ok` in one run and an error in the next. The table in
//! `docs/operating.md` lists all of them; a test compares both.

use std::fmt;

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

/// How serious a finding is, from good to bad. The names are values of the JSON output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nothing to do.
    Ok,
    /// imsync works, but not as well as it could, or something could not be checked.
    Warning,
    /// imsync does not work before this is changed.
    Error,
}

/// What to do about a finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// What to do, as a clause: `set account_format = "hex"`.
    Text(String),
    /// Statements for psql on one line, each with its semicolon. A test executes them.
    Sql(String),
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    id: &'static str,
    severity: Severity,
    message: String,
    remedy: Option<Remedy>,
}

impl Finding {
    /// What was checked is right.
    pub fn ok(id: &'static str, message: impl Into<String>) -> Self {
        Self::new(id, Severity::Ok, message.into())
    }

    /// imsync works, but not as well as it could.
    pub fn warning(id: &'static str, message: impl Into<String>) -> Self {
        Self::new(id, Severity::Warning, message.into())
    }

    /// imsync does not work before this is changed.
    pub fn error(id: &'static str, message: impl Into<String>) -> Self {
        Self::new(id, Severity::Error, message.into())
    }

    /// Something could not be checked. `because`: what failed before, as a clause.
    pub fn unchecked(id: &'static str, because: &str) -> Self {
        Self::new(id, Severity::Warning, format!("not checked, because {because}"))
    }

    fn new(id: &'static str, severity: Severity, message: String) -> Self {
        Self { id, severity, message, remedy: None }
    }

    /// Adds what to do, as a clause that can follow a semicolon.
    #[must_use]
    pub fn remedy(mut self, text: impl Into<String>) -> Self {
        self.remedy = Some(Remedy::Text(text.into()));
        self
    }

    /// Adds SQL that fixes it: whole statements on one line, each with its semicolon, names quoted, to be pasted into psql
    /// by the owner of the table or an administrator. Nothing else is in the text.
    #[must_use]
    pub fn sql(mut self, statements: impl Into<String>) -> Self {
        self.remedy = Some(Remedy::Sql(statements.into()));
        self
    }

    /// Adds what to do, in the form that was found.
    #[must_use]
    pub fn with(mut self, remedy: Remedy) -> Self {
        self.remedy = Some(remedy);
        self
    }

    /// The id, dotted: `source.watermark_index`.
    pub fn id(&self) -> &'static str {
        self.id
    }

    /// What was checked, in one word: the id up to its dot.
    pub fn what(&self) -> &'static str {
        self.id.split('.').next().unwrap_or(self.id)
    }

    /// How serious it is.
    pub fn severity(&self) -> Severity {
        self.severity
    }

    /// It is an error.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// Message and remedy in one line, without the id.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.remedy {
            None => Ok(()),
            Some(Remedy::Text(text)) => write!(f, "; {text}"),
            Some(Remedy::Sql(statements)) => write!(f, "; run: {statements}"),
        }
    }
}

impl Serialize for Finding {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let remedy = self.remedy.as_ref().map(|remedy| match remedy {
            Remedy::Text(text) | Remedy::Sql(text) => text,
        });
        let mut document = serializer.serialize_struct("Finding", 5)?;
        document.serialize_field("id", self.id)?;
        document.serialize_field("what", self.what())?;
        document.serialize_field("verdict", &self.severity)?;
        document.serialize_field("message", &self.message)?;
        document.serialize_field("remedy", &remedy)?;
        document.end()
    }
}

/// Several findings of one check. As a text, one a line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings(pub Vec<Finding>);

impl Findings {
    /// Adds a finding.
    pub fn push(&mut self, finding: Finding) {
        self.0.push(finding);
    }

    /// The worst severity; `Ok` when there is none.
    pub fn worst(&self) -> Severity {
        self.0.iter().map(Finding::severity).max().unwrap_or(Severity::Ok)
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, finding) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            finding.fmt(f)?;
        }
        Ok(())
    }
}

impl Extend<Finding> for Findings {
    fn extend<T: IntoIterator<Item = Finding>>(&mut self, findings: T) {
        self.0.extend(findings);
    }
}

impl IntoIterator for Findings {
    type Item = Finding;
    type IntoIter = std::vec::IntoIter<Finding>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl From<Finding> for Findings {
    fn from(finding: Finding) -> Self {
        Self(vec![finding])
    }
}

#[cfg(test)]
mod tests {
    use super::{Finding, Findings, Severity};

    #[test]
    fn a_finding_has_the_documented_keys() {
        let finding = Finding::warning("source.watermark_index", "no index").sql("CREATE INDEX ON t (a);");
        let json = serde_json::to_string(&finding).expect("it can be serialized");
        assert_eq!(
            json,
            r#"{"id":"source.watermark_index","what":"source","verdict":"warning","message":"no index","remedy":"CREATE INDEX ON t (a);"}"#
        );
        assert_eq!(finding.to_string(), "no index; run: CREATE INDEX ON t (a);");
        let without = Finding::ok("configuration.valid", "complete");
        assert!(serde_json::to_string(&without).expect("it can be serialized").ends_with(r#""remedy":null}"#));
    }

    #[test]
    fn the_worst_severity_counts() {
        let mut findings = Findings::default();
        assert_eq!(findings.worst(), Severity::Ok);
        findings.push(Finding::unchecked("state.schema", "the server is away"));
        assert_eq!(findings.worst(), Severity::Warning);
        findings.push(Finding::error("state.reachable", "away").remedy("start it"));
        assert_eq!(findings.worst(), Severity::Error);
        assert_eq!(findings.to_string(), "not checked, because the server is away\naway; start it");
    }
}
