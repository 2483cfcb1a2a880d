//! What an answer means: accepted, refused by what code, certainly not applied or perhaps.
//!
//! Owns: the way from an answer to [`Accepted`] or [`CallError`]. Must not know: sockets, hosts, the connection pool.

use std::collections::HashSet;
use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::header::{DATE, HeaderMap, HeaderValue, RETRY_AFTER};
use tracing::debug;

use super::redact::{SentSecrets, redact};
use super::usersig::Signature;
use super::wire::{self, AccountError, Answer};
use super::{Accepted, ApiCommand, CallError, Code, CodeClass, FailedAccount, SetUser};

/// A `Retry-After` beyond this is taken as this: the sender has its own limits.
const MAX_RETRY_AFTER: Duration = Duration::from_hours(24);

/// What is sent, and what is told of it in the log.
pub(super) struct Request<'a> {
    pub(super) command: ApiCommand,
    pub(super) body: Vec<u8>,
    /// Whom it carries.
    pub(super) accounts: Vec<&'a str>,
    /// What a set call carries: its values are taken out of whatever text comes back.
    pub(super) set: &'a [SetUser<'a>],
}

impl Request<'_> {
    /// A text of the vendor's that may quote what was sent.
    pub(super) fn clean(&self, text: &str, signature: &Signature) -> String {
        let values: Vec<&str> = self.set.iter().flat_map(|user| user.attrs.iter().map(|(_, value)| *value)).collect();
        redact(text, SentSecrets { signature: signature.expose(), values: &values })
    }

    /// A text that cannot quote values, and whose words a value may happen to equal (a RequestId, a library's error).
    pub(super) fn clean_signature(text: &str, signature: &Signature) -> String {
        redact(text, SentSecrets { signature: signature.expose(), values: &[] })
    }

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

/// Reads what came with status 200: accepted, or refused and by what code.
pub(super) fn understood(
    request: &Request<'_>,
    signature: &Signature,
    body: &[u8],
    retry_after: Option<Duration>,
) -> Result<Answer, CallError> {
    let mut answer = wire::read(body).map_err(|wrong| request.error(Code::Malformed, wrong))?;
    answer.request_id =
        answer.request_id.map(|id| Request::clean_signature(&id, signature)).filter(|id| !id.is_empty());
    outcome(request, signature, answer, retry_after)
}

/// Accepted, or refused and by what code.
fn outcome(
    request: &Request<'_>,
    signature: &Signature,
    mut answer: Answer,
    retry_after: Option<Duration>,
) -> Result<Answer, CallError> {
    let (ok, refused) = match answer.action_status.as_deref() {
        Some("OK") => (true, false),
        Some("FAIL") => (false, true),
        _ => (false, false),
    };
    let code = Code::Vendor(answer.error_code);
    if code.class() == CodeClass::Done {
        let list = answer.error_list.take().unwrap_or_default();
        let info = match failed_accounts(request, signature, list) {
            Some(failed) if ok => return Ok(Answer { error_list: Some(failed), ..answer }),
            Some(_) => "ErrorCode is 0, but ActionStatus is not OK".to_owned(),
            None => "ErrorList names an account that the call did not carry".to_owned(),
        };
        return Err(CallError { request_id: answer.request_id, ..request.error(Code::Malformed, info) });
    }
    let info = request.clean(answer.error_info.as_deref().unwrap_or_default(), signature);
    let info = if info.is_empty() { "IM gave no ErrorInfo".to_owned() } else { info };
    // A refusal as a whole says FAIL and lists nobody; with anything else, part of the call may have been applied.
    let as_a_whole = refused && answer.error_list.is_none_or(|list| list.is_empty());
    Err(CallError {
        request_id: answer.request_id,
        retry_after,
        maybe_applied: code.maybe_applied() || !as_a_whole,
        ..request.error(code, info)
    })
}

/// Each account of an `ErrorList` that failed, once. `None` when one of them was not sent: somebody of ours may be meant
/// under a spelling that we do not know, and then it is not known who failed.
fn failed_accounts(request: &Request<'_>, signature: &Signature, list: Vec<AccountError>) -> Option<Vec<AccountError>> {
    let sent: HashSet<&str> = request.accounts.iter().copied().collect();
    let mut seen = HashSet::new();
    let mut failed = Vec::new();
    for AccountError { account, code, info } in list {
        if code == 0 {
            continue;
        }
        if !sent.contains(account.as_str()) {
            return None;
        }
        // However long the list is, no more is worked on than was sent.
        if seen.insert(account.clone()) {
            failed.push(AccountError { account, code, info: info.map(|info| request.clean(&info, signature)) });
        }
    }
    Some(failed)
}

/// The accounts of `ErrorList`: these were not applied.
pub(super) fn accepted(request: &Request<'_>, answer: Answer) -> Accepted {
    let list = answer.error_list.unwrap_or_default();
    if !list.is_empty() {
        let (command, request_id) = (request.command.label(), answer.request_id.as_deref());
        debug!(command, request_id, failed = list.len(), "IM accepted a call but for some accounts");
    }
    let failed = list
        .into_iter()
        .map(|entry| FailedAccount {
            account: entry.account,
            code: Code::Vendor(entry.code),
            info: entry.info.unwrap_or_default(),
        })
        .collect();
    Accepted { request_id: answer.request_id, failed }
}

/// Seconds or an HTTP date. A date is compared with the server's own clock where it tells it.
pub(super) fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let text = |value: &HeaderValue| value.to_str().ok().map(|text| text.trim().to_owned());
    let after = headers.get(RETRY_AFTER).and_then(text)?;
    let pause = if let Ok(seconds) = after.parse() {
        Duration::from_secs(seconds)
    } else {
        let moment = DateTime::parse_from_rfc2822(&after).ok()?;
        let server = headers.get(DATE).and_then(text).and_then(|date| DateTime::parse_from_rfc2822(&date).ok());
        let now = server.map_or(now, |date| date.to_utc());
        // `to_std` fails for a moment that is over.
        moment.to_utc().signed_duration_since(now).to_std().unwrap_or_default()
    };
    Some(pause.min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn retry_after_is_read_in_both_forms() {
        let now: DateTime<Utc> = "2024-10-01T10:00:00Z".parse().unwrap();
        let read = |value: &str| {
            retry_after(&HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_str(value).unwrap())]), now)
        };
        assert_eq!(read("120"), Some(Duration::from_mins(2)));
        assert_eq!(read("0"), Some(Duration::ZERO));
        assert_eq!(read("Tue, 01 Oct 2024 10:02:00 GMT"), Some(Duration::from_mins(2)));
        assert_eq!(read("Tue, 01 Oct 2024 09:00:00 GMT"), Some(Duration::ZERO), "over already");
        assert_eq!(read("18446744073709551615"), Some(MAX_RETRY_AFTER));
        for nonsense in ["soon", "-1", "1.5", ""] {
            assert_eq!(read(nonsense), None, "{nonsense}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
