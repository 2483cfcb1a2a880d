//! Histories that once failed, the part of them that matters, with what was wrong.
//!
//! Owns: the list. Must not know: how they are run.

use super::operation::Operation::{Calm, ClearFaults, CommandRun as Run, Fault as Misbehave, Write};
use super::operation::ProcessFault::None as Unharmed;
use super::operation::{
    Answer, Command, CommandRun, Fault, FaultKind, Watermark, WatermarkUpdate, Which, WriterAction,
};
use super::plan::{Plan, Settings};

/// Name and history of each.
pub(super) fn all() -> Vec<(&'static str, Plan)> {
    vec![("a gateway says 429 to a call that IM has applied", an_answer_that_comes_too_late())]
}

fn settings() -> Settings {
    Settings {
        accounts: 15,
        page_size: 3,
        users_per_call: 3,
        max_in_flight: 2,
        watermark: Watermark::Zoned,
        timpush: true,
        keep_gone: false,
        keep_unmapped: false,
        strangers: false,
        max_share: 100,
        calls_per_second: 66,
        rejected_retry: 3_600,
        ghosts: false,
    }
}

fn once() -> super::operation::Operation {
    Run(CommandRun { command: Command::Once, fault: Unharmed, beside: Vec::new() })
}

/// HTTP 429 counted as "certainly not applied", so a pass that stopped there left the old value acknowledged.
fn an_answer_that_comes_too_late() -> Plan {
    let set = WriterAction::Set { account: 12, column: 0, value: 1, stamp: WatermarkUpdate::Now };
    let late = Fault {
        kind: FaultKind::ApplyThenFail(Answer::RetryLater),
        which: Which::Next(2),
        account: None,
        attribute: None,
    };
    Plan {
        settings: settings(),
        operations: vec![
            once(),
            Write(0, set),
            Write(0, WriterAction::Commit),
            Misbehave(late),
            once(),
            ClearFaults,
            Calm,
        ],
    }
}
