//! Redaction of foreign text: the vendor's `ErrorInfo`, a `RequestId`, an error message of a library.
//!
//! Owns: removal of what was sent (UserSigs and users' values), truncation, removal of control characters. Must not know:
//! where the text comes from and where it is shown.

use std::borrow::Cow;
use std::ops::Range;

/// The length limit of a redacted text, in characters: one or two sentences.
const MAX_SHOWN_CHARS: usize = 300;
/// No more bytes of a text are processed, so that an answer of megabytes costs nothing.
const MAX_READ_BYTES: usize = 8 * 1024;
/// A longer run of signature characters is a signature. The shortest UserSig is about twice as long.
const MIN_SIGNATURE_BYTES: usize = 80;
/// A shorter value is only hidden where it stands as a word. Otherwise the value "a" would turn "bad parameter" into
/// "b…d p…r…meter", and inside a word a short value reveals nothing.
const MIN_BYTES_INSIDE_WORD: usize = 4;
const REPLACEMENT: &str = "…";
const SIGNATURE_PARAMETER: &str = "usersig=";

/// What was sent with a call and must not appear in a text.
#[derive(Clone, Copy)]
pub(super) struct SentSecrets<'a> {
    /// The UserSig; empty where the caller does not know it.
    pub(super) signature: &'a str,
    /// Values of users.
    pub(super) values: &'a [&'a str],
}

/// The text in one line of at most 300 characters (and an ellipsis), without UserSigs and without the sent values.
pub(super) fn redact(text: &str, sent: SentSecrets<'_>) -> String {
    let read = &text[..text.floor_char_boundary(MAX_READ_BYTES)];
    let signatures = signature_forms(sent.signature);
    let values = value_forms(read, sent.values);
    let mut mask = Mask::new(read);
    for signature in &signatures {
        mask.hide_all(signature);
    }
    mask.hide_other_signatures();
    for value in &values {
        mask.hide_value(value);
    }
    let shown: String = mask.apply().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let shown = shown.trim();
    let chars = shown.chars().count();
    if read.len() < text.len() {
        // The end of what was read may hold the beginning of a secret. It is not hidden, so it must not be shown.
        let values = sent.values.iter().map(|value| json_escaped(value));
        let unsafe_end = signatures.iter().cloned().chain(values).map(|form| form.len()).max().unwrap_or_default();
        if chars <= MAX_SHOWN_CHARS + unsafe_end {
            return format!("a text of more than {MAX_READ_BYTES} bytes that repeats what was sent");
        }
    }
    if chars > MAX_SHOWN_CHARS {
        return shown.chars().take(MAX_SHOWN_CHARS).chain(REPLACEMENT.chars()).collect();
    }
    shown.to_owned()
}

/// The signature as it is and as a quoted URL may show it: `*` is its only character that may be escaped.
fn signature_forms(signature: &str) -> Vec<Cow<'_, str>> {
    if signature.is_empty() {
        return Vec::new();
    }
    vec![signature.into(), signature.replace('*', "%2A").into(), signature.replace('*', "%2a").into()]
}

/// The values that occur in the text, as they are and as they stand in JSON. The longest come first, because a hidden
/// neighbour makes a short value a word.
fn value_forms<'a>(text: &str, values: &[&'a str]) -> Vec<Cow<'a, str>> {
    let forms = values.iter().flat_map(|value| [Cow::Borrowed(*value), json_escaped(value)]);
    let mut forms: Vec<_> = forms.filter(|form| !form.is_empty() && text.contains(&**form)).collect();
    forms.sort_unstable_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
    forms.dedup();
    forms
}

/// The value between the quotes of a JSON string.
fn json_escaped(value: &str) -> Cow<'_, str> {
    if !value.contains(|c: char| matches!(c, '"' | '\\') || c.is_control()) {
        return value.into();
    }
    let json = serde_json::to_string(value).unwrap_or_default();
    json.get(1..json.len().saturating_sub(1)).unwrap_or_default().to_owned().into()
}

/// A text and the parts of it that must not be shown.
struct Mask<'a> {
    text: &'a str,
    /// For each byte of the text.
    hidden: Vec<bool>,
    ranges: Vec<Range<usize>>,
}

impl<'a> Mask<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, hidden: vec![false; text.len()], ranges: Vec::new() }
    }

    fn hide(&mut self, range: Range<usize>) {
        self.hidden[range.clone()].fill(true);
        self.ranges.push(range);
    }

    fn hide_all(&mut self, secret: &str) {
        for (start, found) in self.text.match_indices(secret) {
            self.hide(start..start + found.len());
        }
    }

    /// Signatures of other calls, complete or truncated. No word of a sentence is as long as one.
    fn hide_other_signatures(&mut self) {
        let is_part = |c: char| c.is_ascii_alphanumeric() || "*-_+=%".contains(c);
        let mut start = 0;
        while let Some(offset) = self.text[start..].find(is_part) {
            start += offset;
            let rest = &self.text[start..];
            let end = start + rest.find(|c| !is_part(c)).unwrap_or(rest.len());
            match self.text[start..end].to_ascii_lowercase().find(SIGNATURE_PARAMETER) {
                Some(offset) => self.hide(start + offset + SIGNATURE_PARAMETER.len()..end),
                None if end - start >= MIN_SIGNATURE_BYTES => self.hide(start..end),
                None => {}
            }
            start = end;
        }
    }

    /// A short value only where it stands as a word, a longer one everywhere.
    fn hide_value(&mut self, value: &str) {
        let mut start = 0;
        while let Some(offset) = self.text[start..].find(value) {
            let found = start + offset..start + offset + value.len();
            let hide = value.len() >= MIN_BYTES_INSIDE_WORD || self.is_word(&found);
            // The next match may overlap with this one.
            start = found.start + value.chars().next().map_or(1, char::len_utf8);
            if hide {
                self.hide(found);
            }
        }
    }

    /// No letter or digit of the text continues the range. Only ASCII counts, because other scripts do not separate
    /// words by spaces.
    fn is_word(&self, range: &Range<usize>) -> bool {
        let joins = |inner: u8, outer: usize| {
            inner.is_ascii_alphanumeric() && self.byte(outer).is_some_and(|byte| byte.is_ascii_alphanumeric())
        };
        let bytes = &self.text.as_bytes()[range.clone()];
        let before =
            range.start.checked_sub(1).is_some_and(|outer| bytes.first().is_some_and(|byte| joins(*byte, outer)));
        let after = bytes.last().is_some_and(|byte| joins(*byte, range.end));
        !before && !after
    }

    /// The byte at the index, if there is one that is not hidden.
    fn byte(&self, index: usize) -> Option<u8> {
        let byte = *self.text.as_bytes().get(index)?;
        (!self.hidden[index]).then_some(byte)
    }

    /// The text with an ellipsis in the place of each hidden part.
    fn apply(mut self) -> String {
        self.ranges.sort_unstable_by_key(|range| range.start);
        let mut shown = String::with_capacity(self.text.len());
        let mut end = None;
        for range in self.ranges {
            match end {
                Some(before) if range.start <= before => end = Some(range.end.max(before)),
                _ => {
                    shown.push_str(&self.text[end.unwrap_or_default()..range.start]);
                    shown.push_str(REPLACEMENT);
                    end = Some(range.end);
                }
            }
        }
        shown.push_str(&self.text[end.unwrap_or_default()..]);
        shown
    }
}

#[cfg(test)]
mod tests;
