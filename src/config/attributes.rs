//! The `[attributes]` section: which attribute is made from which column, and how.
//!
//! Owns: the checks of names, look-ups and choices. Must not know: the table's columns, the app's names.

use std::collections::BTreeMap;

use toml::de::DeValue;

use super::document::{Document, MOST_TOLD};
use super::keys::{self, Takes};
use super::{AttributeConfig, Null, TooLong, Unlisted, checks};
use crate::model::{MAX_ATTRIBUTES, MAX_LOOKED_AT, MAX_NAME_BYTES, MAX_VALUE_BYTES};

const SECTION: &str = "attributes";

/// The attributes in the order of their names; `None` when a problem was recorded.
pub(super) fn attributes(document: &mut Document<'_>) -> Option<Vec<AttributeConfig>> {
    let names = document.names_in(&[SECTION]);
    if names.is_empty() {
        let takes = keys::find(SECTION).map(|key| key.takes.to_string()).unwrap_or_default();
        match document.value(SECTION) {
            // Of another type: told with the unknown keys.
            Some(value) if !matches!(value, DeValue::Table(_)) => {}
            Some(_) => document.missing(SECTION, format!("at least one attribute is needed; it takes {takes}")),
            None => document.missing(SECTION, format!("missing; it takes {takes}")),
        }
        return None;
    }
    if names.len() > MAX_ATTRIBUTES {
        document.problem(
            SECTION,
            format!("found {} attributes; allowed are {MAX_ATTRIBUTES}, an IM app has no more names", names.len()),
        );
    }
    let attributes: Vec<_> = names.iter().take(MAX_ATTRIBUTES).map(|name| attribute(document, name)).collect();
    attributes.into_iter().collect()
}

fn attribute(document: &mut Document<'_>, name: &str) -> Option<AttributeConfig> {
    let at = [SECTION, name];
    let wrong = match name.len() {
        0 => Some("found an empty name".to_owned()),
        1..=MAX_NAME_BYTES if name.chars().any(char::is_control) => {
            Some("found a name with a control character".to_owned())
        }
        1..=MAX_NAME_BYTES => None,
        bytes => Some(format!("found a name of {bytes} bytes")),
    };
    if let Some(wrong) = wrong {
        document.problem_at(&at, format!("{wrong}; IM takes names of 1 to {MAX_NAME_BYTES} bytes"));
    }
    let short = match document.value_at(&at)? {
        DeValue::String(_) => true,
        DeValue::Table(_) => false,
        other => {
            let takes = keys::find("attributes.NAME").map(|key| key.takes.to_string()).unwrap_or_default();
            let message = format!("found {}; allowed is {takes}", checks::found(other));
            document.problem_at(&at, message);
            return None;
        }
    };
    let column = if short { at.to_vec() } else { vec![SECTION, name, "column"] };
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
        document.notice(&[SECTION, name, "unlisted"], "has no effect without \"values\": every text is sent as it is");
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

/// A problem was recorded.
struct Faulty;

/// The look-up, if there is one.
fn values(document: &mut Document<'_>, name: &str) -> Result<Option<BTreeMap<String, String>>, Faulty> {
    let at = [SECTION, name, "values"];
    let Some(value) = document.value_at(&at) else { return Ok(None) };
    let DeValue::Table(table) = value else {
        let takes = keys::find("attributes.NAME.values").map_or(&Takes::Switch, |key| &key.takes);
        let message = checks::refused(checks::found(value), takes);
        document.problem_at(&at, message);
        return Err(Faulty);
    };
    let mut values = BTreeMap::new();
    let mut wrong = Vec::new();
    for (key, value) in table {
        let text = key.get_ref().to_string();
        match target(value.get_ref()) {
            Ok(_) if text.len() > MAX_LOOKED_AT => {
                wrong.push((
                    text,
                    format!("the text is longer than {MAX_LOOKED_AT} bytes, and no more of a column is looked at"),
                ));
            }
            Ok(target) => {
                values.insert(text, target);
            }
            Err(message) => wrong.push((text, message)),
        }
        if wrong.len() > MOST_TOLD {
            break;
        }
    }
    if table.is_empty() {
        document.problem_at(&at, "it lists nothing; leave it out to send the column's text as it is");
        return Err(Faulty);
    }
    for (text, message) in &wrong {
        document.problem_at(&[SECTION, name, "values", text], message);
    }
    if wrong.is_empty() { Ok(Some(values)) } else { Err(Faulty) }
}

/// What a listed text becomes in IM.
fn target(value: &DeValue<'_>) -> Result<String, String> {
    let takes = format!("text in quotes of 1 to {MAX_VALUE_BYTES} bytes");
    match value {
        DeValue::String(text) if text.is_empty() => Err(format!(
            "found an empty text, which IM does not keep; allowed is {takes}; to remove the attribute leave this text out and set unlisted = \"remove\""
        )),
        DeValue::String(text) if text.contains('\0') => {
            Err(format!("found a text with a NUL byte; allowed is {takes}"))
        }
        DeValue::String(text) if text.len() <= MAX_VALUE_BYTES => Ok(text.to_string()),
        DeValue::String(text) => Err(format!("found a text of {} bytes; allowed is {takes}", text.len())),
        other => Err(format!("found {}; allowed is {takes}", checks::found(other))),
    }
}
