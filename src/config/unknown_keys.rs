//! Unknown keys and sections, and which known one was probably intended.
//!
//! Owns: finding them, and their messages. Must not know: which values the known keys accept.

use toml::de::{DeTable, DeValue};

use super::checks;
use super::keys::{names_in_section, section_with_key, sections};
use super::problems::MAX_PROBLEMS;
use super::suggestion::suggestion;
use crate::quote::alternatives;

/// A key that is refused because of its name or place.
pub(super) struct UnknownKey {
    /// The path of the key.
    pub(super) parts: Vec<String>,
    /// The byte offset of the key in the file.
    pub(super) offset: usize,
    pub(super) message: String,
}

/// Finds the unknown keys and sections, and sections that are not tables. The search stops after [`MAX_PROBLEMS`].
pub(super) fn find(root: &DeTable<'_>) -> Vec<UnknownKey> {
    let mut unknown = Vec::new();
    for (key, value) in root {
        if unknown.len() > MAX_PROBLEMS {
            break;
        }
        let name = key.get_ref().as_ref();
        let mut refuse =
            |message| unknown.push(UnknownKey { parts: vec![name.to_owned()], offset: key.span().start, message });
        match value.get_ref() {
            DeValue::Table(table) if name == "attributes" => find_in_attributes(table, &mut unknown),
            DeValue::Table(table) if is_section(name) => find_in_section(table, &[name], name, &mut unknown),
            DeValue::Table(_) if !is_top_level_key(name) => refuse(unknown_section(name)),
            value if is_section(name) => {
                refuse(format!("found {}, expected the section [{name}]", checks::type_name(value)));
            }
            _ if !is_top_level_key(name) => refuse(unknown_at_top_level(name)),
            _ => {}
        }
    }
    unknown
}

fn find_in_attributes(attributes: &DeTable<'_>, unknown: &mut Vec<UnknownKey>) {
    for (attribute, value) in attributes {
        if let DeValue::Table(table) = value.get_ref() {
            find_in_section(table, &["attributes", attribute.get_ref()], "attributes.NAME", unknown);
        }
    }
}

/// `parts` is the path of the table in the file, `section` its path in the table of keys.
fn find_in_section(table: &DeTable<'_>, parts: &[&str], section: &str, unknown: &mut Vec<UnknownKey>) {
    for key in table.keys() {
        if unknown.len() <= MAX_PROBLEMS && !names_in_section(section).any(|known| known == key.get_ref()) {
            let parts = parts.iter().copied().chain([key.get_ref().as_ref()]).map(str::to_owned).collect();
            let message = unknown_in_section(section, key.get_ref());
            unknown.push(UnknownKey { parts, offset: key.span().start, message });
        }
    }
}

fn is_section(name: &str) -> bool {
    sections().any(|section| section == name)
}

fn is_top_level_key(name: &str) -> bool {
    names_in_section("").any(|known| known == name)
}

fn unknown_section(name: &str) -> String {
    match suggestion(name, sections()) {
        Some(meant) => format!("unknown section; did you mean [{meant}]?"),
        None => {
            format!("unknown section, expected {}", alternatives(sections().map(|section| format!("[{section}]"))))
        }
    }
}

fn unknown_at_top_level(name: &str) -> String {
    if let Some(meant) = suggestion(name, names_in_section("")) {
        return format!("unknown key; did you mean \"{meant}\"?");
    }
    let everywhere = sections().flat_map(names_in_section).chain(names_in_section("attributes.NAME"));
    match suggestion(name, everywhere).and_then(|meant| Some((meant, section_with_key(meant)?))) {
        Some((meant, home)) if meant == name => format!("unknown key above the first section; it belongs in [{home}]"),
        Some((meant, home)) => format!("unknown key above the first section; did you mean \"{meant}\" in [{home}]?"),
        None => "unknown key; above the first section only \"name\" is allowed".to_owned(),
    }
}

fn unknown_in_section(section: &str, name: &str) -> String {
    if let Some(home) = section_with_key(name) {
        return format!("unknown key in this section; it belongs in [{home}]");
    }
    if let Some(meant) = suggestion(name, names_in_section(section)) {
        return format!("unknown key; did you mean \"{meant}\"?");
    }
    if is_top_level_key(name) {
        return "unknown key in this section; it belongs above the first section".to_owned();
    }
    format!("unknown key, expected {}", alternatives(names_in_section(section)))
}
