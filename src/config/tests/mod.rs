//! Tests of the configuration as a whole: the text of a file, and the configuration or the problems that result.
//!
//! Owns: the minimal configuration and its variants. Must not know: how the file is read.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod arbitrary;
mod bad_input;
mod defaults;
mod example;
mod file_search;
mod messages;
mod mistakes;
mod restrictions;
mod secrets;
mod syntax;

use std::path::Path;

use super::environment::Environment;
use super::load::{LoadedConfig, parse};
use super::problems::Problems;

/// Only the required keys.
const MINIMAL: &str = r#"name = "users"
[source]
url = "postgres://imsync@localhost/app"
table = "public.users"
account_column = "id"
[im]
region = "singapore"
sdk_app_id = 1400000000
identifier = "administrator"
secret_key = "0123456789abcdef"
[attributes]
city = "city"
"#;

fn read(text: &str) -> Result<LoadedConfig, Problems> {
    parse(text, Path::new("imsync.toml"), &Environment::default(), true)
}

/// [`MINIMAL`] with one line replaced.
fn with(line: &str, by: &str) -> String {
    assert!(MINIMAL.contains(line), "{line} is not in the minimal configuration");
    MINIMAL.replacen(line, by, 1)
}

/// [`MINIMAL`] with a line added to one of its sections, or with a new section at its end.
fn plus(section: &str, line: &str) -> String {
    let header = format!("[{section}]\n");
    if MINIMAL.contains(&header) {
        MINIMAL.replacen(&header, &format!("{header}{line}\n"), 1)
    } else {
        format!("{MINIMAL}{header}{line}\n")
    }
}

/// The problems of a text, one per line; empty if it is valid.
fn problems(text: &str) -> String {
    match read(text) {
        Ok(_) => String::new(),
        Err(problems) => problems.to_string(),
    }
}

/// One line for each of the attributes `a` to `last`.
fn one_letter_attributes(last: char) -> String {
    let lines: Vec<_> = ('a'..=last).map(|name| format!("{name} = \"x\"")).collect();
    lines.join("\n")
}
