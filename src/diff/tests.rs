//! The diff by table: what is sent for a wish and an acknowledged value.

use super::*;
use proptest::prelude::*;

fn rules(attributes: &[u16]) -> Rules {
    Rules {
        attributes: attributes.iter().copied().map(AttributeIndex).collect(),
        remove_unmapped: false,
        remove_gone: true,
        force: false,
    }
}

fn value(text: &str) -> DesiredValue {
    DesiredValue::Value(text.into())
}

fn holds(text: &str) -> AcknowledgedValue {
    AcknowledgedValue::Value(text.into())
}

fn desired(values: &[DesiredValue]) -> DesiredAccount {
    DesiredAccount { account: Account::new("u1"), values: values.to_vec() }
}

#[test]
fn only_what_differs_is_sent() {
    let cases: [(DesiredValue, AcknowledgedValue, Option<&str>, bool); 12] = [
        (value("a"), AcknowledgedValue::Absent, Some("a"), false),
        (value("a"), holds("a"), None, false),
        (value("a"), holds("b"), Some("a"), false),
        (value("a"), AcknowledgedValue::Unknown, Some("a"), false),
        (DesiredValue::Absent, AcknowledgedValue::Absent, None, false),
        (DesiredValue::Absent, holds("b"), None, true),
        (DesiredValue::Absent, AcknowledgedValue::Unknown, None, true),
        (DesiredValue::Keep, AcknowledgedValue::Absent, None, false),
        (DesiredValue::Keep, holds("b"), None, false),
        (DesiredValue::Keep, AcknowledgedValue::Unknown, None, false),
        (DesiredValue::Refused(LocalRefusal::AccountTwice), holds("b"), None, false),
        (DesiredValue::Refused(LocalRefusal::AccountTwice), AcknowledgedValue::Unknown, None, false),
    ];
    for (value, known, set, remove) in cases {
        let difference =
            present(&desired(std::slice::from_ref(&value)), std::slice::from_ref(&known), &[], &rules(&[0]));
        let sent = difference.change.set.first().map(|(_, value)| &**value);
        assert_eq!(sent, set, "{value:?} over {known:?}");
        assert_eq!(!difference.change.remove.is_empty(), remove, "{value:?} over {known:?}");
        let cannot_settle =
            known == AcknowledgedValue::Unknown && matches!(value, DesiredValue::Keep | DesiredValue::Refused(_));
        assert_eq!(difference.stuck, cannot_settle, "{value:?} over {known:?}");
    }
}

#[test]
fn force_sends_what_is_acknowledged_and_removes_what_is_empty() {
    let rules = Rules { force: true, ..rules(&[0, 1]) };
    let difference =
        present(&desired(&[value("a"), DesiredValue::Absent]), &[holds("a"), AcknowledgedValue::Absent], &[], &rules);
    assert_eq!(difference.change.set, vec![(AttributeIndex(0), "a".into())]);
    assert_eq!(difference.change.remove, vec![AttributeIndex(1)]);
}

#[test]
fn a_rejection_stands_until_the_wish_changes_or_its_pause_is_over() {
    let rejected = |due| Rejected { attribute: Some(AttributeIndex(0)), desired_digest: digest::of_value("bad"), due };
    let wish = desired(&[value("bad"), value("good")]);
    let state = [AcknowledgedValue::Unknown, AcknowledgedValue::Absent];

    let standing = present(&wish, &state, &[rejected(false)], &rules(&[0, 1]));
    assert_eq!(standing.change.set, vec![(AttributeIndex(1), "good".into())], "the neighbour goes all the same");
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
    assert_eq!(back.resolved, vec![Some(AttributeIndex(0))], "what IM holds already needs no retry");
}

#[test]
fn a_refused_account_is_left_alone_until_something_changes() {
    let values = [value("a"), value("b")];
    let rejected = [Rejected { attribute: None, desired_digest: digest::of_desired(&values), due: false }];
    assert!(present(&desired(&values), &[], &rejected, &rules(&[0, 1])).change.set.is_empty());
    let other = present(&desired(&[value("a"), value("c")]), &[], &rejected, &rules(&[0, 1]));
    assert_eq!(other.change.set.len(), 2);
}

#[test]
fn what_the_mapping_dropped_stays_or_goes_as_configured() {
    let state = [holds("a"), holds("old")];
    assert!(present(&desired(&[value("a")]), &state, &[], &rules(&[0])).change.remove.is_empty());
    let rules = Rules { remove_unmapped: true, ..rules(&[0]) };
    assert_eq!(present(&desired(&[value("a")]), &state, &[], &rules).change.remove, vec![AttributeIndex(1)]);
}

#[test]
fn a_gone_account_loses_everything_of_ours_doubts_and_dropped_names_included() {
    let state = [holds("a"), AcknowledgedValue::Absent, AcknowledgedValue::Unknown, holds("dropped")];
    let difference = gone(Account::new("u1"), &state, &[], &rules(&[0, 1, 2]));
    assert_eq!(difference.change.remove, vec![AttributeIndex(0), AttributeIndex(2), AttributeIndex(3)]);
    let keep = Rules { remove_gone: false, ..rules(&[0, 1, 2]) };
    assert!(gone(Account::new("u1"), &state, &[], &keep).change.remove.is_empty());
}

fn any_desired_value() -> impl Strategy<Value = DesiredValue> {
    prop_oneof![
        "[a-c]{1,2}".prop_map(|text| DesiredValue::Value(text.into())),
        Just(DesiredValue::Absent),
        Just(DesiredValue::Keep),
        Just(DesiredValue::Refused(LocalRefusal::AccountTwice)),
    ]
}

fn any_known() -> impl Strategy<Value = AcknowledgedValue> {
    prop_oneof![
        "[a-c]{1,2}".prop_map(|text| AcknowledgedValue::Value(text.into())),
        Just(AcknowledgedValue::Absent),
        Just(AcknowledgedValue::Unknown)
    ]
}

proptest! {
    /// Once the change is applied, a second look finds nothing to send.
    #[test]
    fn fulfilled_wishes_cause_no_call(
        values in proptest::collection::vec(any_desired_value(), 3),
        state in proptest::collection::vec(any_known(), 0..6),
        remove_unmapped: bool,
    ) {
        let rules = Rules { remove_unmapped, ..rules(&[2, 0, 4]) };
        let wish = desired(&values);
        let first = present(&wish, &state, &[], &rules);
        let mut after = state.clone();
        after.resize(6, AcknowledgedValue::Absent);
        for (attribute, value) in &first.change.set {
            after[attribute.index()] = AcknowledgedValue::Value(value.clone());
        }
        for attribute in &first.change.remove {
            after[attribute.index()] = AcknowledgedValue::Absent;
        }
        let second = present(&wish, &after, &[], &rules);
        prop_assert!(second.change.set.is_empty() && second.change.remove.is_empty());

        // The short cut by digest never says "equal" where the diff says otherwise.
        let in_order = [(AttributeIndex(0), 1), (AttributeIndex(2), 0), (AttributeIndex(4), 2)];
        if digest::once_fulfilled(&values, &in_order) == Some(digest::of_acknowledged(&state)) {
            prop_assert!(first.change.set.is_empty() && first.change.remove.is_empty());
        }
    }
}
