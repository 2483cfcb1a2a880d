//! Texts of any length and content: what the source cuts off changes no result, and no account is sent that IM refuses.

use proptest::prelude::*;

use super::properties::any_attribute;
use super::{applied, attribute, config, desired, gone_row, row, value};
use crate::mapping::{MappedRow, Mapping};
use crate::model::{DesiredValue, MAX_COLUMN_TEXT_CHARS, MAX_STORED_ACCOUNT_BYTES};

/// The part of a text that the source reads.
fn as_read(text: &str) -> String {
    text.chars().take(MAX_COLUMN_TEXT_CHARS + 1).collect()
}

/// The result as text, or the message of the refusal.
fn description(desired: &DesiredValue) -> String {
    match desired {
        DesiredValue::Refused(refusal) => refusal.to_string(),
        other => format!("{other:?}"),
    }
}

fn long_texts() -> impl Strategy<Value = String> {
    let grapheme = prop_oneof![
        any::<char>().prop_map(String::from),
        proptest::sample::select(vec!["a", "\u{301}", "\u{200d}", "\u{1f468}", "\u{1f1e9}", "\u{5317}", "\r", "\n"])
            .prop_map(String::from),
    ];
    (proptest::collection::vec(grapheme, 0..60), 1..80_usize)
        .prop_map(|(graphemes, times)| graphemes.concat().repeat(times))
}

proptest! {
    #[test]
    fn text_that_is_not_read_changes_no_result(attribute in any_attribute(), text in long_texts()) {
        let (whole, cut) = (desired(attribute.clone(), Some(&text)), desired(attribute, Some(&as_read(&text))));
        prop_assert_eq!(description(&whole), description(&cut));
    }

    #[test]
    fn an_account_is_sent_only_with_1_to_32_bytes(text in prop_oneof![".{0,12}", "\\PC{0,40}", "[\u{0}-\u{20}]{0,40}"]) {
        let mapping = Mapping::new(&config(vec![attribute("city", "city")]));
        let sent = match applied(&mapping, &row(Some(&text), &[Some("Graz")])) {
            MappedRow::Present(desired) => {
                prop_assert_eq!(desired.account.as_str(), &text);
                true
            }
            MappedRow::Refused(account, _) => {
                prop_assert_eq!(account.as_str(), &text);
                false
            }
            MappedRow::NoAccount => false,
            MappedRow::Gone(_) => return Err(TestCaseError::fail("gone")),
        };
        prop_assert_eq!(sent, (1..=32).contains(&text.len()));
    }
}

#[test]
fn a_megabyte_is_reported_as_more_than_the_limit() {
    let refused = |text: &str| description(&desired(attribute("sex", "gender"), Some(text)));
    assert!(refused(&"x".repeat(1000)).contains("is 1000 bytes"));
    for long in ["x".repeat(1001), "x".repeat(1 << 20), "\u{5317}".repeat(1 << 20)] {
        assert_eq!(refused(&long), refused(&as_read(&long)));
        assert!(refused(&long).contains("is more than 1000 bytes"));
    }
    assert_eq!(desired(super::truncating(), Some(&as_read(&"x".repeat(1 << 20)))), value(&"x".repeat(50)));
}

/// It cannot be stored, because an index entry has at most 2,700 bytes.
#[test]
fn an_account_too_long_to_be_stored_is_skipped() {
    let mut config = config(vec![attribute("city", "city")]);
    config.source.account_prefix = "u".to_owned();
    let mapping = Mapping::new(&config);
    let apply = |bytes: usize, gone: bool| {
        let account = "x".repeat(bytes - 1);
        applied(
            &mapping,
            &if gone { gone_row(Some(&account), &[Some("Graz")]) } else { row(Some(&account), &[Some("Graz")]) },
        )
    };
    assert!(matches!(apply(MAX_STORED_ACCOUNT_BYTES, false), MappedRow::Refused(..)));
    assert!(matches!(apply(MAX_STORED_ACCOUNT_BYTES, true), MappedRow::Gone(_)));
    for gone in [false, true] {
        assert_eq!(apply(MAX_STORED_ACCOUNT_BYTES + 1, gone), MappedRow::NoAccount);
    }
}
