//! Tests that every mistake of a newcomer has its sentence. `tests/data/mistakes/` pins the messages, and can be read as
//! documentation.
//!
//! Owns: the list of topics, and the comparison with the pinned pages. Must not know: how a mistake is set up.
//!
//! To add a mistake, add it to its topic and run this test with `UPDATE_MISTAKES=1`. Read the message that appears as
//! somebody who sees imsync for the first time: it names the file, key, table, column or account, says what is allowed,
//! and what to do. If it does not, correct the message.

mod attributes;
mod case;
mod command_line;
mod configuration;
mod connection;
mod im;
mod page;
mod placeholders;
mod running;
mod secrets;
mod stage;
mod state;
mod table;
mod watermark;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use self::case::{Mistake, Topic};
use self::page::Observed;
use self::stage::Stage;

/// In the order in which a newcomer meets them.
const TOPICS: [&Topic; 10] = [
    &command_line::TOPIC,
    &configuration::TOPIC,
    &secrets::TOPIC,
    &attributes::TOPIC,
    &connection::TOPIC,
    &table::TOPIC,
    &watermark::TOPIC,
    &im::TOPIC,
    &state::TOPIC,
    &running::TOPIC,
];

/// The number of mistakes that are made at the same time. A command mostly waits for the server.
const AT_ONCE: usize = 4;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/mistakes")
}

/// Makes every mistake and returns what imsync printed, by the title of the mistake.
async fn make_all() -> BTreeMap<&'static str, Observed> {
    let stage = Arc::new(Stage::set_up().await);
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    let mut running = JoinSet::new();
    for mistake in TOPICS.iter().flat_map(|topic| topic.mistakes) {
        let (stage, permits) = (stage.clone(), permits.clone());
        running.spawn(async move {
            let _permit = permits.acquire_owned().await.unwrap();
            (mistake.title, stage.make(mistake).await)
        });
    }
    let mut observed = BTreeMap::new();
    while let Some(made) = running.join_next().await {
        let (title, made) = made.unwrap();
        assert!(observed.insert(title, made).is_none(), "two mistakes have the title {title:?}");
    }
    Arc::into_inner(stage).unwrap().tear_down().await;
    observed
}

/// Whether the message helps: it says what is allowed, or what to do.
fn assert_helps(mistake: &Mistake, observed: &Observed) {
    let title = mistake.title;
    assert!(!observed.lines.is_empty(), "{title}: imsync prints nothing");
    for line in &observed.lines {
        let is_finding = line.starts_with("FAIL") || line.starts_with("warn");
        let helps = ["; ", "expected", "(", "did you mean"].iter().any(|part| line.contains(part));
        assert!(!is_finding || helps, "{title}: this line does not say what to do: {line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_mistake_has_its_sentence() {
    let observed = make_all().await;
    assert!(observed.len() >= 40, "{} mistakes", observed.len());
    let mut pages: BTreeMap<String, String> =
        TOPICS.iter().map(|topic| (topic.file.to_owned(), page::of_topic(topic, &observed))).collect();
    pages.insert("README.md".to_owned(), page::index(&TOPICS));

    let folder = folder();
    let update = std::env::var_os("UPDATE_MISTAKES").is_some();
    std::fs::create_dir_all(&folder).unwrap();
    let pinned: Vec<String> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let mut problems = Vec::new();
    for name in pinned.iter().filter(|name| !pages.contains_key(*name)) {
        if update {
            std::fs::remove_file(folder.join(name)).unwrap();
        } else {
            problems.push(format!("tests/data/mistakes/{name} belongs to no topic of this test"));
        }
    }
    for (name, page) in &pages {
        let file = folder.join(name);
        if update {
            std::fs::write(&file, page).unwrap();
        } else {
            let pinned = std::fs::read_to_string(&file).unwrap_or_default();
            problems.extend(page::differences(name, &pinned, page));
        }
    }
    for mistake in TOPICS.iter().flat_map(|topic| topic.mistakes) {
        assert_helps(mistake, &observed[mistake.title]);
    }
    assert!(
        problems.is_empty(),
        "messages have changed; if that is intended, run this test with UPDATE_MISTAKES=1:\n{}",
        problems.join("\n")
    );
}
