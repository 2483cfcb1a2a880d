//! The table of codes: class, what a sender does, a sentence for the operator.

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
    pub fn class(self) -> Class {
        unimplemented!()
    }

    /// What it means and what to do, for the operator.
    pub fn advice(self) -> &'static str {
        unimplemented!()
    }

    /// The code speaks of the account, not of one of its attributes (70107, 60015, 90035).
    pub fn of_account(self) -> bool {
        unimplemented!()
    }
}
