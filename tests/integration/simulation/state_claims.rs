//! What must hold after every step: the state claims only what IM holds.
//!
//! Owns: reading the state tables independently. Must not know: `src/state`.

use std::collections::{BTreeMap, BTreeSet};

use imsync::simulator::SimulatorHandle;
use serde_json::Value;
use sqlx::PgConnection;

use super::table::Users;
use crate::promises::state_truth::HISTORY_CONTRADICTIONS;

/// What the state claims about one attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum StateClaim {
    Holds(String),
    Nothing,
    Unknown,
}

/// The state at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct StateClaims {
    pub(super) names: Vec<String>,
    /// By account: when it was recorded, and the claims by attribute index.
    pub(super) accounts: BTreeMap<String, (String, Vec<StateClaim>)>,
    /// Account and attribute index of every intent.
    pub(super) intents: BTreeSet<(String, usize)>,
    /// Rejected account and attribute ("" for the whole account).
    pub(super) rejections: BTreeSet<(String, String)>,
}

impl StateClaims {
    /// Reads with one statement, so from one snapshot. The result is empty before imsync's first start.
    pub(super) async fn read(connection: &mut PgConnection) -> sqlx::Result<Self> {
        type Found = (String, Option<String>, Option<String>, Option<bool>, Option<i64>);
        let ready: bool = sqlx::query_scalar("SELECT to_regclass('imsync.rejection') IS NOT NULL")
            .fetch_one(&mut *connection)
            .await?;
        if !ready {
            return Ok(Self::default());
        }
        let found: Vec<Found> = sqlx::query_as(
            "SELECT 'name', n.name, NULL, NULL, n.index FROM imsync.sync, unnest(attribute_names) WITH ORDINALITY AS n (name, index)
             UNION ALL SELECT 'account:' || account.acknowledged_at, account, acknowledged::text, account.generation < sync.generation, NULL
               FROM imsync.account JOIN imsync.sync ON sync.id = sync_id
             UNION ALL SELECT 'intent', i.account, NULL, NULL, i.attribute_mask
               FROM imsync.intent, unnest(accounts, set_attributes, remove_attributes) AS u (account, sets, removals),
                    LATERAL (SELECT u.account, u.sets | u.removals) AS i (account, attribute_mask)
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
                        .extend((0..63).filter(|index| mask & (1 << index) != 0).map(|index| (subject.clone(), index)));
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

    pub(super) fn claim(&self, account: &str, index: usize) -> StateClaim {
        let claims = self.accounts.get(account).map(|(_, claims)| claims);
        claims.and_then(|claims| claims.get(index)).cloned().unwrap_or(StateClaim::Nothing)
    }

    /// Account and attribute of every unknown outcome.
    pub(super) fn attributes_in_doubt(&self) -> impl Iterator<Item = (&str, &str)> {
        self.accounts.iter().flat_map(|(account, (_, claims))| {
            let unknown = claims.iter().zip(&self.names).filter(|(claim, _)| **claim == StateClaim::Unknown);
            unknown.map(move |(_, name)| (account.as_str(), name.as_str()))
        })
    }
}

fn claims(acknowledged: &str, old: bool) -> Vec<StateClaim> {
    let values: Vec<Value> = serde_json::from_str(acknowledged).expect("acknowledged is an array by attribute index");
    let claim = |value: Value| match value {
        Value::Null => StateClaim::Nothing,
        Value::String(value) if !old => StateClaim::Holds(value),
        _ => StateClaim::Unknown,
    };
    values.into_iter().map(claim).collect()
}

/// The false claims. The state is read before and after IM, and only what is equal in both is judged: every change at
/// IM has an intent before it, and another row or an intent after it.
pub(super) async fn false_claims(connection: &mut PgConnection, im: &SimulatorHandle) -> sqlx::Result<Vec<String>> {
    let before = StateClaims::read(connection).await?;
    let users: Users = im.users();
    let after = StateClaims::read(connection).await?;
    let mut found = Vec::new();
    for account in users.keys().chain(before.accounts.keys()).collect::<BTreeSet<_>>() {
        if before.accounts.get(account) != after.accounts.get(account) {
            continue;
        }
        for (index, name) in after.names.iter().enumerate() {
            let under_way = |state: &StateClaims| state.intents.contains(&(account.clone(), index));
            if under_way(&before) || under_way(&after) {
                continue;
            }
            let held = users.get(account).and_then(|attributes| attributes.get(name));
            let is_true = match before.claim(account, index) {
                StateClaim::Unknown => true,
                StateClaim::Nothing => held.is_none(),
                StateClaim::Holds(value) => held == Some(&value),
            };
            if !is_true {
                found.push(format!(
                    "the state claims {:?} for {account}.{name}, IM holds {held:?}",
                    before.claim(account, index)
                ));
            }
        }
    }
    if after.names.is_empty() && !users.is_empty() {
        found.push(format!("IM holds something before the state has any attribute: {users:?}"));
    }
    let has_history: bool =
        sqlx::query_scalar("SELECT to_regclass('imsync.history') IS NOT NULL").fetch_one(&mut *connection).await?;
    if has_history {
        let differing: i64 = sqlx::query_scalar(HISTORY_CONTRADICTIONS).fetch_one(&mut *connection).await?;
        if differing > 0 {
            found.push(format!("the history says something else of {differing} attributes"));
        }
    }
    Ok(found)
}
