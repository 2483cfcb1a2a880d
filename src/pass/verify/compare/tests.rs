//! What IM should hold: the mapping, the state and other syncs decide, and each difference has its cause.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{AccountFacts, DifferenceCause, Expectations, has_refusal};
use crate::diff::{DiffRules, DigestKey};
use crate::mapping::MappedRow;
use crate::model::{
    Account, AcknowledgedValue, AttributeIndex, AttributeNames, DesiredAccount, DesiredValue, LocalRefusal,
};

fn value(text: &str) -> DesiredValue {
    DesiredValue::Value(text.into())
}

fn held(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn acknowledged(text: &str) -> AcknowledgedValue {
    AcknowledgedValue::Value(text.into())
}

/// The attributes `city` (0) and `plan` (1) are mapped, `old` (2) was mapped once.
fn causes(
    row: &MappedRow,
    actual: &[(&str, &str)],
    facts: &AccountFacts,
    removals: bool,
) -> Vec<(String, DifferenceCause)> {
    let names: AttributeNames = ["city", "plan", "old"].map(Arc::<str>::from).into_iter().collect();
    let rules = DiffRules {
        attribute_indexes: vec![AttributeIndex(0), AttributeIndex(1)],
        remove_unmapped: removals,
        remove_gone: removals,
        force: false,
        digest_key: DigestKey::new(&[]),
        force_removals: false,
    };
    let expectations = Expectations { rules: &rules, names: &names };
    let differences = expectations.differences(row, &held(actual), facts);
    assert!(differences.is_empty() || expectations.may_differ(row, &held(actual)), "{row:?}");
    differences.into_iter().map(|difference| (difference.name, difference.cause)).collect()
}

fn present(city: DesiredValue, plan: DesiredValue) -> MappedRow {
    MappedRow::Present(DesiredAccount { account: Account::new("u1"), values: vec![city, plan] })
}

fn known(city: AcknowledgedValue, plan: AcknowledgedValue, old: AcknowledgedValue) -> AccountFacts {
    AccountFacts { acknowledged: vec![city, plan, old], ..AccountFacts::default() }
}

#[test]
fn each_difference_has_its_cause() {
    let row = present(value("Lima"), DesiredValue::Absent);
    let facts = known(acknowledged("Lima"), AcknowledgedValue::Absent, AcknowledgedValue::Absent);
    let of = |actual: &[(&str, &str)], facts: &AccountFacts| causes(&row, actual, facts, true);
    assert_eq!(of(&[("city", "Lima")], &facts), []);
    assert_eq!(of(&[("city", "Lima"), ("foreign", "x")], &facts), []);
    assert_eq!(of(&[("city", "Quito")], &facts), [("city".to_owned(), DifferenceCause::Drift)]);
    assert_eq!(of(&[], &facts), [("city".to_owned(), DifferenceCause::Drift)]);
    // A mapped attribute that somebody else has set.
    assert_eq!(of(&[("city", "Lima"), ("plan", "pro")], &facts), [("plan".to_owned(), DifferenceCause::Drift)]);
    let unsent = known(acknowledged("Quito"), AcknowledgedValue::Absent, AcknowledgedValue::Absent);
    assert_eq!(of(&[("city", "Quito")], &unsent), [("city".to_owned(), DifferenceCause::Unsent)]);
    assert_eq!(of(&[], &AccountFacts::default()), [("city".to_owned(), DifferenceCause::Unsent)]);
    let in_doubt = known(AcknowledgedValue::Unknown, AcknowledgedValue::Absent, AcknowledgedValue::Absent);
    assert_eq!(of(&[], &in_doubt), [("city".to_owned(), DifferenceCause::InDoubt)]);
    for rejected in [None, Some("city".to_owned())] {
        let facts = AccountFacts { rejected: vec![rejected], ..in_doubt.clone() };
        assert_eq!(of(&[], &facts), [("city".to_owned(), DifferenceCause::Rejected)]);
    }
}

#[test]
fn only_what_imsync_set_is_expected_to_be_gone() {
    let gone = MappedRow::Gone(Account::new("u1"));
    let facts = known(acknowledged("Lima"), AcknowledgedValue::Absent, acknowledged("x"));
    let actual = [("city", "Lima"), ("plan", "pro"), ("old", "x")];
    let both = [("city".to_owned(), DifferenceCause::Unsent), ("old".to_owned(), DifferenceCause::Unsent)];
    assert_eq!(causes(&gone, &actual, &facts, true), both);
    assert_eq!(causes(&gone, &actual, &facts, false), []);
    let row = present(value("Lima"), value("pro"));
    let facts = known(acknowledged("Lima"), acknowledged("pro"), acknowledged("x"));
    assert_eq!(causes(&row, &actual, &facts, true), [("old".to_owned(), DifferenceCause::Unsent)]);
    assert_eq!(causes(&row, &actual, &facts, false), []);
    // Another sync of the app holds it.
    let held_by_others = vec![AttributeIndex(2)];
    assert_eq!(causes(&row, &actual, &AccountFacts { held_by_others, ..facts }, true), []);
}

#[test]
fn what_is_kept_or_cannot_be_sent_is_not_expected() {
    let refusal = || DesiredValue::Refused(LocalRefusal::Unlisted { column: "city".into() });
    let row = present(DesiredValue::Keep, refusal());
    assert_eq!(causes(&row, &[("city", "a"), ("plan", "b")], &AccountFacts::default(), true), []);
    assert!(has_refusal(&row));
    assert!(has_refusal(&MappedRow::Refused(Account::new("u1"), LocalRefusal::NotUuid)));
    assert!(!has_refusal(&present(DesiredValue::Keep, value("x"))));
}
