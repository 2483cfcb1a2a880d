//! Checks a TOML value against the values that its key accepts.
//!
//! Owns: types, ranges, and how a message describes what was found. Must not know: which key has the value, or its
//! line.

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use secrecy::SecretString;
use toml::de::DeValue;
use url::{Host, Url};

use super::durations;
use super::model::ImAddress;
use super::suggestion::suggestion;
use super::table_name::parse_table_name;
use super::value_type::ValueType;

/// The longest text that a message quotes. A longer one is something else that was pasted, perhaps a secret.
const MAX_QUOTED_BYTES: usize = 60;

/// The message for a value that a key does not accept.
pub(super) fn mismatch(found: impl Display, value_type: &ValueType) -> String {
    format!("found {found}, expected {value_type}")
}

/// Describes a value for a message. A text that looks like a URL is not quoted, because it may contain a password.
pub(super) fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => describe_text(text),
        DeValue::Integer(number) => format!("the number {}", truncated(&number.to_string())),
        DeValue::Float(number) => format!("the number {}", truncated(number.as_str())),
        DeValue::Boolean(boolean) => boolean.to_string(),
        _ => type_name(value).to_owned(),
    }
}

fn describe_text(text: &str) -> String {
    if text.is_empty() {
        "an empty string".to_owned()
    } else if text.contains("://") {
        "a URL".to_owned()
    } else if text.len() > MAX_QUOTED_BYTES {
        format!("a string of {} bytes", text.len())
    } else {
        format!("{text:?}")
    }
}

fn truncated(number: &str) -> &str {
    number.get(..MAX_QUOTED_BYTES).unwrap_or(number)
}

/// The type of a value, for messages that must not quote it.
pub(super) fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

/// The name of a time zone that contains a slash, or UTC. An offset or an abbreviation is refused: PostgreSQL counts
/// `UTC-5` as POSIX does, five hours to the east.
pub(super) fn time_zone(value: &DeValue<'_>, value_type: &ValueType) -> Result<String, String> {
    let zone = text(value, value_type)?;
    let is_name = |part: char| part.is_ascii_alphanumeric() || matches!(part, '/' | '_' | '+' | '-');
    if zone == "UTC" || (zone.contains('/') && zone.chars().all(is_name)) {
        return Ok(zone);
    }
    Err(format!(
        "found {}, expected \"UTC\" or a name of pg_timezone_names with a slash, such as \"America/Bogota\" (PostgreSQL counts an offset such as UTC-5 the other way round, five hours east of Greenwich, and an abbreviation knows no daylight saving time)",
        describe(value)
    ))
}

/// Any string, for the keys with a check of their own.
fn string<'v>(value: &'v DeValue<'_>, value_type: &ValueType) -> Result<&'v str, String> {
    value.as_str().ok_or_else(|| mismatch(describe(value), value_type))
}

/// A string within the limits of [`ValueType::Text`].
pub(super) fn text(value: &DeValue<'_>, value_type: &ValueType) -> Result<String, String> {
    let text = string(value, value_type)?;
    let &ValueType::Text { min_bytes, max_bytes, .. } = value_type else {
        return Err(mismatch(describe(value), value_type));
    };
    if text.chars().any(char::is_control) {
        let character = if text.contains('\0') { "a NUL byte" } else { "a control character" };
        return Err(mismatch(format_args!("a string with {character}"), value_type));
    }
    if text.len() < min_bytes {
        return Err(mismatch(describe(value), value_type));
    }
    if text.len() > max_bytes {
        return Err(mismatch(format_args!("a string of {} bytes", text.len()), value_type));
    }
    Ok(text.to_owned())
}

fn integer(value: &DeValue<'_>, value_type: &ValueType) -> Result<u64, String> {
    let &ValueType::Integer { min, max, .. } = value_type else {
        return Err(mismatch(describe(value), value_type));
    };
    match value {
        DeValue::Integer(number) => u64::from_str_radix(number.as_str(), number.radix())
            .ok()
            .filter(|number| (min..=max).contains(number))
            .ok_or_else(|| mismatch(describe(value), value_type)),
        DeValue::String(text) if text.parse::<u64>().is_ok() => {
            Err(format!("{}; remove the quotes", mismatch(describe(value), value_type)))
        }
        _ => Err(mismatch(describe(value), value_type)),
    }
}

/// An integer of a key whose range fits in 32 bits.
pub(super) fn integer_u32(value: &DeValue<'_>, value_type: &ValueType) -> Result<u32, String> {
    u32::try_from(integer(value, value_type)?).map_err(|_| mismatch(describe(value), value_type))
}

/// An integer that counts things in memory.
pub(super) fn integer_usize(value: &DeValue<'_>, value_type: &ValueType) -> Result<usize, String> {
    usize::try_from(integer(value, value_type)?).map_err(|_| mismatch(describe(value), value_type))
}

/// A number from 0 to 1.
pub(super) fn share(value: &DeValue<'_>, value_type: &ValueType) -> Result<f64, String> {
    let number = match value {
        DeValue::Integer(number) if number.radix() == 10 => number.as_str().parse::<f64>().ok(),
        DeValue::Float(number) => number.as_str().parse::<f64>().ok(),
        DeValue::String(text) if text.parse::<f64>().is_ok() => {
            return Err(format!("{}; remove the quotes", mismatch(describe(value), value_type)));
        }
        _ => None,
    };
    number.filter(|number| (0.0..=1.0).contains(number)).ok_or_else(|| mismatch(describe(value), value_type))
}

/// `true` or `false`.
pub(super) fn boolean(value: &DeValue<'_>, value_type: &ValueType) -> Result<bool, String> {
    match value {
        DeValue::Boolean(boolean) => Ok(*boolean),
        DeValue::String(text) if matches!(text.as_ref(), "true" | "false") => {
            Err(format!("{}; remove the quotes", mismatch(describe(value), value_type)))
        }
        _ => Err(mismatch(describe(value), value_type)),
    }
}

/// A duration within its limits. `None` means "never".
pub(super) fn duration_or_never(value: &DeValue<'_>, value_type: &ValueType) -> Result<Option<Duration>, String> {
    let &ValueType::Duration { min, max, never, .. } = value_type else {
        return Err(mismatch(describe(value), value_type));
    };
    let text = string(value, value_type)?;
    if never && text == "never" {
        return Ok(None);
    }
    match durations::parse(text) {
        Ok(duration) if (min..=max).contains(&duration) => Ok(Some(duration)),
        _ => Err(mismatch(describe(value), value_type)),
    }
}

/// A duration of a key that does not accept "never".
pub(super) fn duration(value: &DeValue<'_>, value_type: &ValueType) -> Result<Duration, String> {
    duration_or_never(value, value_type)?.ok_or_else(|| mismatch(describe(value), value_type))
}

/// One of the strings of a choice, converted to its meaning.
pub(super) fn choice<T: Copy>(
    meanings: &[(&'static str, T)],
) -> impl Fn(&DeValue<'_>, &ValueType) -> Result<T, String> {
    move |value, value_type| {
        let word = string(value, value_type)?;
        if let Some((_, meaning)) = meanings.iter().find(|(name, _)| *name == word) {
            return Ok(*meaning);
        }
        let mut message = mismatch(describe(value), value_type);
        if let Some(meant) = suggestion(word, meanings.iter().map(|(name, _)| *name)) {
            message = format!("{message}; did you mean \"{meant}\"?");
        }
        Err(message)
    }
}

/// The name of a table, as written; its syntax is checked.
pub(super) fn table(value: &DeValue<'_>, value_type: &ValueType) -> Result<String, String> {
    let text = string(value, value_type)?;
    match parse_table_name(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(reason) => Err(format!("{} ({reason})", mismatch(describe(value), value_type))),
    }
}

/// An SQL condition. Only the database can check its syntax.
pub(super) fn filter(value: &DeValue<'_>, value_type: &ValueType) -> Result<String, String> {
    let text = string(value, value_type)?;
    if text.contains('\0') {
        return Err(mismatch("a string with a NUL byte", value_type));
    }
    let first = text.split_whitespace().next().unwrap_or_default();
    if first.is_empty() || first.eq_ignore_ascii_case("where") {
        return Err(mismatch(describe(value), value_type));
    }
    Ok(text.to_owned())
}

/// An IP address with a port.
pub(super) fn listen(value: &DeValue<'_>, value_type: &ValueType) -> Result<SocketAddr, String> {
    string(value, value_type)?.parse().map_err(|_| mismatch(describe(value), value_type))
}

/// The URL of a proxy or the simulator.
pub(super) fn base_url(value: &DeValue<'_>, value_type: &ValueType) -> Result<ImAddress, String> {
    let text = string(value, value_type)?;
    let url = Url::parse(text).map_err(|error| format!("{} ({error})", mismatch(describe(value), value_type)))?;
    let found = if !matches!(url.scheme(), "http" | "https") {
        format!("a URL that starts with {}:", describe_text(url.scheme()).trim_matches('"'))
    } else if !url.has_host() {
        "a URL without a host".to_owned()
    } else if !url.username().is_empty() || url.password().is_some() {
        "a URL with a user name or password".to_owned()
    } else if url.query().is_some() {
        "a URL with a question mark".to_owned()
    } else if url.fragment().is_some() {
        "a URL with a #".to_owned()
    } else {
        return Ok(ImAddress::BaseUrl(url));
    };
    Err(mismatch(found, value_type))
}

/// The URL of the webhook. It is a secret, because everyone who knows it can post.
pub(super) fn webhook(text: &str) -> Result<SecretString, String> {
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(SecretString::from(text)),
        _ => Err("the value is not an http or https URL with a host".to_owned()),
    }
}

/// The app's secret key. The vendor's console shows 64 hexadecimal digits, but does not document that as a rule.
pub(super) fn secret_key(text: &str) -> Result<SecretString, String> {
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("the key contains white space or a control character; copy it again from the console".to_owned());
    }
    Ok(SecretString::from(text))
}

/// Whether a URL names this machine.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => IpAddr::from(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::from(address).is_loopback(),
        None => false,
    }
}
