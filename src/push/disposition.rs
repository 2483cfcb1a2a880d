//! What is done with a call that IM did not accept.
//!
//! Owns: the decision for each class of code. Must not know: calls, batches, what single codes mean.

use crate::im::{Code, CodeClass};

/// What is done with a call that ended with a code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Disposition {
    /// The call is sent again after a pause.
    Retry,
    /// The call is sent again after a longer pause, and the rate is lowered.
    RetryThrottled,
    /// The pass stops: nothing can be pushed.
    Stop,
    /// The batch is split until each account or attribute that IM refuses is in a call of its own.
    Bisect,
}

impl Disposition {
    pub(super) fn of(code: Code) -> Self {
        match code.class() {
            // An error with the code of success says nothing reliable about the call.
            CodeClass::Done | CodeClass::Retry => Self::Retry,
            CodeClass::SlowDown => Self::RetryThrottled,
            CodeClass::Credentials => Self::Stop,
            CodeClass::Row | CodeClass::Request | CodeClass::Unknown => Self::Bisect,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_of_code_has_its_disposition() {
        for (code, disposition) in [
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
            assert_eq!(Disposition::of(code), disposition, "{code}");
        }
    }
}
