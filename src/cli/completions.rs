//! `imsync completions`: the completions of a shell, written from the arguments.
//!
//! Owns: the help text and the output of this command. Must not know: which commands and flags there are.

use std::io::{self, Write as _};

use clap::Command;
use clap_complete::Shell;

use crate::commands::exit::{CommandResult, Exit};

/// The end of the help text, as in `help`.
pub(super) const HELP: &str = "\
Examples:
  imsync completions bash > /etc/bash_completion.d/imsync
  imsync completions zsh > /usr/local/share/zsh/site-functions/_imsync
  imsync completions fish > ~/.config/fish/completions/imsync.fish

Exit codes:
  0  The completions are printed.
  2  The usage is wrong, for example the name of the shell.";

/// Prints the completions of this shell to stdout.
pub(super) fn print(shell: Shell, command_line: &mut Command) -> CommandResult {
    // clap_complete panics when its writer fails, so stdout, which may be a closed pipe, is not its writer.
    let mut script = Vec::new();
    clap_complete::generate(shell, command_line, "imsync", &mut script);
    io::stdout().lock().write_all(&script)?;
    Ok(Exit::Done)
}
