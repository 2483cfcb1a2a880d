//! The checker itself on sample text: what it must find, and what it must let pass.
//!
//! Owns: samples. Must not know: the real sources.

use std::path::Path;

use super::examine;

/// The sentences about `text` as if it were the file `src/<file>`.
fn sentences(file: &str, text: &str) -> Vec<String> {
    let text = format!("//! A sample.\n{text}\n");
    examine(Path::new(file), &text).iter().map(ToString::to_string).collect()
}

fn refused(file: &str, text: &str, expected: &[&str]) {
    let found = sentences(file, text);
    assert_eq!(found.len(), expected.len(), "{text}\n{found:#?}");
    for (sentence, part) in found.iter().zip(expected) {
        assert!(sentence.contains(part), "{sentence} should contain {part}");
    }
}

fn passes(file: &str, text: &str) {
    assert_eq!(sentences(file, text), Vec::<String>::new(), "{text}");
}

#[test]
fn an_import_from_further_on_is_refused_with_file_line_and_reason() {
    assert_eq!(
        sentences("diff/mod.rs", "\nuse crate::push::Session;"),
        ["src/diff/mod.rs:3 imports crate::push: `push` does not stand before `diff` in the order of the rooms"]
    );
}

#[test]
fn an_import_from_before_passes() {
    passes("diff/mod.rs", "use crate::model::{Change, Known};");
    passes("push/call.rs", "use crate::{clock::Shutdown, im::{self, Client}, model};");
    passes("pass/mod.rs", "use crate::{source, mapping, diff, push, state, config};");
    passes("main.rs", "fn main() { imsync::cli::run() }");
}

#[test]
fn every_way_to_write_a_path_is_seen() {
    for text in [
        "use crate::pass;",
        "use crate::pass as work;",
        "use crate::{model, pass};",
        "use crate::{model::{self, Account}, pass::Report};",
        "use {crate::model, crate::pass::{Report, Kind}};",
        "use crate::{\n    // a comment, with a } in it\n    pass\n};",
        "use super::super::pass;",
        "use super::{super::pass, x};",
        "pub use crate :: pass::Report;",
        "fn f() -> crate::pass::Report { todo() }",
        "fn f() { let x = crate::pass::run(); }",
        "mod inner { use super::super::super::pass; }",
        "impl From<crate::pass::Report> for X {}",
        "macro_rules! m { () => { $crate::pass::run() } }",
        "const A: char = '\"'; use crate::pass;",
        "fn f<'a>(x: &'a str) { crate::pass::run() }",
        "const A: &str = r#\"\"}\"#; use crate::pass;",
    ] {
        refused("state/write.rs", text, &["imports crate::pass"]);
    }
}

#[test]
fn what_only_looks_like_an_import_passes() {
    for text in [
        "// use crate::pass;",
        "/* use crate::pass; /* nested */ use crate::pass; */",
        "/// See [`crate::pass`].\nfn f() {}",
        "const A: &str = \"crate::pass\";",
        "const A: &str = \"a \\\" crate::pass\";",
        "const A: &str = r#\"crate::pass \" crate::pass\"#;",
        "use super::pass;",
        "use self::pass::Report;",
        "use crate::state::pass::Report;",
        "use other::crate_::pass;",
        "pub(crate) fn pass() {}",
        "mod inner { use super::super::pass; }",
    ] {
        passes("state/write.rs", text);
    }
}

#[test]
fn a_closed_inline_module_no_longer_counts() {
    refused("state/write.rs", "mod a { mod b {} }\nuse super::super::pass;", &["imports crate::pass"]);
    refused("state/mod.rs", "mod a { fn f() { if x {} } }\nuse super::pass;", &["imports crate::pass"]);
}

#[test]
fn each_offence_of_a_group_is_told() {
    refused(
        "config/mod.rs",
        "use crate::{im, model, state::{a, b}, cli};",
        &["crate::im", "crate::state", "crate::cli"],
    );
}

#[test]
fn the_simulator_is_an_island() {
    refused("simulator/wire.rs", "use crate::model::Account;", &["island"]);
    refused("simulator/tests/rows.rs", "use crate::{im, simulator::Faults};", &["island"]);
    passes("simulator/wire.rs", "use crate::simulator::model::Table; use super::window::Window;");
}

#[test]
fn stages_do_not_know_each_others_ends() {
    refused("source/page.rs", "use crate::im::Code;", &["the source knows no IM"]);
    refused("mapping/mod.rs", "use crate::source;", &["the mapping is pure"]);
    refused("state/mod.rs", "use crate::im::Code;", &["the state keeps what it is told"]);
    refused("push/mod.rs", "use crate::source::Page;", &["no SQL"]);
    refused("push/mod.rs", "use sqlx::PgPool;", &["`push` knows no SQL"]);
    refused("im/mod.rs", "fn f(e: sqlx::Error) {}", &["`im` knows no SQL"]);
    passes("source/page.rs", "use sqlx::PgConnection;");
}

#[test]
fn stand_ins_are_for_tests_and_for_commands() {
    refused("pass/mod.rs", "use crate::simulator::Simulator;", &["for the demo and for tests"]);
    refused("pass/mod.rs", "#[cfg(test)]\nmod tests;\nuse crate::cluster;", &["for the demo and for tests"]);
    refused("pass/mod.rs", "#[cfg(test)]\nmod t { fn f() {} }\nuse crate::cluster;", &["for the demo and for tests"]);
    passes("pass/tests.rs", "use crate::{cluster::Cluster, simulator::Simulator};");
    passes("pass/tests/rows.rs", "use crate::simulator::Simulator;");
    passes("pass/mod.rs", "#[cfg(test)]\nmod t { fn f() {} use crate::cluster::Cluster; }");
    passes("commands/demo/mod.rs", "use crate::{cluster::Cluster, simulator};");
    refused("im/tests.rs", "use crate::push;", &["does not stand before"]);
}

#[test]
fn a_star_a_word_of_no_room_and_a_room_without_place_are_refused() {
    refused("push/mod.rs", "use crate::*;", &["a star hides"]);
    refused("push/mod.rs", "use crate::Error;", &["it is no room"]);
    refused("helpers/mod.rs", "", &["the room `helpers` has no place"]);
    refused("helpers.rs", "", &["the room `helpers` has no place"]);
}

#[test]
fn a_file_without_its_purpose_is_refused() {
    let found = examine(Path::new("push/mod.rs"), "use std::fmt;\n");
    assert_eq!(found.len(), 1);
    assert!(found[0].to_string().contains("src/push/mod.rs does not begin with //!"));
}
