//! The command line: from arguments to a command and its exit code.
//!
//! Owns: names, flags, help texts, the exit on wrong usage. Must not know: what a command does.
//!
//! `args` declares the arguments for clap, `help` holds the texts below them, and `dispatch` calls the command.

mod args;
mod dispatch;
mod help;
mod init_flags;

pub use args::Cli;
