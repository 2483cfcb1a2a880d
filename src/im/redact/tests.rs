//! What is hidden, and that the rest of a sentence stays readable.

use proptest::prelude::*;

use super::*;

const SIGNATURE: &str = "eJw*abc-def_";

fn redacted(text: &str, values: &[&str]) -> String {
    redact(text, SentSecrets { signature: SIGNATURE, values })
}

#[test]
fn signatures_are_hidden_in_every_spelling() {
    assert_eq!(redacted("sig eJw*abc-def_ expired", &[]), "sig … expired");
    assert_eq!(redacted("sig eJw%2Aabc-def_ expired", &[]), "sig … expired");
    assert_eq!(redacted("/v4/x?usersig=other-one&random=1 no", &[]), "/v4/x?usersig=…&random=1 no");
    assert_eq!(redacted("UserSig=", &[]), "UserSig=…");
    let another = "eJw9zMsKgkAUgOFXkdkWcubS2ATtbBG56AbRcmTG4WDqpGJF9O5pWdv-g-9Jjskh7GxNFgFhIZBp8ClobNlihl-QpsDyR43JtfdoeqASACjjYjaavXusbS8SxBxgrC0WQ6OR5JFU8t8bdMO9up4nOlbIc06TzSne6myVPEzK17c0V7u9cgwujhWdqJbk9QYqqzH0";
    assert_eq!(redacted(&format!("sig {another}, cut {}", &another[..100]), &[]), "sig …, cut …");
}

#[test]
fn values_are_hidden_and_sentences_stay_readable() {
    assert_eq!(redacted("value m of a form is bad: \"m\"", &["m", "a"]), "value … of … form is bad: \"…\"");
    assert_eq!(
        redacted("value male of a female is bad: \"male\"", &["male", "a"]),
        "value … of … fe… is bad: \"…\"",
        "a value of four bytes is hidden inside a word too"
    );
    assert_eq!(redacted("属性北京无效", &["北京"]), "属性…无效");
    assert_eq!(redacted("属性京无效", &["京"]), "属性…无效", "a short value between letters that are not ASCII");
    assert_eq!(redacted("New York City, New York", &["New York", "New York City"]), "…, …");
    assert_eq!(redacted("nothing to hide", &[""]), "nothing to hide");
}

#[test]
fn values_are_hidden_in_every_form() {
    assert_eq!(redacted("bad value say \\\"hi\\\" here", &["say \"hi\""]), "bad value … here");
    assert_eq!(redacted("bad value say \"hi\" here", &["say \"hi\""]), "bad value … here");
    assert_eq!(redacted("female and male", &["male", "female"]), "… and …");
    assert_eq!(redacted("value 北京 refused", &["北京"]), "value … refused");
    assert_eq!(redacted("nothing of it", &["", "x"]), "nothing of it");
}

#[test]
fn a_short_value_is_hidden_as_a_word_only() {
    assert_eq!(redacted("bad parameter a", &["a"]), "bad parameter …");
    assert_eq!(redacted("vip=1, limit 100", &["1"]), "vip=…, limit 100");
    assert_eq!(redacted("aaa a", &["a"]), "aaa …");
    assert_eq!(redacted("xa a a", &["a a"]), "xa …", "the second of two overlapping matches is a word");
    assert_eq!(redacted("Parisx", &["x", "Paris"]), "…", "a hidden neighbour does not continue a word");
}

#[test]
fn overlapping_values_are_hidden_completely() {
    assert_eq!(redacted("at abcdef there", &["abcd", "cdef"]), "at … there");
    assert_eq!(redacted("url usersig=abc yy ends", &["usersig=abc yy"]), "url … ends");
}

#[test]
fn long_texts_are_truncated_and_control_characters_removed() {
    assert_eq!(redacted("one\r\ntwo\u{1b}[31m\0", &[]), "one  two [31m");
    let long = "ä".repeat(10_000);
    assert_eq!(redacted(&long, &[]).chars().count(), MAX_SHOWN_CHARS + 1);
    let secret = "x y ".repeat(10_000);
    assert_eq!(redacted(&secret, &["x y "]), "a text of more than 8192 bytes that repeats what was sent");
}

/// Reading ends in the middle of the last value, and only 295 characters before it are not hidden.
#[test]
fn the_start_of_a_value_at_the_end_is_not_shown() {
    let value = "Wuhan--Hidden";
    let text = format!("{}.{} and more", ". ".repeat(147), value.repeat(608));
    assert_eq!(text.rfind(value), Some(MAX_READ_BYTES - 6));
    assert!(!redacted(&text, &[value]).contains("Wuh"), "{}", redacted(&text, &[value]));
}

proptest! {
    #[test]
    fn no_value_of_four_bytes_is_shown(
        values in prop::collection::vec("[a-c\"\\\\ ]{4,8}", 1..4),
        order in prop::collection::vec((any::<prop::sample::Index>(), "[a-c ]{0,3}"), 0..6),
    ) {
        let text: String = order.iter().flat_map(|(at, between)| [between, at.get(&values)]).map(String::as_str).collect();
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        let shown = redacted(&text, &values);
        for value in &values {
            prop_assert!(!shown.contains(value), "{:?} in {:?}", value, shown);
        }
    }
}
