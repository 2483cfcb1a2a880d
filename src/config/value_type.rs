//! What kind of value a key accepts, and how an error message describes it.
//!
//! Owns: the kinds with their limits, and their wording. Must not know: which key has which kind, or how a value is
//! checked.

use std::fmt;
use std::time::Duration;

use super::durations;
use crate::quote;

/// The values that a key accepts. `Display` completes the sentence "expected …".
#[derive(Debug)]
pub(super) enum ValueType {
    /// A string without control characters, with a minimum and a maximum number of bytes.
    Text {
        min_bytes: usize,
        max_bytes: usize,
        /// What the text is, such as "a column name".
        what: &'static str,
        /// The reason for the limits; may be empty.
        remark: &'static str,
    },
    Integer {
        min: u64,
        max: u64,
        /// The reason for the limits, or an explanation; may be empty.
        remark: &'static str,
    },
    /// A number from 0 to 1.
    Share,
    Boolean,
    Duration {
        min: Duration,
        max: Duration,
        /// The example in the message.
        example: &'static str,
        /// Whether `"never"` is accepted too.
        never: bool,
    },
    /// One of these strings.
    Choice(&'static [&'static str]),
    /// A value with its own check, described by this phrase.
    Custom(&'static str),
    /// Like `Custom`, but a message never shows what was found.
    Secret(&'static str),
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text { min_bytes, max_bytes, what, remark } => {
                match min_bytes {
                    0 => write!(f, "{what} of at most {max_bytes} bytes")?,
                    _ => write!(f, "{what} of {min_bytes} to {max_bytes} bytes")?,
                }
                write_remark(f, remark)
            }
            Self::Integer { min, max, remark } => {
                write!(f, "an integer from {min} to {max}")?;
                write_remark(f, remark)
            }
            Self::Share => f.write_str("a number from 0 to 1, such as 0.2 for 20 percent"),
            Self::Boolean => f.write_str("true or false"),
            Self::Duration { min, max, example, never } => {
                let (min, max) = (durations::format(*min), durations::format(*max));
                write!(f, "a duration from {min} to {max}, such as \"{example}\" (units: ms, s, m, h, d)")?;
                if *never { f.write_str(", or \"never\"") } else { Ok(()) }
            }
            Self::Choice(words) => f.write_str(&quote::alternatives(words.iter().map(|word| format!("\"{word}\"")))),
            Self::Custom(phrase) | Self::Secret(phrase) => f.write_str(phrase),
        }
    }
}

fn write_remark(f: &mut fmt::Formatter<'_>, remark: &str) -> fmt::Result {
    if remark.is_empty() { Ok(()) } else { write!(f, " ({remark})") }
}
