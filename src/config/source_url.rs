//! The URL of the source before there is a configuration file, for `imsync init`.
//!
//! Owns: where it comes from. Must not know: how a secret is found (see `secrets`), the database.

use std::path::Path;

use super::document::ConfigDocument;
use super::environment::{self, Environment};
use super::problems::{Problem, Problems};
use super::secrets::{self, FoundSecret, SecretLookup};
use crate::postgres::{PgUrl, UrlFile};

/// Where the URL comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UrlOrigin {
    /// The command line.
    Argument,
    /// `IMSYNC_SOURCE_URL`.
    Variable,
    /// The file that `IMSYNC_SOURCE_URL_FILE` names, with the name as it was given.
    File(String),
}

/// A database URL.
#[derive(Clone, Debug)]
pub struct SourceUrl {
    /// The URL.
    pub url: PgUrl,
    /// The file of it.
    pub url_file: Option<UrlFile>,
    /// Where it comes from.
    pub origin: UrlOrigin,
}

/// The URL of the command line, or that of the environment; `None` when there is neither. `config_path`: the configuration
/// file that will be written, in whose directory relative paths start.
///
/// # Errors
/// When it is not valid, or when both give one: later commands would use that of the environment.
pub fn source_url(
    argument: Option<&str>,
    environment: &Environment,
    config_path: &Path,
) -> Result<Option<SourceUrl>, Problems> {
    let set = [environment::SOURCE_URL, environment::SOURCE_URL_FILE];
    let variable = set.into_iter().find(|name| environment.get(name).is_some());
    match (argument, variable) {
        (Some(_), Some(variable)) => {
            let message = "the variable is set and the command line gives a URL too; leave one of them out, because every other command uses the variable";
            Err(problem(environment::PROBLEM_FILE, Some(variable), message.to_owned()))
        }
        (Some(text), None) => {
            let url = PgUrl::parse(text, environment.pg())
                .map_err(|reason| problem("command line", None, format!("the database URL is not valid: {reason}")))?;
            Ok(Some(SourceUrl { url, url_file: None, origin: UrlOrigin::Argument }))
        }
        (None, _) => of_environment(environment, config_path),
    }
}

fn of_environment(environment: &Environment, config_path: &Path) -> Result<Option<SourceUrl>, Problems> {
    let mut document = ConfigDocument::new(config_path.display().to_string(), "");
    let lookup = SecretLookup { environment, config_path };
    match lookup.find(&mut document, &secrets::SOURCE_URL, |text| PgUrl::parse(text, environment.pg())) {
        FoundSecret::NotSet => Ok(None),
        FoundSecret::Invalid => Err(Problems::new(document.finish().0)),
        FoundSecret::Valid(found) => {
            let name = environment.get(environment::SOURCE_URL_FILE).and_then(|name| name.to_str());
            let origin = match (&found.file, name) {
                (Some(_), Some(name)) => UrlOrigin::File(name.to_owned()),
                _ => UrlOrigin::Variable,
            };
            let url_file = found.file.map(|file| UrlFile::new(file, found.secret.clone()));
            Ok(Some(SourceUrl { url: found.secret, url_file, origin }))
        }
    }
}

fn problem(file: &str, key: Option<&str>, message: String) -> Problems {
    Problem { file: file.to_owned(), line: None, key: key.map(str::to_owned), message }.into()
}
