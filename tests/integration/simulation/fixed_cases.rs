//! Histories that failed once, reduced to the operations that matter.
//!
//! Owns: the list. Must not know: how they are run.

use super::operation::Operation::{ClearFaults, CommandRun as Run, Fault as AddFault, Quiesce, Write};
use super::operation::ProcessFault::None as Unharmed;
use super::operation::{
    Answer, Command, CommandRun, Fault, FaultKind, Selection, Watermark, WatermarkUpdate, WriterAction,
};
use super::plan::Plan;
use super::settings::Settings;

/// The name and the history of each case.
pub(super) fn all() -> Vec<(&'static str, Plan)> {
    vec![("a gateway answers 429 to a call that IM has applied", throttled_after_the_call_was_applied())]
}

fn settings() -> Settings {
    Settings {
        accounts: 15,
        page_size: 3,
        users_per_call: 3,
        max_in_flight: 2,
        watermark: Watermark::Zoned,
        view: false,
        casts: false,
        timpush: true,
        keep_gone: false,
        keep_unmapped: false,
        unimported: false,
        max_share: 100,
        timeout: 1_000,
        calls_per_second: 66,
        full_every: 86_400,
        rejected_retry: 3_600,
        late_writes: false,
    }
}

fn once() -> super::operation::Operation {
    Run(CommandRun { command: Command::Once, fault: Unharmed, concurrent: Vec::new() })
}

/// HTTP 429 counted as "certainly not applied", so a pass that stopped there kept the old value as acknowledged.
fn throttled_after_the_call_was_applied() -> Plan {
    let set = WriterAction::Set { account: 12, column: 0, value: 1, update: WatermarkUpdate::Now };
    let applied_then_throttled = Fault {
        kind: FaultKind::ApplyThenFail(Answer::RetryLater),
        selection: Selection::Next(2),
        account: None,
        attribute: None,
    };
    Plan {
        settings: settings(),
        operations: vec![
            once(),
            Write(0, set),
            Write(0, WriterAction::Commit),
            AddFault(applied_then_throttled),
            once(),
            ClearFaults,
            Quiesce,
        ],
    }
}
