//! The values of the parameters: what the text gives, else the environment.
//!
//! Owns: which parameter and which variable may be given, and which one applies. Must not know: what a value means.

use std::collections::BTreeMap;
use std::fmt;

use super::parameters::{self, PARAMETERS};
use super::syntax::Pair;
use crate::quote::alternatives;

/// Environment variables by name: those that start with `PG`, and `HOME`. `Debug` shows the names only.
#[derive(Clone, Default)]
pub struct PgVariables(BTreeMap<String, String>);

impl PgVariables {
    /// Whether a variable of this name has a meaning here.
    pub fn contains_name(name: &str) -> bool {
        name == "HOME" || PARAMETERS.iter().any(|parameter| parameter.variable == Some(name))
    }

    /// Whether the variable is set, even to an empty value.
    pub(super) fn is_set(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The value, unless it is empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for PgVariables {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(variables: I) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

impl fmt::Debug for PgVariables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// The values by parameter: what the text gives, else the variable.
pub(super) struct Values {
    by_name: BTreeMap<&'static str, String>,
    /// The variables that apply, with their values; no password.
    pub(super) variables: Vec<(&'static str, String)>,
}

impl Values {
    pub(super) fn collect(pairs: Vec<Pair>, variables: &PgVariables) -> Result<Self, String> {
        let mut by_name = BTreeMap::new();
        for Pair { name, value, place } in pairs {
            // The name may be part of a password, so it is not shown.
            let parameter = parameters::find(&name).ok_or_else(|| {
                let meant =
                    parameters::similar(&name).map_or(String::new(), |meant| format!("; did you mean {meant}?"));
                format!("{place} has a name that PostgreSQL does not know; correct it or leave it out{meant}")
            })?;
            if let Some(refusal) = parameter.refusal(parameter.name, &value) {
                return Err(refusal);
            }
            by_name.insert(parameter.canonical(), value);
        }
        let mut used = Vec::new();
        for parameter in &PARAMETERS {
            let Some(variable) = parameter.variable.filter(|_| !by_name.contains_key(parameter.name)) else { continue };
            let Some(value) = variables.get(variable) else { continue };
            if let Some(refusal) = parameter.refusal(variable, value) {
                return Err(refusal);
            }
            if parameter.treatment == parameters::Treatment::Honoured {
                let shown = if variable == "PGPASSWORD" { "(not shown)".to_owned() } else { value.to_owned() };
                used.push((variable, shown));
                by_name.insert(parameter.name, value.to_owned());
            }
        }
        Ok(Self { by_name, variables: used })
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.by_name.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// How the user gave this parameter: by its name, or by a variable.
    pub(super) fn shown(&self, name: &'static str) -> &'static str {
        let variable = parameters::find(name).and_then(|parameter| parameter.variable);
        variable.filter(|variable| self.variables.iter().any(|(used, _)| used == variable)).unwrap_or(name)
    }

    /// The choice of this name, `None` when it is not given.
    pub(super) fn choice<T: Copy>(&self, name: &'static str, choices: &[(&str, T)]) -> Result<Option<T>, String> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let known = choices.iter().find(|(text, _)| text.eq_ignore_ascii_case(value));
        known.map(|(_, choice)| Some(*choice)).ok_or_else(|| {
            format!("{} must be {}", self.shown(name), alternatives(choices.iter().map(|(text, _)| *text)))
        })
    }
}
