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

/// An unquoted name of an expression.
struct SqlWord {
    /// In lower case.
    name: String,
    /// A parenthesis follows.
    is_call: bool,
    /// So many commas stand between its parentheses, outside of inner ones.
    commas: usize,
}

/// The words of an expression, and the texts of literals.
fn words(sql: &str) -> (Vec<SqlWord>, Vec<String>) {
    let (mut names, mut literals): (Vec<SqlWord>, _) = (Vec::new(), Vec::new());
    // For each open parenthesis, the call that it belongs to.
    let mut open: Vec<Option<usize>> = Vec::new();
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
            let is_call = after.trim_start().starts_with('(');
            names.push(SqlWord { name: name.to_lowercase(), is_call, commas: 0 });
            rest = after;
            if is_call {
                open.push(Some(names.len() - 1));
                rest = after.trim_start().strip_prefix('(').unwrap_or(after);
            }
        } else {
            match (first, open.last()) {
                ('(', _) => open.push(None),
                (')', _) => drop(open.pop()),
                (',', Some(Some(call))) => names[*call].commas += 1,
                _ => {}
            }
            rest = &rest[first.len_utf8()..];
        }
    }
    (names, literals)
}

/// What an expression names that depends on the clock, for a message; empty if nothing.
pub(super) fn clock_words(sql: &str) -> Vec<String> {
    let (names, literals) = words(sql);
    let mut found = BTreeSet::new();
    for SqlWord { name, is_call, commas } in names {
        // With two arguments, the difference of two times.
        if name == "age" && commas > 0 {
            continue;
        }
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
    words(sql).0.into_iter().filter(|word| word.is_call).map(|word| word.name).collect()
}

/// Each row of a view comes from one row of one of the relations that its definition reads: plain selects from one
/// relation each, joined by UNION. The number of them; `None` for every other view.
pub(super) fn union_branches(definition: &str) -> Option<usize> {
    let names = words(definition).0;
    let count = |word: &str| names.iter().filter(|found| found.name == word).count();
    let branches = count("union") + 1;
    let is_plain = ["join", "intersect", "except", "with"].into_iter().all(|word| count(word) == 0);
    (is_plain && count("from") == branches && count("select") == branches).then_some(branches)
}

#[cfg(test)]
mod tests {
    use super::{called_functions, clock_words, union_branches};

    #[test]
    fn selects_from_one_relation_each_are_counted() {
        for (definition, expected) in [
            (" SELECT eu.id FROM eu UNION ALL SELECT us.id FROM us;", Some(2)),
            ("SELECT id FROM eu", Some(1)),
            ("SELECT id FROM eu UNION ALL SELECT id FROM us JOIN plans USING (id)", None),
            ("SELECT id, (SELECT name FROM plans) FROM eu UNION ALL SELECT id, '' FROM us", None),
            ("SELECT id FROM eu EXCEPT SELECT id FROM us", None),
        ] {
            assert_eq!(union_branches(definition), expected, "{definition}");
        }
    }

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
            ("age(ended, begun) > '1 day' AND age(coalesce(a, ','), (b)) > c", ""),
            ("age(coalesce(born, begun)) > '1 day'", "age()"),
            ("age(a, b) > age(b)", "age()"),
            ("age(a, now()) > '1 day'", "now()"),
        ] {
            assert_eq!(clock_words(sql).join(", "), expected, "{sql}");
        }
        assert_eq!(called_functions("app.is_live(id) AND lower(kind) = 'f(x)'"), ["is_live", "lower"]);
    }
}
