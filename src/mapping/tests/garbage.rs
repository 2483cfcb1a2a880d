//! Texts of any length and kind: what is cut off before the mapping changes nothing, and no account is sent that IM cannot take.

use proptest::prelude::*;

use super::{attribute, config, desired, row, rules, value};
use crate::mapping::{Mapped, Mapping};
use crate::model::{DesiredValue, MAX_LOOKED_AT, MAX_RECORDED_ACCOUNT_BYTES};

/// What the source reads of a text.
fn read(text: &str) -> String {
    text.chars().take(MAX_LOOKED_AT + 1).collect()
}

fn told(desired: &DesiredValue) -> String {
    match desired {
        DesiredValue::Refused(refusal) => refusal.to_string(),
        other => format!("{other:?}"),
    }
}

fn long_texts() -> impl Strategy<Value = String> {
    let sign = prop_oneof![
        any::<char>().prop_map(String::from),
        proptest::sample::select(vec!["a", "\u{301}", "\u{200d}", "\u{1f468}", "\u{1f1e9}", "\u{5317}", "\r", "\n"])
            .prop_map(String::from),
    ];
    (proptest::collection::vec(sign, 0..60), 1..80_usize).prop_map(|(signs, times)| signs.concat().repeat(times))
}

proptest! {
    #[test]
    fn what_is_not_read_changes_nothing(rules in rules(), text in long_texts()) {
        let (whole, cut) = (desired(rules.clone(), Some(&text)), desired(rules, Some(&read(&text))));
        prop_assert_eq!(told(&whole), told(&cut));
    }

    #[test]
    fn an_account_is_sent_only_with_1_to_32_bytes(text in prop_oneof![".{0,12}", "\\PC{0,40}", "[\u{0}-\u{20}]{0,40}"]) {
        let mapping = Mapping::new(&config(vec![attribute("city", "city")]));
        let sent = match mapping.apply(&row(Some(&text), &[Some("Graz")])) {
            Mapped::Present(desired) => {
                prop_assert_eq!(desired.account.as_str(), &text);
                true
            }
            Mapped::Refused(account, _) => {
                prop_assert_eq!(account.as_str(), &text);
                false
            }
            Mapped::NoAccount => false,
            Mapped::Gone(_) => return Err(TestCaseError::fail("gone")),
        };
        prop_assert_eq!(sent, (1..=32).contains(&text.len()));
    }
}

#[test]
fn a_megabyte_is_told_as_more_than_was_looked_at() {
    let refused = |text: &str| told(&desired(attribute("sex", "gender"), Some(text)));
    assert!(refused(&"x".repeat(1000)).contains("is 1000 bytes"));
    for long in ["x".repeat(1001), "x".repeat(1 << 20), "\u{5317}".repeat(1 << 20)] {
        assert_eq!(refused(&long), refused(&read(&long)));
        assert!(refused(&long).contains("is more than 1000 bytes"));
    }
    assert_eq!(desired(super::truncating(), Some(&read(&"x".repeat(1 << 20)))), value(&"x".repeat(50)));
}

/// Nothing could record it: an index takes 2,700 bytes.
#[test]
fn an_account_beyond_what_can_be_recorded_is_none() {
    let mut config = config(vec![attribute("city", "city")]);
    config.source.account_prefix = "u".to_owned();
    let mapping = Mapping::new(&config);
    let apply = |bytes: usize, gone: bool| {
        let account = "x".repeat(bytes - 1);
        mapping.apply(&crate::model::Row { gone, ..row(Some(&account), &[Some("Graz")]) })
    };
    assert!(matches!(apply(MAX_RECORDED_ACCOUNT_BYTES, false), Mapped::Refused(..)));
    assert!(matches!(apply(MAX_RECORDED_ACCOUNT_BYTES, true), Mapped::Gone(_)));
    for gone in [false, true] {
        assert_eq!(apply(MAX_RECORDED_ACCOUNT_BYTES + 1, gone), Mapped::NoAccount);
    }
}
