//! What must hold after every step: the state claims nothing that IM does not hold, and no rule of the vendor was broken.
//!
//! Owns: reading the state tables by itself. Must not know: `src/state`.

use std::collections::{BTreeMap, BTreeSet};

use imsync::simulator::SimulatorHandle;
use serde_json::Value;
use sqlx::PgConnection;

use super::table::Users;

/// What the state says of one attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    Holds(String),
    Nothing,
    Unknown,
}

/// The state at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    pub(super) names: Vec<String>,
    /// By account: when it was recorded, and the claims by slot.
    pub(super) accounts: BTreeMap<String, (String, Vec<Claim>)>,
    /// Account and slot of every intent.
    pub(super) intents: BTreeSet<(String, usize)>,
    /// Rejected account and attribute ("" for the whole account).
    pub(super) rejections: BTreeSet<(String, String)>,
}

impl State {
    /// One statement, so one snapshot. Empty before first use.
    pub(super) async fn read(connection: &mut PgConnection) -> sqlx::Result<Self> {
        type Found = (String, Option<String>, Option<String>, Option<bool>, Option<i64>);
        let ready: bool = sqlx::query_scalar("SELECT to_regclass('imsync.rejection') IS NOT NULL")
            .fetch_one(&mut *connection)
            .await?;
        if !ready {
            return Ok(Self::default());
        }
        let found: Vec<Found> = sqlx::query_as(
            "SELECT 'name', n.name, NULL, NULL, n.slot FROM imsync.sync, unnest(attribute_names) WITH ORDINALITY AS n (name, slot)
             UNION ALL SELECT 'account:' || account.acknowledged_at, account, acknowledged::text, account.generation < sync.generation, NULL
               FROM imsync.account JOIN imsync.sync ON sync.id = sync_id
             UNION ALL SELECT 'intent', i.account, NULL, NULL, i.slots
               FROM imsync.intent, unnest(accounts, set_attributes, remove_attributes) AS u (account, sets, removals),
                    LATERAL (SELECT u.account, u.sets | u.removals) AS i (account, slots)
             UNION ALL SELECT 'rejection', account, attribute, NULL, NULL FROM imsync.rejection",
        )
        .fetch_all(connection)
        .await?;
        let mut state = Self::default();
        let mut names: Vec<(i64, String)> = Vec::new();
        for (kind, subject, text, old, number) in found {
            let subject = subject.unwrap_or_default();
            match kind.as_str() {
                "name" => names.push((number.unwrap_or_default(), subject)),
                "intent" => {
                    let mask = number.unwrap_or_default();
                    state
                        .intents
                        .extend((0..63).filter(|slot| mask & (1 << slot) != 0).map(|slot| (subject.clone(), slot)));
                }
                "rejection" => {
                    state.rejections.insert((subject, text.unwrap_or_default()));
                }
                recorded => {
                    let claims = claims(&text.unwrap_or_default(), old == Some(true));
                    state.accounts.insert(subject, (recorded.to_owned(), claims));
                }
            }
        }
        names.sort();
        state.names = names.into_iter().map(|(_, name)| name).collect();
        Ok(state)
    }

    pub(super) fn claim(&self, account: &str, slot: usize) -> Claim {
        let claims = self.accounts.get(account).map(|(_, claims)| claims);
        claims.and_then(|claims| claims.get(slot)).cloned().unwrap_or(Claim::Nothing)
    }

    /// Account and attribute of every doubt.
    pub(super) fn doubts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.accounts.iter().flat_map(|(account, (_, claims))| {
            let unknown = claims.iter().zip(&self.names).filter(|(claim, _)| **claim == Claim::Unknown);
            unknown.map(move |(_, name)| (account.as_str(), name.as_str()))
        })
    }
}

fn claims(acknowledged: &str, old: bool) -> Vec<Claim> {
    let slots: Vec<Value> = serde_json::from_str(acknowledged).expect("acknowledged is an array by slot");
    let claim = |slot: Value| match slot {
        Value::Null => Claim::Nothing,
        Value::String(value) if !old => Claim::Holds(value),
        _ => Claim::Unknown,
    };
    slots.into_iter().map(claim).collect()
}

/// Claims that are not so. The state is read before and after IM, and only what stood still between is judged: whatever
/// changes at IM has an intent before it changes, and another row or an intent after.
pub(super) async fn lies(connection: &mut PgConnection, im: &SimulatorHandle) -> sqlx::Result<Vec<String>> {
    let before = State::read(connection).await?;
    let users: Users = im.users();
    let after = State::read(connection).await?;
    let mut lies = Vec::new();
    for account in users.keys().chain(before.accounts.keys()).collect::<BTreeSet<_>>() {
        if before.accounts.get(account) != after.accounts.get(account) {
            continue;
        }
        for (slot, name) in after.names.iter().enumerate() {
            let under_way = |state: &State| state.intents.contains(&(account.clone(), slot));
            if under_way(&before) || under_way(&after) {
                continue;
            }
            let held = users.get(account).and_then(|attributes| attributes.get(name));
            let so = match before.claim(account, slot) {
                Claim::Unknown => true,
                Claim::Nothing => held.is_none(),
                Claim::Holds(value) => held == Some(&value),
            };
            if !so {
                lies.push(format!(
                    "the state claims of {account}.{name} {:?}, IM holds {held:?}",
                    before.claim(account, slot)
                ));
            }
        }
    }
    if after.names.is_empty() && !users.is_empty() {
        lies.push(format!("IM holds something before the state has any attribute: {users:?}"));
    }
    Ok(lies)
}
