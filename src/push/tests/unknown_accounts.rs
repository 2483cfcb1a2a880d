//! Accounts that Chat does not know, while the service of accounts has faults.
//!
//! Owns: how long a fault of the service matters, and what it costs. Must not know: how a batch is split.

use std::time::Duration;

use super::fake_im::*;
use crate::clock::monotonic;
use crate::im::{ApiCommand, Code};
use crate::push::ChangeOrigin::New;

/// Chat does not know nine of ten accounts, and `account_check` has this fault for the time.
fn with_faulty_check(code: Code, time: Duration) -> PushFixture {
    let fixture = PushFixture::new();
    let unknown = (0..3_000).filter(|number| number % 10 != 0).map(|number| format!("u{number}"));
    fixture.im.state().unknown = Some(unknown.collect());
    let until = monotonic() + time;
    fixture.inject(move |_, sent| {
        (sent.command == ApiCommand::AccountCheck && monotonic() < until).then_some(CallFault::Fail(code))
    });
    fixture
}

#[tokio::test(start_paused = true)]
async fn a_short_fault_of_the_check_splits_few_batches() {
    for code in [Code::Vendor(91000), Code::Http(502), Code::Connect, Code::Malformed] {
        let fixture = with_faulty_check(code, Duration::from_secs(1));
        let pass = fixture.begin_pass();
        // The batches of one delivery are in flight together, and have the fault together.
        let mut outcomes = Vec::new();
        for changes in sets(3_000, 1).chunks(300) {
            outcomes.extend(pass.deliver_all(changes.to_vec(), New).await);
        }
        assert_eq!((count(&outcomes, done), count(&outcomes, refused_with(70107))), (300, 2_700), "{code}");
        let calls = fixture.im.sent(ApiCommand::SetAttr).len();
        assert!(calls < 500, "{code}: {calls} calls, where splitting every batch takes 3,000");
        assert!(pass.unknown_accounts_are_cheap(), "{code}: the command works again");
        fixture.assert_limits_kept();
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_check_is_tried_again_in_the_next_pass_only() {
    for code in [Code::Vendor(60017), Code::Vendor(70003), Code::Vendor(424_242), Code::Http(403)] {
        let fixture = with_faulty_check(code, Duration::from_millis(100));
        let pass = fixture.begin_pass();
        // One batch, so that no second check is in flight.
        pass.deliver_all(sets(100, 1), New).await;
        pass.deliver_all(sets(300, 1).split_off(100), New).await;
        assert_eq!(fixture.im.sent(ApiCommand::AccountCheck).len(), 1, "{code}");
        assert!(!pass.unknown_accounts_are_cheap(), "{code}");
        let next = fixture.begin_pass();
        assert!(!next.unknown_accounts_are_cheap(), "{code}: not known before the check has worked");
        next.deliver_all(sets(400, 1).split_off(300), New).await;
        assert_eq!(fixture.im.sent(ApiCommand::AccountCheck).len(), 2, "{code}");
        assert!(next.unknown_accounts_are_cheap(), "{code}");
    }
}
