//! The other syncs of the same app in this state schema, as far as they use an attribute name of this sync.
//!
//! Owns: which syncs these are, and how a sync notices that they have changed. Must not know: what is sent, and who waits
//! for whom.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use sqlx::PgConnection;

use super::acknowledged_json::decode;
use super::binding::Binding;
use super::database::State;
use super::error::StateError;
use super::pool::StatePool;
use super::sync_row::SyncRow;
use crate::finding::Finding;
use crate::model::{Account, AcknowledgedValue, AttributeIndex};
use crate::quote::quoted_list;

/// An attribute that two syncs use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedAttribute {
    /// The name in IM.
    pub name: String,
    /// The index in this sync.
    pub own: AttributeIndex,
    /// The index in the other sync.
    pub other: AttributeIndex,
}

/// Another sync of the app that uses an attribute name of this sync.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherSync {
    /// `sync.id`.
    pub id: i32,
    /// The name in its configuration.
    pub name: String,
    /// `source.account_prefix`.
    pub account_prefix: String,
    /// The attributes that both use.
    pub shared: Vec<SharedAttribute>,
}

/// The other syncs, as they were at a version of `sync.other_syncs_version`.
#[derive(Clone, Debug)]
pub(super) struct OtherSyncsAt {
    pub(super) version: i64,
    pub(super) sdk_app_id: String,
    pub(super) syncs: Arc<[OtherSync]>,
}

/// The other syncs as they were read last. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct OtherSyncs(Arc<Mutex<Option<OtherSyncsAt>>>);

impl OtherSyncs {
    /// These other syncs.
    pub fn new(syncs: Vec<OtherSync>) -> Self {
        let at = OtherSyncsAt { version: 0, sdk_app_id: String::new(), syncs: syncs.into() };
        Self(Arc::new(Mutex::new(Some(at))))
    }

    /// The other syncs as they were read last; empty before that.
    pub fn known(&self) -> Arc<[OtherSync]> {
        self.get().map_or_else(|| Arc::from([]), |at| at.syncs)
    }

    pub(super) fn get(&self) -> Option<OtherSyncsAt> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set(&self, at: &OtherSyncsAt) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(at.clone());
    }
}

impl OtherSync {
    /// A warning if both syncs write the same attributes of the same accounts. `account_prefix`: that of this sync.
    pub fn warning(&self, account_prefix: &str) -> Option<Finding> {
        let names: Vec<&str> = self.shared.iter().map(|shared| shared.name.as_str()).collect();
        (self.account_prefix == account_prefix).then(|| {
            let message = format!(
                "the sync \"{}\" in this state schema uses {} of the same app too, under the same account_prefix. IM holds one \
                 value, the one that was sent last; what the other sync holds for an account is not removed",
                self.name,
                quoted_list(&names)
            );
            Finding::warning("state.overlap", message)
                .remedy("make sure that no account belongs to both, or map each attribute in one of them")
        })
    }
}

impl State {
    /// The attributes of these accounts that one of the other syncs holds or may hold, by the index in this sync.
    pub async fn held_by_others(
        &self,
        others: &[OtherSync],
        accounts: &[&str],
    ) -> Result<HashMap<Account, Vec<AttributeIndex>>, StateError> {
        let ids: Vec<i32> = others.iter().map(|other| other.id).collect();
        // Values of an older generation are unknown, so they may be held too.
        let rows: Vec<(i32, String, String)> = sqlx::query_as(
            "SELECT sync_id, account, acknowledged::text FROM account WHERE sync_id = ANY ($1) AND account = ANY ($2)",
        )
        .bind(&ids)
        .bind(accounts)
        .fetch_all(self.pool())
        .await?;
        let mut held: HashMap<Account, Vec<AttributeIndex>> = HashMap::new();
        for (id, account, text) in rows {
            let acknowledged = decode(&text);
            let is_held = |shared: &&SharedAttribute| {
                acknowledged.get(shared.other.index()).is_some_and(|known| *known != AcknowledgedValue::Absent)
            };
            let shared = others.iter().filter(|other| other.id == id).flat_map(|other| &other.shared);
            held.entry(Account::new(account)).or_default().extend(shared.filter(is_held).map(|shared| shared.own));
        }
        Ok(held)
    }

    /// Warnings about other syncs that write the same attributes. `names`: the attributes of the mapping.
    pub async fn overlap_warnings(
        &self,
        own: Option<&SyncRow>,
        app: &Binding,
        names: &[&str],
    ) -> Result<Vec<Finding>, StateError> {
        let others = self.other_syncs(own, app.sdk_app_id, names).await?;
        Ok(others.iter().filter_map(|other| other.warning(&app.account_prefix)).collect())
    }

    /// The other syncs of this app that use one of these attribute names. `own`: the row of this sync, if it has one.
    /// Empty where the tables are missing, or older than this release.
    pub async fn other_syncs(
        &self,
        own: Option<&SyncRow>,
        sdk_app_id: u32,
        names: &[&str],
    ) -> Result<Vec<OtherSync>, StateError> {
        if self.supported_schema_version().await?.is_none() {
            return Ok(Vec::new());
        }
        read_other_syncs(self.pool(), own.map_or(0, |row| row.id), &sdk_app_id.to_string(), names).await
    }
}

pub(super) async fn read_other_syncs(
    pool: &StatePool,
    sync_id: i32,
    sdk_app_id: &str,
    names: &[&str],
) -> Result<Vec<OtherSync>, StateError> {
    let rows: Vec<(i32, String, String, Vec<String>)> = sqlx::query_as(
        "SELECT id, name, coalesce(binding->>'account_prefix', ''), attribute_names FROM sync \
         WHERE id <> $1 AND binding->>'sdk_app_id' = $2 AND attribute_names && $3 ORDER BY name",
    )
    .bind(sync_id)
    .bind(sdk_app_id)
    .bind(names)
    .fetch_all(pool)
    .await?;
    let shared = |theirs: &[String]| {
        let index = |position| AttributeIndex(u16::try_from(position).unwrap_or(u16::MAX));
        let both = |(own, name): (usize, &&str)| {
            let other = theirs.iter().position(|known| known == name)?;
            Some(SharedAttribute { name: (*name).to_owned(), own: index(own), other: index(other) })
        };
        names.iter().enumerate().filter_map(both).collect()
    };
    Ok(rows
        .into_iter()
        .map(|(id, name, account_prefix, theirs)| OtherSync { id, name, account_prefix, shared: shared(&theirs) })
        .collect())
}

/// To be called in the transaction that gives a sync an attribute name or another app. Every other sync then reads again
/// which syncs there are before it stores its next intent. Waits for intents that are being stored.
///
/// Such transactions run one after the other. Otherwise two of them could wait for each other's rows.
pub(super) async fn announce_to_other_syncs(connection: &mut PgConnection, sync_id: i32) -> Result<(), StateError> {
    sqlx::query("UPDATE sync SET other_syncs_version = other_syncs_version + 1 WHERE id <> $1")
        .bind(sync_id)
        .execute(connection)
        .await?;
    Ok(())
}

/// To be called first in a transaction that calls [`announce_to_other_syncs`].
pub(super) async fn lock_announcements(connection: &mut PgConnection) -> Result<(), StateError> {
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended('imsync names ' || current_schema(), 0))")
        .execute(connection)
        .await?;
    Ok(())
}
