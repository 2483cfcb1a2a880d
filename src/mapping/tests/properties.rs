//! Properties of the mapping for generated texts and settings.

use proptest::prelude::*;
use unicode_segmentation::UnicodeSegmentation;

use super::{attribute, desired, truncating};
use crate::config::{AttributeConfig, Null, TooLong, Unlisted};
use crate::model::{DesiredValue, MAX_VALUE_BYTES};

/// Texts around the limit, with many graphemes of several characters.
fn texts() -> impl Strategy<Value = String> {
    let grapheme = prop_oneof![
        any::<char>().prop_map(String::from),
        proptest::sample::select(vec![
            "a",
            "e\u{0301}",
            "\u{0301}",
            "\u{200d}",
            "\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}",
            "\u{1f1e9}",
            "\u{5317}",
            "\u{0633}",
            "\r",
            "\n",
            "\u{1f44d}\u{1f3fd}",
            "\u{0915}\u{094d}\u{0937}",
        ])
        .prop_map(String::from),
    ];
    proptest::collection::vec(grapheme, 0..40).prop_map(|graphemes| graphemes.concat())
}

/// An attribute with any settings.
pub(super) fn any_attribute() -> impl Strategy<Value = AttributeConfig> {
    let listed = proptest::option::of(proptest::collection::btree_map(texts(), texts(), 0..4));
    let unlisted = proptest::sample::select(vec![Unlisted::Reject, Unlisted::Send, Unlisted::Keep, Unlisted::Remove]);
    let too_long = proptest::sample::select(vec![TooLong::Reject, TooLong::Truncate]);
    let null = proptest::sample::select(vec![Null::Remove, Null::Keep]);
    (listed, unlisted, too_long, null).prop_map(|(values, unlisted, too_long, null)| AttributeConfig {
        values,
        unlisted,
        too_long,
        null,
        ..attribute("sex", "gender")
    })
}

proptest! {
    #[test]
    fn a_value_is_never_empty_nor_over_the_limit(attribute in any_attribute(), text in proptest::option::of(texts()), pick in 0..4_usize) {
        // Sometimes a listed text, so that targets are covered too.
        let listed = attribute.values.as_ref().and_then(|values| values.keys().nth(pick)).cloned();
        for text in [text, listed] {
            if let DesiredValue::Value(value) = desired(attribute.clone(), text.as_deref()) {
                prop_assert!((1..=MAX_VALUE_BYTES).contains(&value.len()), "{} bytes", value.len());
            }
        }
    }

    #[test]
    fn truncation_keeps_as_many_whole_graphemes_as_fit(text in texts()) {
        let mut fits = String::new();
        for grapheme in text.graphemes(true) {
            if fits.len() + grapheme.len() > MAX_VALUE_BYTES {
                break;
            }
            fits.push_str(grapheme);
        }
        match desired(truncating(), Some(&text)) {
            DesiredValue::Value(value) => prop_assert_eq!(&*value, fits),
            DesiredValue::Absent => prop_assert!(text.is_empty()),
            DesiredValue::Refused(_) => prop_assert!(fits.is_empty()),
            DesiredValue::Keep => prop_assert!(false, "no setting keeps a value here"),
        }
    }
}
