//! What an answer means: accepted, refused with which code, certainly not applied or possibly applied.
//!
//! Owns: the step from an answer to [`Accepted`] or [`CallError`]. Must not know: sockets, hosts, the connection pool.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::header::{DATE, HeaderMap, HeaderValue, RETRY_AFTER};
use tracing::debug;

use super::call::{Accepted, CallError, FailedAccount};
use super::code::Code;
use super::code_table::CodeClass;
use super::request::ApiRequest;
use super::usersig::Usersig;
use super::wire::{self, ApiAnswer, ErrorListEntry, ParseProblem};

/// A longer `Retry-After` counts as this: the sender has its own limits.
const MAX_RETRY_AFTER: Duration = Duration::from_hours(24);

/// Reads the body of an answer with status 200: accepted, or refused with a code.
pub(super) fn read_answer(
    request: &ApiRequest<'_>,
    usersig: &Usersig,
    body: &[u8],
    retry_after: Option<Duration>,
) -> Result<ApiAnswer, CallError> {
    let mut answer = wire::parse(body).map_err(|problem| match problem {
        ParseProblem::Foreign(info) => request.error(Code::ForeignAnswer, info),
        ParseProblem::Broken(info) => request.error(Code::Malformed, info),
    })?;
    answer.request_id =
        answer.request_id.map(|id| ApiRequest::redact_usersig(&id, usersig)).filter(|id| !id.is_empty());
    check_answer(request, usersig, answer, retry_after)
}

/// Accepted, or refused with a code.
fn check_answer(
    request: &ApiRequest<'_>,
    usersig: &Usersig,
    mut answer: ApiAnswer,
    retry_after: Option<Duration>,
) -> Result<ApiAnswer, CallError> {
    let (ok, refused) = match answer.action_status.as_deref() {
        Some("OK") => (true, false),
        Some("FAIL") => (false, true),
        _ => (false, false),
    };
    let code = Code::Vendor(answer.error_code);
    if code.class() == CodeClass::Done {
        let list = answer.error_list.take().unwrap_or_default();
        let info = match failed_entries(request, usersig, list) {
            Some(failed) if ok => return Ok(ApiAnswer { error_list: Some(failed), ..answer }),
            Some(_) => "ErrorCode is 0, but ActionStatus is not OK".to_owned(),
            None => {
                let info = "ErrorList names an account that the call did not carry".to_owned();
                return Err(CallError {
                    request_id: answer.request_id,
                    ..request.error(Code::UnmatchedErrorList, info)
                });
            }
        };
        return Err(CallError { request_id: answer.request_id, ..request.error(Code::Malformed, info) });
    }
    let info = request.redact_all(answer.error_info.as_deref().unwrap_or_default(), usersig);
    let info = if info.is_empty() { "IM sent no ErrorInfo".to_owned() } else { info };
    // A refusal of the whole call has the status FAIL and an empty list. Otherwise part of the call may be applied.
    let whole_call_refused = refused && answer.error_list.is_none_or(|list| list.is_empty());
    Err(CallError {
        request_id: answer.request_id,
        retry_after,
        maybe_applied: code.maybe_applied() || !whole_call_refused,
        ..request.error(code, info)
    })
}

/// Each account of an `ErrorList` that failed, once, in the spelling in which it was sent. `None` when the list names an
/// account that was not sent, or that may be one of several that were: then it is unknown which accounts failed.
fn failed_entries(
    request: &ApiRequest<'_>,
    usersig: &Usersig,
    list: Vec<ErrorListEntry>,
) -> Option<Vec<ErrorListEntry>> {
    if list.is_empty() {
        return Some(list);
    }
    let positions = {
        let named: Vec<&str> = list.iter().map(|entry| entry.account.as_str()).collect();
        failed_accounts(&request.accounts, &named)
    };
    let mut seen = HashSet::new();
    let mut failed = Vec::new();
    for (ErrorListEntry { code, info, .. }, position) in list.into_iter().zip(positions) {
        if code == 0 {
            continue;
        }
        let position = position?;
        // However long the list is, no more texts are redacted than accounts were sent.
        if seen.insert(position) {
            let account = request.accounts[position].to_owned();
            failed.push(ErrorListEntry { account, code, info: info.map(|info| request.redact_all(&info, usersig)) });
        }
    }
    Some(failed)
}

/// The positions of the accounts that an answer names. IM may spell them otherwise than the call did, in case or with blanks
/// at the ends (assumed); such a spelling counts where it fits exactly one account of the call. Where it fits several, IM may
/// take them for one account, unless the answer names each of them exactly once.
pub(super) fn sent_accounts(sent: &[&str], named: &[&str]) -> Vec<Option<usize>> {
    let plain = |account: &str| account.trim().to_lowercase();
    let mut alike: HashMap<String, Vec<usize>> = HashMap::new();
    for (position, account) in sent.iter().enumerate() {
        alike.entry(plain(account)).or_default().push(position);
    }
    let mut times_named: HashMap<&str, usize> = HashMap::new();
    for account in named {
        *times_named.entry(account).or_default() += 1;
    }
    let position = |named: &&str| match alike.get(&plain(named))?.as_slice() {
        [position] => Some(*position),
        several => {
            let each_once = several.iter().all(|position| times_named.get(sent[*position]) == Some(&1));
            several.iter().copied().find(|position| each_once && sent[*position] == *named)
        }
    };
    named.iter().map(position).collect()
}

/// As [`sent_accounts`], for an answer that names only accounts of its call. A single account is the one that is meant,
/// however it is spelled.
pub(super) fn failed_accounts(sent: &[&str], named: &[&str]) -> Vec<Option<usize>> {
    if sent.len() == 1 { vec![Some(0); named.len()] } else { sent_accounts(sent, named) }
}

/// An accepted call, with the accounts of `ErrorList` to which it was not applied.
pub(super) fn accepted(request: &ApiRequest<'_>, answer: ApiAnswer) -> Accepted {
    let list = answer.error_list.unwrap_or_default();
    if !list.is_empty() {
        let (command, request_id) = (request.command.label(), answer.request_id.as_deref());
        debug!(command, request_id, failed = list.len(), "IM accepted a call except for some accounts");
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

/// The delay that a `Retry-After` header asks for, in seconds or as an HTTP date. A date is compared with the server's
/// own clock where the answer has a `Date` header.
pub(super) fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let text = |value: &HeaderValue| value.to_str().ok().map(|text| text.trim().to_owned());
    let after = headers.get(RETRY_AFTER).and_then(text)?;
    let delay = if let Ok(seconds) = after.parse() {
        Duration::from_secs(seconds)
    } else {
        let until = DateTime::parse_from_rfc2822(&after).ok()?;
        // `to_std` fails for a date in the past.
        until.to_utc().signed_duration_since(server_time(headers).unwrap_or(now)).to_std().unwrap_or_default()
    };
    Some(delay.min(MAX_RETRY_AFTER))
}

/// The server's clock in whole seconds, from the header `Date`.
pub(super) fn server_time(headers: &HeaderMap) -> Option<DateTime<Utc>> {
    let date = headers.get(DATE)?.to_str().ok()?;
    Some(DateTime::parse_from_rfc2822(date.trim()).ok()?.to_utc())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn retry_after_takes_seconds_and_dates() {
        let now: DateTime<Utc> = "2024-10-01T10:00:00Z".parse().unwrap();
        let read = |value: &str| {
            retry_after(&HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_str(value).unwrap())]), now)
        };
        assert_eq!(read("120"), Some(Duration::from_mins(2)));
        assert_eq!(read("0"), Some(Duration::ZERO));
        assert_eq!(read("Tue, 01 Oct 2024 10:02:00 GMT"), Some(Duration::from_mins(2)));
        assert_eq!(read("Tue, 01 Oct 2024 09:00:00 GMT"), Some(Duration::ZERO), "a date in the past");
        assert_eq!(read("18446744073709551615"), Some(MAX_RETRY_AFTER));
        for nonsense in ["soon", "-1", "1.5", ""] {
            assert_eq!(read(nonsense), None, "{nonsense}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
