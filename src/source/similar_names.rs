//! Suggestions for a table or column name that was not found.
//!
//! Owns: which names are similar enough. Must not know: where the names come from.

/// The displayed forms of the names that are probably meant by `wanted`, at most three. Names are given with their
/// displayed form. Those that differ only in case win; without one, those within an edit distance of a third of the length.
pub(super) fn similar_names<'a>(wanted: &str, known: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<&'a str> {
    let wanted = wanted.to_lowercase();
    let max_distance = wanted.chars().count().div_ceil(3);
    let mut similar: Vec<(usize, &str)> = known
        .map(|(name, displayed)| (strsim::levenshtein(&wanted, &name.to_lowercase()), displayed))
        .filter(|(distance, _)| *distance <= max_distance)
        .collect();
    similar.sort_unstable();
    if similar.iter().any(|(distance, _)| *distance == 0) {
        similar.retain(|(distance, _)| *distance == 0);
    }
    similar.into_iter().take(3).map(|(_, displayed)| displayed).collect()
}

#[cfg(test)]
mod tests {
    use super::similar_names;

    #[test]
    fn similar_names_come_in_the_order_of_their_distance() {
        let columns = ["city", "country", "gender", "updated_at", "created_at"];
        let similar = |wanted| similar_names(wanted, columns.iter().map(|name| (*name, *name)));
        assert_eq!(similar("City"), ["city"]);
        assert_eq!(similar("updatedat"), ["updated_at"]);
        assert_eq!(similar("pdated_at"), ["updated_at", "created_at"]);
        assert!(similar("zip").is_empty());
    }
}
