//! Keys that nobody knows, and which one was probably meant.
//!
//! Owns: finding them and their messages. Must not know: what the known keys take.

use toml::de::{DeTable, DeValue};

use super::checks;
use super::document::MOST_TOLD;
use super::keys::{names_in, section_of, sections};
use super::nearest::nearest;

/// A key that is refused for its name.
pub(super) struct Unknown {
    pub(super) parts: Vec<String>,
    /// Where the key begins in the file.
    pub(super) offset: usize,
    pub(super) message: String,
}

/// Every unknown key and section, as far as they are told; and sections that are no tables.
pub(super) fn keys(root: &DeTable<'_>) -> Vec<Unknown> {
    let mut unknown = Vec::new();
    for (key, value) in root {
        if unknown.len() > MOST_TOLD {
            break;
        }
        let name = key.get_ref().as_ref();
        let mut refuse =
            |message| unknown.push(Unknown { parts: vec![name.to_owned()], offset: key.span().start, message });
        match value.get_ref() {
            DeValue::Table(table) if name == "attributes" => {
                for (attribute, value) in table {
                    if let DeValue::Table(inner) = value.get_ref() {
                        in_table(inner, &["attributes", attribute.get_ref()], "attributes.NAME", &mut unknown);
                    }
                }
            }
            DeValue::Table(table) if sections().any(|section| section == name) => {
                in_table(table, &[name], name, &mut unknown);
            }
            DeValue::Table(_) if !names_in("").any(|known| known == name) => refuse(unknown_section(name)),
            value if sections().any(|section| section == name) => {
                refuse(format!("found {}; [{name}] is a section", checks::kind(value)));
            }
            _ if !names_in("").any(|known| known == name) => refuse(unknown_at_top(name)),
            _ => {}
        }
    }
    unknown
}

fn in_table(table: &DeTable<'_>, parts: &[&str], section: &str, unknown: &mut Vec<Unknown>) {
    for key in table.keys() {
        if unknown.len() <= MOST_TOLD && !names_in(section).any(|known| known == key.get_ref()) {
            let parts = parts.iter().copied().chain([key.get_ref().as_ref()]).map(str::to_owned).collect();
            unknown.push(Unknown { parts, offset: key.span().start, message: unknown_in(section, key.get_ref()) });
        }
    }
}

fn unknown_section(name: &str) -> String {
    if let Some(meant) = nearest(name, sections()) {
        return format!("unknown section; did you mean [{meant}]?");
    }
    let known: Vec<_> = sections().map(|section| format!("[{section}]")).collect();
    format!("unknown section; allowed are {}", known.join(", "))
}

fn unknown_at_top(name: &str) -> String {
    if let Some(meant) = nearest(name, names_in("")) {
        return format!("unknown key; did you mean \"{meant}\"?");
    }
    let everywhere = sections().flat_map(names_in).chain(names_in("attributes.NAME"));
    match nearest(name, everywhere).and_then(|meant| Some((meant, section_of(meant)?))) {
        Some((meant, home)) if meant == name => format!("unknown key above the first section; it belongs in [{home}]"),
        Some((meant, home)) => format!("unknown key above the first section; did you mean \"{meant}\" in [{home}]?"),
        None => "unknown key; above the first section only \"name\" is allowed".to_owned(),
    }
}

fn unknown_in(section: &str, name: &str) -> String {
    if let Some(home) = section_of(name) {
        return format!("unknown key in this section; it belongs in [{home}]");
    }
    if let Some(meant) = nearest(name, names_in(section)) {
        return format!("unknown key; did you mean \"{meant}\"?");
    }
    if names_in("").any(|known| known == name) {
        return "unknown key in this section; it belongs above the first section".to_owned();
    }
    format!("unknown key; allowed are {}", names_in(section).collect::<Vec<_>>().join(", "))
}
