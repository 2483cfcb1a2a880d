//! `imsync status`: the state of a sync, from its state tables. It works while no daemon runs.
//!
//! Owns: the layout for people. Must not know: where the fields come from.

use std::io::IsTerminal;
use std::time::Duration;

use serde::Deserialize as _;
use serde_json::Value;

use super::exit::{CommandFailure, CommandResult, Exit};
use super::options::{CommandKind, GlobalOptions};
use super::output::{duration, escape_for_terminal, print_json, print_line, thousands};
use crate::clock::Shutdown;
use crate::pass::{FoundRepairs, guard};
use crate::service::signals::{self, OnHangup};
use crate::source::watermark::HeldBackBy;
use crate::state::{Access, State};
use crate::status::document;

/// The interval between two refreshes of `--watch`.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);
/// The header of the table of passes.
const PASS_TABLE_HEADER: &str =
    "passes      ended                 kind         outcome      rows read     pushed  removed  rejected   calls";

/// Prints the status, once or until a stop is requested.
pub async fn run(global: GlobalOptions, json: bool, watch: bool) -> CommandResult {
    let config = global.load(false, CommandKind::OneShot)?;
    let state = State::open(&config, Access::ReadOnly).await?;
    let column = config.source.watermark_column.as_deref().unwrap_or_default();
    if !watch {
        show(&document(&state).await?, column, json)?;
        return Ok(Exit::Done);
    }
    let shutdown = Shutdown::default();
    signals::listen(&shutdown, OnHangup::Stop)?;
    while !shutdown.requested() {
        let document = document(&state).await?;
        if !json && std::io::stdout().is_terminal() {
            // Clears the screen and moves the cursor to the top left corner, as `watch` does.
            print!("\x1b[2J\x1b[H");
        }
        show(&document, column, json)?;
        shutdown.sleep(WATCH_INTERVAL).await;
    }
    Ok(Exit::Done)
}

fn show(document: &Value, watermark_column: &str, json: bool) -> Result<(), CommandFailure> {
    if json {
        print_json(document)?;
    } else {
        print_line(layout(document, watermark_column).join("\n"))?;
    }
    Ok(())
}

fn count(value: &Value) -> String {
    thousands(value.as_u64().unwrap_or(0))
}

fn text<'a>(value: &'a Value, default: &'a str) -> &'a str {
    value.as_str().unwrap_or(default)
}

/// The lines that show the status document to a person.
fn layout(document: &Value, watermark_column: &str) -> Vec<String> {
    let mut lines = vec![format!("sync        {}", text(&document["name"], ""))];
    if document["schema_version"].is_null() {
        lines.push("state       no state tables yet: `imsync run` or `imsync backfill` creates them".to_owned());
        return lines;
    }
    let lease = &document["lease"];
    lines.push(if lease.is_null() {
        "lease       not held: no daemon is running".to_owned()
    } else {
        format!("lease       {}, since {}", text(&lease["holder"], "?"), text(&lease["since"], "?"))
    });
    lines.extend(position_lines(document));
    lines.push(format!(
        "accounts    {} in IM, {} rejected, {} in doubt",
        count(&document["accounts"]),
        count(&document["rejected"]),
        count(&document["in_doubt"])
    ));
    if document["rejected"].as_u64().unwrap_or(0) > 0 {
        lines.push("            `imsync rejected` lists them with their reasons".to_owned());
    }
    if !document["guard"].is_null() {
        lines.push(format!("guard       {}", guard::message(&document["guard"])));
    }
    lines.extend(full_pass_line(&document["full_pass"], watermark_column));
    lines.extend(verification_line(&document["verification"]));
    lines.extend(alert_lines(&document["alerts"]));
    if let Some(reason) = document["full_pass_due"].as_str() {
        lines.push(format!("full pass   due: {reason}"));
    }
    lines.extend(running_line(&document["running"]));
    lines.extend(pass_lines(document["last_passes"].as_array().map(Vec::as_slice).unwrap_or_default()));
    lines
}

/// How far the sync has read: the lag, the watermark, and the transaction that holds the watermark back.
fn position_lines(document: &Value) -> Vec<String> {
    let mut lines = vec![match document["lag_seconds"].as_f64() {
        Some(lag) => format!(
            "lag         {}: everything committed before then is in IM, except for rejected accounts",
            duration(lag)
        ),
        None => "lag         no pass has been completed yet".to_owned(),
    }];
    lines.push(format!("watermark   {}", text(&document["watermark"], "none")));
    let held = &document["held_back_by"];
    if !held.is_null() {
        let who =
            HeldBackBy::deserialize(held).map_or_else(|_| "an open transaction".to_owned(), |held| held.to_string());
        lines.push(format!("held back   by {who}, seen since {}", text(&held["since"], "?")));
    }
    lines
}

/// What the last full pass found that no incremental pass had seen.
fn full_pass_line(full_pass: &Value, watermark_column: &str) -> Option<String> {
    let message = FoundRepairs::stored(Some(full_pass)).message(watermark_column)?;
    let ended = text(&full_pass["finished_at"], "?");
    Some(format!(
        "full pass   ended {ended} and found that {message}\n            `imsync check` shows the trigger that prevents it"
    ))
}

/// What the last verification that was recorded has found.
fn verification_line(verification: &Value) -> Option<String> {
    let ended = verification["finished_at"].as_str()?;
    let of = if verification["sample"] == true { "random rows" } else { "accounts" };
    let checked = count(&verification["checked"]);
    let drifted = verification["drifted"].as_u64().unwrap_or(0);
    if drifted == 0 {
        return Some(format!("verified    {checked} {of} at {ended}: IM holds what the table says"));
    }
    let examples = verification["examples"].as_array().map(Vec::as_slice).unwrap_or_default();
    let examples: Vec<String> = examples.iter().filter_map(Value::as_str).map(escape_for_terminal).collect();
    Some(format!(
        "verified    {checked} {of} at {ended}: {} differ in IM, for example {}\n            `imsync verify --repair` sends what the table says",
        thousands(drifted),
        examples.join(", ")
    ))
}

/// What the webhook of the alerts was told, and whether it accepts alerts.
fn alert_lines(alerts: &Value) -> Vec<String> {
    let standing = alerts["standing"].as_object().into_iter().flatten();
    let told: Vec<String> =
        standing.map(|(kind, alert)| format!("{kind} since {}", text(&alert["since"], "?"))).collect();
    let mut lines = Vec::new();
    if !told.is_empty() {
        lines.push(format!("alerts      told: {}", told.join(", ")));
    }
    if let Some(since) = alerts["undelivered"]["since"].as_str() {
        let error = text(&alerts["undelivered"]["error"], "");
        lines.push(format!("alerts      the webhook has accepted none since {since}: {error}"));
    }
    lines
}

/// The pass that is running, if one is.
fn running_line(running: &Value) -> Option<String> {
    if running.is_null() {
        return None;
    }
    let of_total = running["total"].as_u64().map(|total| format!(" of about {}", thousands(total))).unwrap_or_default();
    let left = running["eta_seconds"].as_f64().map(|eta| format!(", about {} left", duration(eta))).unwrap_or_default();
    let waiting = running["waiting_for_source_seconds"].as_u64();
    let waiting = waiting.map(|seconds| format!(", one statement since {seconds} s")).unwrap_or_default();
    Some(format!(
        "running     {} pass ({}{waiting}), {} rows{of_total}{left}",
        text(&running["kind"], ""),
        text(&running["phase"], ""),
        count(&running["done"])
    ))
}

/// The table of the last passes, with the error of a failed pass below its row.
fn pass_lines(passes: &[Value]) -> Vec<String> {
    if passes.is_empty() {
        return Vec::new();
    }
    let mut lines = vec![PASS_TABLE_HEADER.to_owned()];
    for pass in passes {
        let ended = text(&pass["finished_at"], "");
        lines.push(format!(
            "            {:<21} {:<12} {:<11} {:>10} {:>10} {:>8} {:>9} {:>7}",
            ended.get(..19).unwrap_or(ended).to_owned() + "Z",
            text(&pass["kind"], ""),
            text(&pass["outcome"], ""),
            count(&pass["rows_read"]),
            count(&pass["pushed"]),
            count(&pass["removed"]),
            count(&pass["rejected"]),
            count(&pass["calls"]),
        ));
        if let Some(error) = pass["error"].as_str() {
            lines.push(format!("              {error}"));
        }
    }
    lines
}
