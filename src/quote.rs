//! Names in SQL: the one function that quotes an identifier.
//!
//! Owns: the manual's rules on identifiers (chapter 4.1.1). Must not know: connections, what a name stands for.

/// `name` as an identifier, always in double quotes, so that no keyword list is needed and nothing in it is SQL.
pub(crate) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `name` as people would write it: bare where that means the same, else quoted. For messages, never for statements.
pub(crate) fn shown(name: &str) -> String {
    let mut chars = name.chars();
    let starts = chars.next().is_some_and(|first| first.is_ascii_lowercase() || first == '_');
    if starts && chars.all(|rest| rest.is_ascii_lowercase() || rest.is_ascii_digit() || rest == '_') {
        name.to_owned()
    } else {
        identifier(name)
    }
}

/// A string literal. Only for what cannot be a parameter: configured text inside a statement that is prepared.
pub(crate) fn literal(text: &str) -> String {
    // `standard_conforming_strings` is set by the session, so a backslash is a backslash.
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::{identifier, literal, shown};

    #[test]
    fn an_identifier_holds_no_sql() {
        assert_eq!(identifier("city"), r#""city""#);
        assert_eq!(identifier(r#"x"; DROP TABLE users; --"#), r#""x""; DROP TABLE users; --""#);
        assert_eq!(literal("it's \\"), "'it''s \\'");
    }

    #[test]
    fn names_are_shown_as_people_write_them() {
        assert_eq!(shown("updated_at"), "updated_at");
        assert_eq!(shown("City"), r#""City""#);
        assert_eq!(shown("1st"), r#""1st""#);
        assert_eq!(shown(""), r#""""#);
    }
}
