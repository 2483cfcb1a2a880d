//! What the command line and the environment ask for, checked before anything is touched.
//!
//! Owns: which argument is what, and the messages about them. Must not know: the database, how a proposal is made.

use std::path::PathBuf;

use super::attributes::{NamedAttribute, parse_named};
use super::im_section::ImOptions;
use super::target;
use super::toml_text::string;
use crate::commands::exit::CommandFailure;
use crate::commands::options::GlobalOptions;
use crate::config::{self, Environment, Problem, SourceUrl, parse_table_name};

/// The arguments of `imsync init`.
#[derive(Clone, Debug, Default)]
pub struct InitArgs {
    /// The URL, the table, both in this order, or none.
    pub positional: Vec<String>,
    /// Columns, or `name=column`; empty means that imsync chooses.
    pub attributes: Vec<String>,
    /// The options for `[im]`.
    pub im: ImOptions,
}

/// What is to be done.
#[derive(Debug)]
pub(super) struct InitRequest {
    pub(super) url: SourceUrl,
    /// The URL as it was given on the command line.
    pub(super) url_argument: Option<String>,
    /// `None`: the candidates are listed.
    pub(super) table: Option<String>,
    /// `None`: imsync chooses.
    pub(super) attributes: Option<Vec<NamedAttribute>>,
    pub(super) im: ImOptions,
    /// The file to write.
    pub(super) path: PathBuf,
    pub(super) environment: Environment,
}

impl InitRequest {
    /// Checks the arguments. The failure has the exit code 2.
    pub(super) fn new(global: &GlobalOptions, args: InitArgs) -> Result<Self, CommandFailure> {
        let InitArgs { positional, attributes, im } = args;
        let environment = Environment::of_process();
        let (url_argument, table) = url_and_table(positional).map_err(CommandFailure::usage)?;
        if let Some(table) = &table {
            // The text may be a URL with a typing error and a password, so it is not shown.
            parse_table_name(table).map_err(|reason| {
                CommandFailure::usage(format!(
                    "the argument is neither a database URL (postgres://… or a list of keyword=value) nor the name of a table: {reason}"
                ))
            })?;
        }
        let named = parse_named(&attributes).map_err(CommandFailure::usage)?;
        let path = config::file_to_write(global.config.as_deref(), &environment).map_err(CommandFailure::usage)?;
        let url = config::source_url(url_argument.as_deref(), &environment, &path).map_err(CommandFailure::usage)?;
        let url = url.ok_or_else(|| {
            CommandFailure::usage(
                "the URL of the database is missing; give it before the table, as in `imsync init postgres://localhost/app users`, or set IMSYNC_SOURCE_URL or IMSYNC_SOURCE_URL_FILE",
            )
        })?;
        let attributes = (!named.is_empty()).then_some(named);
        let request = Self { url, url_argument, table, attributes, im, path, environment };
        if request.table.is_some() {
            target::check(&request.path)?;
            request.check_options()?;
        } else if request.attributes.is_some() {
            return Err(CommandFailure::usage("--attributes names columns of a table; give the table too"));
        }
        Ok(request)
    }

    /// Lets the configuration check the options and the environment, in a file that has nothing else.
    fn check_options(&self) -> Result<(), CommandFailure> {
        let url = self.url_argument.as_ref().map_or(String::new(), |url| format!("url = {}\n", string(url)));
        let text = format!(
            "name = \"init\"\n[source]\n{url}table = \"t\"\naccount_column = \"c\"\n{}[attributes]\na = \"c\"\n",
            self.im.filled().lines(&self.environment)
        );
        let needs_key = self.im.secret_key_file.is_some();
        match config::parse(&text, &self.path, &self.environment, needs_key) {
            Ok(_) => Ok(()),
            Err(problems) => {
                let problems: Vec<String> = problems.as_slice().iter().map(of_option).collect();
                Err(CommandFailure::usage(problems.join("\n")))
            }
        }
    }
}

/// A problem of a key that an option gives names the option.
fn of_option(problem: &Problem) -> String {
    match problem.key.as_deref().and_then(|key| key.strip_prefix("im.")) {
        Some(key) => format!("--{}: {}", key.replace('_', "-"), problem.message),
        None => problem.to_string(),
    }
}

fn url_and_table(positional: Vec<String>) -> Result<(Option<String>, Option<String>), &'static str> {
    let is_url = |text: &str| !text.starts_with('"') && (text.contains("://") || text.contains('='));
    let mut positional = positional.into_iter();
    match (positional.next(), positional.next()) {
        (Some(only), None) if is_url(&only) => Ok((Some(only), None)),
        (only, None) => Ok((None, only)),
        (Some(url), table) if is_url(&url) => Ok((Some(url), table)),
        (_, Some(table)) if is_url(&table) => Err("the URL of the database comes before the table"),
        _ => Err("the first of two arguments is not a database URL (postgres://… or a list of keyword=value)"),
    }
}

#[cfg(test)]
mod tests {
    use super::url_and_table;

    #[test]
    fn one_argument_is_a_url_or_a_table() {
        let parsed = |arguments: &[&str]| {
            let parsed = url_and_table(arguments.iter().map(|argument| (*argument).to_owned()).collect());
            parsed.map_err(str::to_owned)
        };
        let pair = |url: Option<&str>, table: Option<&str>| Ok((url.map(str::to_owned), table.map(str::to_owned)));
        assert_eq!(parsed(&[]), pair(None, None));
        assert_eq!(parsed(&["postgres://h/d"]), pair(Some("postgres://h/d"), None));
        assert_eq!(parsed(&["host=h dbname=d"]), pair(Some("host=h dbname=d"), None));
        assert_eq!(parsed(&["public.users"]), pair(None, Some("public.users")));
        assert_eq!(parsed(&["\"a=b\""]), pair(None, Some("\"a=b\"")));
        assert_eq!(parsed(&["postgres://h/d", "a=b"]), pair(Some("postgres://h/d"), Some("a=b")));
        assert!(parsed(&["users", "postgres://h/d"]).is_err_and(|error| error.contains("before the table")));
        assert!(parsed(&["app", "users"]).is_err());
    }
}
