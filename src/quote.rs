//! Quoting of identifiers and literals in SQL.
//!
//! Owns: the rules of the PostgreSQL manual, chapter 4.1. Must not know: connections, what a name refers to.

/// `name` as an identifier in a statement. Always in double quotes, so that no list of keywords is needed.
pub(crate) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `name` as an identifier in a message: quoted only where it has to be. Not for statements, since it may be a keyword.
pub(crate) fn display_name(name: &str) -> String {
    let mut chars = name.chars();
    let starts = chars.next().is_some_and(|first| first.is_ascii_lowercase() || first == '_');
    if starts && chars.all(|rest| rest.is_ascii_lowercase() || rest.is_ascii_digit() || rest == '_') {
        name.to_owned()
    } else {
        identifier(name)
    }
}

/// `text` as a string literal, for configured text that cannot be a parameter.
pub(crate) fn literal(text: &str) -> String {
    // The session sets `standard_conforming_strings`, so a backslash needs no escape.
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::{display_name, identifier, literal};

    #[test]
    fn an_identifier_is_quoted() {
        assert_eq!(identifier("city"), r#""city""#);
        assert_eq!(identifier(r#"x"; DROP TABLE users; --"#), r#""x""; DROP TABLE users; --""#);
        assert_eq!(literal("it's \\"), "'it''s \\'");
    }

    #[test]
    fn names_are_displayed_with_quotes_where_needed() {
        assert_eq!(display_name("updated_at"), "updated_at");
        assert_eq!(display_name("City"), r#""City""#);
        assert_eq!(display_name("1st"), r#""1st""#);
        assert_eq!(display_name(""), r#""""#);
    }
}
