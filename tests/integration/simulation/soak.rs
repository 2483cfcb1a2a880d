//! Running systems: a few short ones in every test run, many by `make soak`, a single one again by its seed.
//!
//! Owns: seeds, the report of a divergence, the counts at the end. Must not know: what an operation does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::fixed_cases;
use super::interleavings::Interleaving;
use super::operation_counts::OperationCounts;
use super::plan::Plan;
use super::system::System;

/// The number of operations of one system in a soak test.
const LENGTH: usize = 120;
/// The number of systems that run concurrently. They wait most of the time.
const SYSTEMS: usize = 4;
/// The number of divergences after which no further system starts, since each must be examined by a person.
const MAX_DIVERGENCES: u64 = 3;
/// The number of operations shown of a failed history.
const SHOWN_OPERATIONS: usize = 30;

fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is not a number")))
}

/// The history of a seed: `IMSYNC_INTERLEAVING` (from 0 on) selects one of the interleavings alone.
fn plan(seed: u64) -> Plan {
    let length = variable("IMSYNC_LENGTH").map_or(LENGTH, |length| usize::try_from(length).expect("a length"));
    match variable("IMSYNC_INTERLEAVING") {
        Some(number) => {
            let number = usize::try_from(number).expect("a number of an interleaving");
            Plan::of_interleaving(seed, Interleaving::ALL[number])
        }
        None => Plan::of(seed, length),
    }
}

/// The step at which a history failed, with the outputs of the last processes.
struct Divergence {
    step: usize,
    text: String,
    outputs: String,
}

/// Runs a history to its end or to its first failure.
async fn run_operations(plan: &Plan, counts: &mut OperationCounts) -> Result<(), Box<Divergence>> {
    let mut system = System::new(plan.settings.clone()).await;
    let mut result = Ok(());
    for (step, operation) in plan.operations.iter().enumerate() {
        if let Err(text) = system.step(operation).await {
            let outputs = system.outputs.iter().map(|ended| {
                format!("`{}` ended with {:?}\n{}\n{}", ended.name, ended.code, ended.stdout, ended.stderr)
            });
            let outputs = outputs.collect::<Vec<_>>().join("\n");
            result = Err(Box::new(Divergence { step, text, outputs }));
            break;
        }
    }
    counts.merge(&system.counts);
    system.writers.close().await;
    result
}

/// Finds a shorter history with the same failure, by removing ever smaller pieces as long as it still fails.
async fn shrink(seed: u64, mut plan: Plan) -> Plan {
    let mut piece = plan.operations.len() / 2;
    while piece > 0 {
        let mut from = 0;
        // The quiescence at the end stays.
        while from + piece < plan.operations.len() {
            let mut shorter = plan.clone();
            shorter.operations.drain(from..from + piece);
            let failed = run_in_task(seed, shorter.clone()).await.1.is_err();
            println!("without {from} to {}: {}", from + piece, if failed { "still fails" } else { "passes" });
            if failed {
                plan = shorter;
            } else {
                from += piece;
            }
        }
        piece /= 2;
    }
    plan
}

/// Runs a history. A failure is a text with everything needed to reproduce it.
async fn run(seed: u64, plan: Plan) -> (OperationCounts, Result<(), String>) {
    let mut counts = OperationCounts::default();
    let result = run_operations(&plan, &mut counts).await.map_err(|divergence| {
        let Divergence { step, text, outputs } = *divergence;
        let first = (step + 1).saturating_sub(SHOWN_OPERATIONS);
        let operations = plan.operations[first..=step].iter();
        let operations = operations.map(|operation| format!("    {operation:?},")).collect::<Vec<_>>().join("\n");
        format!(
            "seed {seed}, step {step}: {text}\n{:?}\noperations {first} to {step}:\n{operations}\nlast processes:\n{outputs}\n\
             run again: IMSYNC_SEED={seed} cargo test --test integration simulation::soak::replay -- --ignored --nocapture",
            plan.settings
        )
    });
    (counts, result)
}

/// Runs in a separate task, so that a panic does not hide the seed.
async fn run_in_task(seed: u64, plan: Plan) -> (OperationCounts, Result<(), String>) {
    match tokio::spawn(run(seed, plan)).await {
        Ok(done) => done,
        Err(error) => (OperationCounts::default(), Err(format!("seed {seed}: {error}"))),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_few_generated_histories_keep_every_promise() {
    let systems = [1, 2, 3].map(|seed| tokio::spawn(run_in_task(seed, Plan::of(seed, 14))));
    for system in systems {
        let (_, result) = system.await.expect("a system's panic is in its result");
        result.unwrap_or_else(|divergence| panic!("{divergence}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn histories_that_failed_once_pass() {
    let systems = fixed_cases::all().into_iter().map(|(name, plan)| (name, tokio::spawn(run_in_task(0, plan))));
    for (name, system) in systems.collect::<Vec<_>>() {
        let (_, result) = system.await.expect("a system's panic is in its result");
        result.unwrap_or_else(|divergence| panic!("{name}: {divergence}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs the system of IMSYNC_SEED again"]
async fn replay() {
    let seed = variable("IMSYNC_SEED").expect("IMSYNC_SEED names the system");
    let plan = plan(seed);
    let (counts, result) = run_in_task(seed, plan.clone()).await;
    println!("{counts}");
    if result.is_err() && variable("IMSYNC_SHRINK").is_some() {
        println!("{:#?}", shrink(seed, plan).await);
    }
    result.unwrap_or_else(|divergence| panic!("{divergence}"));
}

/// Runs systems with the next seeds, until the time is over or too many have failed. Returns the counts and the seeds
/// with a divergence.
async fn run_seeds(until: Instant, next: Arc<AtomicU64>, failed: Arc<AtomicU64>) -> (OperationCounts, Vec<u64>) {
    let (mut all, mut divergences) = (OperationCounts::default(), Vec::new());
    while imsync::clock::monotonic() < until && failed.load(Ordering::Relaxed) < MAX_DIVERGENCES {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        let (counts, result) = run_in_task(seed, plan(seed)).await;
        all.merge(&counts);
        if let Err(divergence) = result {
            println!("\nDIVERGENCE {divergence}\n");
            divergences.push(seed);
            failed.fetch_add(1, Ordering::Relaxed);
        }
    }
    (all, divergences)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes IMSYNC_SOAK_SECONDS; run with `make soak`"]
async fn soak_generated_histories() {
    let seconds = variable("IMSYNC_SOAK_SECONDS").unwrap_or(45);
    let first = variable("IMSYNC_SEED").unwrap_or_else(|| rand::random::<u32>().into());
    println!("first seed {first}");
    let until = imsync::clock::monotonic() + Duration::from_secs(seconds);
    let (next, failed) = (Arc::new(AtomicU64::new(first)), Arc::new(AtomicU64::new(0)));
    let tasks: Vec<_> = (0..SYSTEMS)
        .map(|_| {
            let (next, failed) = (next.clone(), failed.clone());
            tokio::spawn(run_seeds(until, next, failed))
        })
        .collect();
    let (mut all, mut divergences) = (OperationCounts::default(), Vec::new());
    for task in tasks {
        let (counts, failed) = task.await.expect("a task ends without a panic");
        all.merge(&counts);
        divergences.extend(failed);
    }
    let last = next.load(Ordering::Relaxed) - 1;
    println!(
        "\nseeds {first} to {last}, {seconds} s, and the systems that were still running then\n{all}divergences: {}",
        divergences.len()
    );
    assert_eq!(divergences, Vec::<u64>::new(), "seeds with a divergence");
}
