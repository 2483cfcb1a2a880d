//! Storing an intent, also where another sync of the app uses the same attributes.
//!
//! Owns: the transaction that decides which changes of a delivery may be sent now. Must not know: how a decision is made,
//! and what a delivery does with it.
//!
//! Syncs of one app that share an attribute name store their intents under one advisory lock. So each of them sees the
//! intents and values of the others as they are. A sync without such another sync needs one statement: `other_syncs` has
//! the reason why it cannot miss one.

use std::collections::HashMap;
use std::time::Duration;

use sqlx::{PgConnection, PgTransaction, Row as _};

use super::account::{AccountRecord, RetryDue};
use super::account_write::write_accounts;
use super::acknowledged_json::{decode, mark_all_unknown};
use super::error::StateError;
use super::intent::{IntentColumns, insert_intent};
use super::other_syncs::{OtherSync, OtherSyncsAt, read_other_syncs};
use super::overwritten_value::{read_overwritten, write_overwritten};
use super::shared_account::{IntendedChange, OtherClaim, SharedDecision, claims_after, decide};
use super::writer::StateWriter;
use crate::model::AttributeIndex;

/// How often the list of the other syncs is read again when it changes while an intent is stored.
const ATTEMPTS: usize = 10;

/// A stored intent.
#[derive(Debug, Default)]
pub struct StoredIntent {
    /// Its id; `None` when nothing may be sent now.
    pub id: Option<i64>,
    /// What is different because of another sync: the position of the change, and the restriction. Ascending.
    pub restrictions: Vec<(usize, Restriction)>,
}

/// What another sync of the app means for a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Restriction {
    /// Another sync has a call for the account in flight: the change is not in the intent. It can be tried again.
    Blocked,
    /// The change is sent without the removals of attributes that another sync holds.
    Shared {
        /// Attributes to which this sync gave up its claim, which is recorded. They are not removed.
        dropped: Vec<AttributeIndex>,
        /// Attributes whose acknowledged value is unknown now, which is recorded.
        unknown: Vec<AttributeIndex>,
        /// For how long a call of another sync may still be applied after the calls of this one.
        late_write: Option<Duration>,
    },
}

impl StateWriter {
    /// Stores the intent of a delivery, which is committed when this returns.
    pub async fn store_intent(&self, changes: &[IntendedChange<'_>]) -> Result<StoredIntent, StateError> {
        let mut at = match self.other_syncs().get() {
            Some(at) => at,
            None => self.load_other_syncs().await?,
        };
        for _ in 0..ATTEMPTS {
            let is_alone = at.syncs.is_empty() && changes.iter().all(|change| change.given_up.is_empty());
            let stored = if is_alone {
                let mut columns = IntentColumns::default();
                for change in changes {
                    columns.push(change.change, change.change.remove.iter().copied());
                }
                let id = self.insert_intent_alone(&columns, at.version).await?;
                id.map(|id| StoredIntent { id: Some(id), restrictions: Vec::new() })
            } else {
                self.store_shared_intent(changes, &at).await?
            };
            if let Some(stored) = stored {
                return Ok(stored);
            }
            // The lease, or the list of the other syncs, is not what it was.
            self.begin().await?.rollback().await?;
            at = self.load_other_syncs().await?;
        }
        Err(StateError::Unreachable("the syncs of this app changed again and again".to_owned()))
    }

    /// Reads the other syncs again.
    pub async fn read_other_syncs(&self) -> Result<(), StateError> {
        self.load_other_syncs().await.map(|_| ())
    }

    async fn load_other_syncs(&self) -> Result<OtherSyncsAt, StateError> {
        // The version first: if the list changes after that, the version is outdated and the list is read again.
        let (version, sdk_app_id): (i64, String) =
            sqlx::query_as("SELECT other_syncs_version, binding->>'sdk_app_id' FROM sync WHERE id = $1")
                .bind(self.sync_id())
                .fetch_one(self.pool())
                .await?;
        let names: Vec<&str> = self.names().iter().map(|name| &**name).collect();
        let syncs = read_other_syncs(self.pool(), self.sync_id(), &sdk_app_id, &names).await?.into();
        let at = OtherSyncsAt { version, sdk_app_id, syncs };
        self.other_syncs().set(&at);
        Ok(at)
    }

    /// `None` when the other syncs are not those of `at` any more.
    async fn store_shared_intent(
        &self,
        changes: &[IntendedChange<'_>],
        at: &OtherSyncsAt,
    ) -> Result<Option<StoredIntent>, StateError> {
        let mut transaction = self.begin().await?;
        let is_current: bool = sqlx::query_scalar("SELECT other_syncs_version = $2 FROM sync WHERE id = $1 FOR SHARE")
            .bind(self.sync_id())
            .bind(at.version)
            .fetch_one(&mut *transaction)
            .await?;
        if !is_current {
            return Ok(None);
        }
        // A statement of its own: those after it see what the previous owner of the lock has committed.
        sqlx::query(
            "SELECT pg_advisory_xact_lock(hashtextextended('imsync app ' || current_schema() || ' ' || $1, 0))",
        )
        .bind(&at.sdk_app_id)
        .execute(&mut *transaction)
        .await?;
        let accounts: Vec<&str> = changes.iter().map(|change| change.change.account.as_str()).collect();
        let mut claims = read_claims(&mut transaction, &at.syncs, &accounts).await?;
        let mut overwritten = read_overwritten(&mut transaction, self, &accounts).await?;
        let decisions: Vec<SharedDecision> = accounts
            .iter()
            .zip(changes)
            .map(|(account, change)| {
                let claims = claims.remove(*account).unwrap_or_default();
                decide(change, &claims, &overwritten.remove(*account).unwrap_or_default())
            })
            .collect();
        self.write_claims(&mut transaction, changes, &decisions).await?;
        write_overwritten(&mut transaction, self, &accounts, &decisions).await?;
        let mut columns = IntentColumns::default();
        for (change, decision) in changes.iter().zip(&decisions).filter(|(_, decision)| !decision.blocked) {
            let removes = change.change.remove.iter().filter(|attribute| !decision.dropped.contains(attribute));
            columns.push(change.change, removes.copied());
        }
        let id = insert_intent(&mut transaction, self.sync_id(), &columns).await?;
        transaction.commit().await?;
        let restrictions = decisions
            .into_iter()
            .enumerate()
            .filter_map(|(position, decision)| restriction(decision).map(|restriction| (position, restriction)));
        Ok(Some(StoredIntent { id, restrictions: restrictions.collect() }))
    }

    /// Records the claims that this sync gives up, in the transaction that has found another holder. Otherwise both could
    /// give up at the same time, and nobody would remove the value.
    async fn write_claims(
        &self,
        transaction: &mut PgTransaction<'static>,
        changes: &[IntendedChange<'_>],
        decisions: &[SharedDecision],
    ) -> Result<(), StateError> {
        let pairs = changes.iter().zip(decisions);
        let records: Vec<AccountRecord> = pairs
            .filter(|(_, decision)| !decision.dropped.is_empty() || !decision.unknown.is_empty())
            .map(|(change, decision)| AccountRecord {
                account: change.change.account.clone(),
                exists: change.is_stored,
                acknowledged: claims_after(change.acknowledged, &decision.dropped, &decision.unknown),
                due: RetryDue::Now,
                late_write: change.late_write,
            })
            .collect();
        write_accounts(transaction, self, &records).await
    }

    /// Makes the attributes of left-over intents of the other syncs unknown, where no process holds their lease. Otherwise
    /// the accounts would wait until that sync is started again. Takes the place of a holder until the end of the
    /// transaction: nobody else can take the lease, and a former holder cannot write any more.
    pub async fn resolve_intents_of_stopped_syncs(&self, late_write: Duration) -> Result<u64, StateError> {
        let mut resolved = 0;
        for other in self.other_syncs().known().iter() {
            let mut transaction = self.begin().await?;
            let is_stopped: bool = sqlx::query_scalar(
                "SELECT EXISTS (SELECT FROM intent WHERE sync_id = $1) AND \
                 pg_try_advisory_xact_lock(hashtextextended('imsync lease ' || current_schema() || ' ' || $2, 0))",
            )
            .bind(other.id)
            .bind(&other.name)
            .fetch_one(&mut *transaction)
            .await?;
            if !is_stopped {
                continue;
            }
            let row = sqlx::query(
                "UPDATE sync SET lease_epoch = lease_epoch + 1, last_call_at = NULL, running_pass = NULL WHERE id = $1 \
                 RETURNING id, lease_epoch, generation, attribute_names, digest_key",
            )
            .bind(other.id)
            .fetch_one(&mut *transaction)
            .await?;
            let writer = Self::from_row(self.pool().clone(), &row)?;
            resolved += writer.mark_intents_unknown(&mut transaction, &[], late_write).await?;
            transaction.commit().await?;
        }
        Ok(resolved)
    }
}

fn restriction(decision: SharedDecision) -> Option<Restriction> {
    let SharedDecision { blocked, dropped, unknown, late_write, overwrites: _, releases: _ } = decision;
    if blocked {
        return Some(Restriction::Blocked);
    }
    let is_free = dropped.is_empty() && unknown.is_empty() && late_write.is_none();
    (!is_free).then_some(Restriction::Shared { dropped, unknown, late_write })
}

type Claims<'a> = HashMap<String, Vec<(&'a OtherSync, OtherClaim)>>;

/// What the other syncs store for these accounts: values and intents.
async fn read_claims<'a>(
    connection: &mut PgConnection,
    others: &'a [OtherSync],
    accounts: &[&str],
) -> Result<Claims<'a>, StateError> {
    let ids: Vec<i32> = others.iter().map(|other| other.id).collect();
    let rows = sqlx::query(
        "SELECT a.sync_id, a.account, a.acknowledged::text, a.generation < s.generation, \
         extract(epoch FROM a.late_write_until - clock_timestamp())::float8, false \
         FROM account a JOIN sync s ON s.id = a.sync_id WHERE a.sync_id = ANY ($1) AND a.account = ANY ($2) \
         UNION ALL \
         SELECT i.sync_id, c.account, NULL, false, NULL, true FROM intent i, unnest(i.accounts) AS c (account) \
         WHERE i.sync_id = ANY ($1) AND c.account = ANY ($2)",
    )
    .bind(&ids)
    .bind(accounts)
    .fetch_all(connection)
    .await?;
    let mut claims: Claims<'a> = HashMap::new();
    for row in &rows {
        let id: i32 = row.try_get(0)?;
        let Some(other) = others.iter().find(|other| other.id == id) else { continue };
        let mut claim = OtherClaim { has_intent: row.try_get(5)?, ..OtherClaim::default() };
        if let Some(text) = row.try_get::<Option<&str>, _>(2)? {
            claim.acknowledged = decode(text);
            if row.try_get::<bool, _>(3)? {
                mark_all_unknown(&mut claim.acknowledged);
            }
            let left: Option<f64> = row.try_get(4)?;
            claim.late_write = left.and_then(|left| Duration::try_from_secs_f64(left).ok());
        }
        claims.entry(row.try_get(1)?).or_default().push((other, claim));
    }
    Ok(claims)
}
