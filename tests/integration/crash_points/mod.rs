//! Crash points: the real binary aborts at each of them, the table changes, and the next start makes IM equal to it.
//!
//! Owns: the walk over all points and its table. Must not know: how a scenario is built.

mod abort;
mod cases;
mod names;
mod postgres;
mod scenarios;
mod sent_calls;
mod system;

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::fmt::Write as _;
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use imsync::clock::monotonic;
use imsync::crash::POINTS;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use tokio::process::Command;
use tokio::time::Instant;

use crate::support::TestEnvironment;

pub(crate) use cases::abort_at;
use scenarios::{CrashCase, SCENARIOS, WALK};
use system::{CrashRun, CrashSystem};

/// The command, set to abort at this point (`<point>#<arrival>`) without a core file.
fn armed(env: &TestEnvironment, arguments: &[&str], at: &str) -> Command {
    let plain = env.command(arguments);
    let plain = plain.as_std();
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -c 0; exec \"$0\" \"$@\""]).arg(plain.get_program()).args(plain.get_args());
    for (name, value) in plain.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.env("IMSYNC_CRASH_AT", at).current_dir(env.directory()).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// The remaining cases and what was learned so far. Concurrent systems take cases from it until none is left.
struct WorkQueue {
    cases: Mutex<VecDeque<CrashCase>>,
    /// Scenarios and points that were not reached at some arrival. Later arrivals are not reached either.
    unreached: Mutex<HashSet<(&'static str, &'static str)>>,
    until: Option<Instant>,
}

impl WorkQueue {
    fn next(&self) -> Option<CrashCase> {
        if self.until.is_some_and(|until| monotonic() >= until) {
            return None;
        }
        let unreached = self.unreached.lock().unwrap_or_else(PoisonError::into_inner);
        let mut cases = self.cases.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let case = cases.pop_front()?;
            if !unreached.contains(&(case.scenario.name(), case.point)) {
                return Some(case);
            }
        }
    }

    fn note_unreached(&self, case: CrashCase) {
        self.unreached.lock().unwrap_or_else(PoisonError::into_inner).insert((case.scenario.name(), case.point));
    }
}

/// Runs cases in one system, one after the other, until none is left.
async fn run_cases(queue: &WorkQueue) -> Vec<CrashRun> {
    let mut system = CrashSystem::create().await;
    let mut runs = Vec::new();
    while let Some(case) = queue.next() {
        match system.run_case(case).await {
            Some(run) => runs.push(run),
            None => queue.note_unreached(case),
        }
    }
    system.expect_final_convergence().await;
    runs
}

async fn walk(cases: impl IntoIterator<Item = CrashCase>, systems: usize, until: Option<Instant>) -> Vec<CrashRun> {
    let queue = WorkQueue { cases: Mutex::new(cases.into_iter().collect()), unreached: Mutex::default(), until };
    join_all((0..systems).map(|_| run_cases(&queue))).await.into_iter().flatten().collect()
}

/// All crashes as a Markdown table. The numbers are the largest of a point. A run that does not converge fails the
/// test, so every run in the table has converged.
fn table(runs: &[CrashRun]) -> String {
    let mut text =
        "| point | aborted at arrival | accounts in flight | sent needlessly | converged |\n|---|---|---|---|---|\n"
            .to_owned();
    for point in POINTS {
        let of_point: Vec<&CrashRun> = runs.iter().filter(|run| run.case.point == *point).collect();
        let arrivals: BTreeSet<String> =
            of_point.iter().map(|run| format!("{} {}", run.case.scenario.name(), run.case.arrival)).collect();
        let arrivals = arrivals.into_iter().collect::<Vec<_>>().join(", ");
        let in_flight = of_point.iter().map(|run| run.in_flight).max().unwrap_or(0);
        let needless = of_point.iter().map(|run| run.needless).max().unwrap_or(0);
        writeln!(text, "| {point} | {arrivals} | {in_flight} | {needless} | {0} of {0} |", of_point.len())
            .expect("writing to a String cannot fail");
    }
    text
}

fn expect_all_reached(runs: &[CrashRun]) {
    let reached: HashSet<&str> = runs.iter().map(|run| run.case.point).collect();
    let missing: Vec<_> = POINTS.iter().filter(|point| !reached.contains(*point)).collect();
    assert!(missing.is_empty(), "no scenario of the walk arrives at {missing:?}");
}

/// Each point once, most of them not at the first arrival.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_aborted_at_any_point_loses_nothing() {
    let began = monotonic();
    let runs = walk(WALK.iter().copied(), 14, None).await;
    println!("{}\n{} crashes in {:.1} s", table(&runs), runs.len(), began.elapsed().as_secs_f64());
    expect_all_reached(&runs);
    assert_eq!(runs.len(), WALK.len(), "a scenario does not arrive at a point of the walk");
}

/// The walk at several arrivals, then every point in every scenario, in an order given by the seed, until the time is
/// over.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes the walk at five arrivals and IMSYNC_SOAK_SECONDS (45); run with `make soak`"]
async fn soak_crash_points() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seconds = number("IMSYNC_SOAK_SECONDS").unwrap_or(45);
    let seed = number("IMSYNC_SOAK_SEED").unwrap_or_else(|| rand::rng().random());
    println!("IMSYNC_SOAK_SEED={seed}");
    let began = monotonic();
    let arrivals = [1, 2, 3, 5, 9];
    let first = arrivals.iter().flat_map(|arrival| WALK.iter().map(|case| CrashCase { arrival: *arrival, ..*case }));
    let mut runs = walk(WALK.iter().copied().chain(first), 14, None).await;
    let mut rest: Vec<CrashCase> = (1..=12)
        .flat_map(|arrival| SCENARIOS.iter().map(move |scenario| (arrival, *scenario)))
        .flat_map(|(arrival, scenario)| POINTS.iter().map(move |point| CrashCase { scenario, point, arrival }))
        .collect();
    rest.shuffle(&mut rand::rngs::StdRng::seed_from_u64(seed));
    let until = monotonic() + Duration::from_secs(seconds);
    runs.extend(walk(rest, 14, Some(until)).await);
    println!("{}\n{} crashes in {:.0} s", table(&runs), runs.len(), began.elapsed().as_secs_f64());
    expect_all_reached(&runs);
}
