//! The file as text: every proposal with what was found, and what was left out.
//!
//! Owns: the order and the words of the file. Must not know: how a proposal is made, where the file is.

use super::attributes::{OmittedColumn, ProposedAttribute};
use super::im_section::ImOptions;
use super::proposal::{ProposedAccount, ProposedDeletion, ProposedWatermark};
use super::toml_text::{TO_FILL_IN, comment, entry, gap, verbatim};
use crate::commands::output::thousands;
use crate::config::{Environment, UrlOrigin};
use crate::quote::shown;
use crate::source::{RelationFacts, WatermarkDetails};

/// Bytes of the name of a sync.
const MAX_NAME_BYTES: usize = 63;
/// Columns that are listed with the reason why they are no attributes.
const MAX_OMITTED: usize = 40;

/// Everything that the file says.
#[derive(Debug)]
pub(super) struct ConfigProposal<'a> {
    pub(super) relation: &'a RelationFacts,
    /// The URL of the command line; `None` where the environment gives it.
    pub(super) url: Option<&'a str>,
    pub(super) origin: &'a UrlOrigin,
    pub(super) account: Result<ProposedAccount, String>,
    pub(super) watermark: Result<ProposedWatermark, String>,
    pub(super) watermark_details: Option<WatermarkDetails>,
    pub(super) deletion: ProposedDeletion,
    pub(super) attributes: Vec<ProposedAttribute>,
    pub(super) omitted: Vec<OmittedColumn>,
    /// Why no sample of rows could be read.
    pub(super) unsampled: Option<String>,
    pub(super) environment: &'a Environment,
}

impl ConfigProposal<'_> {
    /// The text of the file.
    pub(super) fn text(&self, im: &ImOptions) -> String {
        [self.head(), self.source(), im.lines(self.environment), self.attributes()].join("\n")
    }

    /// The text with values in place of what is left to fill in; `None` without an account column, for which nothing can stand.
    pub(super) fn filled(&self, im: &ImOptions) -> Option<String> {
        let account = self.account.as_ref().ok()?;
        let mut text = self.text(&im.filled());
        if self.attributes.is_empty() {
            // The section is the last one.
            text.push_str(&entry("account", &account.column));
        }
        Some(text)
    }

    fn head(&self) -> String {
        let RelationFacts { kind, estimated_rows, .. } = self.relation;
        let rows = estimated_rows.map_or(String::new(), |rows| format!(", about {} rows", thousands(rows)));
        let about = format!(
            "Written by `imsync init` for {} ({kind}{rows}).\nA line that ends with \"{TO_FILL_IN}\" is to be filled in. `imsync check` verifies the file, and `imsync backfill --dry-run` counts what would be sent. Keys that are not here have their defaults; config.example.toml documents all of them.",
            self.relation.qualified_name()
        );
        let name = comment("The name of this sync in the state tables.") + &entry("name", &self.name());
        let unsampled = self.unsampled.as_ref().map_or(String::new(), |reason| {
            comment(&format!(
                "No sample of rows could be read, so the proposals rest on names, types and pg_stats, and no text and no number is proposed as an attribute: {reason}."
            ))
        });
        [comment(&about), unsampled, "\n".to_owned(), name].concat()
    }

    fn name(&self) -> String {
        let mut name: String = self.relation.name.chars().map(|c| if c.is_control() { '_' } else { c }).collect();
        name.truncate(name.floor_char_boundary(MAX_NAME_BYTES));
        name
    }

    fn source(&self) -> String {
        let mut text = String::from("[source]\n");
        text.push_str(&self.url_lines());
        text.push_str(&entry("table", &self.relation.qualified_name()));
        text.push('\n');
        text.push_str(&self.account_lines());
        text.push('\n');
        text.push_str(&self.watermark_lines());
        let deletion = &self.deletion;
        if !deletion.why.is_empty() {
            text.push('\n');
            text.push_str(&comment(deletion.why.trim_end()));
        }
        if let Some(column) = &deletion.column {
            text.push_str(&entry("deleted_column", column));
        } else if let Some(filter) = &deletion.filter {
            text.push_str("# ");
            text.push_str(&entry("filter", filter));
        }
        text
    }

    fn url_lines(&self) -> String {
        match (self.url, self.origin) {
            (Some(url), _) => entry("url", url),
            (None, UrlOrigin::File(name)) => {
                comment("The file with the URL of the database. IMSYNC_SOURCE_URL_FILE named it.")
                    + &entry("url_file", name)
            }
            (None, UrlOrigin::Argument | UrlOrigin::Variable) => {
                comment(
                    "The URL of the database came from IMSYNC_SOURCE_URL and is not stored here, because it may contain a password. Every command needs the variable, or a file with the URL:",
                ) + "# url_file = \"source_url\"\n"
            }
        }
    }

    fn account_lines(&self) -> String {
        match &self.account {
            Ok(account) => {
                let format = if account.is_hex { "account_format = \"hex\"\n" } else { "" };
                comment(&format!("The account. {} is {}", shown(&account.column), account.why))
                    + &entry("account_column", &account.column)
                    + format
            }
            Err(why) => comment(why) + &gap("account_column", "\"\""),
        }
    }

    fn watermark_lines(&self) -> String {
        let watermark = match &self.watermark {
            Ok(watermark) => watermark,
            Err(why) => {
                return comment(&format!("{why} Every pass then compares the whole table, which suits small tables."))
                    + "# watermark_column = \"updated_at\"\n";
            }
        };
        let mut text = comment(&format!("The watermark. {} is {}", shown(&watermark.column), watermark.why));
        if let Some(details) = &self.watermark_details {
            match details.has_index {
                Some(true) => text.push_str(&comment("An index over watermark and account serves the polls.")),
                Some(false) => {
                    text.push_str(&comment("No index serves the polls, so each one sorts the table. Create it:"));
                    text.push_str(&verbatim(&details.create_index));
                }
                None => {}
            }
            if !watermark.has_trigger {
                text.push_str(&remedy(&details.trigger_remedy));
            }
        }
        text.push_str(&entry("watermark_column", &watermark.column));
        if let Some(zone) = &watermark.timezone {
            text.push_str(&comment(
                "A `timestamp` has no time zone: this must be the zone in which the writers write it. A wrong one loses changes. Proposed is that of the database:",
            ));
            text.push_str(&entry("watermark_timezone", zone));
        }
        text
    }

    fn attributes(&self) -> String {
        let mut text = String::new();
        if !self.omitted.is_empty() {
            text.push_str(&comment(
                "Columns that are not proposed as attributes, with the reason. `--attributes a,b` chooses any of them.",
            ));
            let width =
                self.omitted.iter().take(MAX_OMITTED).map(|omitted| shown(&omitted.column).chars().count()).max();
            for OmittedColumn { column, reason } in self.omitted.iter().take(MAX_OMITTED) {
                text.push_str(&verbatim(&format!(
                    "{:width$}  {reason}",
                    shown(column),
                    width = width.unwrap_or_default()
                )));
            }
            let more = self.omitted.len().saturating_sub(MAX_OMITTED);
            if more > 0 {
                text.push_str(&verbatim(&format!("… and {more} more")));
            }
        }
        text.push_str(&comment(
            "One line per attribute: its name in IM and the column. The names must be set in the app: `imsync attributes` shows them, and `imsync attributes apply` sets missing ones.",
        ));
        text.push_str("[attributes]\n");
        for ProposedAttribute { name, column, note } in &self.attributes {
            text.push_str(&comment(note));
            text.push_str(&entry(name, column));
        }
        if self.attributes.is_empty() {
            text.push_str(&comment("No column suits by itself. At least one attribute is required:"));
            text.push_str(&gap("city", "\"city\""));
        }
        text
    }
}

/// The statements of a remedy on a line of their own.
fn remedy(sentence: &str) -> String {
    match sentence.split_once("; run: ") {
        Some((advice, statements)) => {
            comment(&format!("{advice}. As the owner of the table, run:")) + &verbatim(statements)
        }
        None => comment(&format!("{sentence}.")),
    }
}
