//! The texts that spell a uuid, for `source.account_format = "hex"` over a text column.
//!
//! Owns: which spellings are taken, and both directions between a spelling and the 32 digits of the account. Must not know:
//! columns, prefixes.
//!
//! The list is finite, so that a row can be found from its account through the index of the column: an account is looked up
//! under all of its spellings. Upper and lower case mixed in one text would be four billion spellings, so it is not taken.

/// The 32 digits, in lower case, of a text that spells a uuid: with hyphens (8-4-4-4-12) or without; bare, in braces, or
/// with hyphens after `urn:uuid:`; its letters all in lower or all in upper case. `None` for any other text.
pub(crate) fn uuid_digits(text: &str) -> Option<String> {
    let (body, hyphens_only) = if let Some(inner) = text.strip_prefix('{') {
        (inner.strip_suffix('}')?, false)
    } else if let Some(rest) = text.strip_prefix("urn:uuid:") {
        (rest, true)
    } else {
        (text, false)
    };
    let has_hyphens = match body.len() {
        36 => true,
        32 if !hyphens_only => false,
        _ => return None,
    };
    let (mut digits, mut lower, mut upper) = (String::with_capacity(32), false, false);
    for (index, byte) in body.bytes().enumerate() {
        match byte {
            b'-' if has_hyphens && matches!(index, 8 | 13 | 18 | 23) => continue,
            b'0'..=b'9' => {}
            b'a'..=b'f' => lower = true,
            b'A'..=b'F' => upper = true,
            _ => return None,
        }
        digits.push(char::from(byte.to_ascii_lowercase()));
    }
    (digits.len() == 32 && !(lower && upper)).then_some(digits)
}

/// Whether these are the 32 digits of a uuid in lower case, as an account has them.
pub(crate) fn are_uuid_digits(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The 32 digits of a uuid, with hyphens. The digits must be ASCII.
pub(crate) fn with_hyphens(digits: &str) -> String {
    [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-")
}

/// Every text of which [`uuid_digits`] are these 32 digits; none for a text that is not [`are_uuid_digits`].
pub(crate) fn uuid_spellings(digits: &str) -> Vec<String> {
    if !are_uuid_digits(digits) {
        return Vec::new();
    }
    let mut spellings = Vec::with_capacity(10);
    let upper = digits.to_ascii_uppercase();
    let cases = if upper == digits { vec![digits] } else { vec![digits, &upper] };
    for digits in cases {
        let hyphenated = with_hyphens(digits);
        spellings.push(format!("{{{digits}}}"));
        spellings.push(format!("{{{hyphenated}}}"));
        spellings.push(format!("urn:uuid:{hyphenated}"));
        spellings.push(hyphenated);
        spellings.push(digits.to_owned());
    }
    spellings
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{are_uuid_digits, uuid_digits, uuid_spellings};

    const DIGITS: &str = "a0eebc999c0b4ef8bb6d6bb9bd380a11";

    #[test]
    fn the_common_spellings_of_a_uuid_are_taken() {
        for text in [
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
            "a0eebc999c0b4ef8bb6d6bb9bd380a11",
            "A0EEBC999C0B4EF8BB6D6BB9BD380A11",
            "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}",
            "{A0EEBC999C0B4EF8BB6D6BB9BD380A11}",
            "urn:uuid:a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        ] {
            assert_eq!(uuid_digits(text).as_deref(), Some(DIGITS), "{text}");
        }
    }

    #[test]
    fn any_other_text_is_no_uuid() {
        for text in [
            "",
            "42",
            "a0eebc999c0b4ef8bb6d6bb9bd380a1",
            "a0eebc999c0b4ef8bb6d6bb9bd380a111",
            "A0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            "a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11",
            "a0eebc999c0b4ef8bb6d6bb9bd380a1g",
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11 ",
            " a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1",
            "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}",
            "{{a0eebc999c0b4ef8bb6d6bb9bd380a11}}",
            "urn:uuid:a0eebc999c0b4ef8bb6d6bb9bd380a11",
            "URN:UUID:a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            "a0eebc99_9c0b_4ef8_bb6d_6bb9bd380a11",
            "a0eebc999c0b4ef8-bb6d-6bb9bd380a11----",
            "ａ0eebc999c0b4ef8bb6d6bb9bd380a",
        ] {
            assert_eq!(uuid_digits(text), None, "{text}");
        }
    }

    proptest! {
        /// A row is found from its account exactly because the two directions agree.
        #[test]
        fn a_text_is_a_spelling_of_its_digits(text in "(urn:uuid:|\\{)?([0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}|[0-9A-Fa]{32}|[0-9]{8}(-[0-9]{4}){3}-[0-9]{12})\\}?") {
            match uuid_digits(&text) {
                Some(digits) => {
                    prop_assert!(are_uuid_digits(&digits));
                    prop_assert!(uuid_spellings(&digits).contains(&text));
                    for spelling in uuid_spellings(&digits) {
                        prop_assert_eq!(uuid_digits(&spelling), Some(digits.clone()));
                    }
                }
                None => prop_assert!(!uuid_spellings(&text.to_ascii_lowercase()).contains(&text)),
            }
        }
    }
}
