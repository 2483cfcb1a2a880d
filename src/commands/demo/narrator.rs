//! The output of the demo: headings, and the changes that arrive in IM, at a rate that a person can read.
//!
//! Owns: the wording of a line and the limit on lines a second. Must not know: where the changes come from, when the
//! demo ends.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use tokio::time::Instant;

use crate::commands::output::thousands;
use crate::simulator::AttributeChange;

/// The maximum number of lines a second. Further arrivals are counted, and one line shows the counts.
const MAX_LINES_PER_SECOND: u32 = 7;
/// The number of attributes that the line of a new account shows.
const NEW_ACCOUNT_ATTRIBUTES: usize = 3;
const SECOND: Duration = Duration::from_secs(1);

/// Prints what happens.
#[derive(Debug)]
pub(super) struct Narrator<W> {
    out: W,
    /// When the current second began.
    second_began: Option<Instant>,
    /// The number of lines printed in the current second.
    lines: u32,
    /// For each attribute name, the number of changes in the current second that were not printed.
    not_printed: BTreeMap<String, u64>,
    /// The number of attribute changes that have arrived.
    pub(super) arrived: u64,
}

impl<W: Write> Narrator<W> {
    /// A narrator that writes to `out`.
    pub(super) fn new(out: W) -> Self {
        Self { out, second_began: None, lines: 0, not_printed: BTreeMap::new(), arrived: 0 }
    }

    /// Prints a line that does not count against the limit.
    pub(super) fn print(&mut self, line: &str) -> io::Result<()> {
        self.flush()?;
        writeln!(self.out, "{line}")?;
        self.out.flush()
    }

    /// Prints the changes that arrived at `now`, in their order.
    ///
    /// `since_commit` gives the time since the commit of an account's newest change. `is_empty` is true for an account
    /// that has no attributes left in IM.
    pub(super) fn print_arrivals(
        &mut self,
        changes: &[AttributeChange],
        now: Instant,
        since_commit: impl Fn(&str) -> Option<Duration>,
        is_empty: impl Fn(&str) -> bool,
    ) -> io::Result<()> {
        for changes in changes.chunk_by(|one, next| one.account == next.account) {
            self.tick(now)?;
            self.arrived += u64::try_from(changes.len()).unwrap_or(0);
            if self.lines < MAX_LINES_PER_SECOND {
                self.lines += 1;
                let account = &changes[0].account;
                let delay =
                    since_commit(account).map_or(String::new(), |delay| format!("{:.2} s", delay.as_secs_f64()));
                writeln!(self.out, "  {delay:>7}  {account}  {}", describe(changes, is_empty(account)))?;
            } else {
                for change in changes {
                    *self.not_printed.entry(change.attribute.clone()).or_default() += 1;
                }
            }
        }
        self.out.flush()
    }

    /// Starts a new second when the current one has passed, and prints the counts of what was not printed in it.
    pub(super) fn tick(&mut self, now: Instant) -> io::Result<()> {
        if self.second_began.is_none_or(|began| now.saturating_duration_since(began) >= SECOND) {
            self.flush()?;
            self.second_began = Some(now);
            self.lines = 0;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.not_printed.is_empty() {
            return Ok(());
        }
        let counts: Vec<String> = std::mem::take(&mut self.not_printed)
            .into_iter()
            .map(|(name, count)| format!("{name} {}", thousands(count)))
            .collect();
        writeln!(self.out, "           … and more: {}", counts.join(", "))?;
        self.out.flush()
    }
}

/// Describes the changes of one account.
fn describe(changes: &[AttributeChange], is_empty: bool) -> String {
    if is_empty && changes.iter().all(|change| change.new.is_none()) {
        let s = if changes.len() == 1 { "" } else { "s" };
        return format!("removed: {} attribute{s}", changes.len());
    }
    if changes.len() > NEW_ACCOUNT_ATTRIBUTES && changes.iter().all(|change| change.old.is_none()) {
        // The name comes first because it is the easiest to recognise.
        let mut changes: Vec<&AttributeChange> = changes.iter().collect();
        changes.sort_by_key(|change| change.attribute != "name");
        let shown: Vec<String> = changes[..NEW_ACCOUNT_ATTRIBUTES]
            .iter()
            .map(|change| format!("{} {}", change.attribute, value(change.new.as_ref())))
            .collect();
        return format!("new: {} and {} more", shown.join(", "), changes.len() - NEW_ACCOUNT_ATTRIBUTES);
    }
    let all: Vec<String> = changes
        .iter()
        .map(|change| format!("{}: {} → {}", change.attribute, value(change.old.as_ref()), value(change.new.as_ref())))
        .collect();
    all.join(", ")
}

fn value(value: Option<&String>) -> &str {
    value.map_or("(none)", String::as_str)
}
