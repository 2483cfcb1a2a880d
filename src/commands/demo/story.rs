//! What the audience reads: the arrivals, at a pace that can be read.
//!
//! Owns: lines and their number. Must not know: where the changes come from, when the demo ends.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use tokio::time::Instant;

use crate::commands::thousands;
use crate::simulator::AttributeChange;

/// Lines a second that can be read; beyond them the arrivals are counted.
const LINES_A_SECOND: u32 = 7;
/// Attributes of a new account that are written out.
const NEW_SHOWN: usize = 3;
const SECOND: Duration = Duration::from_secs(1);

/// Writes arrivals.
#[derive(Debug)]
pub(super) struct Story<W> {
    out: W,
    window_began: Option<Instant>,
    lines: u32,
    /// Attributes that arrived without a line of their own in this second.
    unwritten: BTreeMap<String, u64>,
    /// Attributes that arrived in all.
    pub(super) arrived: u64,
}

impl<W: Write> Story<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, window_began: None, lines: 0, unwritten: BTreeMap::new(), arrived: 0 }
    }

    /// A line of the frame: it is always written.
    pub(super) fn tell(&mut self, line: &str) -> io::Result<()> {
        self.flush()?;
        writeln!(self.out, "{line}")?;
        self.out.flush()
    }

    /// What has arrived at `now`, in order. `since_commit` knows how long ago an account's change was committed,
    /// `gone` whether IM holds nothing of it any more.
    pub(super) fn arrivals(
        &mut self,
        changes: &[AttributeChange],
        now: Instant,
        since_commit: impl Fn(&str) -> Option<Duration>,
        gone: impl Fn(&str) -> bool,
    ) -> io::Result<()> {
        for changes in changes.chunk_by(|one, next| one.account == next.account) {
            self.tick(now)?;
            self.arrived += u64::try_from(changes.len()).unwrap_or(0);
            if self.lines < LINES_A_SECOND {
                self.lines += 1;
                let account = &changes[0].account;
                let after =
                    since_commit(account).map_or(String::new(), |after| format!("{:.2} s", after.as_secs_f64()));
                writeln!(self.out, "  {after:>7}  {account}  {}", sentence(changes, gone(account)))?;
            } else {
                for change in changes {
                    *self.unwritten.entry(change.attribute.clone()).or_default() += 1;
                }
            }
        }
        self.out.flush()
    }

    /// Begins a new second when it is time, with a line about what the last one left out.
    pub(super) fn tick(&mut self, now: Instant) -> io::Result<()> {
        if self.window_began.is_none_or(|began| now.saturating_duration_since(began) >= SECOND) {
            self.flush()?;
            self.window_began = Some(now);
            self.lines = 0;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.unwritten.is_empty() {
            return Ok(());
        }
        let counts: Vec<String> = std::mem::take(&mut self.unwritten)
            .into_iter()
            .map(|(name, count)| format!("{name} {}", thousands(count)))
            .collect();
        writeln!(self.out, "           … and more: {}", counts.join(", "))?;
        self.out.flush()
    }
}

/// What one account's changes come to.
fn sentence(changes: &[AttributeChange], gone: bool) -> String {
    if gone && changes.iter().all(|change| change.new.is_none()) {
        let s = if changes.len() == 1 { "" } else { "s" };
        return format!("has left: {} attribute{s} removed", changes.len());
    }
    if changes.len() > NEW_SHOWN && changes.iter().all(|change| change.old.is_none()) {
        // The name first: it is what one remembers.
        let mut changes: Vec<&AttributeChange> = changes.iter().collect();
        changes.sort_by_key(|change| change.attribute != "name");
        let shown: Vec<String> = changes[..NEW_SHOWN]
            .iter()
            .map(|change| format!("{} {}", change.attribute, value(change.new.as_ref())))
            .collect();
        return format!("is new: {} and {} more", shown.join(", "), changes.len() - NEW_SHOWN);
    }
    let all: Vec<String> = changes
        .iter()
        .map(|change| format!("{}: {} → {}", change.attribute, value(change.old.as_ref()), value(change.new.as_ref())))
        .collect();
    all.join(", ")
}

fn value(value: Option<&String>) -> &str {
    value.map_or("(nothing)", String::as_str)
}
