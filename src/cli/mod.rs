//! The command line: from arguments to a command and its exit code.
//!
//! Owns: names, flags, help texts, the exit on wrong usage. Must not know: what a command does.
//!
//! `args` declares the arguments for clap, `help` holds the texts below them, and `dispatch` calls the command.
//! `completions` prints what clap knows, so it is here and not in `commands`.

mod args;
mod completions;
mod dispatch;
mod help;
mod init_flags;
mod simulate_flags;

pub use args::Cli;
