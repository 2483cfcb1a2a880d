//! A request to IM, as the client, the transport and the reading of the answer share it.
//!
//! Owns: what is sent, what of it is logged, errors about it. Must not know: URLs, hosts, what an answer means.

use bytes::Bytes;

use super::call::{ApiCommand, CallError, SetUser};
use super::code::Code;
use super::redact::{SentSecrets, redact};
use super::usersig::Usersig;

/// One request, before it has a URL.
pub(super) struct ApiRequest<'a> {
    pub(super) command: ApiCommand,
    /// The JSON to send.
    pub(super) body: Bytes,
    /// The accounts that the request carries.
    pub(super) accounts: Vec<&'a str>,
    /// The users of a set call. Their values are removed from every text that comes back.
    pub(super) set: &'a [SetUser<'a>],
}

impl ApiRequest<'_> {
    /// Redacts a text of the vendor that may quote what was sent.
    pub(super) fn redact_all(&self, text: &str, usersig: &Usersig) -> String {
        let values: Vec<&str> = self.set.iter().flat_map(|user| user.attrs.iter().map(|(_, value)| *value)).collect();
        redact(text, SentSecrets { signature: usersig.expose(), values: &values })
    }

    /// Redacts a text that cannot quote values, but may contain a word that equals one: a `RequestId`, an error message
    /// of a library.
    pub(super) fn redact_usersig(text: &str, usersig: &Usersig) -> String {
        redact(text, SentSecrets { signature: usersig.expose(), values: &[] })
    }

    /// The error of this request with this code. `info` must be redacted.
    pub(super) fn error(&self, code: Code, info: String) -> CallError {
        CallError {
            command: self.command,
            code,
            info,
            request_id: None,
            retry_after: None,
            maybe_applied: code.maybe_applied(),
        }
    }
}
