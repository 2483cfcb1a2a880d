//! `imsync status`: from the state tables, also while no daemon runs.
//!
//! Owns: the layout for people. Must not know: where the fields come from.

use std::io::IsTerminal;
use std::time::Duration;

use serde::Deserialize as _;
use serde_json::Value;

use super::{CommandResult, Exit, Global, Voice, duration, say, say_json, thousands};
use crate::clock::Shutdown;
use crate::pass::guard;
use crate::service::signals::{self, OnHangup};
use crate::source::watermark::HeldBackBy;
use crate::state::{Access, State};
use crate::status::document;

/// `--watch` looks again this often.
const WATCH_EVERY: Duration = Duration::from_secs(2);

pub async fn run(global: Global, json: bool, watch: bool) -> CommandResult {
    let config = global.load(false, Voice::OneShot)?;
    let state = State::open(&config, Access::ReadOnly).await?;
    if !watch {
        show(&document(&state).await?, json)?;
        return Ok(Exit::Done);
    }
    let shutdown = Shutdown::default();
    signals::listen(&shutdown, OnHangup::Stop)?;
    while !shutdown.requested() {
        let document = document(&state).await?;
        if !json && std::io::stdout().is_terminal() {
            // Clear the screen and go home, as `watch` does.
            print!("\x1b[2J\x1b[H");
        }
        show(&document, json)?;
        shutdown.sleep(WATCH_EVERY).await;
    }
    Ok(Exit::Done)
}

fn show(document: &Value, json: bool) -> Result<(), super::Failure> {
    if json {
        say_json(document)?;
    } else {
        say(layout(document))?;
    }
    Ok(())
}

fn count(value: &Value) -> String {
    thousands(value.as_u64().unwrap_or(0))
}

fn text<'a>(value: &'a Value, otherwise: &'a str) -> &'a str {
    value.as_str().unwrap_or(otherwise)
}

/// The document for people.
fn layout(document: &Value) -> String {
    let mut lines = vec![format!("sync        {}", text(&document["name"], ""))];
    if document["schema_version"].is_null() {
        lines.push("state       no state tables yet: `imsync run` or `imsync backfill` creates them".to_owned());
        return lines.join("\n");
    }
    let lease = &document["lease"];
    lines.push(if lease.is_null() {
        "lease       nobody holds it: no daemon runs".to_owned()
    } else {
        format!("lease       {}, since {}", text(&lease["holder"], "?"), text(&lease["since"], "?"))
    });
    lines.push(match document["lag_seconds"].as_f64() {
        Some(lag) => {
            format!("lag         {}: everything committed before then is in IM, rejected accounts aside", duration(lag))
        }
        None => "lag         no pass has been completed yet".to_owned(),
    });
    lines.push(format!("watermark   {}", text(&document["watermark"], "none")));
    let held = &document["held_back_by"];
    if !held.is_null() {
        let who =
            HeldBackBy::deserialize(held).map_or_else(|_| "an open transaction".to_owned(), |held| held.to_string());
        lines.push(format!("held back   by {who}, seen since {}", text(&held["since"], "?")));
    }
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
    if let Some(why) = document["full_pass_due"].as_str() {
        lines.push(format!("full pass   due: {why}"));
    }
    let running = &document["running"];
    if !running.is_null() {
        let of = running["total"].as_u64().map(|total| format!(" of about {}", thousands(total))).unwrap_or_default();
        let left =
            running["eta_seconds"].as_f64().map(|eta| format!(", about {} left", duration(eta))).unwrap_or_default();
        lines.push(format!(
            "running     {} pass, {} rows{of}{left}",
            text(&running["kind"], ""),
            count(&running["done"])
        ));
    }
    let passes = document["last_passes"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !passes.is_empty() {
        lines.push("passes      ended                 kind         outcome      rows read     pushed  removed  rejected   calls".to_owned());
    }
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
    lines.join("\n")
}
