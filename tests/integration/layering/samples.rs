//! The check itself on sample text: what it must report, and what it must accept.
//!
//! Owns: samples. Must not know: the real sources.

use std::path::Path;

use super::cycles::{SourceFile, cycles};
use super::examine;
use super::imports::imports;
use super::type_names::{shared_names, type_names};

/// The offences of `text` as if it were the file `src/<file>`.
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
fn an_import_against_the_order_names_file_line_and_reason() {
    assert_eq!(
        sentences("diff/mod.rs", "\nuse crate::push::Session;"),
        ["src/diff/mod.rs:3 imports crate::push: `push` does not come before `diff` in the order of the modules"]
    );
}

#[test]
fn an_import_along_the_order_passes() {
    passes("diff/mod.rs", "use crate::model::{Change, Known};");
    passes("push/call.rs", "use crate::{clock::Shutdown, im::{self, Client}, model};");
    passes("pass/mod.rs", "use crate::{source, mapping, diff, push, state, config};");
    passes("main.rs", "fn main() { imsync::cli::run() }");
}

#[test]
fn every_way_to_write_a_path_is_found() {
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
fn each_offence_of_a_group_is_reported() {
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
fn forbidden_imports_between_stages_are_refused() {
    refused("source/page.rs", "use crate::im::Code;", &["the source does not know IM"]);
    refused("mapping/mod.rs", "use crate::source;", &["the mapping is pure"]);
    refused("state/mod.rs", "use crate::im::Code;", &["the state only stores"]);
    refused("push/mod.rs", "use crate::source::Page;", &["neither SQL nor rows"]);
    refused("push/mod.rs", "use sqlx::PgPool;", &["`push` contains no SQL"]);
    refused("im/mod.rs", "fn f(e: sqlx::Error) {}", &["`im` contains no SQL"]);
    passes("source/page.rs", "use sqlx::PgConnection;");
}

#[test]
fn stand_ins_are_only_for_tests_and_commands() {
    refused("pass/mod.rs", "use crate::simulator::Simulator;", &["for the demo and for tests"]);
    refused("pass/mod.rs", "#[cfg(test)]\nmod tests;\nuse crate::cluster;", &["for the demo and for tests"]);
    refused("pass/mod.rs", "#[cfg(test)]\nmod t { fn f() {} }\nuse crate::cluster;", &["for the demo and for tests"]);
    passes("pass/tests.rs", "use crate::{cluster::Cluster, simulator::Simulator};");
    passes("pass/tests/rows.rs", "use crate::simulator::Simulator;");
    passes("pass/mod.rs", "#[cfg(test)]\nmod t { fn f() {} use crate::cluster::Cluster; }");
    passes("commands/demo/mod.rs", "use crate::{cluster::Cluster, simulator};");
    refused("im/tests.rs", "use crate::push;", &["does not come before"]);
}

#[test]
fn a_star_an_unknown_item_and_an_unknown_module_are_refused() {
    refused("push/mod.rs", "use crate::*;", &["a star hides"]);
    refused("push/mod.rs", "use crate::Error;", &["it is not a module"]);
    refused("helpers/mod.rs", "", &["the module `helpers` has no place"]);
    refused("helpers.rs", "", &["the module `helpers` has no place"]);
}

#[test]
fn a_file_without_a_header_is_refused() {
    let found = examine(Path::new("push/mod.rs"), "use std::fmt;\n");
    assert_eq!(found.len(), 1);
    assert!(found[0].to_string().contains("src/push/mod.rs does not begin with //!"));
}

/// The cycles of these files, given as path and text.
fn cycles_of(files: &[(&str, &str)]) -> Vec<String> {
    let file = |(path, text): &(&str, &str)| SourceFile { imports: imports(Path::new(path), text), path: path.into() };
    cycles(&files.iter().map(file).collect::<Vec<_>>())
}

#[test]
fn a_cycle_of_files_names_the_import_to_remove() {
    let found = cycles_of(&[
        ("push/mod.rs", "mod batch; mod call; mod retry;"),
        ("push/batch.rs", "use super::retry::{Attempts, Delay};"),
        ("push/call.rs", "use super::batch::Batch;"),
        ("push/retry.rs", "use std::fmt;\nuse crate::push::call::Call;\nuse super::call::Reply;"),
    ]);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(
        found[0].starts_with(
            "src/push/batch.rs, src/push/call.rs, src/push/retry.rs import each other in a cycle; remove the import of \
             src/push/batch.rs by src/push/call.rs:1 (Batch)"
        ),
        "{}",
        found[0]
    );
}

#[test]
fn mod_rs_counts_as_a_file_of_the_cycle() {
    for root in ["mod batch;\npub use batch::Batch;", "mod batch; fn f() { batch::cut() }", "use self::batch::Batch;"] {
        let found = cycles_of(&[("push/mod.rs", root), ("push/batch.rs", "use super::Limits;")]);
        assert_eq!(found.len(), 1, "{root}: {found:#?}");
    }
    let nested =
        [("push/rate/mod.rs", "mod cubic; use cubic::Cubic;"), ("push/rate/cubic.rs", "fn f(x: super::Rate) {}")];
    assert_eq!(cycles_of(&nested).len(), 1);
}

#[test]
fn imports_without_a_cycle_pass() {
    let found = cycles_of(&[
        ("push/rate.rs", "pub(in crate::push) fn f() {}"),
        ("push/mod.rs", "//! Docs.\nmod batch; mod call; mod rate;\npub use {call::Call, rate::f};"),
        (
            "push/batch.rs",
            "use crate::model::Change;\n#[cfg(test)]\nmod tests { use super::*; use crate::push::Call; }",
        ),
        ("push/call.rs", "use super::batch::{self, Batch};\nuse crate::{im::Client, push::batch::Part};"),
    ]);
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn a_type_name_that_is_defined_twice_is_reported() {
    let text = "pub(super) struct Page<'a> {\n    pub(in crate::push) enum Kind { A }\n}\ntype Names = Vec<u8>;\n    type Item = u8;\n\
                struct Id(u8);\n// struct NotThis {}\npub trait Clock: Send {}";
    assert_eq!(type_names(text), ["Page", "Kind", "Names", "Id", "Clock"]);
    let files = [("a.rs", "struct Id(u8);"), ("b/mod.rs", "pub enum Id {}"), ("c.rs", "struct Ids;")];
    let found = shared_names(files.iter().map(|(path, text)| (Path::new(path), *text)));
    assert_eq!(
        found,
        ["the type name Id is defined in src/a.rs and in src/b/mod.rs; give the more local one a more exact name"]
    );
}
