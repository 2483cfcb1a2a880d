//! Writes the man pages of imsync and its commands into a directory: `cargo run --example man -- DIRECTORY`.
//!
//! Owns: the form of a page. Must not know: which commands there are.
//!
//! The end of a help text consists of blocks, each with a title (see `src/cli/help.rs`). Each block becomes a section whose
//! lines are kept.

use std::io;
use std::path::Path;

use clap::{Command, CommandFactory as _};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};
use imsync::cli::Cli;

fn main() -> io::Result<()> {
    let directory = std::env::args_os().nth(1);
    let directory = directory.ok_or_else(|| io::Error::other("usage: man DIRECTORY"))?;
    let mut command_line = Cli::command();
    command_line.build();
    write_pages(&command_line, "imsync", Path::new(&directory))
}

/// Writes the page of a command and those of its subcommands.
fn write_pages(command: &Command, page: &str, directory: &Path) -> io::Result<()> {
    let mut bytes = Vec::new();
    render(command, page, &mut bytes)?;
    std::fs::write(directory.join(format!("{page}.1")), bytes)?;
    for subcommand in command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set()) {
        write_pages(subcommand, &format!("{page}-{}", subcommand.get_name()), directory)?;
    }
    Ok(())
}

fn render(command: &Command, page: &str, out: &mut Vec<u8>) -> io::Result<()> {
    let source = format!("imsync {}", env!("CARGO_PKG_VERSION"));
    // The names of subcommands become references to pages, which have the name of the page and not of the command.
    let named = command.clone().display_name(page.to_owned()).after_help("").after_long_help("");
    let man = Man::new(named).title(page).section("1").date("").source(source).manual("imsync");
    man.render_title(out)?;
    man.render_name_section(out)?;
    man.render_synopsis_section(out)?;
    man.render_description_section(out)?;
    if command.get_arguments().next().is_some() {
        man.render_options_section(out)?;
    }
    if command.has_subcommands() {
        man.render_subcommands_section(out)?;
    }
    let end = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
    for block in end.split("\n\n").filter(|block| !block.trim().is_empty()) {
        render_block(block, out)?;
    }
    see_also(command, page).to_writer(out)
}

fn render_block(block: &str, out: &mut Vec<u8>) -> io::Result<()> {
    let (title, lines) = block.trim_matches('\n').split_once('\n').unwrap_or((block, ""));
    let mut roff = Roff::new();
    roff.control("SH", [title.trim_end_matches(':').to_uppercase().as_str()]);
    roff.control("nf", []);
    for line in lines.lines() {
        roff.text([roman(line.strip_prefix("  ").unwrap_or(line))]);
    }
    roff.control("fi", []);
    roff.to_writer(out)
}

fn see_also(command: &Command, page: &str) -> Roff {
    let mut pages: Vec<String> = command.get_subcommands().map(|sub| format!("{page}-{}(1)", sub.get_name())).collect();
    if let Some((parent, _)) = page.rsplit_once('-') {
        pages.insert(0, format!("{parent}(1)"));
    }
    let mut roff = Roff::new();
    if !pages.is_empty() {
        roff.control("SH", ["SEE ALSO"]);
        roff.text([roman(pages.join(", "))]);
    }
    roff
}
