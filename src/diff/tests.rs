//! The diff by table: what is sent for a wish and an acknowledged value.

use super::*;
use proptest::prelude::*;

fn rules(slots: &[u16]) -> Rules {
    Rules { slots: slots.iter().copied().map(Slot).collect(), remove_unmapped: false, remove_gone: true, force: false }
}

fn value(text: &str) -> Want {
    Want::Value(text.into())
}

fn holds(text: &str) -> Known {
    Known::Value(text.into())
}

fn desired(wants: &[Want]) -> Desired {
    Desired { account: Account::new("u1"), wants: wants.to_vec() }
}

#[test]
fn only_what_differs_is_sent() {
    let cases: [(Want, Known, Option<&str>, bool); 12] = [
        (value("a"), Known::Absent, Some("a"), false),
        (value("a"), holds("a"), None, false),
        (value("a"), holds("b"), Some("a"), false),
        (value("a"), Known::Unknown, Some("a"), false),
        (Want::Absent, Known::Absent, None, false),
        (Want::Absent, holds("b"), None, true),
        (Want::Absent, Known::Unknown, None, true),
        (Want::Keep, Known::Absent, None, false),
        (Want::Keep, holds("b"), None, false),
        (Want::Keep, Known::Unknown, None, false),
        (Want::Refused(Refusal::AccountTwice), holds("b"), None, false),
        (Want::Refused(Refusal::AccountTwice), Known::Unknown, None, false),
    ];
    for (want, known, set, remove) in cases {
        let difference =
            present(&desired(std::slice::from_ref(&want)), std::slice::from_ref(&known), &[], &rules(&[0]));
        let sent = difference.change.set.first().map(|(_, value)| &**value);
        assert_eq!(sent, set, "{want:?} over {known:?}");
        assert_eq!(!difference.change.remove.is_empty(), remove, "{want:?} over {known:?}");
        let cannot_settle = known == Known::Unknown && matches!(want, Want::Keep | Want::Refused(_));
        assert_eq!(difference.stuck, cannot_settle, "{want:?} over {known:?}");
    }
}

#[test]
fn force_sends_what_is_acknowledged_and_removes_what_is_empty() {
    let rules = Rules { force: true, ..rules(&[0, 1]) };
    let difference = present(&desired(&[value("a"), Want::Absent]), &[holds("a"), Known::Absent], &[], &rules);
    assert_eq!(difference.change.set, vec![(Slot(0), "a".into())]);
    assert_eq!(difference.change.remove, vec![Slot(1)]);
}

#[test]
fn a_rejection_stands_until_the_wish_changes_or_its_pause_is_over() {
    let rejected = |due| Rejected { slot: Some(Slot(0)), desired_digest: digest::of_value("bad"), due };
    let wish = desired(&[value("bad"), value("good")]);
    let state = [Known::Unknown, Known::Absent];

    let standing = present(&wish, &state, &[rejected(false)], &rules(&[0, 1]));
    assert_eq!(standing.change.set, vec![(Slot(1), "good".into())], "the neighbour goes all the same");
    assert!(standing.stuck);

    let due = present(&wish, &state, &[rejected(true)], &rules(&[0, 1]));
    assert_eq!(due.change.set.len(), 2);

    let changed = present(&desired(&[value("better"), value("good")]), &state, &[rejected(false)], &rules(&[0, 1]));
    assert_eq!(changed.change.set.len(), 2);

    let back = present(
        &desired(&[value("old"), value("good")]),
        &[holds("old"), holds("good")],
        &[rejected(false)],
        &rules(&[0, 1]),
    );
    assert!(back.change.set.is_empty());
    assert_eq!(back.resolved, vec![Some(Slot(0))], "what IM holds already needs no retry");
}

#[test]
fn a_refused_account_is_left_alone_until_something_changes() {
    let wants = [value("a"), value("b")];
    let rejected = [Rejected { slot: None, desired_digest: digest::of_wants(&wants), due: false }];
    assert!(present(&desired(&wants), &[], &rejected, &rules(&[0, 1])).change.set.is_empty());
    let other = present(&desired(&[value("a"), value("c")]), &[], &rejected, &rules(&[0, 1]));
    assert_eq!(other.change.set.len(), 2);
}

#[test]
fn what_the_mapping_dropped_stays_or_goes_as_configured() {
    let state = [holds("a"), holds("old")];
    assert!(present(&desired(&[value("a")]), &state, &[], &rules(&[0])).change.remove.is_empty());
    let rules = Rules { remove_unmapped: true, ..rules(&[0]) };
    assert_eq!(present(&desired(&[value("a")]), &state, &[], &rules).change.remove, vec![Slot(1)]);
}

#[test]
fn a_gone_account_loses_everything_of_ours_doubts_and_dropped_names_included() {
    let state = [holds("a"), Known::Absent, Known::Unknown, holds("dropped")];
    let difference = gone(Account::new("u1"), &state, &[], &rules(&[0, 1, 2]));
    assert_eq!(difference.change.remove, vec![Slot(0), Slot(2), Slot(3)]);
    let keep = Rules { remove_gone: false, ..rules(&[0, 1, 2]) };
    assert!(gone(Account::new("u1"), &state, &[], &keep).change.remove.is_empty());
}

fn any_want() -> impl Strategy<Value = Want> {
    prop_oneof![
        "[a-c]{1,2}".prop_map(|text| Want::Value(text.into())),
        Just(Want::Absent),
        Just(Want::Keep),
        Just(Want::Refused(Refusal::AccountTwice)),
    ]
}

fn any_known() -> impl Strategy<Value = Known> {
    prop_oneof!["[a-c]{1,2}".prop_map(|text| Known::Value(text.into())), Just(Known::Absent), Just(Known::Unknown)]
}

proptest! {
    /// Once the change is applied, a second look finds nothing to send.
    #[test]
    fn fulfilled_wishes_cause_no_call(
        wants in proptest::collection::vec(any_want(), 3),
        state in proptest::collection::vec(any_known(), 0..6),
        remove_unmapped: bool,
    ) {
        let rules = Rules { remove_unmapped, ..rules(&[2, 0, 4]) };
        let wish = desired(&wants);
        let first = present(&wish, &state, &[], &rules);
        let mut after = state.clone();
        after.resize(6, Known::Absent);
        for (slot, value) in &first.change.set {
            after[slot.index()] = Known::Value(value.clone());
        }
        for slot in &first.change.remove {
            after[slot.index()] = Known::Absent;
        }
        let second = present(&wish, &after, &[], &rules);
        prop_assert!(second.change.set.is_empty() && second.change.remove.is_empty());

        // The short cut by digest never says "equal" where the diff says otherwise.
        let in_order = [(Slot(0), 1), (Slot(2), 0), (Slot(4), 2)];
        if digest::once_fulfilled(&wants, &in_order) == Some(digest::of_acknowledged(&state)) {
            prop_assert!(first.change.set.is_empty() && first.change.remove.is_empty());
        }
    }
}
