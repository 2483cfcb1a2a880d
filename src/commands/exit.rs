//! How a command ends: its exit code, and the message of a failure.
//!
//! Owns: the exit codes, and which code an error or the outcome of a pass has. Must not know: what a command does.

use std::fmt::Display;
use std::io;

use crate::pass::{PassError, PassOutcome};
use crate::service::connect::ConnectError;
use crate::source::SourceError;
use crate::state::StateError;

/// The exit codes, which scripts rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// The command is done.
    Done = 0,
    /// The command could not finish, for a reason that only a database or IM can tell, or it was interrupted.
    Failed = 1,
    /// The usage or the configuration is wrong. Nothing was touched.
    Usage = 2,
    /// The command finished, and some accounts are rejected.
    Rejected = 3,
}

/// The result of every command.
pub type CommandResult = Result<Exit, CommandFailure>;

/// Why a command could not do its work.
#[derive(Debug)]
pub struct CommandFailure {
    /// The exit code of the process.
    pub exit: Exit,
    /// The message for stderr. An empty message is not printed.
    pub message: String,
}

impl CommandFailure {
    /// A failure with the exit code 1.
    pub fn failed(message: impl Display) -> Self {
        Self { exit: Exit::Failed, message: message.to_string() }
    }

    /// A failure with the exit code 2.
    pub fn usage(message: impl Display) -> Self {
        Self { exit: Exit::Usage, message: message.to_string() }
    }
}

impl From<io::Error> for CommandFailure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            // The reader of a listing, such as `head`, has closed the pipe. That is not an error.
            return Self { exit: Exit::Done, message: String::new() };
        }
        Self::failed(error)
    }
}

macro_rules! exit_with_1_on {
    ($($error:ty),+) => {$(
        impl From<$error> for CommandFailure {
            fn from(error: $error) -> Self {
                Self::failed(error)
            }
        }
    )+};
}
exit_with_1_on!(ConnectError, PassError, SourceError, StateError);

/// The exit code of a command that ran one pass with this outcome.
pub(super) fn exit_of(outcome: PassOutcome) -> Exit {
    match outcome {
        PassOutcome::Ok => Exit::Done,
        PassOutcome::Rejected => Exit::Rejected,
        PassOutcome::Failed | PassOutcome::Guard | PassOutcome::Interrupted => Exit::Failed,
    }
}
