//! "Did you mean": the known word that is most similar to a mistyped one.
//!
//! Owns: how similar two words must be. Must not know: what the words are used for.

use strsim::osa_distance;

/// Longer words are no typing errors, and the cost of the distance is the product of both lengths.
const MAX_WORD_BYTES: usize = 60;

/// The known word that is most similar to `word`, or `None` if none is similar enough.
pub(super) fn suggestion<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > MAX_WORD_BYTES {
        return None;
    }
    let word = normalized(word);
    known
        .into_iter()
        .map(|candidate| (osa_distance(&word, &normalized(candidate)), candidate))
        .filter(|(distance, candidate)| *distance <= max_distance(candidate))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The number of typing errors that are accepted: one in a short word, up to three in a long one.
fn max_distance(candidate: &str) -> usize {
    (candidate.chars().count() / 3).clamp(1, 3)
}

/// Makes `accountColumn`, `account-column` and `ACCOUNT_COLUMN` equal.
fn normalized(word: &str) -> String {
    word.chars().filter(|c| !matches!(c, '_' | '-' | ' ')).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::suggestion;

    const WORDS: [&str; 5] = ["account_column", "url", "table", "page_size", "url_file"];

    #[test]
    fn a_typing_error_suggests_the_intended_word() {
        for (typed, meant) in [
            ("tabel", "table"),
            ("accountColumn", "account_column"),
            ("account-column", "account_column"),
            ("pagesize", "page_size"),
            ("uri", "url"),
            ("URL_FILE", "url_file"),
        ] {
            assert_eq!(suggestion(typed, WORDS), Some(meant), "{typed}");
        }
    }

    #[test]
    fn a_different_word_suggests_nothing() {
        for word in ["", "password", "x", "host"] {
            assert_eq!(suggestion(word, WORDS), None, "{word}");
        }
    }
}
