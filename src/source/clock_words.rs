//! Finds what makes an SQL expression depend on the clock.
//!
//! Owns: the functions and words of PostgreSQL that read the clock (manual, chapter 9.9). Must not know: where the
//! expression stands. A text, not a parse tree: a hit is a reason for a warning only.

use std::collections::BTreeSet;

/// Functions and words whose result changes with time alone.
const CLOCK_WORDS: &[&str] = &[
    "now",
    "clock_timestamp",
    "statement_timestamp",
    "transaction_timestamp",
    "timeofday",
    "current_date",
    "current_time",
    "current_timestamp",
    "localtime",
    "localtimestamp",
    "age",
    "random",
];
/// Texts that the input functions of dates and times read as the time of the statement.
const CLOCK_TEXTS: &[&str] = &["now", "today", "tomorrow", "yesterday"];

/// The words of an expression: unquoted names with whether a parenthesis follows, and the texts of literals.
fn words(sql: &str) -> (Vec<(String, bool)>, Vec<String>) {
    let (mut names, mut literals) = (Vec::new(), Vec::new());
    let mut rest = sql;
    while let Some(first) = rest.chars().next() {
        if let Some(comment) = rest.strip_prefix("--") {
            rest = comment.split_once('\n').map_or("", |(_, after)| after);
        } else if let Some(comment) = rest.strip_prefix("/*") {
            rest = comment.split_once("*/").map_or("", |(_, after)| after);
        } else if first == '\'' || first == '"' {
            let (text, after) = rest[1..].split_once(first).unwrap_or((&rest[1..], ""));
            if first == '\'' {
                literals.push(text.to_lowercase());
            }
            rest = after;
        } else if first.is_alphabetic() || first == '_' {
            let end =
                rest.find(|part: char| !part.is_alphanumeric() && part != '_' && part != '$').unwrap_or(rest.len());
            let (name, after) = rest.split_at(end);
            names.push((name.to_lowercase(), after.trim_start().starts_with('(')));
            rest = after;
        } else {
            rest = &rest[first.len_utf8()..];
        }
    }
    (names, literals)
}

/// What an expression names that depends on the clock, for a message; empty if nothing.
pub(super) fn clock_words(sql: &str) -> Vec<String> {
    let (names, literals) = words(sql);
    let mut found = BTreeSet::new();
    for (name, is_call) in names {
        let is_function = !name.starts_with("current_") && !name.starts_with("local");
        if CLOCK_WORDS.contains(&name.as_str()) && (is_call || !is_function) {
            found.insert(if is_function { format!("{name}()") } else { name });
        }
    }
    let texts = literals.into_iter().filter(|text| CLOCK_TEXTS.contains(&text.trim()));
    found.extend(texts.map(|text| format!("'{text}'")));
    found.into_iter().collect()
}

/// The names of the functions that an expression calls.
pub(super) fn called_functions(sql: &str) -> Vec<String> {
    words(sql).0.into_iter().filter(|(_, is_call)| *is_call).map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::{called_functions, clock_words};

    #[test]
    fn what_reads_the_clock_is_found() {
        for (sql, expected) in [
            ("expires_at > now()", "now()"),
            ("until >= CURRENT_DATE - 1", "current_date"),
            ("pg_catalog.Clock_Timestamp () < until", "clock_timestamp()"),
            ("age(born) > '18 years'", "age()"),
            ("until > 'today'::date", "'today'"),
            ("a < localtimestamp(0) AND b > current_timestamp", "current_timestamp, localtimestamp"),
            ("random() < 0.5", "random()"),
            ("kind <> 'now()' AND \"now\" AND now IS NULL -- now()", ""),
            ("/* now() */ kind IS DISTINCT FROM 'bot'", ""),
            ("age > 18", ""),
        ] {
            assert_eq!(clock_words(sql).join(", "), expected, "{sql}");
        }
        assert_eq!(called_functions("app.is_live(id) AND lower(kind) = 'f(x)'"), ["is_live", "lower"]);
    }
}
