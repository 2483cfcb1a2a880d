//! The pages of `tests/data/mistakes`, as Markdown.
//!
//! Owns: how a mistake is written down, and in which words a difference is reported. Must not know: how it was made.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::case::{Mistake, Topic, toml};

/// What imsync printed.
#[derive(Debug)]
pub(super) struct Observed {
    /// The exit code; `None` for a daemon, which keeps running.
    pub(super) code: Option<i32>,
    pub(super) lines: Vec<String>,
}

const GENERATED: &str = "<!-- Written by the test commands::mistakes with UPDATE_MISTAKES=1. Edit tests/integration/commands/mistakes. -->\n";

/// The page of a topic.
pub(super) fn of_topic(topic: &Topic, observed: &BTreeMap<&str, Observed>) -> String {
    let mut text = format!("{GENERATED}# {}\n\n{}\n", topic.title, topic.intro);
    for mistake in topic.mistakes {
        text.push('\n');
        text.push_str(&section(mistake, &observed[mistake.title]));
    }
    text
}

/// The list of all mistakes.
pub(super) fn index(topics: &[&Topic]) -> String {
    let count: usize = topics.iter().map(|topic| topic.mistakes.len()).sum();
    let mut text = format!(
        "{GENERATED}# {count} mistakes, and what imsync says about each

Each page shows what somebody does, what imsync prints, and its exit code. A test makes every mistake with the real program, a
real PostgreSQL and a simulated IM, and compares: `cargo test --test integration commands::mistakes`. With `UPDATE_MISTAKES=1`
it writes these pages.

A mistake starts from a configuration and a table that are right. A page shows the keys and the statements that make the
difference. What varies from run to run has a placeholder: `<server>` is host and port of PostgreSQL, `<im>` those of IM,
`<unused>` and `<taken>` are addresses where nothing and something else listens, `<reader>` and `<guest>` are
roles. Of `imsync check`, the lines that begin with `ok` are left out, and those of what could not be checked.
"
    );
    for topic in topics {
        write!(text, "\n## [{}]({})\n\n", topic.title, topic.file).unwrap();
        for mistake in topic.mistakes {
            writeln!(text, "- [{}]({}#{})", mistake.title, topic.file, anchor(mistake.title)).unwrap();
        }
    }
    text
}

/// The anchor that a heading has on GitHub.
fn anchor(title: &str) -> String {
    let kept = title.to_lowercase().replace(' ', "-");
    kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect()
}

fn section(mistake: &Mistake, observed: &Observed) -> String {
    let mut text = format!("## {}\n\n{}\n", mistake.title, mistake.story);
    let mut block = |label: &str, language: &str, content: &str| {
        write!(text, "\n{label}```{language}\n{}\n```\n", content.trim_end()).unwrap();
    };
    if !mistake.keys.is_empty() || !mistake.tail.is_empty() {
        block("", "toml", &(toml(mistake.keys) + mistake.tail));
    }
    for (name, content) in mistake.files.iter().filter(|(_, content)| !content.is_empty()) {
        block(&format!("The file `{name}`:\n\n"), "text", content);
    }
    if !mistake.sql.is_empty() {
        let after: Vec<String> = mistake.before.iter().map(|command| format!("`imsync {command}`")).collect();
        let label = if after.is_empty() { String::new() } else { format!("After {}:\n\n", after.join(", ")) };
        block(&label, "sql", mistake.sql);
    }
    let variables = mistake.variables.iter().map(|(name, value)| format!("{name}={value}"));
    let command: Vec<String> = variables.chain([format!("imsync {}", mistake.command)]).collect();
    let console = format!("$ {}\n{}", command.join(" "), observed.lines.join("\n"));
    block("", "console", &console);
    match observed.code {
        Some(code) => writeln!(text, "\nExit code {code}."),
        None => writeln!(text, "\nThe daemon keeps running."),
    }
    .unwrap();
    text
}

/// The sections of a page by their headings.
fn sections(page: &str) -> BTreeMap<&str, &str> {
    page.split("\n## ").map(|section| section.split_once('\n').unwrap_or((section, ""))).collect()
}

/// How a page differs from the pinned one, in sentences.
pub(super) fn differences(name: &str, pinned: &str, page: &str) -> Vec<String> {
    let (old, new) = (sections(pinned), sections(page));
    let mut differences = Vec::new();
    for title in old.keys().filter(|title| !new.contains_key(*title)) {
        differences
            .push(format!("tests/data/mistakes/{name} has the section {title:?}, which no mistake of this test has"));
    }
    for (title, section) in new {
        match old.get(title) {
            None => differences.push(format!("tests/data/mistakes/{name} lacks the section {title:?}:\n{section}")),
            Some(pinned) if *pinned != section => {
                differences.push(format!(
                    "tests/data/mistakes/{name}, section {title:?}: pinned is\n{pinned}\nnow it is\n{section}"
                ));
            }
            Some(_) => {}
        }
    }
    if differences.is_empty() && pinned != page {
        differences.push(format!("tests/data/mistakes/{name}: the order of its sections has changed"));
    }
    differences
}
