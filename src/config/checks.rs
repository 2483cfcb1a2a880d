//! A value of the file against what its key takes.
//!
//! Owns: types, ranges and the words for what was found. Must not know: which key it is, or where it stands.

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use secrecy::SecretString;
use toml::de::DeValue;
use url::{Host, Url};

use super::keys::Takes;
use super::nearest::nearest;
use super::table_name::parse_table_name;
use super::{ImAddress, durations};

/// What is shown of a text at most; longer ones are a paste of something else, maybe of a secret.
const SHOWN_BYTES: usize = 60;

/// The message for a value that a key does not take.
pub(super) fn refused(found: impl Display, takes: &Takes) -> String {
    format!("found {found}; allowed is {takes}")
}

/// What was found, for a message. Texts that look like a URL are not shown: they may hold a password.
pub(super) fn found(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => found_text(text),
        DeValue::Integer(number) => format!("the number {}", cut(&number.to_string())),
        DeValue::Float(number) => format!("the number {}", cut(number.as_str())),
        DeValue::Boolean(switch) => switch.to_string(),
        _ => kind(value).to_owned(),
    }
}

pub(super) fn found_text(text: &str) -> String {
    if text.is_empty() {
        "an empty text".to_owned()
    } else if text.contains("://") {
        "a URL".to_owned()
    } else if text.len() > SHOWN_BYTES {
        format!("a text of {} bytes", text.len())
    } else {
        format!("{text:?}")
    }
}

fn cut(number: &str) -> &str {
    number.get(..SHOWN_BYTES).unwrap_or(number)
}

/// The kind of a value, for messages that must not show it.
pub(super) fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// Any text, for rules of its own.
fn string<'v>(value: &'v DeValue<'_>, takes: &Takes) -> Result<&'v str, String> {
    value.as_str().ok_or_else(|| refused(found(value), takes))
}

pub(super) fn text(value: &DeValue<'_>, takes: &Takes) -> Result<String, String> {
    let text = string(value, takes)?;
    let &Takes::Text(min, max) = takes else { return Err(refused(found(value), takes)) };
    if text.chars().any(char::is_control) {
        let sign = if text.contains('\0') { "a NUL byte" } else { "a control character" };
        return Err(refused(format_args!("a text with {sign}"), takes));
    }
    if text.len() < min {
        return Err(refused(found(value), takes));
    }
    if text.len() > max {
        return Err(refused(format_args!("a text of {} bytes", text.len()), takes));
    }
    Ok(text.to_owned())
}

pub(super) fn whole(value: &DeValue<'_>, takes: &Takes) -> Result<u64, String> {
    let &Takes::Whole(min, max, _) = takes else { return Err(refused(found(value), takes)) };
    match value {
        DeValue::Integer(number) => u64::from_str_radix(number.as_str(), number.radix())
            .ok()
            .filter(|number| (min..=max).contains(number))
            .ok_or_else(|| refused(found(value), takes)),
        DeValue::String(text) if text.parse::<u64>().is_ok() => {
            Err(format!("{}; write it without quotes", refused(found(value), takes)))
        }
        _ => Err(refused(found(value), takes)),
    }
}

/// [`whole`] for keys whose range fits.
pub(super) fn whole_u32(value: &DeValue<'_>, takes: &Takes) -> Result<u32, String> {
    u32::try_from(whole(value, takes)?).map_err(|_| refused(found(value), takes))
}

/// [`whole`] for counts of things in memory.
pub(super) fn whole_usize(value: &DeValue<'_>, takes: &Takes) -> Result<usize, String> {
    usize::try_from(whole(value, takes)?).map_err(|_| refused(found(value), takes))
}

pub(super) fn share(value: &DeValue<'_>, takes: &Takes) -> Result<f64, String> {
    let number = match value {
        DeValue::Integer(number) if number.radix() == 10 => number.as_str().parse::<f64>().ok(),
        DeValue::Float(number) => number.as_str().parse::<f64>().ok(),
        DeValue::String(text) if text.parse::<f64>().is_ok() => {
            return Err(format!("{}; write it without quotes", refused(found(value), takes)));
        }
        _ => None,
    };
    number.filter(|number| (0.0..=1.0).contains(number)).ok_or_else(|| refused(found(value), takes))
}

pub(super) fn switch(value: &DeValue<'_>, takes: &Takes) -> Result<bool, String> {
    match value {
        DeValue::Boolean(switch) => Ok(*switch),
        DeValue::String(text) if matches!(text.as_ref(), "true" | "false") => {
            Err(format!("{}; write it without quotes", refused(found(value), takes)))
        }
        _ => Err(refused(found(value), takes)),
    }
}

/// `None` means "never".
pub(super) fn duration_or_never(value: &DeValue<'_>, takes: &Takes) -> Result<Option<Duration>, String> {
    let &Takes::Duration { min, max, never, .. } = takes else { return Err(refused(found(value), takes)) };
    let text = string(value, takes)?;
    if never && text == "never" {
        return Ok(None);
    }
    match durations::parse(text) {
        Ok(duration) if (min..=max).contains(&duration) => Ok(Some(duration)),
        _ => Err(refused(found(value), takes)),
    }
}

pub(super) fn duration(value: &DeValue<'_>, takes: &Takes) -> Result<Duration, String> {
    duration_or_never(value, takes)?.ok_or_else(|| refused(found(value), takes))
}

/// A word of the key's list, turned into what it stands for.
pub(super) fn choice<T: Copy>(meanings: &[(&'static str, T)]) -> impl Fn(&DeValue<'_>, &Takes) -> Result<T, String> {
    move |value, takes| {
        let word = string(value, takes)?;
        if let Some((_, meaning)) = meanings.iter().find(|(name, _)| *name == word) {
            return Ok(*meaning);
        }
        let mut message = refused(found(value), takes);
        if let Some(meant) = nearest(word, meanings.iter().map(|(name, _)| *name)) {
            message = format!("{message}; did you mean \"{meant}\"?");
        }
        Err(message)
    }
}

/// As written; the syntax is checked.
pub(super) fn table(value: &DeValue<'_>, takes: &Takes) -> Result<String, String> {
    let text = string(value, takes)?;
    match parse_table_name(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(why) => Err(format!("{} ({why})", refused(found(value), takes))),
    }
}

pub(super) fn filter(value: &DeValue<'_>, takes: &Takes) -> Result<String, String> {
    let text = string(value, takes)?;
    if text.contains('\0') {
        return Err(refused("a text with a NUL byte", takes));
    }
    let first = text.split_whitespace().next().unwrap_or_default();
    if first.is_empty() || first.eq_ignore_ascii_case("where") {
        return Err(refused(found(value), takes));
    }
    Ok(text.to_owned())
}

pub(super) fn listen(value: &DeValue<'_>, takes: &Takes) -> Result<SocketAddr, String> {
    string(value, takes)?.parse().map_err(|_| refused(found(value), takes))
}

pub(super) fn base_url(value: &DeValue<'_>, takes: &Takes) -> Result<ImAddress, String> {
    let text = string(value, takes)?;
    let url = Url::parse(text).map_err(|error| format!("{} ({error})", refused(found(value), takes)))?;
    let wrong = if !matches!(url.scheme(), "http" | "https") {
        format!("a URL that begins with {}:", found_text(url.scheme()).trim_matches('"'))
    } else if !url.has_host() {
        "a URL without a host".to_owned()
    } else if !url.username().is_empty() || url.password().is_some() {
        "a URL with a user or password".to_owned()
    } else if url.query().is_some() {
        "a URL with a question mark".to_owned()
    } else if url.fragment().is_some() {
        "a URL with a #".to_owned()
    } else {
        return Ok(ImAddress::BaseUrl(url));
    };
    Err(refused(wrong, takes))
}

/// The URL is a secret: whoever knows it can post.
pub(super) fn webhook(text: &str) -> Result<SecretString, String> {
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(SecretString::from(text)),
        _ => Err("it is not an http or https URL with a host".to_owned()),
    }
}

/// The key's own characters sign; the vendor's console gives 64 hexadecimal ones, but does not promise it.
pub(super) fn secret_key(text: &str) -> Result<SecretString, String> {
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("it contains white space or a control character; copy it again from the console".to_owned());
    }
    Ok(SecretString::from(text))
}

pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => IpAddr::from(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::from(address).is_loopback(),
        None => false,
    }
}
