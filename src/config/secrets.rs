//! Secrets: given by value, by file or by environment variable.
//!
//! Owns: which of these forms applies, where the file of a secret is, and that no message shows a secret. Must not know:
//! what a secret is used for.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use secrecy::ExposeSecret;
use toml::de::DeValue;

use super::checks;
use super::document::ConfigDocument;
use super::environment::{self, CREDENTIALS_DIRECTORY, Environment};
use super::keys;
use super::problems::Problem;
use super::value_type::ValueType;
use crate::secret_file::{SecretFile, world_readable_warning};

/// Linux accepts no longer path (`PATH_MAX`).
const MAX_PATH_BYTES: usize = 4096;

/// A secret of at least this length may have been pasted where the name of its file belongs.
const MIN_KEY_BYTES: usize = 32;

/// The keys and variables that can give one secret.
pub(super) struct SecretKeys {
    /// The key that gives the secret itself.
    pub(super) key: &'static str,
    /// The key that gives the path of a file.
    pub(super) file_key: &'static str,
    /// The environment variable that gives the secret itself.
    pub(super) variable: &'static str,
    /// The environment variable that gives the path of a file.
    pub(super) file_variable: Option<&'static str>,
}

pub(super) const SOURCE_URL: SecretKeys = SecretKeys {
    key: "source.url",
    file_key: "source.url_file",
    variable: environment::SOURCE_URL,
    file_variable: Some(environment::SOURCE_URL_FILE),
};
pub(super) const STATE_URL: SecretKeys = SecretKeys {
    key: "state.url",
    file_key: "state.url_file",
    variable: environment::STATE_URL,
    file_variable: Some(environment::STATE_URL_FILE),
};
pub(super) const SECRET_KEY: SecretKeys = SecretKeys {
    key: "im.secret_key",
    file_key: "im.secret_key_file",
    variable: environment::SECRET_KEY,
    file_variable: Some(environment::SECRET_KEY_FILE),
};
pub(super) const WEBHOOK: SecretKeys = SecretKeys {
    key: "alerts.webhook",
    file_key: "alerts.webhook_file",
    variable: environment::ALERTS_WEBHOOK,
    file_variable: None,
};

impl SecretKeys {
    /// Every way to give the secret, for the message that it is missing.
    fn ways(&self) -> String {
        let name = |path| keys::split_path(path).1;
        let ways =
            format!("set {}, {} or the environment variable {}", name(self.key), name(self.file_key), self.variable);
        match self.file_variable {
            Some(variable) => format!("{ways} or {variable}"),
            None => ways,
        }
    }
}

/// The place that gives a secret or the path of its file.
#[derive(Clone, Copy)]
enum SecretSource {
    Key(&'static str),
    Variable(&'static str),
}

/// A valid secret and where it comes from.
pub(super) struct ValidSecret<T> {
    pub(super) secret: T,
    /// The configuration file contains the secret itself.
    pub(super) in_config_file: bool,
    /// The file that contains the secret, if it is not given by value.
    pub(super) file: Option<SecretFile>,
}

/// The result of the search for a secret.
pub(super) enum FoundSecret<T> {
    Valid(ValidSecret<T>),
    /// No key and no variable is set.
    NotSet,
    /// What is set is invalid, and a problem was recorded.
    Invalid,
}

/// What the search for a secret needs apart from the document.
pub(super) struct SecretLookup<'a> {
    pub(super) environment: &'a Environment,
    /// The configuration file. Relative paths of secret files start in its directory.
    pub(super) config_path: &'a Path,
}

impl SecretLookup<'_> {
    /// Finds and checks a secret. The environment takes precedence over the file. An error of `check` must not contain
    /// the text.
    pub(super) fn find<T>(
        &self,
        document: &mut ConfigDocument<'_>,
        secret_keys: &SecretKeys,
        check: impl Fn(&str) -> Result<T, String>,
    ) -> FoundSecret<T> {
        let in_document = setting_in_document(document, secret_keys);
        let in_environment = self.setting_in_environment(document, secret_keys);
        let (source, is_path, text) = match (in_environment, in_document) {
            (_, SecretSetting::Invalid) | (SecretSetting::Invalid, _) => return FoundSecret::Invalid,
            (SecretSetting::Given { source, is_path, text }, _)
            | (SecretSetting::NotSet, SecretSetting::Given { source, is_path, text }) => (source, is_path, text),
            (SecretSetting::NotSet, SecretSetting::NotSet) => return FoundSecret::NotSet,
        };
        let found = if is_path {
            self.read_file(document, source, &text).map(|(text, file)| (text, Some(file)))
        } else {
            Ok((text, None))
        };
        let checked = found.and_then(|(secret, file)| {
            if secret.is_empty() {
                return Err("the value is empty".to_owned());
            }
            match check(&secret) {
                Ok(secret) => Ok((secret, file)),
                Err(reason) if is_path => Err(format!("invalid file content: {reason}")),
                Err(reason) => Err(reason),
            }
        });
        match checked {
            Ok((secret, file)) => {
                let in_config_file = !is_path && matches!(source, SecretSource::Key(_));
                FoundSecret::Valid(ValidSecret { secret, in_config_file, file })
            }
            Err(message) => {
                match source {
                    SecretSource::Key(key) if is_path => document.problem(key, message),
                    SecretSource::Key(key) => {
                        document.problem(key, format!("{message}; expected {}", keys::expected(key)));
                    }
                    SecretSource::Variable(variable) => variable_problem(document, variable, message),
                }
                FoundSecret::Invalid
            }
        }
    }

    /// Like [`Self::find`], for a required secret.
    pub(super) fn require<T>(
        &self,
        document: &mut ConfigDocument<'_>,
        secret_keys: &SecretKeys,
        check: impl Fn(&str) -> Result<T, String>,
    ) -> Option<ValidSecret<T>> {
        match self.find(document, secret_keys, check) {
            FoundSecret::Valid(valid) => Some(valid),
            FoundSecret::NotSet => {
                document.missing(secret_keys.key, format!("this key is required; {}", secret_keys.ways()));
                None
            }
            FoundSecret::Invalid => None,
        }
    }

    fn setting_in_environment(&self, document: &mut ConfigDocument<'_>, secret_keys: &SecretKeys) -> SecretSetting {
        let mut setting = SecretSetting::NotSet;
        for (variable, is_path) in [(Some(secret_keys.variable), false), (secret_keys.file_variable, true)] {
            let Some(variable) = variable else { continue };
            let Some(value) = self.environment.get(variable) else { continue };
            let problem = match (value.to_str(), &setting) {
                (None, _) => "the value is not UTF-8".to_owned(),
                (Some(""), _) => "the variable is set but empty; give it a value or unset it".to_owned(),
                (Some(_), SecretSetting::Given { .. }) => {
                    format!("{} is also set; unset one of the two", secret_keys.variable)
                }
                (Some(text), SecretSetting::NotSet) => {
                    let source = SecretSource::Variable(variable);
                    setting = SecretSetting::Given { source, is_path, text: text.to_owned() };
                    continue;
                }
                (Some(_), SecretSetting::Invalid) => continue,
            };
            variable_problem(document, variable, problem);
            setting = SecretSetting::Invalid;
        }
        setting
    }

    /// The content of a secret file, and the file.
    fn read_file(
        &self,
        document: &mut ConfigDocument<'_>,
        source: SecretSource,
        name: &str,
    ) -> Result<(String, SecretFile), String> {
        check_path(name)?;
        let (SecretSource::Key(key) | SecretSource::Variable(key)) = source;
        let file = SecretFile::new(key, self.resolve(name));
        let content = file.read().map_err(|error| {
            let hint = if name.starts_with('~') { "; ~ is not expanded, write the full path" } else { "" };
            error + hint
        })?;
        if content.world_readable {
            let shown = file.path().display();
            document.external_warning(format!("{shown} ({key}) {}", world_readable_warning(&shown)));
        }
        Ok((content.text.expose_secret().to_owned(), file))
    }

    fn resolve(&self, name: &str) -> PathBuf {
        let credentials = self.environment.get(CREDENTIALS_DIRECTORY).filter(|directory| !directory.is_empty());
        let directory = credentials.map(Path::new).or_else(|| self.config_path.parent()).unwrap_or(Path::new(""));
        directory.join(OsStr::new(name))
    }
}

/// What a key or a variable gives for a secret.
enum SecretSetting {
    NotSet,
    Given {
        source: SecretSource,
        /// The text is the path of a file.
        is_path: bool,
        text: String,
    },
    /// A problem was recorded.
    Invalid,
}

/// Checks the keys of a secret that the command does not need: their types, and that only one is set. Opens no file.
pub(super) fn check_keys_only(document: &mut ConfigDocument<'_>, secret_keys: &SecretKeys) {
    let _ = setting_in_document(document, secret_keys);
}

fn setting_in_document(document: &mut ConfigDocument<'_>, secret_keys: &SecretKeys) -> SecretSetting {
    let mut setting = SecretSetting::NotSet;
    for (key, is_path) in [(secret_keys.key, false), (secret_keys.file_key, true)] {
        let Some(value) = document.value(key) else { continue };
        let problem = match value {
            DeValue::String(text) => match &setting {
                SecretSetting::NotSet => {
                    let source = SecretSource::Key(key);
                    setting = SecretSetting::Given { source, is_path, text: text.to_string() };
                    continue;
                }
                SecretSetting::Given { .. } => {
                    format!("{} is also set; remove one of the two", keys::split_path(secret_keys.key).1)
                }
                SecretSetting::Invalid => continue,
            },
            other => {
                let value_type = keys::find_key(key).map_or(&ValueType::Boolean, |key| &key.value_type);
                checks::mismatch(checks::type_name(other), value_type)
            }
        };
        document.problem(key, problem);
        setting = SecretSetting::Invalid;
    }
    setting
}

fn variable_problem(document: &mut ConfigDocument<'_>, variable: &str, message: String) {
    let file = environment::PROBLEM_FILE.to_owned();
    document.external_problem(Problem { file, line: None, key: Some(variable.to_owned()), message });
}

/// Refuses a text that cannot be a path or looks like the secret itself, which a later message would show.
fn check_path(name: &str) -> Result<(), String> {
    // The console shows secret keys of 64 hexadecimal digits.
    let looks_like_a_key = name.len() >= MIN_KEY_BYTES && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if name.is_empty() {
        Err("the path is empty".to_owned())
    } else if name.contains("://") || looks_like_a_key {
        Err("the value looks like the secret itself; expected the path of a file that contains it".to_owned())
    } else if name.len() > MAX_PATH_BYTES || name.chars().any(char::is_control) {
        Err("the path is too long or contains a control character".to_owned())
    } else {
        Ok(())
    }
}
