//! Type names: one name stands for one thing in the whole of `src/`.
//!
//! Owns: finding the definitions of types. Must not know: the order of the modules.

use std::collections::BTreeMap;
use std::path::Path;

/// The names of the structs, enums, traits, unions and type aliases that a file defines. Associated types are left out.
pub(super) fn type_names(text: &str) -> Vec<&str> {
    text.lines().filter_map(type_name).collect()
}

fn type_name(line: &str) -> Option<&str> {
    let indented = line.starts_with(' ');
    let mut words =
        line.split_whitespace().skip_while(|word| word.starts_with("pub") || *word == "in" || word.ends_with(')'));
    let keyword = words.next()?;
    // An indented `type` is an associated type, apart from aliases in inline modules, which need no name of their own.
    let defines = matches!(keyword, "struct" | "enum" | "trait" | "union") || (keyword == "type" && !indented);
    let name = words.next().filter(|_| defines)?;
    let end = name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len());
    Some(&name[..end]).filter(|name| name.starts_with(char::is_uppercase))
}

/// A sentence for each name that several definitions share.
pub(super) fn shared_names<'a>(files: impl Iterator<Item = (&'a Path, &'a str)>) -> Vec<String> {
    let mut places: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (path, text) in files {
        for name in type_names(text) {
            places.entry(name).or_default().push(format!("src/{}", path.display()));
        }
    }
    let shared = places.into_iter().filter(|(_, places)| places.len() > 1);
    shared
        .map(|(name, places)| {
            format!(
                "the type name {name} is defined in {}; give the more local one a more exact name",
                places.join(" and in ")
            )
        })
        .collect()
}
