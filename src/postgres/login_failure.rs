//! A connection that could not be opened, in words.
//!
//! Owns: what every failure has: sentence, remedy, and whether the next attempt may succeed as it is. Must not know: which
//! causes there are.

use super::url::{PgEndpoint, PgSettings};

/// A connection that could not be opened. The text says why and what to do, and never contains a password.
#[derive(Debug, thiserror::Error)]
#[error("{sentence}; {remedy}")]
pub struct LoginFailure {
    /// The server is away, starting or shutting down: it may take the next attempt as it is. Otherwise a person has to
    /// change something.
    pub away: bool,
    /// The server, or a pooler before it, answered: it is there.
    pub answered: bool,
    /// With another secret the login may succeed. Poolers have codes of their own for a wrong password.
    pub refused: bool,
    /// Why, as a sentence without its end.
    pub sentence: String,
    /// What to do, as a clause.
    pub remedy: String,
}

/// Where a connection was to lead.
#[derive(Clone, Copy)]
pub(super) struct Target<'a> {
    pub(super) settings: &'a PgSettings,
    pub(super) endpoint: &'a PgEndpoint,
}

impl LoginFailure {
    fn new(away: bool, sentence: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { away, answered: false, refused: false, sentence: sentence.into(), remedy: remedy.into() }
    }

    /// A person has to change something.
    pub(super) fn lasting(sentence: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(false, sentence, remedy)
    }

    /// It may pass by itself.
    pub(super) fn away(sentence: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(true, sentence, remedy)
    }

    /// The failures of the servers of one URL.
    pub(super) fn of_all(mut failures: Vec<(String, Self)>) -> Self {
        if failures.len() <= 1 {
            let none = || Self::lasting("the URL names no server", "correct it");
            return failures.pop().map_or_else(none, |(_, failure)| failure);
        }
        let any = |holds: fn(&Self) -> bool| failures.iter().any(|(_, failure)| holds(failure));
        let (away, answered, refused) = (any(|f| f.away), any(|f| f.answered), any(|f| f.refused));
        let each: Vec<String> = failures.iter().map(|(server, failure)| format!("{server}: {failure}")).collect();
        let sentence = format!("none of {} servers can be used", each.len());
        Self { away, answered, refused, sentence, remedy: each.join("; ") }
    }
}
