//! The two forms of a connection string, as libpq reads them: a URL and a list of `keyword = value`.
//!
//! Owns: where each part begins and ends, quoting and percent-encoding. Must not know: which parameters exist.
//!
//! Source: PostgreSQL manual, 34.1.1 (connection strings), and `conninfo_uri_parse` and `conninfo_parse` of libpq. No
//! error contains a part of the text, because that may be a password.

pub(super) const ENCODING_HINT: &str =
    "percent-encode characters such as @ : / ? # % in a user name or password (@ is %40, / is %2F)";

/// A keyword and its value, decoded. The last one with a keyword applies.
pub(super) struct Pair {
    pub(super) name: String,
    pub(super) value: String,
    /// Where the keyword stands, for a message that must not show it.
    pub(super) place: String,
}

/// Splits a connection string.
pub(super) fn pairs(text: &str) -> Result<Vec<Pair>, String> {
    if text.contains('\0') {
        return Err("the URL contains a NUL byte".to_owned());
    }
    let scheme = text.split_once("://").map(|(scheme, rest)| (scheme.to_ascii_lowercase(), rest));
    match scheme {
        Some((scheme, rest)) if matches!(&*scheme, "postgres" | "postgresql") => of_url(rest),
        // A scheme contains neither blanks nor an equals sign, so this is no mistyped one.
        _ if text.contains('=') && is_keyword(text.split('=').next().unwrap_or_default().trim()) => of_list(text),
        _ => Err("the URL does not start with postgres:// or postgresql://".to_owned()),
    }
}

fn is_keyword(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// What follows the `://`.
fn of_url(text: &str) -> Result<Vec<Pair>, String> {
    if text.contains(char::is_whitespace) {
        return Err(format!("the URL contains white space; {ENCODING_HINT}"));
    }
    let mut pairs = Vec::new();
    let mut rest = text;
    // libpq looks for the end of the credentials up to the first slash, not further.
    let before_slash = rest.split('/').next().unwrap_or_default();
    if let Some((credentials, _)) = before_slash.split_once('@') {
        rest = &text[credentials.len() + 1..];
        let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
        push(&mut pairs, "user", user)?;
        push(&mut pairs, "password", password)?;
    }
    let (hosts, ports, rest) = host_list(rest)?;
    // What looks like credentials here is a password with an unencoded @.
    if hosts.contains('@') || ports.contains('@') {
        return Err(format!("the URL has an @ in its host; {ENCODING_HINT}"));
    }
    push(&mut pairs, "host", &hosts)?;
    push(&mut pairs, "port", &ports)?;
    let (database, parameters) = rest.split_once('?').unwrap_or((rest, ""));
    let database = database.strip_prefix('/').unwrap_or(database);
    // libpq accepts such a name. It is most likely the rest of a password, and a name is shown in messages.
    if database.trim_end_matches('/').contains(['/', '@', '#']) {
        return Err(format!("the URL has more than a database name after the host; {ENCODING_HINT}"));
    }
    push(&mut pairs, "dbname", database.trim_end_matches('/'))?;
    add_parameters(&mut pairs, parameters)?;
    Ok(pairs)
}

/// Adds a part of the URL, unless it is empty.
fn push(pairs: &mut Vec<Pair>, keyword: &str, encoded: &str) -> Result<(), String> {
    if !encoded.is_empty() {
        pairs.push(Pair { name: keyword.to_owned(), value: decoded(encoded)?, place: String::new() });
    }
    Ok(())
}

/// The hosts and the ports, each joined by commas as in the parameters of that name, and what follows them.
fn host_list(text: &str) -> Result<(String, String, &str), String> {
    let (mut hosts, mut ports, mut rest) = (String::new(), String::new(), text);
    loop {
        let end;
        if let Some(literal) = rest.strip_prefix('[') {
            let length = literal.find(']').ok_or("the URL has a [ without a ] after the IPv6 address")?;
            if length == 0 {
                return Err("the URL has an empty IPv6 address".to_owned());
            }
            hosts.push_str(&literal[..length]);
            end = length + 2;
            if !rest[end..].is_empty() && !rest[end..].starts_with([':', '/', '?', ',']) {
                return Err("the URL has an unexpected character after the ] of an IPv6 address".to_owned());
            }
        } else {
            end = rest.find([':', '/', '?', ',']).unwrap_or(rest.len());
            hosts.push_str(&rest[..end]);
        }
        rest = &rest[end..];
        if let Some(port) = rest.strip_prefix(':') {
            let length = port.find(['/', '?', ',']).unwrap_or(port.len());
            ports.push_str(&port[..length]);
            rest = &port[length..];
        }
        let Some(next) = rest.strip_prefix(',') else { return Ok((hosts, ports, rest)) };
        hosts.push(',');
        ports.push(',');
        rest = next;
    }
}

fn add_parameters(pairs: &mut Vec<Pair>, text: &str) -> Result<(), String> {
    for (index, parameter) in text.split('&').filter(|parameter| !parameter.is_empty()).enumerate() {
        let place = format!("parameter {} after the question mark", index + 1);
        let (keyword, value) = parameter
            .split_once('=')
            .filter(|(_, value)| !value.contains('='))
            .ok_or_else(|| format!("{place} does not have exactly one = (in a value, it is %3D)"))?;
        let (mut name, mut value) = (decoded(keyword)?, decoded(value)?);
        // For the sake of JDBC, as in libpq.
        if name == "ssl" && value == "true" {
            (name, value) = ("sslmode".to_owned(), "require".to_owned());
        }
        pairs.push(Pair { name, value, place });
    }
    Ok(())
}

/// Decodes `%40` and the like.
fn decoded(text: &str) -> Result<String, String> {
    let invalid = || format!("the URL contains a % without two hexadecimal digits, or %00; {ENCODING_HINT}");
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit = || bytes.next().and_then(|digit| char::from(digit).to_digit(16)).ok_or_else(invalid);
        let value = digit()? * 16 + digit()?;
        decoded.push(u8::try_from(value).ok().filter(|value| *value != 0).ok_or_else(invalid)?);
    }
    String::from_utf8(decoded)
        .map_err(|_| format!("the URL contains percent-encoded bytes that are not UTF-8; {ENCODING_HINT}"))
}

/// `keyword = value` pairs, separated by white space. A value is quoted with `'`; a backslash escapes `'` and itself.
fn of_list(text: &str) -> Result<Vec<Pair>, String> {
    let mut pairs = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (keyword, after) = rest
            .split_once('=')
            .filter(|(keyword, _)| is_keyword(keyword.trim_end()))
            .ok_or("the connection string is not a list of keyword=value; put a value with blanks in single quotes")?;
        let (value, after) = list_value(after.trim_start())?;
        let place = format!("keyword {} of the connection string", pairs.len() + 1);
        pairs.push(Pair { name: keyword.trim_end().to_owned(), value, place });
        rest = after.trim_start();
    }
    Ok(pairs)
}

/// The value at the start of a text, and what follows it.
fn list_value(text: &str) -> Result<(String, &str), String> {
    let quoted = text.starts_with('\'');
    let mut value = String::new();
    let mut characters = text.char_indices().skip(usize::from(quoted));
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            '\'' if quoted => return Ok((value, &text[at + 1..])),
            blank if !quoted && blank.is_whitespace() => return Ok((value, &text[at..])),
            other => value.push(other),
        }
    }
    if quoted {
        return Err("the connection string has a single quote without its closing one".to_owned());
    }
    Ok((value, ""))
}
