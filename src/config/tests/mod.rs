//! Tests of the configuration as a whole: what people write, and what they are told.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod arbitrary;
mod defaults;
mod example;
mod garbage;
mod mistakes;
mod reload;
mod search;
mod secrets;
mod syntax;

use std::path::Path;

use super::{Environment, Loaded, Problems, parse};

/// Nothing but what is required.
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

fn read(text: &str) -> Result<Loaded, Problems> {
    parse(text, Path::new("imsync.toml"), &Environment::default(), true)
}

/// [`MINIMAL`] with one line replaced.
fn with(line: &str, by: &str) -> String {
    assert!(MINIMAL.contains(line), "{line} is not in the minimal configuration");
    MINIMAL.replacen(line, by, 1)
}

/// [`MINIMAL`] with a line added to a section of it, or with a new section at its end.
fn plus(section: &str, line: &str) -> String {
    let header = format!("[{section}]\n");
    if MINIMAL.contains(&header) {
        MINIMAL.replacen(&header, &format!("{header}{line}\n"), 1)
    } else {
        format!("{MINIMAL}{header}{line}\n")
    }
}

/// The problems of a text, one a line.
fn problems(text: &str) -> String {
    match read(text) {
        Ok(_) => String::new(),
        Err(problems) => problems.to_string(),
    }
}
