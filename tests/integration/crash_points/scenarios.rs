//! The scenarios: what is running when the process aborts, and at which points each of them arrives.
//!
//! Owns: the list of the walk, the commands, the table changes as SQL. Must not know: how a scenario is run.

/// The situation in which the process aborts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scenario {
    /// `backfill`, with neither state tables nor any data in IM.
    First,
    /// The same with a slow IM, so that the position of the pass is stored.
    SlowFirst,
    /// `run --once`: half of the table changed, with removals, refusals, and a call that IM applies and answers with an
    /// error.
    Incremental,
    /// `run --once` after a `run --once` that aborted with calls in flight.
    Recovery,
    /// `backfill` of a changed table, including gone accounts.
    Full,
    /// `run --once` with a state that appears to come from another server.
    ForeignState,
    /// `run --once` with a state that was stored for another table of the same name.
    OtherTable,
    /// `run --once` with another mapping.
    Mapping,
    /// `run --once` while IM refuses one attribute for every account.
    RefusedAttribute,
    /// `run`.
    Daemon,
    /// `run` while IM never answers for one account.
    SilentAccount,
    /// `run --once` while Chat does not know one account and cannot create it at once.
    UnknownAccount,
}

pub(super) const SCENARIOS: [Scenario; 12] = [
    Scenario::First,
    Scenario::Incremental,
    Scenario::Recovery,
    Scenario::Full,
    Scenario::SlowFirst,
    Scenario::ForeignState,
    Scenario::OtherTable,
    Scenario::Mapping,
    Scenario::RefusedAttribute,
    Scenario::Daemon,
    Scenario::SilentAccount,
    Scenario::UnknownAccount,
];

impl Scenario {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Incremental => "incremental",
            Self::Recovery => "recovery",
            Self::Full => "full",
            Self::SlowFirst => "slow first",
            Self::ForeignState => "foreign state",
            Self::OtherTable => "other table",
            Self::Mapping => "mapping",
            Self::RefusedAttribute => "refused attribute",
            Self::Daemon => "daemon",
            Self::SilentAccount => "silent account",
            Self::UnknownAccount => "unknown account",
        }
    }

    /// The command that aborts, and that is run again first.
    pub(super) fn command(self) -> &'static [&'static str] {
        match self {
            Self::First | Self::Full | Self::SlowFirst => &["backfill"],
            Self::Daemon | Self::SilentAccount => &["run"],
            _ => &["run", "--once"],
        }
    }

    /// The faults of IM until the process has aborted, besides refusing [`REFUSED`], separated by blanks.
    pub(super) fn fault(self) -> Option<&'static str> {
        match self {
            Self::Incremental | Self::Daemon => Some("apply-then-fail:http-502:times=1"),
            // Two calls in sequence: the delivery then takes longer than the second between two saves of the progress, also
            // on a busy machine.
            Self::SlowFirst => Some("slow:1200ms:command=set_attr:times=2"),
            Self::SilentAccount => Some("late:600m:command=set_attr:account=u00014"),
            Self::UnknownAccount => Some(
                "refuse:70107:per-account:command=set_attr:account=u00014 refuse:70402:per-account:command=multiaccount_import:account=u00014",
            ),
            Self::RefusedAttribute => Some("refuse:70402:attribute=city:command=set_attr"),
            _ => None,
        }
    }
}

/// One abort.
#[derive(Clone, Copy, Debug)]
pub(super) struct CrashCase {
    pub(super) scenario: Scenario,
    pub(super) point: &'static str,
    pub(super) arrival: usize,
}

const fn at(scenario: Scenario, point: &'static str, arrival: usize) -> CrashCase {
    CrashCase { scenario, point, arrival }
}

/// Every point at least once. First passes come first, because a new system begins with one.
pub(super) const WALK: &[CrashCase] = &[
    at(Scenario::First, "migration: tables created, not committed", 1),
    at(Scenario::First, "migration: committed", 1),
    at(Scenario::First, "start: the sync row exists", 1),
    at(Scenario::First, "lease: the lock is acquired", 1),
    at(Scenario::First, "lease: the epoch is incremented, not committed", 1),
    at(Scenario::First, "lease: the epoch is incremented", 1),
    at(Scenario::First, "start: the attribute names are stored", 1),
    at(Scenario::First, "start: a full pass is due", 1),
    at(Scenario::First, "pass: begins", 1),
    at(Scenario::First, "full: the first watermark is about to be stored", 1),
    at(Scenario::First, "full: the first watermark is stored", 1),
    at(Scenario::First, "full: a page of the table is done", 2),
    at(Scenario::First, "intent: stored", 1),
    at(Scenario::First, "call: answered", 5),
    at(Scenario::SlowFirst, "full: the position is about to be stored", 1),
    at(Scenario::SlowFirst, "full: the position is stored", 1),
    at(Scenario::Recovery, "intents: resolved, not committed", 1),
    at(Scenario::Recovery, "intents: resolved", 1),
    at(Scenario::Recovery, "in doubt: looked up", 1),
    at(Scenario::Recovery, "in doubt: about to be postponed", 1),
    at(Scenario::Recovery, "in doubt: postponed, not committed", 1),
    at(Scenario::Recovery, "in doubt: postponed", 1),
    at(Scenario::RefusedAttribute, "probe: the intent is stored", 1),
    at(Scenario::RefusedAttribute, "push: a probe has ended", 1),
    at(Scenario::RefusedAttribute, "probe: the outcome is recorded", 1),
    at(Scenario::Daemon, "delivery: recorded", 1),
    at(Scenario::Daemon, "last call: about to be stored", 1),
    at(Scenario::SilentAccount, "accounts: deferred", 1),
    at(Scenario::SilentAccount, "delivery: partly recorded", 1),
    at(Scenario::SilentAccount, "push: a batch was split without an answer", 1),
    at(Scenario::SilentAccount, "deferrals: ended", 1),
    at(Scenario::UnknownAccount, "push: unknown accounts were looked up", 1),
    at(Scenario::UnknownAccount, "push: unknown accounts were imported", 1),
    at(Scenario::ForeignState, "generation: incremented, not committed", 1),
    at(Scenario::ForeignState, "generation: incremented", 1),
    at(Scenario::OtherTable, "source: a change is stored", 1),
    at(Scenario::Mapping, "start: rejections are due", 1),
    at(Scenario::Mapping, "rejections: a step is due", 1),
    at(Scenario::Full, "full: the table is read", 1),
    at(Scenario::Full, "full: a page of gone accounts is done", 1),
    at(Scenario::Full, "full: the gone accounts are read", 1),
    at(Scenario::Full, "full: a delivery has completed", 1),
    at(Scenario::Incremental, "transaction list: read", 1),
    at(Scenario::Incremental, "page: read", 2),
    at(Scenario::Incremental, "page: compared", 3),
    at(Scenario::Incremental, "page: enqueued", 2),
    at(Scenario::Incremental, "drain: begins", 1),
    at(Scenario::Incremental, "drain: ended", 2),
    at(Scenario::Incremental, "delivery: begins", 1),
    at(Scenario::Incremental, "call: about to be sent", 4),
    at(Scenario::Incremental, "call: answered", 3),
    at(Scenario::Incremental, "call: about to be retried", 1),
    at(Scenario::Incremental, "push: a batch was halved", 2),
    at(Scenario::Incremental, "push: attributes are sent one by one", 1),
    at(Scenario::Incremental, "push: sets have ended", 1),
    at(Scenario::Incremental, "delivery: about to be recorded", 2),
    at(Scenario::Incremental, "record: not committed", 1),
    at(Scenario::Incremental, "record: committed", 1),
    at(Scenario::Incremental, "delivery: recorded", 2),
    at(Scenario::Incremental, "removals: owed, not committed", 1),
    at(Scenario::Incremental, "removals: owed", 1),
    at(Scenario::Incremental, "removals: about to be sent", 1),
    at(Scenario::Incremental, "removals: permitted", 1),
    at(Scenario::Incremental, "removals: a chunk is enqueued", 1),
    at(Scenario::Incremental, "rejections: retried", 1),
    at(Scenario::Incremental, "rejections: postponed", 1),
    at(Scenario::Incremental, "pass: outcomes are recorded", 1),
    at(Scenario::Incremental, "pass: the watermark is stored", 1),
    at(Scenario::Incremental, "pass: added to the history", 1),
    at(Scenario::Incremental, "history: old rows are deleted", 1),
    at(Scenario::Incremental, "last call: about to be stored", 1),
    at(Scenario::Incremental, "last call: stored", 1),
];

/// The number of rows, `u00001` and on.
pub(super) const PEOPLE: u32 = 120;
/// Accounts for which IM refuses every set. The row of the last one never changes, so only a retry sends it again.
pub(super) const REFUSED: [&str; 3] = ["u00007", "u00017", "u00027"];
/// An account with a value that is too long to be sent.
pub(super) const TOO_LONG: &str = "u00037";

/// Inserts those of [`PEOPLE`] accounts that are not in the table, with this timestamp.
pub(super) fn people(timestamp: &str) -> String {
    format!(
        "INSERT INTO users (id, city, plan, gender, updated_at)
         SELECT 'u' || lpad(g::text, 5, '0'), 'city ' || g % 7, CASE g % 3 WHEN 0 THEN 'pro' ELSE 'free' END,
                CASE g % 2 WHEN 0 THEN 'm' ELSE 'f' END, {timestamp}
         FROM generate_series(1, {PEOPLE}) g ON CONFLICT (id) DO NOTHING;
         UPDATE users SET city = repeat('x', 55) WHERE id = '{TOO_LONG}';"
    )
}

/// A condition for rows by the number in their account, except those of [`REFUSED`] and [`TOO_LONG`].
fn rows(condition: &str) -> String {
    condition_on("id", condition)
}

fn condition_on(id: &str, condition: &str) -> String {
    format!("right({id}, 5)::int {condition} AND {id} NOT IN ('{}', '{TOO_LONG}')", REFUSED.join("', '"))
}

/// The changes before the process aborts: sets, removals, soft deletions, refusals, accounts that come back.
///
/// They have the earliest timestamp that a transaction can have which no transaction list has shown. A watermark that
/// is stored too early, or that survives a failed pass, would miss these rows.
pub(super) fn changes(scenario: Scenario, round: u32, timestamp: &str) -> String {
    let again = format!("{}UPDATE users SET updated_at = {timestamp} WHERE {};", people(timestamp), rows("% 10 = 7"));
    if scenario == Scenario::RefusedAttribute {
        return again;
    }
    // Some rows of a full pass are gone for good, which only its search of the stored accounts finds.
    let gone = if scenario == Scenario::Full {
        format!("DELETE FROM users WHERE {};", rows("% 20 = 17"))
    } else {
        String::new()
    };
    format!(
        "{again} {gone}
         UPDATE users SET city = 'round {round} ' || id, updated_at = {timestamp} WHERE {half};
         UPDATE users SET plan = CASE WHEN plan IS NULL THEN 'pro' END, updated_at = {timestamp} WHERE {most};
         UPDATE users SET deleted_at = CASE WHEN deleted_at IS NULL THEN now() END, updated_at = {timestamp} WHERE {some};
         UPDATE users SET city = 'refused {round}', plan = 'plan {round}', updated_at = {timestamp} WHERE id IN ('{first}', '{second}');
         UPDATE users SET city = repeat('x', 55 + {round} % 2), updated_at = {timestamp} WHERE id = '{TOO_LONG}'",
        half = rows("% 2 = 0"),
        most = rows(&format!("% 3 <> {}", round % 3)),
        some = rows("% 9 = 4"),
        first = REFUSED[0],
        second = REFUSED[1],
    )
}

/// Changes one attribute of thirty accounts, and nothing else.
pub(super) fn one_attribute(round: u32, timestamp: &str) -> String {
    format!(
        "UPDATE users SET city = 'new {round}', updated_at = {timestamp} WHERE id IN
         (SELECT id FROM users WHERE deleted_at IS NULL AND {} ORDER BY id LIMIT 30)",
        rows("> 0")
    )
}

/// Changes the account for which IM never answers.
pub(super) fn change_of_silent_account(number: u32) -> String {
    format!("UPDATE users SET city = 'silent {number}', updated_at = now() WHERE id = 'u00014'")
}

/// The changes between the abort and the next start. Rows are set back to their earlier values, with a new timestamp or
/// the old one, changed again, or deleted, softly or for good.
pub(super) fn changes_after_abort(round: u32) -> String {
    let back = "SET city = b.city, plan = b.plan, gender = b.gender, deleted_at = b.deleted_at";
    format!(
        "UPDATE users u {back}, updated_at = now() FROM before b WHERE b.id = u.id AND {set_back};
         UPDATE users u {back}, updated_at = b.updated_at FROM before b WHERE b.id = u.id AND {restored};
         UPDATE users SET city = 'again {round}', plan = NULL, updated_at = now() WHERE {again};
         UPDATE users SET deleted_at = CASE WHEN deleted_at IS NULL THEN now() END, updated_at = now() WHERE {soft};
         DELETE FROM users WHERE {hard}",
        set_back = condition_on("u.id", "% 5 = 0"),
        restored = condition_on("u.id", "% 10 = 7"),
        again = rows("% 5 = 1"),
        soft = rows("% 10 = 3"),
        hard = rows("% 10 = 2"),
    )
}

/// Whether [`changes_after_abort`] changes this account without a new timestamp. Only a full pass, or an unknown
/// outcome, finds such a change.
pub(super) fn changes_without_timestamp(account: &str) -> bool {
    account.ends_with('2') || account.ends_with('7')
}
