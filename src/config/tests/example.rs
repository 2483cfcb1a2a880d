//! `config.example.toml` and `docs/configuration.md` against the table of keys.

use std::collections::BTreeSet;

use super::super::keys::{Absent, KEYS, split};
use super::read;

const EXAMPLE: &str = include_str!("../../../config.example.toml");
const DOCS: &str = include_str!("../../../docs/configuration.md");

/// A `key = value` line of the example with its section; `commented` when it begins with `# `.
struct Line<'a> {
    path: String,
    value: &'a str,
    commented: bool,
}

/// The lines that are keys or headers, commented ones included: `# word = …` with a word that is a key of the section.
fn lines() -> Vec<Line<'static>> {
    let mut section = String::new();
    let mut lines = Vec::new();
    for line in EXAMPLE.lines() {
        let (commented, line) = line.strip_prefix("# ").map_or((false, line), |line| (true, line));
        if let Some(header) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = header.to_owned();
            continue;
        }
        let Some((key, value)) = line.split_once(" = ") else { continue };
        if !key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') {
            continue;
        }
        let value = value.split("  ").next().unwrap_or_default().trim();
        let path = if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") };
        lines.push(Line { path, value, commented });
    }
    lines
}

/// The path in the table of keys.
fn ruled(path: &str) -> String {
    match path.strip_prefix("attributes.") {
        Some("city") => "attributes.NAME".to_owned(),
        Some(rest) => format!("attributes.NAME.{}", split(rest).1),
        None => path.to_owned(),
    }
}

#[test]
fn the_example_loads_as_it_is() {
    let loaded = read(EXAMPLE).unwrap();
    assert_eq!(loaded.notices, Vec::<String>::new());
    assert_eq!(loaded.config.not_yet_in_force(), Vec::<String>::new());
    assert_eq!(loaded.config.attributes.len(), 1);
}

#[test]
fn every_key_is_in_the_example_and_no_other() {
    let shown: BTreeSet<_> = lines().iter().map(|line| ruled(&line.path)).chain(["attributes".to_owned()]).collect();
    let known: BTreeSet<_> = KEYS.iter().map(|key| key.path.to_owned()).collect();
    let missing: Vec<_> = known.difference(&shown).collect();
    let strange: Vec<_> = shown.difference(&known).collect();
    assert!(missing.is_empty(), "config.example.toml lacks {missing:?}: show them there, commented if they are off");
    assert!(strange.is_empty(), "config.example.toml shows {strange:?}, which nobody reads");
}

#[test]
fn the_example_shows_the_defaults() {
    for line in lines() {
        let path = ruled(&line.path);
        let key = KEYS.iter().find(|key| key.path == path).unwrap();
        if let Absent::Means(default) = key.absent {
            assert_eq!(line.value, default, "config.example.toml: {}", line.path);
            let in_commented_section = path.starts_with("attributes.");
            assert!(in_commented_section || !line.commented, "{} has a default and needs no comment sign", line.path);
        }
    }
}

#[test]
fn every_commented_line_of_the_example_works() {
    // Other forms of what is set already.
    let others = ["url_file", "base_url", "secret_key_file", "webhook_file"];
    let mut text = String::new();
    for line in EXAMPLE.lines() {
        let bare = line.strip_prefix("# ").unwrap_or(line);
        let key = bare.split(" = ").next().unwrap_or_default();
        let is_key = bare.contains(" = ") && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        let uncommented = (is_key && !others.contains(&key)) || bare.starts_with('[');
        text += if uncommented { bare } else { line };
        text += "\n";
    }
    let config = read(&text).unwrap().config;
    assert_eq!(config.attributes.len(), 2);
    assert_eq!(config.source.watermark_column.as_deref(), Some("updated_at"));
    assert_eq!(config.source.deleted_column.as_deref(), Some("deleted_at"));
    assert!(config.http.listen.is_some() && config.alerts.webhook.is_some());
    assert_eq!(config.state.url.shown(), "imsync@localhost:5432/imsync");
    let swapped = EXAMPLE.replace("region = \"singapore\" ", "# ").replace("# base_url", "base_url");
    assert!(matches!(read(&swapped).unwrap().config.im.endpoint, super::super::ImAddress::BaseUrl(_)));
}

#[test]
fn the_documentation_has_every_key_with_its_default() {
    let mut section = "";
    let mut rows = std::collections::BTreeMap::new();
    for line in DOCS.lines() {
        if let Some(header) = line.strip_prefix("## ") {
            section = header.trim_matches('`').trim_start_matches('[').trim_end_matches(']');
        }
        let mut cells = line.split(" | ").map(|cell| cell.trim_matches(['|', ' ']));
        if let (Some(key), Some(_), Some(default)) = (cells.next(), cells.next(), cells.next())
            && let Some(key) = key.strip_prefix('`').and_then(|key| key.strip_suffix('`'))
        {
            let path = if section == "Top level" { key.to_owned() } else { format!("{section}.{key}") };
            rows.insert(path, default);
        }
    }
    for key in KEYS.iter().filter(|key| !matches!(key.path, "attributes" | "attributes.NAME")) {
        let Some(default) = rows.get(key.path) else { panic!("docs/configuration.md lacks {}", key.path) };
        match key.absent {
            Absent::Means(toml) => assert_eq!(*default, format!("`{toml}`"), "docs/configuration.md: {}", key.path),
            Absent::Refused => assert_eq!(*default, "required", "docs/configuration.md: {}", key.path),
            Absent::Nothing => assert!(!default.starts_with('`'), "docs/configuration.md: {}", key.path),
        }
    }
    for variable in super::super::environment::VARIABLES {
        assert!(DOCS.contains(&format!("`{variable}`")), "docs/configuration.md lacks {variable}");
    }
}
