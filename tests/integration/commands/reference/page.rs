//! `docs/commands.md`: the definitions of clap as Markdown.
//!
//! Owns: the form of the page. Must not know: which commands there are.
//!
//! The text at the end of a help text consists of blocks: a title with a colon, then lines that are indented by two blanks. A
//! line may have two columns, which two or more blanks separate; a line that is indented further continues the one before.

use std::fmt::Write as _;

use clap::{Arg, ArgAction, Command};

const HEAD: &str = "\
<!-- Written from src/cli by the test commands::reference with UPDATE_DOCS=1. Edit src/cli/args.rs and src/cli/help.rs. -->

# Commands

`imsync COMMAND --help` prints what this page says. [operating.md](operating.md) describes procedures, and
[configuration.md](configuration.md) the keys of the configuration file.
";

/// The width of a paragraph.
const WIDTH: usize = 120;

/// A block at the end of a help text.
pub(super) struct Block {
    pub(super) title: String,
    /// The lines with their two columns; the second one is empty in a line that has only one.
    pub(super) rows: Vec<(String, String)>,
    /// The lines as they are.
    text: String,
}

/// All commands with their subcommands, in their order.
pub(super) fn commands(root: &Command) -> Vec<&Command> {
    let visible = root.get_subcommands().filter(|command| !command.is_hide_set());
    visible.flat_map(|command| [vec![command], commands(command)].concat()).collect()
}

/// The blocks at the end of the help text of a command.
pub(super) fn blocks(command: &Command) -> Vec<Block> {
    let text = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
    text.split("\n\n").filter(|part| !part.trim().is_empty()).map(block).collect()
}

fn block(part: &str) -> Block {
    let (title, text) = part.trim_matches('\n').split_once('\n').unwrap_or((part, ""));
    let mut rows: Vec<(String, String)> = Vec::new();
    for line in text.lines() {
        match rows.last_mut() {
            Some((_, meaning)) if line.starts_with("   ") && !meaning.is_empty() => {
                write!(meaning, " {}", line.trim()).unwrap();
            }
            _ => {
                let (term, meaning) = line.trim().split_once("  ").unwrap_or((line.trim(), ""));
                rows.push((term.trim().to_owned(), meaning.trim().to_owned()));
            }
        }
    }
    let text = text.lines().map(|line| line.strip_prefix("  ").unwrap_or(line)).collect::<Vec<_>>().join("\n");
    Block { title: title.trim_end_matches(':').to_owned(), rows, text }
}

/// The page.
pub(super) fn reference(root: &Command) -> String {
    let mut page = HEAD.to_owned();
    page.push_str("\n| command | does |\n|---|---|\n");
    for command in commands(root) {
        let name = command.get_bin_name().unwrap_or_default();
        let anchor = name.replace(' ', "-");
        writeln!(page, "| [`{name}`](#{anchor}) | {} |", cell(&about(command).0)).unwrap();
    }
    page.push_str("\n## All commands\n");
    page.push_str(&options(root.get_arguments().filter(|argument| argument.get_id() != "version")));
    for block in blocks(root) {
        page.push_str(&rendered(&block));
    }
    for command in commands(root) {
        page.push_str(&section(command));
    }
    page
}

/// The first paragraph, and the others.
fn about(command: &Command) -> (String, Vec<String>) {
    let text = command.get_long_about().or(command.get_about()).map(ToString::to_string).unwrap_or_default();
    let mut paragraphs = text.split("\n\n").map(|paragraph| paragraph.trim().replace('\n', " "));
    (paragraphs.next().unwrap_or_default(), paragraphs.collect())
}

fn section(command: &Command) -> String {
    let (summary, paragraphs) = about(command);
    let mut section =
        format!("\n## {}\n\n{}\n", command.get_bin_name().unwrap_or_default(), wrapped(&format!("{summary}.")));
    for paragraph in paragraphs {
        write!(section, "\n{}\n", wrapped(&paragraph)).unwrap();
    }
    let usage = command.clone().render_usage().to_string();
    let usage: Vec<&str> = usage.lines().map(|line| line.trim_start_matches("Usage:").trim()).collect();
    write!(section, "\n```text\n{}\n```\n", usage.join("\n")).unwrap();
    section.push_str(&options(command.get_arguments().filter(|argument| !argument.is_global_set())));
    let blocks = blocks(command);
    for block in &blocks {
        section.push_str(&rendered(block));
    }
    if !blocks.iter().any(|block| block.title == "Exit codes") {
        section.push_str("\nThe exit codes are [those of all commands](#all-commands).\n");
    }
    section
}

fn options<'a>(arguments: impl Iterator<Item = &'a Arg>) -> String {
    let rows: Vec<String> = arguments.filter(|argument| !argument.is_hide_set()).map(option).collect();
    if rows.is_empty() { String::new() } else { format!("\n| option | meaning |\n|---|---|\n{}", rows.concat()) }
}

fn option(argument: &Arg) -> String {
    let takes_value = matches!(argument.get_action(), ArgAction::Set | ArgAction::Append);
    let names = argument.get_value_names().unwrap_or_default();
    let value = if takes_value { names.iter().map(|name| format!("<{name}>")).collect() } else { Vec::new() }.join(" ");
    let flags =
        [argument.get_short().map(|short| format!("-{short}")), argument.get_long().map(|long| format!("--{long}"))];
    let flags = flags.into_iter().flatten().collect::<Vec<_>>().join(", ");
    let name = [flags, value].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ");

    let help = argument.get_long_help().or(argument.get_help()).map(ToString::to_string).unwrap_or_default();
    let mut sentences: Vec<String> = help
        .split("\n\n")
        .map(|paragraph| paragraph.trim().replace('\n', " "))
        .filter(|paragraph| !paragraph.is_empty())
        .map(|paragraph| if paragraph.ends_with(['.', '?']) { paragraph } else { paragraph + "." })
        .collect();
    let choices: Vec<String> =
        argument.get_possible_values().iter().map(|value| format!("`{}`", value.get_name())).collect();
    if takes_value && !choices.is_empty() {
        sentences.push(format!("One of {}.", choices.join(", ")));
    }
    if takes_value && let Some(default) = argument.get_default_values().first() {
        sentences.push(format!("Default: `{}`.", default.to_string_lossy()));
    }
    format!("| `{name}` | {} |\n", cell(&sentences.join(" ")))
}

fn rendered(block: &Block) -> String {
    let Block { title, rows, text } = block;
    if title == "Examples" {
        let width = rows.iter().map(|(example, _)| example.chars().count()).max().unwrap_or_default();
        let line = |(example, remark): &(String, String)| match remark.as_str() {
            "" => example.clone(),
            remark => format!("{example:width$}  # {remark}"),
        };
        return format!("\n```sh\n{}\n```\n", rows.iter().map(line).collect::<Vec<_>>().join("\n"));
    }
    if rows.iter().any(|(_, meaning)| meaning.is_empty()) {
        return format!("\n{title}:\n\n```text\n{text}\n```\n");
    }
    let head = match title.as_str() {
        "Exit codes" => "exit code",
        "Signals" => "signal",
        title => title,
    };
    let lines: Vec<String> =
        rows.iter().map(|(term, meaning)| format!("| `{}` | {} |\n", cell(term), cell(meaning))).collect();
    format!("\n| {head} | |\n|---|---|\n{}", lines.concat())
}

/// A text in a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn wrapped(paragraph: &str) -> String {
    let mut lines = vec![String::new()];
    for word in paragraph.split(' ') {
        let line = lines.last_mut().unwrap();
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > WIDTH {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines.join("\n")
}
