//! Tests `docs/commands.md`, which is written from the definitions of the command line, and the keys of JSON documents that the
//! help texts name.
//!
//! Owns: the pages that exist, and what imsync prints as JSON. Must not know: how a command is described (see `page`).

mod page;

use std::collections::BTreeSet;
use std::path::Path;

use clap::CommandFactory as _;
use imsync::cli::Cli;
use serde_json::Value;

use self::page::{Block, blocks, commands};
use super::people;
use crate::support::{Setup, TestEnvironment};

fn command_line() -> clap::Command {
    let mut command = Cli::command();
    command.build();
    command
}

#[test]
fn the_command_reference_is_up_to_date() {
    let page = page::reference(&command_line());
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/commands.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&file, page).unwrap();
        return;
    }
    let pinned = std::fs::read_to_string(&file).unwrap_or_default();
    let differing = page.lines().zip(pinned.lines().chain(std::iter::repeat(""))).find(|(new, old)| new != old);
    assert!(
        pinned == page,
        "docs/commands.md is out of date; run `UPDATE_DOCS=1 cargo test --test integration commands::reference`. The first \
         line that differs: {differing:?}"
    );
}

#[test]
fn every_command_has_examples_in_its_help() {
    for command in commands(&command_line()) {
        let name = command.get_bin_name().unwrap();
        let examples = blocks(command).into_iter().find(|block| block.title == "Examples");
        let examples = examples.unwrap_or_else(|| {
            panic!(
                "`{name} --help` has no block \"Examples:\"; add it to src/cli/help.rs, and name it in after_long_help"
            )
        });
        for (example, _) in &examples.rows {
            assert!(example.contains("imsync"), "`{name} --help`: {example:?} is no example");
        }
        assert!(examples.rows.iter().any(|(example, _)| example.starts_with(name)), "no example of `{name}` itself");
    }
}

fn json_blocks(command: &clap::Command) -> Vec<Block> {
    blocks(command).into_iter().filter(|block| block.title.starts_with("JSON keys")).collect()
}

#[test]
fn every_json_option_has_its_keys_in_the_help() {
    for command in commands(&command_line()) {
        let name = command.get_bin_name().unwrap();
        let has_option = command.get_arguments().any(|argument| argument.get_id() == "json");
        assert_eq!(
            has_option,
            !json_blocks(command).is_empty(),
            "`{name} --help`: a command with --json has a block \"JSON keys:\", or \"JSON keys of each line:\", in src/cli/help.rs"
        );
    }
}

fn keys(value: &Value) -> BTreeSet<String> {
    value.as_object().unwrap().keys().cloned().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_help_names_the_keys_that_are_printed() {
    let env = TestEnvironment::set_up(Setup::default()).await;
    env.execute(&people(5)).await;
    env.execute("UPDATE users SET gender = 'x' WHERE id = 'u0001'").await;
    let command_line = command_line();
    let documented = |command: &str, block: &str| -> BTreeSet<String> {
        let command = command_line.find_subcommand(command).unwrap();
        let block = blocks(command).into_iter().find(|found| found.title == block).unwrap();
        block.rows.into_iter().map(|(key, _)| key).collect()
    };
    let documents: [(&[&str], &str); 7] = [
        (&["check"], "JSON keys"),
        (&["status"], "JSON keys"),
        (&["attributes"], "JSON keys"),
        (&["explain", "u0001"], "JSON keys"),
        (&["backfill", "--dry-run"], "JSON keys with --dry-run"),
        (&["backfill"], "JSON keys"),
        (&["run", "--once"], "JSON keys"),
    ];
    for (arguments, block) in documents {
        let printed = env.imsync(&[arguments, &["--json"]].concat()).await.json();
        assert_eq!(keys(&printed), documented(arguments[0], block), "imsync {arguments:?} --json");
    }
    env.execute("UPDATE users SET city = 'Quito', updated_at = now() WHERE id = 'u0002'").await;
    for command in ["preview", "rejected"] {
        let printed = env.imsync(&[command, "--json"]).await.json_lines();
        assert_eq!(keys(&printed[0]), documented(command, "JSON keys of each line"), "imsync {command} --json");
    }
}
