//! The operations of a system, as data: a list of them is a history that can be run again.
//!
//! Owns: the operations. Must not know: how they are executed, or chosen.
//!
//! The `{:?}` output of a list is Rust that can be pasted into `fixed_cases.rs`. Accounts, values and columns are small
//! numbers that `table` turns into texts.

/// One step of a history. Every step is possible in every system: what cannot be done is skipped or rolled back.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Operation {
    /// A session of an application acts. It begins a transaction if none is open.
    Write(usize, WriterAction),
    /// Another session ends a prepared transaction: the oldest, or the newest.
    Finish {
        oldest: bool,
        commit: bool,
    },
    CommandRun(CommandRun),
    /// Starts a daemon, optionally armed to crash. A second daemon stands by; a third is not started.
    Daemon(Option<(&'static str, u64)>),
    /// Sends SIGTERM to the first daemon and waits for its end.
    DaemonTerm,
    /// Sends SIGKILL to the first daemon.
    DaemonKill,
    /// Stops the first daemon for this many milliseconds, like a machine that swaps or migrates.
    DaemonSuspend(u64),
    /// Writes another mapping or filter to the configuration file. A running daemon is not told to reload it.
    Edit(ConfigVersion),
    /// Imports an account into IM.
    Import(u64),
    Fault(Fault),
    ClearFaults,
    /// The server terminates connections of imsync.
    Cut(FaultTarget),
    /// Milliseconds.
    Pause(u64),
    /// `imsync rejected retry`.
    RetryRejected,
    /// The owner alters the relation, with the applications stopped for a moment.
    Alter(Alteration),
    /// Ends transactions and faults and settles all work. Then IM must equal the table.
    Quiesce,
}

/// A one-shot command and the fault it meets.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct CommandRun {
    pub(super) command: Command,
    pub(super) fault: ProcessFault,
    /// The operations that run at the same time.
    pub(super) concurrent: Vec<Operation>,
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
    /// Abort at the nth arrival at this crash point.
    Crash(&'static str, u64),
    /// SIGKILL after this many milliseconds.
    Kill(u64),
    /// SIGTERM after this many milliseconds.
    Term(u64),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum FaultTarget {
    All,
    /// The session that holds the lease.
    Lease,
    /// A single session: the one with the lowest or the highest process id.
    First,
    Last,
}

/// The variants of the configured attributes and filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConfigVersion {
    First,
    /// `lang` is no longer mapped.
    WithoutLang,
    /// One value of `plan` is mapped to another text.
    OtherPlan,
    /// Every fifth account falls out of the filter.
    NarrowFilter,
}

/// A change of the schema. It commits as a whole, and changes values of the rows with `number % modulus = rest` as no
/// watermark shows: like a restored backup, or a migration that computes a column anew.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Alteration {
    /// The watermark column changes between `timestamptz` and `bigint` under its name.
    WatermarkType,
    /// Another table takes the place of the table.
    Table { modulus: u64, rest: u64 },
    /// A mapped column is dropped and created again.
    Column { column: usize, modulus: u64, rest: u64 },
    /// `CREATE OR REPLACE VIEW`.
    View(ViewVersion),
}

/// What the view does with the rows whose number is 3 modulo 7.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ViewVersion {
    Plain,
    /// It does not show them.
    WithoutSome,
    /// It shows another city.
    OtherCity,
}

/// An action in a session of an application. `column` and `value` are indexes into the lists of `table`.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum WriterAction {
    /// An update of one column; `update` decides about its timestamp.
    Set {
        account: u64,
        column: usize,
        value: usize,
        update: WatermarkUpdate,
    },
    /// Sets a value and the old one again, in one transaction.
    SetAndRestore {
        account: u64,
        column: usize,
        value: usize,
    },
    /// Updates all rows with `number % modulus = rest`, with one timestamp.
    Bulk {
        column: usize,
        value: usize,
        modulus: u64,
        rest: u64,
    },
    /// Soft-deletes or restores many rows at once.
    BulkGone {
        modulus: u64,
        rest: u64,
        gone: bool,
    },
    /// Soft-deletes or restores the first accounts.
    GoneBelow {
        below: u64,
        gone: bool,
    },
    /// Sets a text that the filter may cast to a number; an index into `table::EXTRAS`.
    Extra {
        account: u64,
        extra: usize,
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
    /// The row leaves the filter or enters it again.
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
    /// `PREPARE TRANSACTION`; a `Finish` ends it.
    Prepare,
    /// The session disconnects without ending its transaction.
    Disconnect,
}

/// The type of the watermark column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Watermark {
    /// `timestamptz`
    Zoned,
    /// `timestamp`, written in the time zone of Berlin.
    Local,
    /// A `bigint` from a sequence.
    Counter,
    /// No watermark column: every pass compares the whole table.
    None,
}

/// How an update sets the watermark column.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum WatermarkUpdate {
    Now,
    /// Half a second ago: the writer's clock lags within the grace.
    Lagging,
    /// One hour ahead.
    Ahead,
    /// Unchanged, as with a disabled trigger.
    Untouched,
    /// Long ago, as for a restored row.
    Old,
    /// NULL.
    Missing,
}

impl WatermarkUpdate {
    /// Whether an incremental pass must find the update.
    pub(super) fn detectable(self) -> bool {
        matches!(self, Self::Now | Self::Lagging | Self::Ahead)
    }
}

/// A fault of the vendor for some of the calls, until `ClearFaults`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Fault {
    pub(super) kind: FaultKind,
    /// The calls that are affected.
    pub(super) selection: Selection,
    /// Only calls with this account.
    pub(super) account: Option<u64>,
    /// Only calls with this attribute, as an index into `COLUMNS`.
    pub(super) attribute: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Selection {
    Percent { chance: u64, seed: u64 },
    Next(u64),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum FaultKind {
    Refuse(i64),
    /// Only the account fails (`timpush`), or the whole call with it.
    RefuseAccount(i64),
    Fail(Answer),
    ApplyThenFail(Answer),
    /// Milliseconds.
    Hold(u64),
    ApplyThenHold(u64),
    Slow(u64),
    /// The limit, in calls per second.
    Throttle(u32),
    /// Applied this many milliseconds after the caller disconnected.
    LateWrite(u64),
}

/// An incorrect answer.
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
