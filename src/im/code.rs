//! The table of codes: class, what a sender does, a sentence for the operator.
//!
//! Owns: what every code and HTTP status means. Must not know: how an answer is fetched, batches, retries.
//! `docs/im-error-codes.md` shows the same table; a test keeps the two equal.

use std::fmt;

/// How an exchange ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Code {
    /// The vendor's `ErrorCode`.
    Vendor(i64),
    /// No answer within the time-out.
    Timeout,
    /// No connection, or it broke.
    Connect,
    /// An answer that is not the documented JSON.
    Malformed,
    /// An HTTP status other than 200.
    Http(u16),
}

/// What a sender does about a code.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Class {
    Done,
    /// Retry the same call; the outcome is unknown.
    Retry,
    /// Retry later and lower the rate.
    SlowDown,
    /// Nothing can be pushed until somebody mends credentials or app.
    Credentials,
    /// A defect or a changed limit on our side: split; a single account that still fails is rejected.
    Request,
    /// Split until the culprit stands alone; reject it.
    Row,
    /// Like `Row` while only some accounts fail with it.
    Unknown,
}

impl Class {
    /// The word for people, as in `docs/im-error-codes.md`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Retry => "try again",
            Self::SlowDown => "slow down",
            Self::Credentials => "credentials or app",
            Self::Request => "request",
            Self::Row => "row",
            Self::Unknown => "unknown",
        }
    }

    /// What imsync does about it, for people.
    pub fn action(self) -> &'static str {
        match self {
            Self::Done => "goes on",
            Self::Retry => {
                "repeats the call, with growing pauses, for up to `im.retry_for`; the outcome counts as unknown"
            }
            Self::SlowDown => "waits, lowers its call rate for a while, repeats the call",
            Self::Credentials => "stops the pass, rejects nobody, tries again with the next pass",
            Self::Request => "splits the batch; an account that still fails alone is rejected",
            Self::Row => "splits the batch until the account stands alone, rejects that account, pushes the others",
            Self::Unknown => "like \"row\", while only some accounts fail with it",
        }
    }
}

/// A line of the table.
struct Entry {
    code: i64,
    label: &'static str,
    class: Class,
    advice: &'static str,
}

macro_rules! table {
    ($($code:literal $class:ident $advice:literal)*) => {
        &[$(Entry { code: $code, label: stringify!($code), class: Class::$class, advice: $advice }),*]
    };
}

/// The codes that the vendor documents, in ascending order (looked up by bisection).
/// Source: the vendor's page of REST error codes; 70169, 70202 and 70500 are from older lists of it.
const TABLE: &[Entry] = table! {
    0 Done "IM accepted the call; with `timpush` the accounts in `ErrorList` failed by their own codes."
    60002 Request "IM could not read the HTTP request. Look for a proxy that rewrites requests; otherwise report it to imsync's authors."
    60003 Request "IM could not read the JSON of the request. Look for a proxy that rewrites requests; otherwise report it to imsync's authors."
    60004 Credentials "IM finds the admin account or the signature in the URL wrong. Check `im.identifier` and the secret key."
    60005 Credentials "IM finds the admin account or the signature in the URL wrong. Check `im.identifier` and the secret key."
    60006 Credentials "IM does not take this SDKAppID. Check `im.sdk_app_id` against the console."
    60007 SlowDown "The calls of this command come too fast for the app. Lower `im.calls_per_second`; syncs and scripts of one app share its limit of 100."
    60008 Retry "IM timed out inside. It passes by itself; if it lasts, give the vendor's support the RequestId from the log."
    60009 Credentials "IM does not know this URL. Check `im.base_url` and `im.service`."
    60010 Credentials "The account in `im.identifier` is not an administrator of the app. Make it one in the console, or name another."
    60011 SlowDown "The app calls IM too often in all. Lower `im.calls_per_second`, or find the other callers of this app."
    60012 Credentials "IM saw no SDKAppID. Check `im.sdk_app_id`, and that no proxy drops the query of the URL."
    60013 Retry "IM had an internal error. It passes by itself; if it lasts, give the vendor's support the RequestId from the log."
    60014 Retry "IM timed out inside. It passes by itself; if it lasts, give the vendor's support the RequestId from the log."
    60015 Row "IM does not take the account as a string. Look at the account in the table, and at `source.account_prefix`."
    60016 Credentials "The app is disabled. Enable it in the console, or settle the account with the vendor."
    60017 Credentials "IM forbids this call to the app. Look in the console which features its edition includes."
    60018 SlowDown "The calls come too often. Lower `im.calls_per_second`."
    60019 SlowDown "The calls come too often. Lower `im.calls_per_second`."
    60020 Credentials "The app's edition has expired. Renew it in the console."
    60021 Credentials "The app does not take calls from this machine's IP address. Add the address to the app's list in the console."
    70001 Credentials "IM calls the UserSig expired, a fresh one too. Set this machine's clock (NTP); check `im.usersig_lifetime`."
    70003 Credentials "IM finds the UserSig not valid. Check that the secret key belongs to `im.sdk_app_id`, and is whole."
    70005 Credentials "IM finds the UserSig not valid. Check that the secret key belongs to `im.sdk_app_id`, and is whole."
    70009 Credentials "IM finds the UserSig not valid. Check that the secret key belongs to `im.sdk_app_id`, and is whole."
    70013 Credentials "The UserSig is for another account than the call. Check `im.identifier`, and that no proxy rewrites the URL."
    70014 Credentials "The UserSig is for another app than the call. Check `im.sdk_app_id` and the secret key."
    70016 Credentials "The app has no secret key. Create one in the console and give it to imsync."
    70020 Credentials "There is no such app in this data centre. Check `im.sdk_app_id` and `im.region`."
    70050 Credentials "IM refused too many UserSigs of this app and does not check them for a while. Mend the secret key, then wait a minute."
    70051 Credentials "The account in `im.identifier` is blocked. Unblock it in the console, or name another administrator."
    70052 Credentials "IM calls the UserSig expired, a fresh one too. Set this machine's clock (NTP); check `im.usersig_lifetime`."
    70107 Row "The account does not exist in Chat. Import it there (it also comes to be when the user signs in the first time)."
    70169 Retry "IM timed out inside. It passes by itself; if it lasts, give the vendor's support the RequestId from the log."
    70202 Retry "IM timed out inside. It passes by itself; if it lasts, give the vendor's support the RequestId from the log."
    70402 Row "IM does not take a parameter of this account. Look at its id and values in the table for characters that IM may not take."
    70500 Retry "IM had an internal error. It passes by itself; if it lasts, give the vendor's support the RequestId from the log."
    90001 Request "IM could not read the JSON of the request. Look for a proxy that rewrites requests; otherwise report it to imsync's authors."
    90009 Credentials "The account in `im.identifier` is not an administrator of the app. Make it one in the console, or name another."
    90018 Request "The call carries more accounts than IM takes. Lower `im.users_per_call`."
    90033 Row "IM does not take an attribute: its name is not set in the app, or its value is not valid. Compare the app's attribute names (console, or `im_get_attr_name`) with [attributes]."
    90035 Row "The attribute is one of the other account type (UserIDs or devices). Check `AttrTypes` of the app's attribute names; it cannot be changed, so use another name."
    90045 Credentials "The push feature is not enabled for the app. Switch it on in the console, or choose the other `im.service`."
    91000 Retry "IM had an internal error. It passes by itself; if it lasts, give the vendor's support the RequestId from the log."
};

fn entry(code: i64) -> Option<&'static Entry> {
    TABLE.binary_search_by_key(&code, |entry| entry.code).ok().map(|at| &TABLE[at])
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vendor(code) => write!(f, "code {code}"),
            Self::Timeout => f.write_str("a time-out"),
            Self::Connect => f.write_str("a connection failure"),
            Self::Malformed => f.write_str("an answer that is not IM's"),
            Self::Http(status) => write!(f, "HTTP status {status}"),
        }
    }
}

impl Code {
    /// What a sender does about it.
    ///
    /// IM itself answers 200, so another HTTP status speaks of what stands before it. A redirect or a status of
    /// 400 to 499 (408, 425 and 429 aside) is of the credentials class: a wrong `im.base_url` or a proxy that
    /// refuses us answers every call the same way, so repeating it would only delay the sentence that says what to mend.
    pub fn class(self) -> Class {
        match self {
            Self::Vendor(code) => entry(code).map_or(Class::Unknown, |entry| entry.class),
            Self::Timeout | Self::Connect | Self::Malformed | Self::Http(408 | 425) => Class::Retry,
            Self::Http(429) => Class::SlowDown,
            Self::Http(300..=499) => Class::Credentials,
            Self::Http(_) => Class::Retry,
        }
    }

    /// What it means and what to do, for the operator.
    pub fn advice(self) -> &'static str {
        match self {
            Self::Vendor(code) => entry(code).map_or(
                "imsync does not know this code. Look it up in the vendor's list of REST error codes; support asks for the RequestId.",
                |entry| entry.advice,
            ),
            Self::Timeout => {
                "IM did not answer within `im.timeout`. Look at the network and at the vendor's status page; raise `im.timeout` if the way is long."
            }
            Self::Connect => {
                "IM cannot be reached, or the connection broke. Check DNS, the network, the firewall and the machine's clock and CA certificates (TLS); check `im.region` or `im.base_url`."
            }
            Self::Malformed => {
                "Something answered that is not IM. Check `im.base_url`; look for a proxy or a captive portal on the way."
            }
            Self::Http(401 | 403 | 407) => {
                "A proxy or firewall before IM refuses the call. Allow this machine there; check `im.base_url`."
            }
            Self::Http(408 | 425) => {
                "The server before IM gave up waiting. It passes by itself; look at the network if it lasts."
            }
            Self::Http(413) => {
                "A proxy before IM refuses bodies of this size. Raise its limit (200 KiB is enough), or lower `im.users_per_call`."
            }
            Self::Http(429) => {
                "The calls come too fast. Lower `im.calls_per_second`; syncs and scripts of one app share its limit of 100."
            }
            Self::Http(300..=399) => {
                "The address redirects, which is not followed. Write the address that it leads to into `im.base_url`."
            }
            Self::Http(400..=499) => {
                "The address does not offer IM's API. Check `im.base_url`: host, port and path."
            }
            Self::Http(500..=599) => {
                "IM, or a gateway before it, is out of order. It passes by itself; look at the vendor's status page, and at the proxy if there is one."
            }
            Self::Http(_) => "Something answered that is not IM, which answers with 200. Check `im.base_url`.",
        }
    }

    /// The code speaks of the account, not of one of its attributes (70107, 60015, 90035).
    pub fn of_account(self) -> bool {
        matches!(self, Self::Vendor(70107 | 60015 | 90035))
    }

    /// The metrics' label: a code of the table by its number, else timeout, connect, malformed, `http_4xx`, `http_5xx`
    /// or other. There are few of them, whatever IM answers.
    pub fn label(self) -> &'static str {
        match self {
            Self::Vendor(code) => entry(code).map_or("other", |entry| entry.label),
            Self::Timeout => "timeout",
            Self::Connect => "connect",
            Self::Malformed => "malformed",
            Self::Http(400..=499) => "http_4xx",
            Self::Http(500..=599) => "http_5xx",
            Self::Http(_) => "other",
        }
    }

    /// An expired UserSig: worth one more try with a fresh one, because clocks differ.
    pub(super) fn of_expired_signature(self) -> bool {
        matches!(self, Self::Vendor(70001 | 70052))
    }

    /// A call that ended so may have been applied. An unknown code may be an internal error, so it counts as one; and
    /// whoever answers HTTP 429 stands before IM, so what became of the call behind it is not known.
    pub(super) fn maybe_applied(self) -> bool {
        match self.class() {
            Class::SlowDown if self == Self::Http(429) => true,
            Class::Done | Class::Retry | Class::Unknown => true,
            Class::SlowDown | Class::Credentials | Class::Request | Class::Row => false,
        }
    }
}

#[cfg(test)]
mod tests;
