//! What an answer means: from a code to what is done with the call, and the words for a refusal.
//!
//! Owns: the decision for each class of code, reasons without values. Must not know: calls, rate_limiter, batches.

use crate::im::{Code, CodeClass};

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
        CodeClass::Done | CodeClass::Retry => Disposition::Retry,
        CodeClass::SlowDown => Disposition::RetryThrottled,
        CodeClass::Credentials => Disposition::Stop,
        CodeClass::Row | CodeClass::Request | CodeClass::Unknown => Disposition::Bisect,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
