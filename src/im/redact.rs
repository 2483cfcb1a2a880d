//! What of a foreign text (the vendor's `ErrorInfo`, a library's error) may be shown.
//!
//! Owns: taking out what was sent, cutting, cleaning. Must not know: where the text came from or goes to.

/// Characters of a foreign text that are shown at most: a sentence or two.
const MAX_SHOWN: usize = 300;
/// Bytes that are looked at, so that an answer of megabytes costs nothing.
const MAX_READ: usize = 8 * 1024;
/// The shortest UserSig is about twice as long.
const LONG_AS_A_SIGNATURE: usize = 80;
const BLOT: &str = "…";

/// What was sent with a call and must not come back in a text.
pub(super) struct Sent<'a> {
    pub(super) signature: &'a str,
    /// Values of users.
    pub(super) values: &'a [&'a str],
}

/// The text on one line, without the signature and the values, at most 300 characters long.
pub(super) fn clean(text: &str, sent: &Sent<'_>) -> String {
    let mut end = text.len().min(MAX_READ);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let cut = end < text.len();
    let mut text = without_signatures(&text[..end], sent.signature);
    // The longer first: one value may be a part of another.
    let mut values: Vec<&str> = sent.values.iter().copied().filter(|value| !value.is_empty()).collect();
    values.sort_unstable_by_key(|value| std::cmp::Reverse(value.len()));
    values.dedup();
    for value in values {
        text = without_word(&text, value);
    }
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let line = line.trim();
    if line.chars().count() > MAX_SHOWN {
        return line.chars().take(MAX_SHOWN).chain(BLOT.chars()).collect();
    }
    if cut {
        // Almost all of it was blotted out, and a value may have been cut in two at its end.
        return format!("a text of more than {MAX_READ} bytes that repeats what was sent");
    }
    line.to_owned()
}

fn without_signatures(text: &str, signature: &str) -> String {
    let mut text = text.to_owned();
    if !signature.is_empty() {
        // `*` is the only character of a signature that an echoed URL may show otherwise.
        for form in [signature.to_owned(), signature.replace('*', "%2A"), signature.replace('*', "%2a")] {
            text = text.replace(&form, BLOT);
        }
    }
    // A signature of another call, whole or cut: no word of a sentence is as long as one.
    let of_signature = |c: char| c.is_ascii_alphanumeric() || "*-_+=%".contains(c);
    let mut shown = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let run = rest.find(|c: char| !of_signature(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(run);
        match word.to_ascii_lowercase().find("usersig=") {
            Some(at) => {
                shown.push_str(&word[..at + "usersig=".len()]);
                shown.push_str(BLOT);
            }
            None if word.len() >= LONG_AS_A_SIGNATURE => shown.push_str(BLOT),
            None => shown.push_str(word),
        }
        let next = after.find(of_signature).unwrap_or(after.len());
        shown.push_str(&after[..next]);
        rest = &after[next..];
    }
    shown
}

/// Blots out a value where it stands as a word of its own: the value "a" must not take every letter of a sentence.
fn without_word(text: &str, value: &str) -> String {
    let glued = |inner: Option<char>, outer: Option<char>| {
        inner.is_some_and(|c| c.is_ascii_alphanumeric()) && outer.is_some_and(|c| c.is_ascii_alphanumeric())
    };
    let mut shown = String::with_capacity(text.len());
    let mut done = 0;
    for (at, found) in text.match_indices(value) {
        let end = at + found.len();
        let part_of_a_word = glued(value.chars().next(), text[..at].chars().next_back())
            || glued(value.chars().next_back(), text[end..].chars().next());
        if !part_of_a_word {
            shown.push_str(&text[done..at]);
            shown.push_str(BLOT);
            done = end;
        }
    }
    shown.push_str(&text[done..]);
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGNATURE: &str = "eJw*abc-def_";

    fn cleaned(text: &str, values: &[&str]) -> String {
        clean(text, &Sent { signature: SIGNATURE, values })
    }

    #[test]
    fn signatures_are_blotted_out_in_every_spelling() {
        assert_eq!(cleaned("sig eJw*abc-def_ expired", &[]), "sig … expired");
        assert_eq!(cleaned("sig eJw%2Aabc-def_ expired", &[]), "sig … expired");
        assert_eq!(cleaned("/v4/x?usersig=other-one&random=1 no", &[]), "/v4/x?usersig=…&random=1 no");
        assert_eq!(cleaned("UserSig=", &[]), "UserSig=…");
        let another = "eJw9zMsKgkAUgOFXkdkWcubS2ATtbBG56AbRcmTG4WDqpGJF9O5pWdv-g-9Jjskh7GxNFgFhIZBp8ClobNlihl-QpsDyR43JtfdoeqASACjjYjaavXusbS8SxBxgrC0WQ6OR5JFU8t8bdMO9up4nOlbIc06TzSne6myVPEzK17c0V7u9cgwujhWdqJbk9QYqqzH0";
        assert_eq!(cleaned(&format!("sig {another}, cut {}", &another[..100]), &[]), "sig …, cut …");
    }

    #[test]
    fn values_are_blotted_out_as_words_and_sentences_stay_readable() {
        assert_eq!(
            cleaned("value male of a female is bad: \"male\"", &["male", "a"]),
            "value … of … female is bad: \"…\""
        );
        assert_eq!(cleaned("属性北京无效", &["北京"]), "属性…无效");
        assert_eq!(cleaned("New York City, New York", &["New York", "New York City"]), "…, …");
        assert_eq!(cleaned("nothing to hide", &[""]), "nothing to hide");
    }

    #[test]
    fn long_texts_are_cut_and_control_characters_taken_out() {
        assert_eq!(cleaned("one\r\ntwo\u{1b}[31m\0", &[]), "one  two [31m");
        let long = "ä".repeat(10_000);
        assert_eq!(cleaned(&long, &[]).chars().count(), MAX_SHOWN + 1);
        let secret = "x y ".repeat(10_000);
        assert!(!cleaned(&secret, &["x y "]).contains('x'));
    }
}
