//! The password file, `~/.pgpass`.
//!
//! Owns: its format, and which line applies. Must not know: the rest of the connection.
//!
//! Source: PostgreSQL manual, 34.16. It is read for each connection, so that a rotated password applies at once.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use secrecy::SecretString;

use super::settings::{PgEndpoint, PgSettings};

impl PgSettings {
    /// The password of the file for this server. The error says why the file is ignored.
    pub(in crate::postgres) fn password_of_file(&self, endpoint: &PgEndpoint) -> Result<Option<SecretString>, String> {
        let Some(path) = &self.passfile else { return Ok(None) };
        let Ok(metadata) = fs::metadata(path) else { return Ok(None) };
        if !metadata.is_file() {
            return Err(format!("the password file {} is ignored, because it is no file", path.display()));
        }
        // As libpq, which also only warns.
        if metadata.permissions().mode() & 0o077 != 0 {
            let path = path.display();
            return Err(format!(
                "the password file {path} is ignored, because others may read it; run: chmod 600 {path}"
            ));
        }
        let text = read(path)?;
        // Where a socket has no name of its own, libpq looks for this one.
        let host = if endpoint.is_socket() && is_default_folder(&endpoint.host) { "localhost" } else { &endpoint.host };
        let port = endpoint.port.to_string();
        Ok(password(&text, [host, &port, self.database(), &self.user]).map(SecretString::from))
    }
}

fn is_default_folder(folder: &str) -> bool {
    matches!(folder.trim_end_matches('/'), "/var/run/postgresql" | "/run/postgresql" | "/tmp")
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path)
        .map_err(|error| format!("the password file {} is ignored: {}", path.display(), error.kind()))
}

/// The password of the first line whose fields match.
fn password(text: &str, wanted: [&str; 4]) -> Option<String> {
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let mut fields = Vec::new();
        let mut rest = line;
        for _ in 0..wanted.len() {
            let (field, after) = field(rest)?;
            fields.push(field);
            rest = after;
        }
        let matches = fields.iter().zip(wanted).all(|(field, wanted)| field == "*" || field == wanted);
        // What follows the password is ignored, a backslash escapes as in the fields before it.
        matches.then(|| field(&format!("{rest}:")).map(|(password, _)| password)).flatten()
    })
}

/// The field before the next colon, without its escapes, and what follows the colon.
fn field(text: &str) -> Option<(String, &str)> {
    let mut field = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => field.extend(characters.next().map(|(_, escaped)| escaped)),
            ':' => return Some((field, &text[at + 1..])),
            other => field.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::password;

    #[test]
    fn the_first_line_that_matches_gives_the_password() {
        let text = "# comment\ndb:5432:app:other:wrong\ndb:5432:app:me:a\\:b\\\\c\n*:*:*:me:fallback\nshort:line\n";
        for (wanted, expected) in [
            (["db", "5432", "app", "me"], Some("a:b\\c")),
            (["db", "5433", "app", "me"], Some("fallback")),
            (["db", "5432", "app", "you"], None),
        ] {
            assert_eq!(password(text, wanted).as_deref(), expected, "{wanted:?}");
        }
    }
}
