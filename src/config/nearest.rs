//! "Did you mean": the nearest of some known words.
//!
//! Owns: the edit distance and how far a slip may go. Must not know: what the words are for.

/// The known word that was most likely meant, or nothing when none is near.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Long garbage is no slip of a finger, and the distance costs the product of both lengths.
    if word.len() > 60 {
        return None;
    }
    let plain = plain(word);
    known
        .into_iter()
        .map(|candidate| (distance(&plain, &self::plain(candidate)), candidate))
        .filter(|(distance, candidate)| *distance <= allowed(candidate))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Slips forgiven: one in a short word, up to three in a long one.
fn allowed(candidate: &str) -> usize {
    (candidate.chars().count() / 3).clamp(1, 3)
}

/// `accountColumn`, `account-column` and `ACCOUNT_COLUMN` are the same word to whoever writes them.
fn plain(word: &str) -> Vec<char> {
    word.chars().filter(|c| !matches!(c, '_' | '-' | ' ')).flat_map(char::to_lowercase).collect()
}

/// Insertions, deletions, replacements and swaps of neighbours (optimal string alignment).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before_last[j - 2] + 1);
            }
            row.push(best);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    const WORDS: [&str; 5] = ["account_column", "url", "table", "page_size", "url_file"];

    #[test]
    fn slips_find_their_word() {
        for (slip, meant) in [
            ("tabel", "table"),
            ("accountColumn", "account_column"),
            ("account-column", "account_column"),
            ("pagesize", "page_size"),
            ("uri", "url"),
            ("URL_FILE", "url_file"),
        ] {
            assert_eq!(nearest(slip, WORDS), Some(meant), "{slip}");
        }
    }

    #[test]
    fn other_words_find_none() {
        for word in ["", "password", "x", "host"] {
            assert_eq!(nearest(word, WORDS), None, "{word}");
        }
    }
}
