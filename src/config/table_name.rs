//! The name of the source table as it is written: `table` or `schema.table`, parts in double quotes allowed.
//!
//! Owns: the syntax and SQL's folding of unquoted parts. Must not know: whether such a table exists.

/// Postgres cuts longer names off silently (its manual, "Identifiers and Key Words": `NAMEDATALEN` less one).
pub(super) const MAX_IDENTIFIER_BYTES: usize = 63;

/// A table's name with quotes resolved and unquoted parts in lower case, as Postgres stores it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableName {
    /// `None`: the first table of this name on the session's `search_path`.
    pub schema: Option<String>,
    pub table: String,
    /// An unquoted part was written with upper-case letters, which Postgres reads as lower case.
    pub folded: bool,
}

/// Reads `table`, `schema.table`, `"Schema"."Table"`. Inside quotes `""` is one quote.
///
/// The error says what is wrong and how to write it.
pub fn parse_table_name(text: &str) -> Result<TableName, String> {
    let mut parts = Vec::new();
    let mut folded = false;
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err("the name is empty".to_owned());
    }
    loop {
        let (part, was_folded, after) = part(rest)?;
        folded |= was_folded;
        if part.len() > MAX_IDENTIFIER_BYTES {
            return Err(format!("a part has {} bytes, Postgres takes at most {MAX_IDENTIFIER_BYTES}", part.len()));
        }
        parts.push(part);
        match after.strip_prefix('.') {
            Some(next) => rest = next,
            None if after.is_empty() => break,
            None => return Err("text follows a closing quote".to_owned()),
        }
    }
    let mut parts = parts.into_iter();
    match (parts.next(), parts.next(), parts.next()) {
        (Some(table), None, None) => Ok(TableName { schema: None, table, folded }),
        (Some(schema), Some(table), None) => Ok(TableName { schema: Some(schema), table, folded }),
        _ => Err("more than two parts; the database is named in the URL".to_owned()),
    }
}

/// The first part, whether it was folded, and what follows it.
fn part(text: &str) -> Result<(String, bool, &str), String> {
    if let Some(quoted) = text.strip_prefix('"') {
        let mut name = String::new();
        let mut rest = quoted;
        loop {
            let (before, after) = rest.split_once('"').ok_or("a double quote is not closed")?;
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
            return Err("it contains a NUL byte".to_owned());
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
        return Err("a part with other signs than letters, digits and _ needs double quotes around it".to_owned());
    }
    Ok((name.to_ascii_lowercase(), name.bytes().any(|byte| byte.is_ascii_uppercase()), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_sql_reads_them() {
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
    fn anything_else_says_why() {
        for (text, why) in [
            ("", "the name is empty"),
            ("public.", "a part is empty"),
            (".users", "a part is empty"),
            (r#""""#, "a part is empty"),
            (r#""users"#, "a double quote is not closed"),
            (r#""users"x"#, "text follows a closing quote"),
            ("a.b.c", "more than two parts; the database is named in the URL"),
            ("my-table", "a part with other signs than letters, digits and _ needs double quotes around it"),
            ("1st", "a part with other signs than letters, digits and _ needs double quotes around it"),
            ("users; drop", "a part with other signs than letters, digits and _ needs double quotes around it"),
            ("\"a\0b\"", "it contains a NUL byte"),
        ] {
            assert_eq!(parse_table_name(text), Err(why.to_owned()), "{text}");
        }
        assert!(parse_table_name(&"x".repeat(63)).is_ok());
        assert_eq!(parse_table_name(&"x".repeat(64)), Err("a part has 64 bytes, Postgres takes at most 63".to_owned()));
    }
}
