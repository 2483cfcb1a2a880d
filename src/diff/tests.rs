//! What is sent for a desired and an acknowledged value, tested by cases and by a property.

use proptest::prelude::*;

use super::{DiffRules, DigestKey, PriorRejection, of_gone_account, of_present_account};
use crate::model::{
    Account, AcknowledgedValue, AttributeIndex, Desired, DesiredAccount, DesiredText, DesiredValue, LocalRefusal,
};

fn rules(indexes: &[u16]) -> DiffRules {
    DiffRules {
        attribute_indexes: indexes.iter().copied().map(AttributeIndex).collect(),
        remove_unmapped: false,
        remove_gone: true,
        force: false,
        digest_key: key(),
        force_removals: false,
    }
}

fn key() -> DigestKey {
    DigestKey::new(b"a key of a sync")
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
        (DesiredValue::Refused(LocalRefusal::DuplicateAccount), holds("b"), None, false),
        (DesiredValue::Refused(LocalRefusal::DuplicateAccount), AcknowledgedValue::Unknown, None, false),
    ];
    for (value, known, set, remove) in cases {
        let difference =
            of_present_account(&desired(std::slice::from_ref(&value)), std::slice::from_ref(&known), &[], &rules(&[0]));
        let sent = difference.change.set.first().map(|(_, value)| &**value);
        assert_eq!(sent, set, "{value:?} over {known:?}");
        assert_eq!(!difference.change.remove.is_empty(), remove, "{value:?} over {known:?}");
        let stays_in_doubt =
            known == AcknowledgedValue::Unknown && matches!(value, DesiredValue::Keep | DesiredValue::Refused(_));
        assert_eq!(difference.stays_in_doubt, stays_in_doubt, "{value:?} over {known:?}");
    }
}

#[test]
fn force_sends_what_is_acknowledged_and_removes_what_is_empty() {
    let rules = DiffRules { force: true, force_removals: true, ..rules(&[0, 1]) };
    let difference = of_present_account(
        &desired(&[value("a"), DesiredValue::Absent]),
        &[holds("a"), AcknowledgedValue::Absent],
        &[],
        &rules,
    );
    assert_eq!(difference.change.set, vec![(AttributeIndex(0), "a".into())]);
    assert_eq!(difference.change.remove, vec![AttributeIndex(1)]);
}

#[test]
fn a_rejection_blocks_a_value_until_it_changes_or_is_due() {
    let rejected =
        |due| PriorRejection { attribute: Some(AttributeIndex(0)), desired_digest: key().of_value("bad"), due };
    let wanted = desired(&[value("bad"), value("good")]);
    let state = [AcknowledgedValue::Unknown, AcknowledgedValue::Absent];

    let standing = of_present_account(&wanted, &state, &[rejected(false)], &rules(&[0, 1]));
    assert_eq!(
        standing.change.set,
        vec![(AttributeIndex(1), "good".into())],
        "the other attribute is sent all the same"
    );
    assert!(standing.stays_in_doubt);

    let due = of_present_account(&wanted, &state, &[rejected(true)], &rules(&[0, 1]));
    assert_eq!(due.change.set.len(), 2);

    let changed =
        of_present_account(&desired(&[value("better"), value("good")]), &state, &[rejected(false)], &rules(&[0, 1]));
    assert_eq!(changed.change.set.len(), 2);

    let back = of_present_account(
        &desired(&[value("old"), value("good")]),
        &[holds("old"), holds("good")],
        &[rejected(false)],
        &rules(&[0, 1]),
    );
    assert!(back.change.set.is_empty());
    assert_eq!(back.resolved, vec![Some(AttributeIndex(0))], "a value that IM holds needs no retry");
}

#[test]
fn a_rejected_account_is_not_sent_until_a_value_changes() {
    let values = [value("a"), value("b")];
    let rejected = [PriorRejection { attribute: None, desired_digest: key().of_desired_values(&values), due: false }];
    assert!(of_present_account(&desired(&values), &[], &rejected, &rules(&[0, 1])).change.set.is_empty());
    let other = of_present_account(&desired(&[value("a"), value("c")]), &[], &rejected, &rules(&[0, 1]));
    assert_eq!(other.change.set.len(), 2);
}

#[test]
fn unmapped_attributes_are_kept_or_removed_as_configured() {
    let state = [holds("a"), holds("old")];
    assert!(of_present_account(&desired(&[value("a")]), &state, &[], &rules(&[0])).change.remove.is_empty());
    let rules = DiffRules { remove_unmapped: true, ..rules(&[0]) };
    assert_eq!(of_present_account(&desired(&[value("a")]), &state, &[], &rules).change.remove, vec![AttributeIndex(1)]);
}

#[test]
fn a_gone_account_loses_every_attribute_that_imsync_set() {
    let state = [holds("a"), AcknowledgedValue::Absent, AcknowledgedValue::Unknown, holds("dropped")];
    let difference = of_gone_account(Account::new("u1"), &state, &[], &rules(&[0, 1, 2]));
    assert_eq!(difference.change.remove, vec![AttributeIndex(0), AttributeIndex(2), AttributeIndex(3)]);
    let keep = DiffRules { remove_gone: false, ..rules(&[0, 1, 2]) };
    assert!(of_gone_account(Account::new("u1"), &state, &[], &keep).change.remove.is_empty());
}

fn any_desired_value() -> impl Strategy<Value = DesiredValue> {
    prop_oneof![
        "[a-c]{1,2}".prop_map(|text| DesiredValue::Value(text.into())),
        Just(DesiredValue::Absent),
        Just(DesiredValue::Keep),
        Just(DesiredValue::Refused(LocalRefusal::DuplicateAccount)),
    ]
}

fn any_acknowledged_value() -> impl Strategy<Value = AcknowledgedValue> {
    prop_oneof![
        "[a-c]{1,2}".prop_map(|text| AcknowledgedValue::Value(text.into())),
        Just(AcknowledgedValue::Absent),
        Just(AcknowledgedValue::Unknown)
    ]
}

proptest! {
    /// Once the change is applied, a second comparison finds nothing to send.
    #[test]
    fn an_applied_change_is_not_sent_again(
        values in proptest::collection::vec(any_desired_value(), 3),
        state in proptest::collection::vec(any_acknowledged_value(), 0..6),
        remove_unmapped: bool,
    ) {
        let rules = DiffRules { remove_unmapped, ..rules(&[2, 0, 4]) };
        let wanted = desired(&values);
        let first = of_present_account(&wanted, &state, &[], &rules);
        let mut after = state.clone();
        after.resize(6, AcknowledgedValue::Absent);
        for (attribute, value) in &first.change.set {
            after[attribute.index()] = AcknowledgedValue::Value(value.clone());
        }
        for attribute in &first.change.remove {
            after[attribute.index()] = AcknowledgedValue::Absent;
        }
        let second = of_present_account(&wanted, &after, &[], &rules);
        prop_assert!(second.change.set.is_empty() && second.change.remove.is_empty());

        // Equal digests never hide a difference.
        let positions = [(AttributeIndex(0), 1), (AttributeIndex(2), 0), (AttributeIndex(4), 2)];
        if key().when_all_acknowledged(by_index(&values, &positions)) == Some(key().of_acknowledged_values(&state)) {
            prop_assert!(first.change.set.is_empty() && first.change.remove.is_empty());
        }
    }
}

#[test]
fn the_digests_of_two_syncs_have_nothing_in_common() {
    let (one, other) = (key(), DigestKey::new(b"another key"));
    let state = [holds("a"), AcknowledgedValue::Absent, holds("b")];
    let values = [value("a"), DesiredValue::Absent, value("b")];
    let positions: Vec<_> = (0..).map(AttributeIndex).zip(0..3).collect();
    let digests =
        |key: &DigestKey| [key.of_acknowledged_values(&state), key.of_desired_values(&values), key.of_value("a")];
    assert!(digests(&one).iter().zip(digests(&other)).all(|(one, other)| *one != other));
    assert_eq!(one.when_all_acknowledged(by_index(&values, &positions)), Some(one.of_acknowledged_values(&state)));
    assert_ne!(other.when_all_acknowledged(by_index(&values, &positions)), Some(one.of_acknowledged_values(&state)));
    // The key cannot be moved into a value: a longer key with a shorter value is another digest.
    assert_ne!(DigestKey::new(b"key").of_value("text"), DigestKey::new(b"keyt").of_value("ext"));
    assert_eq!(digests(&one), digests(&DigestKey::new(b"a key of a sync")), "a digest lasts as long as its key");
    assert!(!format!("{one:?}").contains("key of"), "the key is not printed");
}

/// The desired values with the index of each attribute.
fn by_index<'v>(
    values: &'v [DesiredValue],
    positions: &'v [(AttributeIndex, usize)],
) -> impl Iterator<Item = (AttributeIndex, DesiredText<'v>)> {
    positions.iter().map(|(index, position)| {
        let desired = match &values[*position] {
            Desired::Value(value) => Desired::Value(&**value),
            Desired::Absent => Desired::Absent,
            Desired::Keep => Desired::Keep,
            Desired::Refused(refusal) => Desired::Refused(refusal.clone()),
        };
        (*index, desired)
    })
}
