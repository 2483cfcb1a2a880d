//! `imsync history`: what was sent, when, and how it ended; the newest row last.
//!
//! Owns: the listing and its notes. Must not know: how the history is written and read.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::exit::{CommandFailure, CommandResult, Exit};
use super::options::{CommandKind, GlobalOptions, parse_accounts};
use super::output::{escape_for_terminal, print_json, print_line, thousands, time};
use crate::config::{Config, durations};
use crate::state::history_listing::{HistoryPlace, HistoryRange, HistoryRow};
use crate::state::{Access, State};

/// The number of rows read by one query. It bounds the memory, and the rows whose columns are aligned.
const READ_ROWS: i64 = 5_000;
/// A person who does not say what to list gets so many rows.
const DEFAULT_ROWS: u64 = 1_000;

/// The arguments of `imsync history`.
#[derive(Clone, Debug, Default)]
pub struct HistoryArgs {
    /// The accounts to list; empty means all.
    pub accounts: Vec<String>,
    /// List nothing that is older.
    pub since: Option<Since>,
    /// The maximum number of rows.
    pub limit: Option<u64>,
    /// Print one JSON object per line.
    pub json: bool,
}

/// A point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// So long ago, by the clock of the state server.
    Ago(Duration),
    /// At this time.
    Time(DateTime<Utc>),
}

impl Since {
    /// More than a history can be kept, and no more than a `timestamptz` can hold.
    const LONGEST: Duration = Duration::from_hours(100 * 366 * 24);

    /// Reads `1d` or `2026-11-28T12:00:00Z`. The error says what is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Ok(time) = DateTime::parse_from_rfc3339(text) {
            return Ok(Self::Time(time.to_utc()));
        }
        let allowed = "expected a duration such as 90m or 1d, or a time such as 2026-11-28T12:00:00Z";
        let ago = durations::parse(text).map_err(|_| allowed.to_owned())?;
        Ok(Self::Ago(ago.min(Self::LONGEST)))
    }
}

/// Prints the listing. Notes about it go to stderr.
pub async fn run(global: GlobalOptions, args: HistoryArgs) -> CommandResult {
    let config = global.load(false, CommandKind::OneShot)?;
    let state = State::open(&config, Access::ReadOnly).await?;
    let Some(sync) = state.sync_row().await? else {
        eprintln!("nothing was sent: this sync has not run yet");
        return Ok(Exit::Done);
    };
    let range = range(&state, &config, sync.id, &args).await?;
    let asks_for_all = args.json || args.since.is_some() || !args.accounts.is_empty();
    let limit = args.limit.or((!asks_for_all).then_some(DEFAULT_ROWS));
    let earlier = match limit {
        Some(limit) => state.history_before_newest(&range, limit).await?,
        None => None,
    };
    let begin = earlier.clone().unwrap_or_else(|| range.begin());
    let printed = print_rows(&state, &range, begin, args.json, limit.unwrap_or(u64::MAX)).await?;
    let is_kept = config.history.keep.is_some();
    if !is_kept {
        let end = if printed > 0 { "; the next passes delete these rows" } else { "" };
        let file = config.path.display();
        eprintln!("no history is kept: set keep in [history] of {file}, for example keep = \"30d\"{end}");
    }
    if earlier.is_some() {
        eprintln!("the newest {} are listed, and there are older ones: --limit N lists more", rows(printed));
    } else if printed == 0 && is_kept {
        eprintln!("nothing was sent, as far as the history goes back");
    }
    Ok(Exit::Done)
}

async fn range(
    state: &State,
    config: &Config,
    sync_id: i32,
    args: &HistoryArgs,
) -> Result<HistoryRange, CommandFailure> {
    let ago = match args.since {
        Some(Since::Ago(ago)) => ago,
        Some(Since::Time(_)) | None => Since::LONGEST,
    };
    let (until, mut since) = state.clock_and_time_before(ago).await?;
    if let Some(Since::Time(time)) = args.since {
        since = since.max(time);
    }
    Ok(HistoryRange { sync_id, accounts: parse_accounts(config, &args.accounts), since, until })
}

/// Prints the rows after this place, `limit` at most. Returns their number.
async fn print_rows(
    state: &State,
    range: &HistoryRange,
    mut after: HistoryPlace,
    json: bool,
    limit: u64,
) -> Result<u64, CommandFailure> {
    let mut printed = 0;
    while printed < limit {
        let wanted = i64::try_from(limit - printed).unwrap_or(i64::MAX).min(READ_ROWS);
        let page = state.history_page(range, &after, wanted).await?;
        let Some(last) = page.last() else { break };
        after = last.place();
        printed += page.len() as u64;
        if json {
            page.iter().try_for_each(print_json)?;
        } else {
            lines(&page).into_iter().try_for_each(print_line)?;
        }
    }
    Ok(printed)
}

fn rows(count: u64) -> String {
    format!("{} {}", thousands(count), if count == 1 { "row" } else { "rows" })
}

/// The lines of these rows, in aligned columns.
fn lines(page: &[HistoryRow]) -> Vec<String> {
    let cells: Vec<[String; 4]> = page.iter().map(cells).collect();
    let width = |column: usize| cells.iter().map(|cells| cells[column].chars().count()).max().unwrap_or(0);
    let [of_account, of_attribute, of_change, of_outcome] = [width(0), width(1), width(2), width(3)];
    let line = |(row, [account, attribute, change, outcome]): (&HistoryRow, &[String; 4])| {
        let (at, pass, started_at) = (time(row.at), &row.pass, time(row.pass_started_at));
        format!(
            "{at}  {account:<of_account$}  {attribute:<of_attribute$}  {change:<of_change$}  {outcome:<of_outcome$}  \
             {pass} pass of {started_at}"
        )
    };
    page.iter().zip(&cells).map(line).collect()
}

fn cells(row: &HistoryRow) -> [String; 4] {
    let old = row.old.as_deref().map_or_else(|| "(none known)".to_owned(), quoted);
    let new = row.new.as_deref().map_or_else(|| "(removed)".to_owned(), quoted);
    [
        escape_for_terminal(&row.account),
        escape_for_terminal(&row.attribute),
        format!("{old} → {new}"),
        row.outcome.replace('_', " "),
    ]
}

fn quoted(value: &str) -> String {
    format!("\"{}\"", escape_for_terminal(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_duration_before_now_or_rfc_3339() {
        assert_eq!(Since::parse("1d"), Ok(Since::Ago(Duration::from_hours(24))));
        assert_eq!(Since::parse("99999999d"), Ok(Since::Ago(Since::LONGEST)));
        let noon = DateTime::from_timestamp(1_795_867_200, 0).map(Since::Time);
        assert_eq!(Since::parse("2026-11-28T12:00:00Z").ok(), noon);
        assert_eq!(Since::parse("2026-11-28T13:00:00.000+01:00").ok(), noon);
        for text in ["", "yesterday", "1 d", "2026-11-28", "-1d"] {
            assert!(Since::parse(text).is_err_and(|message| message.contains("1d")), "{text:?}");
        }
    }

    #[test]
    fn columns_are_aligned_and_control_characters_are_escaped() {
        let row = |account: &str, old: Option<&str>, new: Option<&str>| HistoryRow {
            at: DateTime::UNIX_EPOCH,
            account: account.to_owned(),
            attribute: "city".to_owned(),
            old: old.map(str::to_owned),
            new: new.map(str::to_owned),
            pass: "full".to_owned(),
            outcome: "in_doubt".to_owned(),
            pass_started_at: DateTime::UNIX_EPOCH,
        };
        let epoch = "1970-01-01T00:00:00Z";
        assert_eq!(
            lines(&[row("u1", None, Some("Graz")), row("u\u{1b}[2J", Some("北京"), None)]),
            [
                format!("{epoch}  u1          city  (none known) → \"Graz\"  in doubt  full pass of {epoch}"),
                format!("{epoch}  u\\u{{1b}}[2J  city  \"北京\" → (removed)       in doubt  full pass of {epoch}"),
            ]
        );
    }
}
