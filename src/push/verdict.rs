//! What an answer means: from the class of a code to what is done with the call.
//!
//! Owns: the decision for each class of code. Must not know: calls, pace, batches.

use crate::im::{Code, CodeClass};

/// What is done after a code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// The same call again, after a pause.
    Repeat,
    /// The same call again, after a longer pause, and all calls slower for a while.
    RepeatSlower,
    /// Nothing can be pushed.
    Stop,
    /// Halves, accounts, attributes, until the culprit stands alone.
    Isolate,
}

pub(super) fn of(code: Code) -> Verdict {
    match code.class() {
        // An error with the code of success is not an answer to rely on.
        CodeClass::Done | CodeClass::Retry => Verdict::Repeat,
        CodeClass::SlowDown => Verdict::RepeatSlower,
        CodeClass::Credentials => Verdict::Stop,
        CodeClass::Row | CodeClass::Request | CodeClass::Unknown => Verdict::Isolate,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_has_its_verdict() {
        for (code, verdict) in [
            (Code::Vendor(91000), Verdict::Repeat),
            (Code::Timeout, Verdict::Repeat),
            (Code::Http(502), Verdict::Repeat),
            (Code::Vendor(60011), Verdict::RepeatSlower),
            (Code::Http(429), Verdict::RepeatSlower),
            (Code::Vendor(70003), Verdict::Stop),
            (Code::Vendor(90018), Verdict::Isolate),
            (Code::Vendor(70107), Verdict::Isolate),
            (Code::Vendor(424_242), Verdict::Isolate),
        ] {
            assert_eq!(of(code), verdict, "{code}");
        }
    }
}
