//! Logging: which events are written, in which format, and where. Log lines go to stderr or to the journal; stdout is
//! for results.
//!
//! Owns: the level filter and the formats. Must not know: which events are worth logging.
//!
//! - `setup` starts logging, decides which events are written, and changes the level of a running process.
//! - `format` resolves the format and builds the layer that writes it.
//! - `text` is the text format of an event; `journal` is the format and the socket of the systemd journal.
//! - `terminal` shares stderr between log lines and progress bars.

mod format;
mod journal;
mod setup;
mod terminal;
mod text;

#[cfg(test)]
mod tests;

pub use setup::{Verbosity, init, set_level};
pub use terminal::progress_bars;
