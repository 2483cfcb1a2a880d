//! Names in SQL: the one function that quotes an identifier, and the reading of a configured table name.
//!
//! Owns: the manual's rules on identifiers (chapter 4.1.1). Must not know: connections, what a name stands for.

/// `name` as an identifier, always in double quotes, so that no keyword list is needed and nothing in it is SQL.
pub(super) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `name` as people would write it: bare where that means the same, else quoted. For messages, never for statements.
pub(super) fn shown(name: &str) -> String {
    let mut chars = name.chars();
    let starts = chars.next().is_some_and(|first| first.is_ascii_lowercase() || first == '_');
    if starts && chars.all(|rest| rest.is_ascii_lowercase() || rest.is_ascii_digit() || rest == '_') {
        name.to_owned()
    } else {
        identifier(name)
    }
}

/// A string literal. Only for what cannot be a parameter: configured text inside a statement that is prepared.
pub(super) fn literal(text: &str) -> String {
    // `standard_conforming_strings` is set by the session, so a backslash is a backslash.
    format!("'{}'", text.replace('\'', "''"))
}

/// The parts of `table` or `schema.table`, folded and unquoted as SQL does; `None` where SQL would not read it so.
pub(super) fn parse_table(text: &str) -> Option<(Option<String>, String)> {
    let mut parts = Vec::new();
    let mut rest = text.trim();
    loop {
        let (part, after) = parse_part(rest)?;
        parts.push(part);
        rest = after.trim_start();
        match rest.strip_prefix('.') {
            Some(next) => rest = next.trim_start(),
            None if rest.is_empty() => break,
            None => return None,
        }
    }
    let table = parts.pop()?;
    let schema = parts.pop();
    parts.is_empty().then_some((schema, table))
}

fn parse_part(text: &str) -> Option<(String, &str)> {
    if let Some(quoted) = text.strip_prefix('"') {
        let mut name = String::new();
        let mut chars = quoted.char_indices().peekable();
        while let Some((place, char)) = chars.next() {
            if char != '"' {
                name.push(char);
            } else if chars.next_if(|(_, next)| *next == '"').is_some() {
                name.push('"');
            } else {
                return (!name.is_empty()).then(|| (name, &quoted[place + 1..]));
            }
        }
        return None;
    }
    let ends = |char: char| char == '.' || char == '"' || char.is_whitespace();
    let (name, rest) = text.split_at(text.find(ends).unwrap_or(text.len()));
    let fits = |char: char| char.is_alphanumeric() || matches!(char, '_' | '$' | '-');
    // A hyphen is no part of a bare name in SQL; here nothing else it could mean.
    (!name.is_empty() && name.chars().all(fits)).then(|| (name.to_ascii_lowercase(), rest))
}

#[cfg(test)]
mod tests {
    use super::{identifier, literal, parse_table, shown};

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

    #[test]
    fn a_table_name_is_read_as_sql_reads_it() {
        let read = |text| parse_table(text).map(|(schema, table)| (schema.unwrap_or_default(), table));
        let is = |schema: &str, table: &str| Some((schema.to_owned(), table.to_owned()));
        assert_eq!(read("users"), is("", "users"));
        assert_eq!(read("public.Users"), is("public", "users"));
        assert_eq!(read(r#"public."Users""#), is("public", "Users"));
        assert_eq!(read(r#" "We""ird Table" . "a.b" "#), is("We\"ird Table", "a.b"));
        for wrong in ["", ".", "a.", "a b", "a.b.c", r#""open"#, r#""""#, r#"a"b""#, "users; drop"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
