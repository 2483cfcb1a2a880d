//! How names and texts are quoted: identifiers and literals in SQL, lists of names in messages.
//!
//! Owns: the lexical rules of PostgreSQL (its manual, chapter 4.1) and the wording of a list.
//! Must not know: connections, or what a name stands for.

/// `name` as an SQL identifier. It is always in double quotes, so that no list of keywords is needed.
pub(crate) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `name` as a person would write it in SQL: without quotes if it means the same. For messages, never for statements.
pub(crate) fn shown(name: &str) -> String {
    let mut chars = name.chars();
    let starts = chars.next().is_some_and(|first| first.is_ascii_lowercase() || first == '_');
    if starts && chars.all(|rest| rest.is_ascii_lowercase() || rest.is_ascii_digit() || rest == '_') {
        name.to_owned()
    } else {
        identifier(name)
    }
}

/// `text` as a string literal. Only for configured text in a statement where a parameter is not possible.
pub(crate) fn literal(text: &str) -> String {
    // The session sets `standard_conforming_strings`, so a backslash needs no escape.
    format!("'{}'", text.replace('\'', "''"))
}

/// `a, b or c`: the items of a choice, for messages.
pub(crate) fn alternatives<S: AsRef<str>>(items: impl IntoIterator<Item = S>) -> String {
    let items: Vec<S> = items.into_iter().collect();
    let mut list = String::new();
    for (index, item) in items.iter().enumerate() {
        list.push_str(match index {
            0 => "",
            _ if index + 1 == items.len() => " or ",
            _ => ", ",
        });
        list.push_str(item.as_ref());
    }
    list
}

/// `"a", "b", "c"`: names in double quotes, for messages. Quotes in a name are not escaped.
pub(crate) fn quoted_list<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> String {
    names.into_iter().map(|name| format!("\"{}\"", name.as_ref())).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::{alternatives, identifier, literal, quoted_list, shown};

    #[test]
    fn quoting_leaves_no_sql_in_a_name() {
        assert_eq!(identifier("city"), r#""city""#);
        assert_eq!(identifier(r#"x"; DROP TABLE users; --"#), r#""x""; DROP TABLE users; --""#);
        assert_eq!(literal("it's \\"), "'it''s \\'");
    }

    #[test]
    fn only_names_that_need_quotes_are_shown_with_them() {
        assert_eq!(shown("updated_at"), "updated_at");
        assert_eq!(shown("City"), r#""City""#);
        assert_eq!(shown("1st"), r#""1st""#);
        assert_eq!(shown(""), r#""""#);
    }

    #[test]
    fn lists_are_written_for_messages() {
        assert_eq!(alternatives(Vec::<&str>::new()), "");
        assert_eq!(alternatives(["a"]), "a");
        assert_eq!(alternatives(["a", "b"]), "a or b");
        assert_eq!(alternatives(["a", "b", "c"]), "a, b or c");
        assert_eq!(quoted_list(["a", "b"]), r#""a", "b""#);
    }
}
