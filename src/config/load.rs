//! Loads the configuration: finds the file, reads it and reads its sections.
//!
//! Owns: the order in which files are searched and sections are read. Must not know: the rules of single keys.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::document::ConfigDocument;
use super::environment::{self, Environment};
use super::model::Config;
use super::problems::{Problem, Problems};
use super::secrets::SecretLookup;
use super::suggestion::suggestion;
use super::{attributes, checks, sections};
use crate::secret_file::{describe_io_error, world_readable, world_readable_warning};

/// The file in the working directory.
const LOCAL_FILE: &str = "imsync.toml";
/// The file of an installed service.
const SYSTEM_FILE: &str = "/etc/imsync/imsync.toml";
/// No configuration is longer. A device or a dump that is given by mistake is not read to its end.
const MAX_CONFIG_FILE_BYTES: u64 = 1024 * 1024;

/// What to load, and from where.
#[derive(Clone, Debug)]
pub struct LoadRequest {
    /// The argument of `-c`.
    pub path: Option<PathBuf>,
    /// The environment variables.
    pub environment: Environment,
    /// The directory in which relative paths start.
    pub working_dir: PathBuf,
    /// Whether the command calls IM. If not, the secret key may be missing and its file is not opened.
    pub needs_secret_key: bool,
}

/// A valid configuration with its warnings.
#[derive(Clone, Debug)]
pub struct LoadedConfig {
    /// The configuration.
    pub config: Config,
    /// Sentences for the log about what is valid, but perhaps not intended. They contain no secret.
    pub warnings: Vec<String>,
}

/// Finds, reads and checks the configuration. It reads that file, the files of secrets and the given environment only.
///
/// The file is the one of `-c`, else the one of `$IMSYNC_CONFIG`, else `imsync.toml` in the working directory, else
/// `/etc/imsync/imsync.toml`. The first two must exist.
///
/// # Errors
/// All problems at once, if there is any.
pub fn load(request: &LoadRequest) -> Result<LoadedConfig, Problems> {
    load_with(request, Path::new(SYSTEM_FILE))
}

/// Like [`load`], with another path for the file of an installed service.
pub(super) fn load_with(request: &LoadRequest, system_file: &Path) -> Result<LoadedConfig, Problems> {
    let file = find(request, system_file)?;
    let lookup = SecretLookup { environment: &request.environment, config_path: &file.path };
    check(&file, &lookup, request.needs_secret_key)
}

/// Checks a text as if it were the content of the file `path`.
///
/// # Errors
/// All problems at once, if there is any.
pub fn parse(
    text: &str,
    path: &Path,
    environment: &Environment,
    needs_secret_key: bool,
) -> Result<LoadedConfig, Problems> {
    let file = ConfigFile {
        path: path.to_owned(),
        given_path: path.display().to_string(),
        text: text.to_owned(),
        world_readable: false,
    };
    check(&file, &SecretLookup { environment, config_path: path }, needs_secret_key)
}

/// A configuration file that was found and read.
struct ConfigFile {
    path: PathBuf,
    /// The path as the user gave it, for messages.
    given_path: String,
    text: String,
    world_readable: bool,
}

/// The file that `imsync init` writes: that of `-c`, else that of `$IMSYNC_CONFIG`, else `imsync.toml` in the working directory.
///
/// # Errors
/// When the variable is set but empty.
pub fn file_to_write(path: Option<&Path>, environment: &Environment) -> Result<PathBuf, Problems> {
    Ok(given(path, environment)?.map_or_else(|| PathBuf::from(LOCAL_FILE), |(path, _)| path))
}

/// The file that `-c` or the environment names, and which of them does.
fn given(path: Option<&Path>, environment: &Environment) -> Result<Option<(PathBuf, &'static str)>, Problem> {
    match (path, environment.get(environment::CONFIG)) {
        (Some(path), _) => Ok(Some((path.to_owned(), "given with -c"))),
        (None, Some(path)) if path.is_empty() => {
            let message = "the variable is set but empty; set it to the path of the configuration file or unset it";
            Err(problem(environment::PROBLEM_FILE, Some(environment::CONFIG), message))
        }
        (None, Some(path)) => Ok(Some((PathBuf::from(path), "given in IMSYNC_CONFIG"))),
        (None, None) => Ok(None),
    }
}

fn find(request: &LoadRequest, system_file: &Path) -> Result<ConfigFile, Problem> {
    if let Some((path, origin)) = given(request.path.as_deref(), &request.environment)? {
        return read(&request.working_dir, &path).map_err(|error| match error {
            ReadError::Io(error) => {
                let reason = describe_io_error(&error);
                let message = format!("cannot read the configuration file {origin}: {reason}");
                problem(&path.display().to_string(), None, &message)
            }
            ReadError::Content(problem) => problem,
        });
    }
    for path in [Path::new(LOCAL_FILE), system_file] {
        match read(&request.working_dir, path) {
            Ok(file) => return Ok(file),
            Err(ReadError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {}
            Err(ReadError::Io(error)) => {
                let message = format!("cannot read the configuration file: {}", describe_io_error(&error));
                return Err(problem(&path.display().to_string(), None, &message));
            }
            Err(ReadError::Content(problem)) => return Err(problem),
        }
    }
    let message = format!(
        "no configuration file found: neither {LOCAL_FILE} in {} nor {} exists; give one with -c FILE or IMSYNC_CONFIG, or copy config.example.toml to {LOCAL_FILE} and edit it",
        request.working_dir.display(),
        system_file.display()
    );
    Err(problem(LOCAL_FILE, None, &message))
}

/// Why a file could not be read.
enum ReadError {
    Io(io::Error),
    /// The content cannot be a configuration.
    Content(Problem),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn read(working_dir: &Path, given_path: &Path) -> Result<ConfigFile, ReadError> {
    let path = working_dir.join(given_path);
    let given_path = given_path.display().to_string();
    let file = File::open(&path)?;
    let metadata = file.metadata()?;
    let world_readable = metadata.is_file() && world_readable(metadata.permissions().mode());
    let mut bytes = Vec::new();
    file.take(MAX_CONFIG_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_CONFIG_FILE_BYTES {
        let message =
            format!("the file has more than {MAX_CONFIG_FILE_BYTES} bytes, which is too much for a configuration");
        return Err(ReadError::Content(problem(&given_path, None, &message)));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid_bytes = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..valid_bytes].split(|byte| *byte == b'\n').count();
        let message = "the file is not UTF-8; save it in that encoding";
        ReadError::Content(Problem { line: Some(line), ..problem(&given_path, None, message) })
    })?;
    Ok(ConfigFile { path, given_path, text, world_readable })
}

fn problem(file: &str, key: Option<&str>, message: &str) -> Problem {
    Problem { file: file.to_owned(), line: None, key: key.map(str::to_owned), message: message.to_owned() }
}

fn check(file: &ConfigFile, lookup: &SecretLookup<'_>, needs_secret_key: bool) -> Result<LoadedConfig, Problems> {
    // Some editors start a file with a byte order mark.
    let text = file.text.strip_prefix('\u{feff}').unwrap_or(&file.text);
    let mut document = ConfigDocument::new(file.given_path.clone(), text);
    let sections = read_sections(&mut document, lookup, needs_secret_key);
    warn_about_misspelled_variables(&mut document, lookup.environment);
    let (problems, mut warnings) = document.finish();
    match sections {
        Some((config, contains_secret)) if problems.is_empty() => {
            if contains_secret && file.world_readable {
                let given_path = &file.given_path;
                warnings.push(format!("{given_path} contains a secret and {}", world_readable_warning(given_path)));
            }
            Ok(LoadedConfig { config, warnings })
        }
        // A section that could not be read has recorded a problem. This message is for a bug that would hide it.
        _ if problems.is_empty() => {
            Err(problem(&file.given_path, None, "the configuration is incomplete, without a known problem").into())
        }
        _ => Err(Problems::new(problems)),
    }
}

/// Reads every section, so that all problems are recorded. The flag: the file contains a secret.
fn read_sections(
    document: &mut ConfigDocument<'_>,
    lookup: &SecretLookup<'_>,
    needs_secret_key: bool,
) -> Option<(Config, bool)> {
    let name = document.read("name", checks::text);
    let source = sections::source(document, lookup);
    let state = sections::state(document, lookup, source.as_ref().map(|(source, _)| source));
    let im = sections::im(document, lookup, needs_secret_key);
    sections::device_accounts(document, source.as_ref().map(|(source, _)| source), im.as_ref().map(|(im, _)| im));
    let attributes = attributes::attributes(document);
    let removal = sections::removal(document);
    let schedule = sections::schedule(document);
    let http = sections::http(document);
    let alerts = sections::alerts(document, lookup);
    let history = sections::history(document);
    let log = sections::log(document);

    let (source, source_has_password) = source?;
    let (state, state_has_password) = state?;
    let (im, has_secret_key) = im?;
    let (alerts, has_webhook) = alerts?;
    let config = Config {
        path: lookup.config_path.to_owned(),
        name: name?,
        source,
        state,
        im,
        attributes: attributes?,
        removal: removal?,
        schedule: schedule?,
        http: http?,
        alerts,
        history: history?,
        log: log?,
    };
    Some((config, source_has_password || state_has_password || has_secret_key || has_webhook))
}

fn warn_about_misspelled_variables(document: &mut ConfigDocument<'_>, environment: &Environment) {
    for name in environment.names().filter(|name| !environment::VARIABLES.contains(name)) {
        if let Some(meant) = suggestion(name, environment::VARIABLES) {
            document.external_warning(format!("environment: imsync does not read {name}; did you mean {meant}?"));
        }
    }
}
