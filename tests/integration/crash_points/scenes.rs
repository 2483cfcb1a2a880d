//! The scenes: what is going on when the process dies, and which points each of them arrives at.
//!
//! Owns: the list of the walk, commands, changes to the table as SQL. Must not know: how a scene is played.

/// What is going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scene {
    /// `backfill`, with neither state tables nor anything in IM.
    First,
    /// The same with an IM that takes its time, so that the pass's position is stored.
    SlowFirst,
    /// `run --once`: half the table changed, with removals, refusals, a call that IM applies and then fails.
    Incremental,
    /// `run --once` after a `run --once` that died with calls in the air.
    Recovery,
    /// `backfill` of a changed table, accounts that are gone included.
    Full,
    /// `run --once` with a state that seems to come from another server.
    Distrust,
    /// `run --once` with another mapping.
    Mapping,
    /// `run --once` while IM refuses an attribute to everybody.
    Suspicion,
    /// `run`.
    Daemon,
}

pub(super) const SCENES: [Scene; 9] = [
    Scene::First,
    Scene::Incremental,
    Scene::Recovery,
    Scene::Full,
    Scene::SlowFirst,
    Scene::Distrust,
    Scene::Mapping,
    Scene::Suspicion,
    Scene::Daemon,
];

impl Scene {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Incremental => "incremental",
            Self::Recovery => "recovery",
            Self::Full => "full",
            Self::SlowFirst => "slow first",
            Self::Distrust => "distrust",
            Self::Mapping => "mapping",
            Self::Suspicion => "suspicion",
            Self::Daemon => "daemon",
        }
    }

    /// The command that dies, and the first of its heirs.
    pub(super) fn command(self) -> &'static [&'static str] {
        match self {
            Self::First | Self::Full | Self::SlowFirst => &["backfill"],
            Self::Daemon => &["run"],
            _ => &["run", "--once"],
        }
    }

    /// What IM does wrong until the process has died, besides refusing [`REFUSED`].
    pub(super) fn fault(self) -> Option<&'static str> {
        match self {
            Self::Incremental | Self::Daemon => Some("apply-then-fail:http-502:times=1"),
            Self::SlowFirst => Some("slow:1200ms:command=set_attr:times=1"),
            Self::Suspicion => Some("refuse:70402:attribute=city:command=set_attr"),
            _ => None,
        }
    }
}

/// One death.
#[derive(Clone, Copy, Debug)]
pub(super) struct Job {
    pub(super) scene: Scene,
    pub(super) point: &'static str,
    pub(super) arrival: usize,
}

const fn at(scene: Scene, point: &'static str, arrival: usize) -> Job {
    Job { scene, point, arrival }
}

/// Every point at least once. First passes stand first: a fresh world begins with one.
pub(super) const WALK: &[Job] = &[
    at(Scene::First, "migration: tables are made, not committed", 1),
    at(Scene::First, "migration: committed", 1),
    at(Scene::First, "start: the sync row is there", 1),
    at(Scene::First, "lease: the lock is held", 1),
    at(Scene::First, "lease: the epoch rose, not committed", 1),
    at(Scene::First, "lease: the epoch rose", 1),
    at(Scene::First, "start: the attributes have slots", 1),
    at(Scene::First, "start: a full pass is due", 1),
    at(Scene::First, "pass: begins", 1),
    at(Scene::First, "full: the first watermark is about to be stored", 1),
    at(Scene::First, "full: the first watermark is stored", 1),
    at(Scene::First, "full: a page of the table is done", 2),
    at(Scene::First, "intent: stored", 1),
    at(Scene::First, "call: answered", 5),
    at(Scene::SlowFirst, "full: the position is about to be stored", 1),
    at(Scene::SlowFirst, "full: the position is stored", 1),
    at(Scene::Recovery, "intents: settled, not committed", 1),
    at(Scene::Recovery, "intents: settled", 1),
    at(Scene::Recovery, "doubts: looked up", 1),
    at(Scene::Recovery, "doubts: about to be put aside", 1),
    at(Scene::Recovery, "doubts: put aside, not committed", 1),
    at(Scene::Recovery, "doubts: put aside", 1),
    at(Scene::Suspicion, "push: a probe has ended", 1),
    at(Scene::Daemon, "delivery: recorded", 1),
    at(Scene::Daemon, "goodbye: about to be stored", 1),
    at(Scene::Distrust, "generation: raised, not committed", 1),
    at(Scene::Distrust, "generation: raised", 1),
    at(Scene::Mapping, "start: rejections are due", 1),
    at(Scene::Full, "full: the table is walked", 1),
    at(Scene::Full, "full: a page of the gone is done", 2),
    at(Scene::Full, "full: the gone are walked", 1),
    at(Scene::Full, "full: a delivery has landed", 1),
    at(Scene::Incremental, "transaction list: read", 1),
    at(Scene::Incremental, "page: read", 2),
    at(Scene::Incremental, "page: compared", 3),
    at(Scene::Incremental, "page: taken", 2),
    at(Scene::Incremental, "drain: begins", 1),
    at(Scene::Incremental, "drain: ended", 2),
    at(Scene::Incremental, "delivery: begins", 1),
    at(Scene::Incremental, "call: about to go", 4),
    at(Scene::Incremental, "call: answered", 3),
    at(Scene::Incremental, "call: about to be repeated", 1),
    at(Scene::Incremental, "push: a batch was halved", 2),
    at(Scene::Incremental, "push: attributes go one by one", 1),
    at(Scene::Incremental, "push: sets have ended", 1),
    at(Scene::Incremental, "delivery: about to be recorded", 2),
    at(Scene::Incremental, "record: not committed", 1),
    at(Scene::Incremental, "record: committed", 1),
    at(Scene::Incremental, "delivery: recorded", 2),
    at(Scene::Incremental, "removals: about to go", 1),
    at(Scene::Incremental, "removals: a chunk is taken", 1),
    at(Scene::Incremental, "rejections: tried again", 1),
    at(Scene::Incremental, "rejections: postponed", 1),
    at(Scene::Incremental, "pass: all is recorded", 1),
    at(Scene::Incremental, "pass: the watermark is stored", 1),
    at(Scene::Incremental, "pass: stands in the history", 1),
    at(Scene::Incremental, "goodbye: about to be stored", 1),
    at(Scene::Incremental, "goodbye: stored", 1),
];

/// Rows `u00001` and on.
pub(super) const PEOPLE: u32 = 120;
/// Accounts that IM refuses whatever is set. The last one's row never changes, so only a retry asks again.
pub(super) const REFUSED: [&str; 3] = ["u00007", "u00017", "u00027"];
/// An account with a value that is too long to be sent.
pub(super) const TOO_LONG: &str = "u00037";

/// Everybody of [`PEOPLE`] who is not in the table, dated as told.
pub(super) fn people(stamp: &str) -> String {
    format!(
        "INSERT INTO users (id, city, plan, gender, updated_at)
         SELECT 'u' || lpad(g::text, 5, '0'), 'city ' || g % 7, CASE g % 3 WHEN 0 THEN 'pro' ELSE 'free' END,
                CASE g % 2 WHEN 0 THEN 'm' ELSE 'f' END, {stamp}
         FROM generate_series(1, {PEOPLE}) g ON CONFLICT (id) DO NOTHING;
         UPDATE users SET city = repeat('x', 55) WHERE id = '{TOO_LONG}';"
    )
}

/// A condition for rows by the number in their account, those of [`REFUSED`] and [`TOO_LONG`] aside.
fn those(condition: &str) -> String {
    those_of("id", condition)
}

fn those_of(id: &str, condition: &str) -> String {
    format!("right({id}, 5)::int {condition} AND {id} NOT IN ('{}', '{TOO_LONG}')", REFUSED.join("', '"))
}

/// What the process that will die finds: sets, removals, soft deletions, refusals, accounts that come back.
///
/// Dated at the earliest moment that a transaction can have which no fence has seen: a watermark that is stored too
/// early, or survives a pass that did not, would leave these rows behind.
pub(super) fn changes(scene: Scene, round: u32, stamp: &str) -> String {
    let again = format!("{}UPDATE users SET updated_at = {stamp} WHERE {};", people(stamp), those("% 10 = 7"));
    if scene == Scene::Suspicion {
        return again;
    }
    format!(
        "{again}
         UPDATE users SET city = 'round {round} ' || id, updated_at = {stamp} WHERE {half};
         UPDATE users SET plan = CASE WHEN plan IS NULL THEN 'pro' END, updated_at = {stamp} WHERE {most};
         UPDATE users SET deleted_at = CASE WHEN deleted_at IS NULL THEN now() END, updated_at = {stamp} WHERE {some};
         UPDATE users SET city = 'refused {round}', plan = 'plan {round}', updated_at = {stamp} WHERE id IN ('{first}', '{second}');
         UPDATE users SET city = repeat('x', 55 + {round} % 2), updated_at = {stamp} WHERE id = '{TOO_LONG}'",
        half = those("% 2 = 0"),
        most = those(&format!("% 3 <> {}", round % 3)),
        some = those("% 9 = 4"),
        first = REFUSED[0],
        second = REFUSED[1],
    )
}

/// One attribute of thirty accounts, and nothing else.
pub(super) fn one_attribute(round: u32, stamp: &str) -> String {
    format!(
        "UPDATE users SET city = 'suspicion {round}', updated_at = {stamp} WHERE id IN
         (SELECT id FROM users WHERE deleted_at IS NULL AND {} ORDER BY id LIMIT 30)",
        those("> 0")
    )
}

/// What happens between the death and the next start: rows are set back to what they were before, with a new stamp or
/// the old one; changed again; deleted, softly or for good.
pub(super) fn meanwhile(round: u32) -> String {
    let back = "SET city = b.city, plan = b.plan, gender = b.gender, deleted_at = b.deleted_at";
    format!(
        "UPDATE users u {back}, updated_at = now() FROM before b WHERE b.id = u.id AND {set_back};
         UPDATE users u {back}, updated_at = b.updated_at FROM before b WHERE b.id = u.id AND {restored};
         UPDATE users SET city = 'again {round}', plan = NULL, updated_at = now() WHERE {again};
         UPDATE users SET deleted_at = CASE WHEN deleted_at IS NULL THEN now() END, updated_at = now() WHERE {soft};
         DELETE FROM users WHERE {hard}",
        set_back = those_of("u.id", "% 5 = 0"),
        restored = those_of("u.id", "% 10 = 7"),
        again = those("% 5 = 1"),
        soft = those("% 10 = 3"),
        hard = those("% 10 = 2"),
    )
}

/// Accounts that [`meanwhile`] changes so that no stamp tells: only a full pass, or a doubt, finds them.
pub(super) fn untold(account: &str) -> bool {
    account.ends_with('2') || account.ends_with('7')
}
