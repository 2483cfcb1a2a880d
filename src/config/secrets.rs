//! Secrets by value, by file and from the environment.
//!
//! Owns: which form counts, reading the files, and that no message shows a secret. Must not know: what a secret opens.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use toml::de::DeValue;

use super::checks;
use super::document::Document;
use super::environment::{self, CREDENTIALS_DIRECTORY, Environment};
use super::keys::{self, Takes};
use super::problems::Problem;

/// A URL or a key has some hundred bytes; this is only to refuse `/dev/zero` and the like.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// The system takes no longer path (`PATH_MAX` of Linux).
const MAX_ATTRIBUTE_NAME_BYTES: usize = 4096;

/// The forms in which one secret can be given.
pub(super) struct Forms {
    /// The secret itself, in the file.
    pub(super) key: &'static str,
    /// The name of a file, in the file.
    pub(super) file_key: &'static str,
    pub(super) variable: &'static str,
    pub(super) file_variable: Option<&'static str>,
}

pub(super) const SOURCE_URL: Forms = Forms {
    key: "source.url",
    file_key: "source.url_file",
    variable: environment::SOURCE_URL,
    file_variable: Some(environment::SOURCE_URL_FILE),
};
pub(super) const STATE_URL: Forms = Forms {
    key: "state.url",
    file_key: "state.url_file",
    variable: environment::STATE_URL,
    file_variable: Some(environment::STATE_URL_FILE),
};
pub(super) const SECRET_KEY: Forms = Forms {
    key: "im.secret_key",
    file_key: "im.secret_key_file",
    variable: environment::SECRET_KEY,
    file_variable: Some(environment::SECRET_KEY_FILE),
};
pub(super) const WEBHOOK: Forms = Forms {
    key: "alerts.webhook",
    file_key: "alerts.webhook_file",
    variable: environment::ALERTS_WEBHOOK,
    file_variable: None,
};

impl Forms {
    /// Every way to give it, for the message when none was taken.
    fn ways(&self) -> String {
        let name = |path| keys::split(path).1;
        let mut ways =
            format!("set {}, {} or the environment variable {}", name(self.key), name(self.file_key), self.variable);
        if let Some(variable) = self.file_variable {
            ways = format!("{ways} or {variable}");
        }
        ways
    }
}

/// Where a secret was found.
#[derive(Clone, Copy)]
enum Place {
    Key(&'static str),
    Variable(&'static str),
}

/// What became of looking for a secret.
pub(super) enum Found<T> {
    /// Given and good. `in_file`: it stands in the configuration file itself.
    Good { secret: T, in_file: bool },
    /// Given in no form.
    Absent,
    /// Given and wrong: a problem is recorded.
    Faulty,
}

/// Where to look for secrets, apart from the document.
pub(super) struct Looking<'a> {
    pub(super) environment: &'a Environment,
    /// The configuration file; relative names of files are looked up beside it.
    pub(super) beside: &'a Path,
}

impl Looking<'_> {
    /// The secret in the form that counts: environment before file. `check` must not show what it refuses.
    pub(super) fn find<T>(
        &self,
        document: &mut Document<'_>,
        forms: &Forms,
        check: impl Fn(&str) -> Result<T, String>,
    ) -> Found<T> {
        let in_file = of_document(document, forms);
        let in_environment = self.of_environment(document, forms);
        let (place, is_name, given) = match (in_environment, in_file) {
            (Given::Text(place, is_name, text), file) => {
                if matches!(file, Given::Faulty) {
                    return Found::Faulty;
                }
                (place, is_name, text)
            }
            (Given::Nothing, Given::Text(place, is_name, text)) => (place, is_name, text),
            (Given::Nothing, Given::Nothing) => return Found::Absent,
            _ => return Found::Faulty,
        };
        let text = if is_name { self.read(document, place, &given) } else { Ok(given) };
        let checked = text.and_then(|text| {
            if text.is_empty() {
                return Err(if is_name { "the file is empty" } else { "it is empty" }.to_owned());
            }
            check(&text).map_err(|why| if is_name { format!("in that file: {why}") } else { why })
        });
        match checked {
            Ok(secret) => Found::Good { secret, in_file: !is_name && matches!(place, Place::Key(_)) },
            Err(message) => {
                match place {
                    Place::Key(key) => {
                        let allowed =
                            keys::find(key).filter(|_| !is_name).map(|key| format!("; allowed is {}", key.takes));
                        document.problem(key, message + &allowed.unwrap_or_default());
                    }
                    Place::Variable(variable) => problem(document, variable, message),
                }
                Found::Faulty
            }
        }
    }

    /// The same for a secret that must be there.
    pub(super) fn require<T>(
        &self,
        document: &mut Document<'_>,
        forms: &Forms,
        check: impl Fn(&str) -> Result<T, String>,
    ) -> Option<(T, bool)> {
        match self.find(document, forms, check) {
            Found::Good { secret, in_file } => Some((secret, in_file)),
            Found::Absent => {
                document.missing(forms.key, format!("missing; {}", forms.ways()));
                None
            }
            Found::Faulty => None,
        }
    }

    fn of_environment(&self, document: &mut Document<'_>, forms: &Forms) -> Given {
        let mut given = Given::Nothing;
        for (variable, is_name) in [(Some(forms.variable), false), (forms.file_variable, true)] {
            let Some(variable) = variable else { continue };
            let Some(value) = self.environment.get(variable) else { continue };
            let wrong = match (value.to_str(), &given) {
                (None, _) => "it is not UTF-8".to_owned(),
                (Some(""), _) => "it is set but empty; give it a value or unset it".to_owned(),
                (Some(_), Given::Text(..)) => {
                    format!("{} is set too, and one secret has one place; unset one of the two", forms.variable)
                }
                (Some(text), Given::Nothing) => {
                    given = Given::Text(Place::Variable(variable), is_name, text.to_owned());
                    continue;
                }
                (Some(_), Given::Faulty) => continue,
            };
            problem(document, variable, wrong);
            given = Given::Faulty;
        }
        given
    }

    /// The content of a secret's file, without a newline at its end.
    fn read(&self, document: &mut Document<'_>, place: Place, name: &str) -> Result<String, String> {
        if name.is_empty() {
            return Err("the name of the file is empty".to_owned());
        }
        if name.contains("://") || looks_like_a_key(name) {
            return Err("it holds the secret itself; it takes the name of a file that holds it".to_owned());
        }
        if name.len() > MAX_ATTRIBUTE_NAME_BYTES || name.chars().any(char::is_control) {
            return Err("it is too long for the name of a file, or contains a control character".to_owned());
        }
        let path = self.resolve(name);
        let shown = path.display();
        let failed = |error: io::Error| {
            let hint = if name.starts_with('~') { "; ~ is not expanded, write the whole path" } else { "" };
            format!("{shown} cannot be read: {}{hint}", plain(&error))
        };
        let file = File::open(&path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        let mut bytes = Vec::new();
        file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 > MAX_FILE_BYTES {
            return Err(format!("{shown} holds more than {MAX_FILE_BYTES} bytes, which is no secret of this kind"));
        }
        let mut text = String::from_utf8(bytes).map_err(|_| format!("{shown} is not UTF-8"))?;
        if text.ends_with('\n') {
            text.pop();
            if text.ends_with('\r') {
                text.pop();
            }
        }
        if text.is_empty() {
            return Err(format!("{shown} is empty"));
        }
        if metadata.is_file() && readable_by_all(metadata.permissions().mode()) {
            let asked = match place {
                Place::Key(key) => key,
                Place::Variable(variable) => variable,
            };
            document.notice_elsewhere(format!(
                "{shown} ({asked}) can be read by everybody on this machine: chmod o= {shown}"
            ));
        }
        Ok(text)
    }

    fn resolve(&self, name: &str) -> PathBuf {
        let credentials = self.environment.get(CREDENTIALS_DIRECTORY).filter(|directory| !directory.is_empty());
        let directory = credentials.map(Path::new).or_else(|| self.beside.parent()).unwrap_or(Path::new(""));
        directory.join(OsStr::new(name))
    }
}

/// One form of a secret: its place, whether it is the name of a file, its text.
enum Given {
    Nothing,
    Text(Place, bool, String),
    Faulty,
}

/// For commands that do not need the secret: the keys' types and that there is one form; nothing is opened.
pub(super) fn glance(document: &mut Document<'_>, forms: &Forms) {
    let _ = of_document(document, forms);
}

/// The form in the configuration file.
fn of_document(document: &mut Document<'_>, forms: &Forms) -> Given {
    let mut given = Given::Nothing;
    for (key, is_name) in [(forms.key, false), (forms.file_key, true)] {
        let Some(value) = document.value(key) else { continue };
        let text = match value {
            DeValue::String(text) => Ok(text.to_string()),
            other => Err(checks::kind(other)),
        };
        match text {
            Ok(text) if matches!(given, Given::Nothing) => given = Given::Text(Place::Key(key), is_name, text),
            Ok(_) => {
                if matches!(given, Given::Text(..)) {
                    let other = keys::split(forms.key).1;
                    document.problem(
                        key,
                        format!("{other} is set too, and one secret has one place; remove one of the two"),
                    );
                }
                given = Given::Faulty;
            }
            Err(kind) => {
                let takes = keys::find(key).map_or(&Takes::Switch, |key| &key.takes);
                let message = checks::refused(kind, takes);
                document.problem(key, message);
                given = Given::Faulty;
            }
        }
    }
    given
}

fn problem(document: &mut Document<'_>, variable: &str, message: String) {
    let file = environment::PLACE.to_owned();
    document.problem_elsewhere(Problem { file, line: None, key: Some(variable.to_owned()), message });
}

/// The console's secret keys are 64 hexadecimal digits; one pasted as a file's name must not be shown.
fn looks_like_a_key(name: &str) -> bool {
    name.len() >= 32 && name.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

pub(super) fn readable_by_all(mode: u32) -> bool {
    mode & 0o004 != 0
}

/// An error of the system without its number.
pub(super) fn plain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        io::ErrorKind::IsADirectory => "it is a directory".to_owned(),
        kind => kind.to_string(),
    }
}
