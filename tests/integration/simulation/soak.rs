//! Running systems: a short slice with every test run, as long as one likes by `make soak`, one again by its seed.
//!
//! Owns: seeds, the report of a divergence, the numbers at the end. Must not know: what an operation does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::fixed_cases;
use super::operation_counts::OperationCounts;
use super::plan::Plan;
use super::system::System;

/// Operations of one system of a soak.
const LENGTH: usize = 120;
/// Worlds that run beside each other: most of their time they wait.
const WORLDS: usize = 4;
/// Divergences after which no further system begins: each takes a person's time.
const ENOUGH: u64 = 3;
/// Operations that are shown of a history that failed.
const SHOWN: usize = 30;

fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// Where a history failed.
struct Divergence {
    step: usize,
    text: String,
    outputs: String,
}

/// Runs a history to its end, or to its failure.
async fn live(plan: &Plan, counts: &mut OperationCounts) -> Result<(), Box<Divergence>> {
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
    counts.take_in(&system.counts);
    system.writers.close().await;
    result
}

/// The same failure with less history: pieces are left out, ever smaller ones, as long as it still fails.
async fn shrink(seed: u64, mut plan: Plan) -> Plan {
    let mut piece = plan.operations.len() / 2;
    while piece > 0 {
        let mut from = 0;
        // The quiescence at the end stays.
        while from + piece < plan.operations.len() {
            let mut less = plan.clone();
            less.operations.drain(from..from + piece);
            let failed = run_apart(seed, less.clone()).await.1.is_err();
            println!("without {from} to {}: {}", from + piece, if failed { "fails" } else { "holds" });
            if failed {
                plan = less;
            } else {
                from += piece;
            }
        }
        piece /= 2;
    }
    plan
}

/// A history, its failure as a text that can be worked with.
async fn run(seed: u64, plan: Plan) -> (OperationCounts, Result<(), String>) {
    let mut counts = OperationCounts::default();
    let result = live(&plan, &mut counts).await.map_err(|divergence| {
        let Divergence { step, text, outputs } = *divergence;
        let first = (step + 1).saturating_sub(SHOWN);
        let operations = plan.operations[first..=step].iter();
        let operations = operations.map(|operation| format!("    {operation:?},")).collect::<Vec<_>>().join("\n");
        format!(
            "seed {seed}, step {step}: {text}\n{:?}\noperations {first} to {step}:\n{operations}\nlast processes:\n{outputs}\n\
             again: IMSYNC_SEED={seed} cargo test --test integration simulation::soak::replay -- --ignored --nocapture",
            plan.settings
        )
    });
    (counts, result)
}

/// A task of its own, so that a panic does not hide the seed.
async fn run_apart(seed: u64, plan: Plan) -> (OperationCounts, Result<(), String>) {
    match tokio::spawn(run(seed, plan)).await {
        Ok(done) => done,
        Err(error) => (OperationCounts::default(), Err(format!("seed {seed}: {error}"))),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slice_of_everything() {
    let systems = [1, 2, 3].map(|seed| tokio::spawn(run_apart(seed, Plan::of(seed, 14))));
    for system in systems {
        let (_, result) = system.await.expect("a system's panic is in its result");
        result.unwrap_or_else(|divergence| panic!("{divergence}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_once_failed() {
    let systems = fixed_cases::all().into_iter().map(|(name, plan)| (name, tokio::spawn(run_apart(0, plan))));
    for (name, system) in systems.collect::<Vec<_>>() {
        let (_, result) = system.await.expect("a system's panic is in its result");
        result.unwrap_or_else(|divergence| panic!("{name}: {divergence}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs one system again: IMSYNC_SEED=n"]
async fn replay() {
    let seed = variable("IMSYNC_SEED").expect("IMSYNC_SEED names the system");
    let length = variable("IMSYNC_LENGTH").map_or(LENGTH, |length| usize::try_from(length).expect("a length"));
    let plan = Plan::of(seed, length);
    let (counts, result) = run_apart(seed, plan.clone()).await;
    println!("{counts}");
    if result.is_err() && variable("IMSYNC_SHRINK").is_some() {
        println!("{:#?}", shrink(seed, plan).await);
    }
    result.unwrap_or_else(|divergence| panic!("{divergence}"));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes as long as it is told to: make soak"]
async fn soak_everything() {
    let seconds = variable("IMSYNC_SOAK_SECONDS").unwrap_or(45);
    let first = variable("IMSYNC_SEED").unwrap_or_else(|| rand::random::<u32>().into());
    println!("first seed {first}");
    let until = imsync::clock::monotonic() + Duration::from_secs(seconds);
    let (next, failed) = (Arc::new(AtomicU64::new(first)), Arc::new(AtomicU64::new(0)));
    let lanes: Vec<_> = (0..WORLDS)
        .map(|_| {
            let (next, failed) = (next.clone(), failed.clone());
            tokio::spawn(async move {
                let (mut all, mut divergences) = (OperationCounts::default(), Vec::new());
                while imsync::clock::monotonic() < until && failed.load(Ordering::Relaxed) < ENOUGH {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let (counts, result) = run_apart(seed, Plan::of(seed, LENGTH)).await;
                    all.take_in(&counts);
                    if let Err(divergence) = result {
                        println!("\nDIVERGENCE {divergence}\n");
                        divergences.push(seed);
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                }
                (all, divergences)
            })
        })
        .collect();
    let (mut all, mut divergences) = (OperationCounts::default(), Vec::new());
    for lane in lanes {
        let (counts, failed) = lane.await.expect("a lane ends");
        all.take_in(&counts);
        divergences.extend(failed);
    }
    let last = next.load(Ordering::Relaxed) - 1;
    println!(
        "\nseeds {first} to {last}, {seconds} s and the systems under way then\n{all}divergences: {}",
        divergences.len()
    );
    assert_eq!(divergences, Vec::<u64>::new(), "seeds that diverged");
}
