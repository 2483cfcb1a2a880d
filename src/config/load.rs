//! From a request to a checked configuration: finding the file, reading it, putting the sections together.
//!
//! Owns: the search order and the order of the checks. Must not know: the rules of single keys.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::document::Document;
use super::environment::{self, Environment};
use super::nearest::nearest;
use super::problems::{Problem, Problems};
use super::secrets::{Looking, plain, readable_by_all};
use super::{Config, attributes, checks, sections};

/// The file beside which one works.
const LOCAL: &str = "imsync.toml";
/// The file of an installed service.
const SYSTEM: &str = "/etc/imsync/imsync.toml";
/// No configuration is that long; a device or a dump named by mistake is not read to its end.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// What to load.
#[derive(Clone, Debug)]
pub struct Request {
    /// `-c`.
    pub path: Option<PathBuf>,
    pub environment: Environment,
    /// Relative paths start here.
    pub working_dir: PathBuf,
    /// The command calls IM. Others load without the secret key and never open its file.
    pub needs_secret_key: bool,
}

/// A configuration that passed, and what is worth saying about it.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub config: Config,
    /// Sentences for the log: legal, and maybe not what was meant.
    pub notices: Vec<String>,
}

/// Finds, reads and checks the configuration. Reads the file, the secrets' files and the given environment, nothing else.
///
/// The file is `-c`, else `$IMSYNC_CONFIG`, else `imsync.toml` in the working directory, else `/etc/imsync/imsync.toml`;
/// the first two must exist. Every problem is reported at once.
pub fn load(request: &Request) -> Result<Loaded, Problems> {
    load_with(request, Path::new(SYSTEM))
}

pub(super) fn load_with(request: &Request, system: &Path) -> Result<Loaded, Problems> {
    let file = find(request, system)?;
    let looking = Looking { environment: &request.environment, beside: &file.path };
    check(&file.shown, &file.text, &looking, request.needs_secret_key, file.readable_by_all)
}

/// Checks a text as if it stood in the file `path`.
pub fn parse(text: &str, path: &Path, environment: &Environment, needs_secret_key: bool) -> Result<Loaded, Problems> {
    let looking = Looking { environment, beside: path };
    check(&path.display().to_string(), text, &looking, needs_secret_key, false)
}

/// A configuration file that was found.
struct Found {
    path: PathBuf,
    /// As people named it.
    shown: String,
    text: String,
    readable_by_all: bool,
}

fn find(request: &Request, system: &Path) -> Result<Found, Problem> {
    let named = match (&request.path, request.environment.get(environment::CONFIG)) {
        (Some(path), _) => Some((path.clone(), "named with -c")),
        (None, Some(path)) if path.is_empty() => {
            let message = "it is set but empty; name the configuration file or unset it";
            return Err(problem(environment::PLACE, Some(environment::CONFIG), message));
        }
        (None, Some(path)) => Some((PathBuf::from(path), "named by IMSYNC_CONFIG")),
        (None, None) => None,
    };
    if let Some((name, how)) = named {
        let shown = name.display().to_string();
        return match read(request.working_dir.join(&name), &shown) {
            Ok((path, text, readable_by_all)) => Ok(Found { path, shown, text: text?, readable_by_all }),
            Err(error) => {
                Err(problem(&shown, None, &format!("the configuration file, {how}, cannot be read: {}", plain(&error))))
            }
        };
    }
    for name in [Path::new(LOCAL), system] {
        let shown = name.display().to_string();
        match read(request.working_dir.join(name), &shown) {
            Ok((path, text, readable_by_all)) => return Ok(Found { path, shown, text: text?, readable_by_all }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(problem(
                    &shown,
                    None,
                    &format!("the configuration file cannot be read: {}", plain(&error)),
                ));
            }
        }
    }
    let message = format!(
        "there is no configuration file: neither {LOCAL} in {} nor {}; name one with -c FILE or IMSYNC_CONFIG, or copy config.example.toml to {LOCAL} and fill it in",
        request.working_dir.display(),
        system.display()
    );
    Err(problem(LOCAL, None, &message))
}

type Text = (PathBuf, Result<String, Problem>, bool);

fn read(path: PathBuf, shown: &str) -> io::Result<Text> {
    let file = File::open(&path)?;
    let metadata = file.metadata()?;
    let readable_by_all = metadata.is_file() && readable_by_all(metadata.permissions().mode());
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    let text = if bytes.len() as u64 > MAX_FILE_BYTES {
        Err(problem(
            shown,
            None,
            &format!("the file holds more than {MAX_FILE_BYTES} bytes, which is no configuration"),
        ))
    } else {
        String::from_utf8(bytes).map_err(|error| {
            let good = error.utf8_error().valid_up_to();
            let line = error.as_bytes()[..good].split(|byte| *byte == b'\n').count();
            Problem { line: Some(line), ..problem(shown, None, "not UTF-8; save the file in that encoding") }
        })
    };
    Ok((path, text, readable_by_all))
}

fn problem(file: &str, key: Option<&str>, message: &str) -> Problem {
    Problem { file: file.to_owned(), line: None, key: key.map(str::to_owned), message: message.to_owned() }
}

fn check(
    shown: &str,
    text: &str,
    looking: &Looking<'_>,
    needs_secret_key: bool,
    readable_by_all: bool,
) -> Result<Loaded, Problems> {
    // Editors of another world begin a file with a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut document = Document::new(shown.to_owned(), text);
    let name = document.read("name", checks::text);
    let source = sections::source(&mut document, looking);
    let state = sections::state(&mut document, looking, source.as_ref().map(|(source, _)| &source.url));
    let im = sections::im(&mut document, looking, needs_secret_key);
    let attributes = attributes::attributes(&mut document);
    let removal = sections::removal(&mut document);
    let schedule = sections::schedule(&mut document);
    let http = sections::http(&mut document);
    let alerts = sections::alerts(&mut document, looking);
    let history = sections::history(&mut document);
    let log = sections::log(&mut document);
    misspelt_variables(&mut document, looking.environment);

    let whole = (|| {
        let ((source, a), (state, b), (im, c), (alerts, d)) = (source?, state?, im?, alerts?);
        let config = Config {
            path: looking.beside.to_owned(),
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
        Some((config, a || b || c || d))
    })();
    let (problems, mut notices) = document.finish();
    match whole {
        Some((config, exposed)) if problems.is_empty() => {
            if exposed && readable_by_all {
                notices.push(format!(
                    "{shown} holds a secret and can be read by everybody on this machine: chmod o= {shown}"
                ));
            }
            Ok(Loaded { config, notices })
        }
        // Without a section there is a problem; the sentence is for a defect of ours that would hide it.
        _ if problems.is_empty() => Err(problem(shown, None, "the configuration is not complete").into()),
        _ => Err(Problems::new(problems)),
    }
}

fn misspelt_variables(document: &mut Document<'_>, environment: &Environment) {
    for name in environment.names().filter(|name| !environment::VARIABLES.contains(name)) {
        if let Some(meant) = nearest(name, environment::VARIABLES) {
            document.notice_elsewhere(format!("environment: {name} is not read; did you mean {meant}?"));
        }
    }
}
