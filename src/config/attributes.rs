//! The `[attributes]` section: which attribute gets its value from which column, and how.
//!
//! Owns: the checks of attribute names, of `values` and of the choices. Must not know: the columns of the table, the
//! attribute names of the app.

use std::collections::BTreeMap;

use toml::de::DeValue;

use super::checks;
use super::document::ConfigDocument;
use super::keys::{expected, find_key};
use super::model::{AttributeConfig, Null, TooLong, Unlisted};
use super::problems::MAX_PROBLEMS;
use super::value_type::ValueType;
use crate::model::{MAX_ATTRIBUTE_NAME_BYTES, MAX_ATTRIBUTES, MAX_COLUMN_TEXT_CHARS, MAX_VALUE_BYTES};

const SECTION: &str = "attributes";

/// The attributes in the order of their names. `None`: a problem was recorded.
pub(super) fn attributes(document: &mut ConfigDocument<'_>) -> Option<Vec<AttributeConfig>> {
    let names = document.keys_of_table(&[SECTION]);
    if names.is_empty() {
        match document.value(SECTION) {
            // A value of another type is reported with the unknown keys.
            Some(value) if !matches!(value, DeValue::Table(_)) => {}
            Some(_) => {
                document
                    .missing(SECTION, format!("at least one attribute is required; expected {}", expected(SECTION)));
            }
            None => document.missing(SECTION, format!("this section is required; expected {}", expected(SECTION))),
        }
        return None;
    }
    if names.len() > MAX_ATTRIBUTES {
        document.problem(
            SECTION,
            format!(
                "found {} attributes; an IM app has at most {MAX_ATTRIBUTES} attribute names, so remove {}",
                names.len(),
                names.len() - MAX_ATTRIBUTES
            ),
        );
    }
    // All attributes are read before the first `None` ends the collection, so that all problems are found.
    let attributes: Vec<_> = names.iter().take(MAX_ATTRIBUTES).map(|name| attribute(document, name)).collect();
    let attributes: Vec<AttributeConfig> = attributes.into_iter().collect::<Option<_>>()?;
    warn_about_copies(document, &attributes);
    Some(attributes)
}

/// An attribute whose column and settings are those of another one may be a line that was copied and not finished.
fn warn_about_copies(document: &mut ConfigDocument<'_>, attributes: &[AttributeConfig]) {
    for (index, attribute) in attributes.iter().enumerate() {
        let is_copy = |other: &&AttributeConfig| {
            AttributeConfig { name: attribute.name.clone(), ..(*other).clone() } == *attribute
        };
        if let Some(other) = attributes[..index].iter().find(is_copy) {
            let message = format!(
                "column and settings are those of the attribute {:?}, so both always have the same value; correct the column if that is not intended",
                other.name
            );
            document.warning(&[SECTION, &attribute.name], &message);
        }
    }
}

fn attribute(document: &mut ConfigDocument<'_>, name: &str) -> Option<AttributeConfig> {
    check_name(document, name);
    let at = [SECTION, name];
    let is_column_only = match document.value_at(&at)? {
        DeValue::String(_) => true,
        DeValue::Table(_) => false,
        other => {
            let message = format!("found {}, expected {}", checks::describe(other), expected("attributes.NAME"));
            document.problem_at(&at, message);
            return None;
        }
    };
    let column = if is_column_only { at.to_vec() } else { vec![SECTION, name, "column"] };
    let column = document.read_at(&column, "attributes.NAME.column", checks::text);
    let values = values(document, name);
    let unlisted = document.read_at(
        &[SECTION, name, "unlisted"],
        "attributes.NAME.unlisted",
        checks::choice(&[
            ("reject", Unlisted::Reject),
            ("send", Unlisted::Send),
            ("keep", Unlisted::Keep),
            ("remove", Unlisted::Remove),
        ]),
    );
    let too_long = document.read_at(
        &[SECTION, name, "too_long"],
        "attributes.NAME.too_long",
        checks::choice(&[("reject", TooLong::Reject), ("truncate", TooLong::Truncate)]),
    );
    let null = document.read_at(
        &[SECTION, name, "null"],
        "attributes.NAME.null",
        checks::choice(&[("remove", Null::Remove), ("keep", Null::Keep)]),
    );
    if document.value_at(&[SECTION, name, "values"]).is_none()
        && document.value_at(&[SECTION, name, "unlisted"]).is_some()
    {
        document.warning(
            &[SECTION, name, "unlisted"],
            "this key has no effect without \"values\"; every text is sent unchanged",
        );
    }
    Some(AttributeConfig {
        name: name.to_owned(),
        column: column?,
        values: values.ok()?,
        unlisted: unlisted?,
        too_long: too_long?,
        null: null?,
    })
}

fn check_name(document: &mut ConfigDocument<'_>, name: &str) {
    let reason = match name.len() {
        0 => "the attribute name is empty".to_owned(),
        1..=MAX_ATTRIBUTE_NAME_BYTES if name.chars().any(char::is_control) => {
            "the attribute name contains a control character".to_owned()
        }
        1..=MAX_ATTRIBUTE_NAME_BYTES => return,
        bytes => format!("the attribute name has {bytes} bytes"),
    };
    document
        .problem_at(&[SECTION, name], format!("{reason}; IM accepts names of 1 to {MAX_ATTRIBUTE_NAME_BYTES} bytes"));
}

/// The value is invalid, and a problem was recorded.
struct ProblemRecorded;

/// The `values` table of an attribute, if there is one.
fn values(document: &mut ConfigDocument<'_>, name: &str) -> Result<Option<BTreeMap<String, String>>, ProblemRecorded> {
    let at = [SECTION, name, "values"];
    let Some(value) = document.value_at(&at) else { return Ok(None) };
    let DeValue::Table(table) = value else {
        let value_type = find_key("attributes.NAME.values").map_or(&ValueType::Boolean, |key| &key.value_type);
        let message = checks::mismatch(checks::describe(value), value_type);
        document.problem_at(&at, message);
        return Err(ProblemRecorded);
    };
    let mut values = BTreeMap::new();
    let mut refused = Vec::new();
    for (key, value) in table {
        let text = key.get_ref().to_string();
        match entry(&text, value.get_ref()) {
            Ok(target) => {
                values.insert(text, target);
            }
            Err(message) => refused.push((text, message)),
        }
        if refused.len() > MAX_PROBLEMS {
            break;
        }
    }
    if table.is_empty() {
        document.problem_at(&at, "the table is empty; remove this key to send the column's text unchanged");
        return Err(ProblemRecorded);
    }
    for (text, message) in &refused {
        document.problem_at(&[SECTION, name, "values", text], message);
    }
    if refused.is_empty() { Ok(Some(values)) } else { Err(ProblemRecorded) }
}

/// Checks one entry of `values` and returns the value that IM gets.
fn entry(text: &str, value: &DeValue<'_>) -> Result<String, String> {
    let expected = format!("expected a string of 1 to {MAX_VALUE_BYTES} bytes");
    match value {
        DeValue::String(value) if value.is_empty() => Err(format!(
            "found an empty string, {expected}; IM does not store empty values, so to remove the attribute, leave this text out and set unlisted = \"remove\""
        )),
        DeValue::String(value) if value.contains('\0') => Err(format!("found a string with a NUL byte, {expected}")),
        DeValue::String(value) if value.len() > MAX_VALUE_BYTES => {
            Err(format!("found a string of {} bytes, {expected}", value.len()))
        }
        DeValue::String(_) if text.len() > MAX_COLUMN_TEXT_CHARS => Err(format!(
            "the text to replace has more than {MAX_COLUMN_TEXT_CHARS} bytes, the most that imsync compares"
        )),
        DeValue::String(value) => Ok(value.to_string()),
        other => Err(format!("found {}, {expected}", checks::describe(other))),
    }
}
