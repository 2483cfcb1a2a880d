//! The name of the source table: `table` or `schema.table`, where each part may be in double quotes.
//!
//! Owns: the syntax, and folding unquoted parts to lower case as SQL does. Must not know: whether the table exists.

/// PostgreSQL truncates longer names without an error (its manual, "Identifiers and Key Words": `NAMEDATALEN` - 1).
pub(super) const MAX_IDENTIFIER_BYTES: usize = 63;

/// A table's name as PostgreSQL stores it: without quotes, with unquoted parts in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableName {
    /// The schema. `None`: the first schema of the session's `search_path` that has such a table.
    pub schema: Option<String>,
    /// The table, partitioned table, view or materialized view.
    pub table: String,
    /// Whether an unquoted part was written with capital letters, which SQL folds to lower case.
    pub folded: bool,
}

/// Reads `table`, `schema.table` or `"Schema"."Table"`. Inside quotes, `""` is one quote.
///
/// The error says what is wrong and how to write the name.
pub fn parse_table_name(text: &str) -> Result<TableName, String> {
    let mut parts = Vec::new();
    let mut folded = false;
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err("the name is empty".to_owned());
    }
    loop {
        let (part, was_folded, after) = split_part(rest)?;
        folded |= was_folded;
        if part.len() > MAX_IDENTIFIER_BYTES {
            return Err(format!("a part has {} bytes; PostgreSQL accepts at most {MAX_IDENTIFIER_BYTES}", part.len()));
        }
        parts.push(part);
        match after.strip_prefix('.') {
            Some(next) => rest = next,
            None if after.is_empty() => break,
            None => return Err("a closing quote must be followed by a dot or by nothing".to_owned()),
        }
    }
    let mut parts = parts.into_iter();
    match (parts.next(), parts.next(), parts.next()) {
        (Some(table), None, None) => Ok(TableName { schema: None, table, folded }),
        (Some(schema), Some(table), None) => Ok(TableName { schema: Some(schema), table, folded }),
        _ => Err("the name has more than two parts; the URL names the database".to_owned()),
    }
}

/// Splits off the first part: its name, whether it was folded, and the rest of the text.
fn split_part(text: &str) -> Result<(String, bool, &str), String> {
    if let Some(quoted) = text.strip_prefix('"') {
        let mut name = String::new();
        let mut rest = quoted;
        loop {
            let (before, after) = rest.split_once('"').ok_or("a closing double quote is missing")?;
            name.push_str(before);
            let Some(more) = after.strip_prefix('"') else {
                rest = after;
                break;
            };
            name.push('"');
            rest = more;
        }
        if name.is_empty() {
            return Err("a part is empty".to_owned());
        }
        if name.contains('\0') {
            return Err("the name contains a NUL byte".to_owned());
        }
        return Ok((name, false, rest));
    }
    let end = text.find('.').unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    if name.is_empty() {
        return Err("a part is empty".to_owned());
    }
    let begins = |c: char| c == '_' || c.is_ascii_alphabetic() || !c.is_ascii();
    let goes_on = |c: char| begins(c) || c == '$' || c.is_ascii_digit();
    if !name.starts_with(begins) || !name.chars().all(goes_on) {
        return Err("a part with characters other than letters, digits and _ needs double quotes".to_owned());
    }
    Ok((name.to_ascii_lowercase(), name.bytes().any(|byte| byte.is_ascii_uppercase()), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_in_sql() {
        for (text, schema, table) in [
            ("users", None, "users"),
            ("public.users", Some("public"), "users"),
            ("Public.Users", Some("public"), "users"),
            (r#""Users""#, None, "Users"),
            (r#"public."User""#, Some("public"), "User"),
            (r#""a.b"."c ""d""""#, Some("a.b"), r#"c "d""#),
            ("_t$1", None, "_t$1"),
            ("用户", None, "用户"),
            (" users ", None, "users"),
        ] {
            let name = parse_table_name(text).map(|name| (name.schema, name.table));
            assert_eq!(name, Ok((schema.map(str::to_owned), table.to_owned())), "{text}");
        }
    }

    #[test]
    fn an_invalid_name_is_refused_with_the_reason() {
        for (text, why) in [
            ("", "the name is empty"),
            ("public.", "a part is empty"),
            (".users", "a part is empty"),
            (r#""""#, "a part is empty"),
            (r#""users"#, "a closing double quote is missing"),
            (r#""users"x"#, "a closing quote must be followed by a dot or by nothing"),
            ("a.b.c", "the name has more than two parts; the URL names the database"),
            ("my-table", "a part with characters other than letters, digits and _ needs double quotes"),
            ("1st", "a part with characters other than letters, digits and _ needs double quotes"),
            ("users; drop", "a part with characters other than letters, digits and _ needs double quotes"),
            ("\"a\0b\"", "the name contains a NUL byte"),
        ] {
            assert_eq!(parse_table_name(text), Err(why.to_owned()), "{text}");
        }
        assert!(parse_table_name(&"x".repeat(63)).is_ok());
        assert_eq!(
            parse_table_name(&"x".repeat(64)),
            Err("a part has 64 bytes; PostgreSQL accepts at most 63".to_owned())
        );
    }
}
