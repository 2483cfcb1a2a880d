//! What an answer means: from a code to what is done with the call, and the words for a refusal.
//!
//! Owns: the decision for each class of code, reasons without values. Must not know: calls, rate_limiter, batches.

use std::borrow::Cow;

use super::batch::Operation;
use crate::im::{Class, Code};
use crate::model::VendorRefusal;

/// "Attribute not valid": an unset name or a bad value. The app's names tell which.
pub(super) const ATTRIBUTE_NOT_VALID: Code = Code::Vendor(90033);
/// The account was never imported into Chat, so it holds no attribute.
const NO_SUCH_ACCOUNT: Code = Code::Vendor(70107);

/// What is done after a code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Disposition {
    /// The same call again, after a pause.
    Retry,
    /// The same call again, after a longer pause, and all calls slower for a while.
    RetryThrottled,
    /// Nothing can be pushed.
    Stop,
    /// Halves, accounts, attributes, until the culprit stands alone.
    Bisect,
}

pub(super) fn of(code: Code) -> Disposition {
    match code.class() {
        // An error with the code of success is not an answer to rely on.
        Class::Done | Class::Retry => Disposition::Retry,
        Class::SlowDown => Disposition::RetryThrottled,
        Class::Credentials => Disposition::Stop,
        Class::Row | Class::Request | Class::Unknown => Disposition::Bisect,
    }
}

/// A removal from an account that does not exist has nothing left to do.
pub(super) fn counts_as_done(op: Operation, code: Code) -> bool {
    op == Operation::Remove && code == NO_SUCH_ACCOUNT
}

/// The refusal as it is recorded. `values`: those that the call carried; none of them shows in the reason.
pub(super) fn refusal<'a>(
    code: Code,
    info: &str,
    request_id: Option<&str>,
    values: impl Iterator<Item = &'a str>,
) -> VendorRefusal {
    let number = match code {
        Code::Vendor(number) => number,
        Code::Http(status) => i64::from(status),
        Code::Timeout | Code::Connect | Code::Malformed => 0,
    };
    let mut reason = format!("{} ({code}", code.advice());
    if !info.is_empty() {
        reason.push_str(", ErrorInfo: ");
        reason.push_str(&hide(info, values));
    }
    if let Some(id) = request_id {
        reason.push_str(", RequestId: ");
        reason.push_str(id);
    }
    reason.push(')');
    VendorRefusal { code: number, reason, of_account: code.of_account() }
}

/// Bytes under which a value is only hidden where it stands as a word of its own:
/// the value "a" must not turn "bad parameter" into "b…d p…r…meter", and within a word it tells nothing.
const SHORT: usize = 4;

/// The text with every value replaced by "…".
pub(super) fn hide<'a>(info: &str, values: impl Iterator<Item = &'a str>) -> String {
    let mut found: Vec<Cow<'a, str>> = Vec::new();
    for value in values.filter(|value| !value.is_empty() && !info.is_empty()) {
        if info.contains(value) {
            found.push(Cow::Borrowed(value));
        }
        // It may also come back as it stood in the JSON, with its quotes escaped.
        if value.contains(|c: char| matches!(c, '"' | '\\') || c.is_control()) {
            let json = serde_json::to_string(value).unwrap_or_default();
            let escaped = json.get(1..json.len().saturating_sub(1)).unwrap_or_default();
            if !escaped.is_empty() && info.contains(escaped) {
                found.push(Cow::Owned(escaped.to_owned()));
            }
        }
    }
    // Longest first: a value that contains another must go whole.
    found.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
    found.dedup();
    found.iter().fold(info.to_owned(), |text, value| replace(&text, value))
}

fn replace(text: &str, value: &str) -> String {
    let mut hidden = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(value) {
        let (before, after) = (&rest[..at], &rest[at + value.len()..]);
        let in_word = |side: Option<char>, edge: Option<char>| {
            side.is_some_and(char::is_alphanumeric) && edge.is_some_and(char::is_alphanumeric)
        };
        // What was kept of the text before decides as well as the rest, hence `hidden`.
        let left = before.chars().next_back().or_else(|| hidden.chars().next_back());
        let within = in_word(left, value.chars().next()) || in_word(after.chars().next(), value.chars().next_back());
        hidden.push_str(before);
        if value.len() < SHORT && within {
            hidden.push_str(value);
        } else {
            hidden.push('…');
        }
        rest = after;
    }
    hidden.push_str(rest);
    hidden
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hidden(info: &str, values: &[&str]) -> String {
        hide(info, values.iter().copied())
    }

    #[test]
    fn no_value_of_a_user_reaches_a_reason() {
        let refusal = refusal(
            Code::Vendor(90033),
            "attribute city value Atlantis is not valid",
            Some("req-1"),
            ["Atlantis"].into_iter(),
        );
        assert_eq!((refusal.code, refusal.of_account), (90033, false));
        assert!(refusal.reason.contains("attribute city value … is not valid"), "{}", refusal.reason);
        assert!(refusal.reason.contains("90033") && refusal.reason.contains("req-1"), "{}", refusal.reason);
        assert!(refusal.reason.starts_with(Code::Vendor(90033).advice()), "{}", refusal.reason);
    }

    #[test]
    fn values_are_hidden_in_every_form() {
        assert_eq!(hidden("bad value say \\\"hi\\\" here", &["say \"hi\""]), "bad value … here");
        assert_eq!(hidden("female and male", &["male", "female"]), "… and …");
        assert_eq!(hidden("value 北京 refused", &["北京"]), "value … refused");
        assert_eq!(hidden("nothing of it", &["", "x"]), "nothing of it");
    }

    #[test]
    fn a_short_value_does_not_eat_words() {
        assert_eq!(hidden("bad parameter a", &["a"]), "bad parameter …");
        assert_eq!(hidden("vip=1, limit 100", &["1"]), "vip=…, limit 100");
        assert_eq!(hidden("aaa a", &["a"]), "aaa …");
    }

    #[test]
    fn every_class_has_its_verdict() {
        for (code, verdict) in [
            (Code::Vendor(91000), Disposition::Retry),
            (Code::Timeout, Disposition::Retry),
            (Code::Http(502), Disposition::Retry),
            (Code::Vendor(60011), Disposition::RetryThrottled),
            (Code::Http(429), Disposition::RetryThrottled),
            (Code::Vendor(70003), Disposition::Stop),
            (Code::Vendor(90018), Disposition::Bisect),
            (Code::Vendor(70107), Disposition::Bisect),
            (Code::Vendor(424_242), Disposition::Bisect),
        ] {
            assert_eq!(of(code), verdict, "{code}");
        }
    }
}
