//! How a call to IM ended, as a code.
//!
//! Owns: the kinds of codes and the questions that a sender asks about one. Must not know: how an answer is fetched,
//! batches, retries. What is known of each code stands in `code_table.rs`.

use std::fmt;

use super::code_table::{self, CodeClass, CodeFacts, CodeScope, SpecialHandling};

/// How a call ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Code {
    /// The vendor's `ErrorCode`.
    Vendor(i64),
    /// No answer within the timeout.
    Timeout,
    /// No connection, or it broke.
    Connect,
    /// An answer that is incomplete, too large, or contradicts itself.
    Malformed,
    /// A complete answer with status 200 that is not IM's JSON, for example an HTML page.
    ForeignAnswer,
    /// An accepted call whose `ErrorList` names accounts that were not in it.
    UnmatchedErrorList,
    /// An HTTP status other than 200.
    Http(u16),
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vendor(code) => write!(f, "code {code}"),
            Self::Timeout => f.write_str("a timeout"),
            Self::Connect => f.write_str("a connection failure"),
            Self::Malformed => f.write_str("an answer that does not come from IM"),
            Self::ForeignAnswer => f.write_str("HTTP status 200 and an answer that does not come from IM"),
            Self::UnmatchedErrorList => f.write_str("a list of failed accounts that the call did not carry"),
            Self::Http(status) => write!(f, "HTTP status {status}"),
        }
    }
}

impl Code {
    /// The account does not exist in Chat.
    pub const UNKNOWN_ACCOUNT: Self = Self::Vendor(70107);

    fn facts(self) -> &'static CodeFacts {
        match self {
            Self::Vendor(number) => code_table::vendor(number),
            Self::Timeout => &code_table::TIMEOUT,
            Self::Connect => &code_table::CONNECT,
            Self::Malformed => &code_table::MALFORMED,
            Self::ForeignAnswer => &code_table::FOREIGN_ANSWER,
            Self::UnmatchedErrorList => &code_table::UNMATCHED_ERROR_LIST,
            Self::Http(status) => code_table::http(status),
        }
    }

    /// What a sender does about the code.
    pub fn class(self) -> CodeClass {
        self.facts().class
    }

    /// What the code is about.
    pub fn scope(self) -> CodeScope {
        self.facts().scope
    }

    /// What the code means and what the operator should do, in a few sentences.
    pub fn advice(self) -> String {
        let CodeFacts { meaning, remedy, .. } = self.facts();
        format!("{meaning} {remedy}")
    }

    /// What the code means, in a sentence or two without the last full stop.
    pub fn meaning(self) -> &'static str {
        self.facts().meaning.trim_end_matches('.')
    }

    /// What the operator should do, as a clause that can follow a semicolon.
    pub fn remedy(self) -> String {
        let text = self.facts().remedy.trim_end_matches('.');
        let mut rest = text.chars();
        rest.next().map_or(String::new(), |first| first.to_lowercase().chain(rest).collect())
    }

    /// The value of the metrics' label `code`: a listed vendor code by its number, else `timeout`, `connect`,
    /// `malformed`, `http_4xx`, `http_5xx` or `other`. The number of different labels is bounded, whatever IM answers.
    pub fn label(self) -> &'static str {
        self.facts().label
    }

    /// The vendor's code or the HTTP status; 0 where there is neither.
    pub fn number(self) -> i64 {
        match self {
            Self::Vendor(number) => number,
            Self::Http(status) => i64::from(status),
            Self::ForeignAnswer => 200,
            Self::Timeout | Self::Connect | Self::Malformed | Self::UnmatchedErrorList => 0,
        }
    }

    /// The code is about the account as a whole, not about one of its attributes.
    pub fn concerns_account(self) -> bool {
        self.scope() == CodeScope::Account
    }

    /// An attribute is not valid: the app does not define its name, or its value is wrong. The app's attribute names
    /// show which.
    pub fn means_attribute_not_valid(self) -> bool {
        self.has(SpecialHandling::CheckAttributeNames)
    }

    /// The account does not exist, so it holds no attribute: a removal that fails with this code counts as done.
    pub fn counts_as_removed(self) -> bool {
        self.has(SpecialHandling::UnknownAccount)
    }

    /// The account does not exist in Chat. Where several accounts were in the call, `account_check` tells which.
    pub fn means_unknown_account(self) -> bool {
        self.has(SpecialHandling::UnknownAccount)
    }

    /// The app may be in another data centre than the one that was called.
    pub(super) fn depends_on_data_centre(self) -> bool {
        self.has(SpecialHandling::DataCentre)
    }

    /// IM asks for fewer calls of all commands, not only of the one that was called.
    pub fn limits_whole_app(self) -> bool {
        self.class() == CodeClass::SlowDown && self.scope() == CodeScope::App
    }

    /// A gateway before IM has answered in its place. It may refuse the content of the call, or every call; a call with
    /// harmless content shows which.
    pub fn comes_from_gateway(self) -> bool {
        self.has(SpecialHandling::GatewayAnswer)
    }

    /// The network failed. No account and no value can cause this, so another batch would fail in the same way.
    pub fn is_network_failure(self) -> bool {
        self == Self::Connect
    }

    /// The vendor refuses the UserSig or the identifier. With the key that the file holds now, it may accept the call.
    pub(super) fn refuses_credentials(self) -> bool {
        matches!(self, Self::Vendor(_)) && self.class() == CodeClass::Credentials
    }

    /// The UserSig has expired. The clocks may differ, so the call is repeated once with a fresh one.
    pub(super) fn means_usersig_expired(self) -> bool {
        self.has(SpecialHandling::RenewUserSig)
    }

    /// A call that ended with this code may have been applied. An unknown code may be an internal error, so it counts as
    /// one. HTTP 429 comes from a server before IM, so the outcome of the call behind it is unknown.
    pub(super) fn maybe_applied(self) -> bool {
        match self.class() {
            CodeClass::Done | CodeClass::Retry | CodeClass::Unknown => true,
            CodeClass::SlowDown | CodeClass::Credentials | CodeClass::Request | CodeClass::Row => {
                self.has(SpecialHandling::OutcomeUnknown)
            }
        }
    }

    fn has(self, special: SpecialHandling) -> bool {
        self.facts().special == Some(special)
    }
}

#[cfg(test)]
mod tests;
