//! `imsync demo`: everything on one machine, with nothing to configure, ending in a comparison.
//!
//! Owns: the order of the scenes. Must not know: how imsync does its work; it starts it as a user would.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use sqlx::{Connection, PgConnection};
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

use super::{CommandResult, Exit, Failure, Global, thousands};
use crate::clock::{Shutdown, monotonic};
use crate::cluster;
use crate::config::{LogFormat, LogLevel};
use crate::logging;
use crate::service::signals::{self, OnHangup};
use crate::simulator::{AttributeChange, SimulatorHandle};

mod compare;
mod life;
mod people;
mod stage;
mod story;
#[cfg(test)]
mod tests;
mod tether;

use life::{Commits, Life};
use stage::Stage;
use story::Story;
use tether::Tethered;

/// The same people and the same life each time.
const SEED: u64 = 20_260_101;
/// Differences that are written out.
const SHOWN: usize = 10;
/// Arrivals are gathered this long.
const GATHER: Duration = Duration::from_millis(20);

/// The arguments.
#[derive(Clone, Copy, Debug)]
struct Scale {
    /// Made-up people.
    users: u32,
    /// How long life goes on beside the daemon.
    seconds: u64,
}

/// Done when table and IM are equal at the end, also when a signal ended life early (or the backfill, after which there
/// is nothing to compare); failed when they differ.
pub async fn run(global: Global, users: u32, seconds: u64) -> CommandResult {
    // The story is on the terminal; of ours only warnings belong into it.
    logging::init(LogLevel::Warn, global.log_format.unwrap_or(LogFormat::Auto), global.verbosity);
    let shutdown = Shutdown::default();
    signals::listen(&shutdown, OnHangup::Stop)?;
    let program = std::env::current_exe()?;
    match play(&program, Scale { users, seconds }, &shutdown, io::stdout()).await {
        Ok(exit) => Ok(exit),
        Err(error) => Err(match error.downcast::<io::Error>() {
            Ok(error) => error.into(),
            Err(error) => Failure::failed(format!("{error:#}")),
        }),
    }
}

async fn play(program: &Path, options: Scale, shutdown: &Shutdown, out: impl io::Write) -> anyhow::Result<Exit> {
    let Scale { users, seconds } = options;
    cluster::check_installed()?;
    let mut story = Story::new(out);
    let shown = thousands(users.into());
    story.tell(&format!("Setting up a private PostgreSQL with {shown} made-up people, and a pretended IM."))?;
    let stage = tokio::select! {
        stage = Stage::set_up(users, SEED) => stage?,
        () = shutdown.wait() => return Ok(Exit::Done),
    };

    story.tell("\nimsync backfill: every attribute of everybody, for the first time.")?;
    if !backfill(program, &stage, shutdown).await? {
        story.tell("Stopped during the backfill; there is nothing to compare yet.")?;
        return Ok(Exit::Done);
    }

    story.tell(&format!(
        "\nimsync run: the daemon at work while people move, upgrade, leave and come, for {seconds} s (Ctrl-C ends it).\nWhat arrives in IM, and how long after its commit:\n"
    ))?;
    let mut daemon = start_daemon(program, &stage)?;
    let ran = daemon_scene(&stage, &mut daemon, options, shutdown, &mut story).await;
    let status = daemon.stop().await?;
    ran?;
    let verdict = compare(&stage, &mut story).await?;
    if !status.success() {
        bail!("the daemon did not end in order ({status}){}", last_words(&stage).await);
    }
    stage.im.stop().await;
    tokio::task::spawn_blocking(move || drop(stage.cluster)).await?;
    Ok(verdict)
}

/// A full pass, its progress on the terminal. False: the audience asked to stop.
async fn backfill(program: &Path, stage: &Stage, shutdown: &Shutdown) -> anyhow::Result<bool> {
    let arguments = ["backfill".as_ref(), "-c".as_ref(), stage.configuration.as_os_str()];
    let mut child = Tethered::start(program, arguments, Stdio::inherit(), Stdio::inherit())?;
    let status = tokio::select! {
        status = child.ended() => status?,
        () = shutdown.wait() => {
            child.stop().await?;
            return Ok(false);
        }
    };
    if !status.success() {
        bail!("the backfill did not end in order ({status})");
    }
    Ok(true)
}

fn start_daemon(program: &Path, stage: &Stage) -> anyhow::Result<Tethered> {
    let log = std::fs::File::create(&stage.log).context("the daemon's log cannot be written")?;
    let arguments = ["run".as_ref(), "-c".as_ref(), stage.configuration.as_os_str()];
    Ok(Tethered::start(program, arguments, Stdio::null(), log.into())?)
}

/// Life beside the daemon, until it has stopped and everything has arrived.
async fn daemon_scene(
    stage: &Stage,
    daemon: &mut Tethered,
    options: Scale,
    shutdown: &Shutdown,
    story: &mut Story<impl io::Write>,
) -> anyhow::Result<()> {
    let changed = follow(stage, daemon, options, shutdown, story).await?;
    story.tell(&format!(
        "\n{} rows changed, {} attributes arrived. Nobody moves any more; waiting until imsync has caught up.",
        thousands(changed),
        thousands(story.arrived)
    ))?;
    if let Some(after) = catch_up(stage, daemon, options.users).await? {
        story.tell(&format!("It had after {:.1} s.", after.as_secs_f64()))?;
    }
    Ok(())
}

/// Lets life go on and tells what arrives; gives the number of rows changed.
async fn follow(
    stage: &Stage,
    daemon: &mut Tethered,
    options: Scale,
    shutdown: &Shutdown,
    story: &mut Story<impl io::Write>,
) -> anyhow::Result<u64> {
    let im = stage.im.handle();
    let mut arrivals = im.subscribe();
    let commits = Commits::default();
    let stop = Shutdown::default();
    let life = Life { url: stage.url.clone(), seed: SEED, users: options.users, commits: commits.clone() };
    let life = life.go_on(&stop);
    tokio::pin!(life);
    let mut end = std::pin::pin!(shutdown.sleep(Duration::from_secs(options.seconds)));
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            changed = &mut life => return changed.context("the people's life came to a halt"),
            status = daemon.ended() => bail!("the daemon ended by itself ({}){}", status?, last_words(stage).await),
            () = &mut end, if !stop.requested() => stop.request(),
            _ = seconds.tick() => story.tick(monotonic())?,
            arrived = arrivals.recv() => {
                let mut changes = match arrived {
                    Ok(change) => vec![change],
                    // So many at once that some were dropped: none of them would have had a line.
                    Err(RecvError::Lagged(_)) => Vec::new(),
                    Err(RecvError::Closed) => bail!("the pretended IM has ended"),
                };
                // A call's changes come one by one; an account's belong into one line.
                tokio::time::sleep(GATHER).await;
                drain(&mut arrivals, &mut changes);
                let now = monotonic();
                let since = |account: &str| Some(now.saturating_duration_since(commits.of(account)?));
                story.arrivals(&changes, now, since, |account| im.user(account).is_empty())?;
            }
        }
    }
}

fn drain(arrivals: &mut tokio::sync::broadcast::Receiver<AttributeChange>, changes: &mut Vec<AttributeChange>) {
    loop {
        match arrivals.try_recv() {
            Ok(change) => changes.push(change),
            Err(TryRecvError::Lagged(_)) => {}
            Err(TryRecvError::Empty | TryRecvError::Closed) => return,
        }
    }
}

/// Waits until nothing differs; how long that took, or `None` when it took too long and the comparison has the word.
async fn catch_up(stage: &Stage, daemon: &mut Tethered, users: u32) -> anyhow::Result<Option<Duration>> {
    // Two full passes at 95 calls of 100 users a second, and half a minute for a busy machine.
    let patience = Duration::from_secs(30 + u64::from(users) / 4_000);
    let mut connection = PgConnection::connect(&stage.url).await?;
    let began = monotonic();
    while began.elapsed() < patience {
        let looked = monotonic();
        if compare::differences(&compare::expected(&mut connection).await?, &stage.im.handle().users()).is_empty() {
            return Ok(Some(looked.saturating_duration_since(began)));
        }
        // A look at a large table takes its time; the daemon needs the processor too.
        let pause = looked.elapsed().max(Duration::from_millis(100));
        tokio::select! {
            status = daemon.ended() => bail!("the daemon ended by itself ({}){}", status?, last_words(stage).await),
            () = tokio::time::sleep(pause) => {}
        }
    }
    Ok(None)
}

/// Table and IM, account by account; what the demo comes to.
async fn compare(stage: &Stage, story: &mut Story<impl io::Write>) -> anyhow::Result<Exit> {
    let mut connection = PgConnection::connect(&stage.url).await?;
    let table = compare::expected(&mut connection).await?;
    connection.close().await?;
    let im: &SimulatorHandle = stage.im.handle();
    let found = compare::differences(&table, &im.users());
    let (all, differ) = (count(table.len()), count(compare::accounts(&found)));
    story.tell(&format!("\nTable and IM compared, account by account: {all} accounts, {differ} differ"))?;
    for difference in found.iter().take(SHOWN) {
        story.tell(&format!("  {difference}"))?;
    }
    if found.len() > SHOWN {
        story.tell(&format!("  … and {} more", count(found.len() - SHOWN)))?;
    }
    Ok(if found.is_empty() { Exit::Done } else { Exit::Failed })
}

fn count(number: usize) -> String {
    thousands(u64::try_from(number).unwrap_or(u64::MAX))
}

/// The end of the daemon's log, for an error.
async fn last_words(stage: &Stage) -> String {
    let log = tokio::fs::read_to_string(&stage.log).await.unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    let last = lines[lines.len().saturating_sub(5)..].join("\n  ");
    if last.is_empty() { String::new() } else { format!("; its last words:\n  {last}") }
}
