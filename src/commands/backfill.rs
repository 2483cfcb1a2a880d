//! `imsync backfill`: a full pass, or a pass over named accounts, with its progress.
//!
//! Owns: flags, progress, the forecast of `--dry-run`. Must not know: how a pass works.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::run::{conclude, lead, within_bounds};
use super::{
    CommandResult, Exit, Failure, Global, Voice, accounts_named, calls, duration, printed, say, say_json, thousands,
};
use crate::clock::Shutdown;
use crate::config::Config;
use crate::logging;
use crate::mapping::Mapping;
use crate::pass::dry_run::{DryRun, DryRunScope};
use crate::pass::{FullOptions, PassKind, PassProgress, guard};
use crate::service::signals::{self, OnHangup};
use crate::source::Source;
use crate::state::{Access, State};

/// What was asked for.
#[derive(Clone, Debug, Default)]
pub struct BackfillArgs {
    pub force: bool,
    pub allow_removals: bool,
    pub dry_run: bool,
    pub accounts: Vec<String>,
    pub json: bool,
}

/// A plain progress line elsewhere than on a terminal, this often.
const LINE_EVERY: Duration = Duration::from_secs(5);

pub async fn run(global: Global, arguments: BackfillArgs) -> CommandResult {
    let options = FullOptions { force: arguments.force, allow_removals: arguments.allow_removals };
    if arguments.dry_run {
        let config = global.load(false, Voice::OneShot)?;
        return dry_run(config, &arguments, options).await;
    }
    let config = global.load(true, Voice::OneShot)?;
    let shutdown = Shutdown::default();
    signals::listen(&shutdown, OnHangup::Stop)?;
    let (lease, mut engine) = lead(&config, &shutdown).await?;
    let accounts = accounts_named(&config, &arguments.accounts);
    let kind = if accounts.is_empty() { PassKind::Full } else { PassKind::Selected };
    let tally = Arc::new(PassProgress::new(kind));
    let progress = Progress::start(tally.clone());
    let pass = async {
        if accounts.is_empty() {
            engine.full(options, tally).await
        } else {
            engine.selected(&accounts, options, tally).await
        }
    };
    let done = Box::pin(within_bounds(&lease, &shutdown, pass)).await;
    progress.stop().await;
    let (report, error) = done?;
    conclude(
        engine,
        lease,
        report,
        error,
        arguments.json,
        "; `imsync backfill` with the same flags goes on where it stopped",
    )
    .await
}

async fn dry_run(config: Arc<Config>, arguments: &BackfillArgs, options: FullOptions) -> CommandResult {
    let mapping = Arc::new(Mapping::new(&config));
    let source = Source::connect(&config, mapping.columns()).await?;
    let state = State::open(&config, Access::ReadOnly).await?;
    let mut onlooker = DryRun::new(config.clone(), mapping, source, state).await?;
    let accounts = accounts_named(&config, &arguments.accounts);
    let scope = if accounts.is_empty() { DryRunScope::Full } else { DryRunScope::Accounts(accounts) };
    let forecast = onlooker.walk(scope, options, |_, _| true).await?;
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    let seconds = forecast.calls as f64 / f64::from(config.im.calls_per_second);
    let exit = if forecast.guard.is_some() {
        Exit::Failed
    } else if forecast.rejected > 0 {
        Exit::Rejected
    } else {
        Exit::Done
    };
    if arguments.json {
        printed(say_json(&json!({
            "dry_run": true,
            "rows_read": forecast.rows_read,
            "changed": forecast.changed,
            "set": forecast.set,
            "removed": forecast.removed,
            "rejected": forecast.rejected,
            "without_account": forecast.without_account,
            "calls": forecast.calls,
            "seconds_at_rate": seconds,
            "guard": forecast.guard,
        })))?;
    } else {
        printed(say(format!(
            "{} rows read, {} accounts would change: {} set, {} removed; {} rejected",
            thousands(forecast.rows_read),
            thousands(forecast.changed),
            thousands(forecast.set),
            thousands(forecast.removed),
            thousands(forecast.rejected),
        )))?;
        printed(say(format!(
            "that takes {}, about {} at {} calls a second; nothing was sent or changed",
            calls(forecast.calls),
            duration(seconds),
            config.im.calls_per_second
        )))?;
    }
    if let Some(tripped) = &forecast.guard {
        return Err(Failure::failed(guard::sentence(tripped)));
    }
    Ok(exit)
}

/// Shows the progress of a pass on stderr: a bar on a terminal, plain lines elsewhere.
struct Progress {
    done: Shutdown,
    task: tokio::task::JoinHandle<()>,
}

impl Progress {
    fn start(tally: Arc<PassProgress>) -> Self {
        let done = Shutdown::default();
        let stop = done.clone();
        let task = if std::io::stderr().is_terminal() {
            tokio::spawn(bar(tally, stop))
        } else {
            tokio::spawn(lines(tally, stop))
        };
        Self { done, task }
    }

    async fn stop(self) {
        self.done.request();
        // It ends at once; a panic in it would only have spoiled the picture.
        let _ = self.task.await;
    }
}

async fn bar(tally: Arc<PassProgress>, stop: Shutdown) {
    let bar = logging::progress_bars().add(ProgressBar::no_length());
    let known = "{bar:30} {percent:>3}%  {human_pos} of {human_len} rows  {per_sec}  {eta} left  {msg}";
    let style =
        |template: &str| ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.set_style(style("{spinner} {human_pos} rows  {per_sec}  {msg}"));
    let mut sized = false;
    while !stop.requested() {
        let (done, total) = (PassProgress::get(&tally.done), PassProgress::get(&tally.total));
        if total > 0 {
            if !sized {
                bar.set_style(style(known));
                sized = true;
            }
            // The planner's estimate can be short of the truth.
            bar.set_length(total.max(done));
        }
        bar.set_position(done);
        bar.set_message(message(&tally));
        stop.sleep(Duration::from_millis(100)).await;
    }
    bar.finish_and_clear();
}

fn message(tally: &PassProgress) -> String {
    // Writing to a String cannot fail.
    let mut text = format!("{} pushed", thousands(PassProgress::get(&tally.pushed)));
    let removed = PassProgress::get(&tally.removed);
    if removed > 0 {
        let _ = write!(text, ", {} removed", thousands(removed));
    }
    let rejected = PassProgress::get(&tally.rejected);
    if rejected > 0 {
        let _ = write!(text, ", {} rejected", thousands(rejected));
    }
    if tally.phase() != "reading the table" {
        let _ = write!(text, " ({})", tally.phase());
    }
    text
}

async fn lines(tally: Arc<PassProgress>, stop: Shutdown) {
    loop {
        stop.sleep(LINE_EVERY).await;
        if stop.requested() {
            return;
        }
        let (done, total) = (PassProgress::get(&tally.done), PassProgress::get(&tally.total));
        let running = tally.running();
        let of = if total > 0 { format!(" of about {}", thousands(total.max(done))) } else { String::new() };
        let left =
            running["eta_seconds"].as_f64().map(|eta| format!(", about {} left", duration(eta))).unwrap_or_default();
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = done as f64 / tally.started.elapsed().as_secs_f64().max(0.001);
        eprintln!("{} rows{of}, {rate:.0} rows/s{left}; {}", thousands(done), message(&tally));
    }
}
