//! What can happen in a system, as data: a list of these is a history that can be run again.
//!
//! Owns: the words. Must not know: how they are carried out, or chosen.
//!
//! `{:?}` of a list is Rust that can be pasted into `cases.rs`; accounts, values and columns are small numbers that
//! `table` turns into texts.

/// One step of a history. Every step can be taken in every system: what cannot be done is left out or rolled back.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Operation {
    /// A session of an application does something. It begins a transaction if none is open.
    Write(usize, WriterAction),
    /// A transaction that is prepared is ended by another session: the oldest, or the newest.
    Finish {
        oldest: bool,
        commit: bool,
    },
    CommandRun(CommandRun),
    /// Start a daemon, armed to crash or not. A second one stands by; there is no third.
    Daemon(Option<(&'static str, u64)>),
    /// SIGTERM for the first daemon, and wait for its end.
    DaemonTerm,
    /// `kill -9` for the first daemon.
    DaemonKill,
    /// The first daemon stops for so many milliseconds, as a machine does that swaps or moves.
    DaemonSleeps(u64),
    /// The configuration gets another mapping or filter; a daemon does not hear of it.
    Edit(ConfigVersion),
    /// IM gets to know an account.
    Import(u64),
    Fault(Fault),
    ClearFaults,
    /// Connections of imsync are cut by the server.
    Cut(FaultTarget),
    /// Milliseconds.
    Pause(u64),
    /// `imsync rejected retry`.
    RetryRejected,
    /// Everything ends well for a moment; then IM must equal the table.
    Calm,
}

/// A one-shot command and what befalls it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct CommandRun {
    pub(super) command: Command,
    pub(super) fault: ProcessFault,
    /// What others do meanwhile.
    pub(super) beside: Vec<Operation>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Command {
    /// `run --once`
    Once,
    /// `backfill`
    Backfill { force: bool, allow_removals: bool },
    /// `backfill --account`, an account by number.
    Accounts(Vec<u64>),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum ProcessFault {
    None,
    /// At the nth arrival at this crash point.
    Crash(&'static str, u64),
    /// `kill -9` after so many milliseconds.
    Kill(u64),
    /// SIGTERM after so many milliseconds.
    Term(u64),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum FaultTarget {
    All,
    /// The session that holds the lease.
    Lease,
    /// One of them, whichever the server names first or last.
    First,
    Last,
}

/// What the configuration says of attributes and filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConfigVersion {
    First,
    /// `lang` is not mapped any more.
    WithoutLang,
    /// Another text for one value of `plan`.
    OtherPlan,
    /// Every fifth account falls out of the filter.
    NarrowFilter,
}

/// What a session of an application does. `column` and `value` are places in `table`'s lists.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum WriterAction {
    /// An update that stamps the row as it should.
    Set {
        account: u64,
        column: usize,
        value: usize,
        stamp: WatermarkUpdate,
    },
    /// To a value and back, in one transaction.
    ThereAndBack {
        account: u64,
        column: usize,
        value: usize,
    },
    /// All rows whose number leaves this rest: one timestamp.
    Bulk {
        column: usize,
        value: usize,
        modulus: u64,
        rest: u64,
    },
    /// Many rows leave or come back at once.
    BulkGone {
        modulus: u64,
        rest: u64,
        gone: bool,
    },
    Insert {
        account: u64,
        value: usize,
    },
    Delete {
        account: u64,
    },
    Gone {
        account: u64,
        gone: bool,
    },
    /// The row falls out of the filter or comes back.
    Bot {
        account: u64,
        bot: bool,
    },
    /// The primary key changes.
    Rename {
        from: u64,
        to: u64,
    },
    Savepoint,
    Release,
    RollbackTo,
    Commit,
    CommitAndChain,
    Rollback,
    /// `PREPARE TRANSACTION`: ended by a `Finish`.
    Prepare,
    /// The session ends without a word.
    HangUp,
}

/// What the watermark column is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Watermark {
    /// `timestamptz`
    Zoned,
    /// `timestamp`, written in the zone of Berlin.
    Local,
    /// A `bigint` from a sequence.
    Counter,
    /// There is none: every pass compares the whole table.
    None,
}

/// How an update leaves the watermark column.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum WatermarkUpdate {
    Now,
    /// Half a second ago: a writer whose clock lags within the grace.
    Lagging,
    /// In an hour.
    Ahead,
    /// As it was: a disabled trigger.
    Untouched,
    /// Long ago: a restored row.
    Old,
    /// NULL.
    Missing,
}

impl WatermarkUpdate {
    /// An incremental pass promises to find it.
    pub(super) fn honest(self) -> bool {
        matches!(self, Self::Now | Self::Lagging | Self::Ahead)
    }
}

/// The vendor misbehaves: for some of the calls, until `ClearFaults`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Fault {
    pub(super) kind: FaultKind,
    /// Of a hundred matching calls, with a seed of its own; or the next so many calls.
    pub(super) which: Which,
    /// Only calls with this account.
    pub(super) account: Option<u64>,
    /// Only calls with this attribute, by place.
    pub(super) attribute: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Which {
    Percent { chance: u64, seed: u64 },
    Next(u64),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum FaultKind {
    Refuse(i64),
    /// Only the account fails (`timpush`), or its whole call.
    RefuseAccount(i64),
    Fail(Answer),
    ApplyThenFail(Answer),
    /// Milliseconds.
    Hold(u64),
    ApplyThenHold(u64),
    Slow(u64),
    /// Calls a second.
    Throttle(u32),
    /// Applied so many milliseconds after the caller went away.
    Ghost(u64),
}

/// An answer that is not the right one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Answer {
    Code(i64),
    Http(u16),
    RetryLater,
    Html,
    Cut,
    Close,
    Garbage,
    Huge,
}
