//! Compares `config.example.toml` and `docs/configuration.md` with the table of keys.

use std::collections::BTreeSet;

use super::super::keys::{DefaultValue, KEYS, split_path};
use super::read;

const EXAMPLE: &str = include_str!("../../../config.example.toml");
const DOCS: &str = include_str!("../../../docs/configuration.md");

/// A `key = value` line of the example.
struct ExampleLine<'a> {
    /// The key with its section.
    path: String,
    value: &'a str,
    /// The line starts with `# `.
    commented: bool,
}

/// Every line with a key, including those that are commented out.
fn lines() -> Vec<ExampleLine<'static>> {
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
        lines.push(ExampleLine { path, value, commented });
    }
    lines
}

/// The path of the key in the table of keys.
fn table_path(path: &str) -> String {
    match path.strip_prefix("attributes.") {
        Some("city") => "attributes.NAME".to_owned(),
        Some(rest) => format!("attributes.NAME.{}", split_path(rest).1),
        None => path.to_owned(),
    }
}

#[test]
fn the_example_is_valid_without_changes() {
    let loaded = read(EXAMPLE).unwrap();
    assert_eq!(loaded.warnings, Vec::<String>::new());
    assert_eq!(loaded.config.unimplemented_key_warnings(), Vec::<String>::new());
    assert_eq!(loaded.config.attributes.len(), 1);
}

#[test]
fn the_example_has_every_key_and_no_other() {
    let shown: BTreeSet<_> =
        lines().iter().map(|line| table_path(&line.path)).chain(["attributes".to_owned()]).collect();
    let known: BTreeSet<_> = KEYS.iter().map(|key| key.path.to_owned()).collect();
    let missing: Vec<_> = known.difference(&shown).collect();
    let strange: Vec<_> = shown.difference(&known).collect();
    assert!(
        missing.is_empty(),
        "config.example.toml lacks {missing:?}; add them, as comments if they are off by default"
    );
    assert!(strange.is_empty(), "config.example.toml has {strange:?}, which imsync does not read");
}

#[test]
fn the_example_has_the_default_values() {
    for line in lines() {
        let path = table_path(&line.path);
        let key = KEYS.iter().find(|key| key.path == path).unwrap();
        if let DefaultValue::Toml(default) = key.default {
            assert_eq!(line.value, default, "config.example.toml: {}", line.path);
            let in_commented_section = path.starts_with("attributes.");
            assert!(
                in_commented_section || !line.commented,
                "{} has a default and must not be commented out",
                line.path
            );
        }
    }
}

#[test]
fn every_commented_line_of_the_example_is_valid() {
    // Keys that exclude one that is already set.
    let exclusive = ["url_file", "base_url", "secret_key_file", "webhook_file"];
    let mut text = String::new();
    for line in EXAMPLE.lines() {
        let bare = line.strip_prefix("# ").unwrap_or(line);
        let key = bare.split(" = ").next().unwrap_or_default();
        let is_key = bare.contains(" = ") && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        let uncommented = (is_key && !exclusive.contains(&key)) || bare.starts_with('[');
        text += if uncommented { bare } else { line };
        text += "\n";
    }
    let config = read(&text).unwrap().config;
    assert_eq!(config.attributes.len(), 2);
    assert_eq!(config.source.watermark_column.as_deref(), Some("updated_at"));
    assert_eq!(config.source.deleted_column.as_deref(), Some("deleted_at"));
    assert!(config.http.listen.is_some() && config.alerts.webhook.is_some());
    assert_eq!(config.state.url.redacted(), "imsync@localhost:5432/imsync");
    let swapped = EXAMPLE.replace("region = \"singapore\" ", "# ").replace("# base_url", "base_url");
    assert!(matches!(read(&swapped).unwrap().config.im.address, super::super::model::ImAddress::BaseUrl(_)));
}

#[test]
fn the_documentation_has_every_key_and_its_default() {
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
        match key.default {
            DefaultValue::Toml(toml) => {
                assert_eq!(*default, format!("`{toml}`"), "docs/configuration.md: {}", key.path);
            }
            DefaultValue::Required => assert_eq!(*default, "required", "docs/configuration.md: {}", key.path),
            DefaultValue::Optional => assert!(!default.starts_with('`'), "docs/configuration.md: {}", key.path),
        }
    }
    for variable in super::super::environment::VARIABLES {
        assert!(DOCS.contains(&format!("`{variable}`")), "docs/configuration.md lacks {variable}");
    }
}
