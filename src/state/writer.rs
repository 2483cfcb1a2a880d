//! The right to write: every write transaction proves first that the lease was not taken by another process.
//!
//! Owns: [`StateWriter`] and the check of the epoch. Must not know: how the lease is taken, what is written.

use std::sync::Arc;

use sqlx::postgres::PgRow;
use sqlx::{PgTransaction, Row as _};

use super::dead_rows::DeadRows;
use super::error::StateError;
use super::other_syncs::OtherSyncs;
use super::pool::StatePool;
use crate::diff::DigestKey;
use crate::model::{AttributeIndex, AttributeNames};

/// Writes to the tables of one sync under one lease epoch. Only taking the lease creates one.
///
/// A write transaction starts with [`StateWriter::begin`]. A single statement names the epoch in its WHERE clause and
/// checks the number of affected rows with [`StateWriter::expect_one`].
#[derive(Clone, Debug)]
pub struct StateWriter {
    pool: StatePool,
    sync_id: i32,
    epoch: i64,
    generation: i32,
    names: AttributeNames,
    digest_key: DigestKey,
    other_syncs: OtherSyncs,
    dead_rows: DeadRows,
}

impl StateWriter {
    /// `row`: the row of the sync, with the epoch under which this writer writes.
    pub(super) fn from_row(pool: StatePool, row: &PgRow) -> Result<Self, StateError> {
        let names: Vec<String> = row.try_get("attribute_names")?;
        Ok(Self {
            pool,
            sync_id: row.try_get("id")?,
            epoch: row.try_get("lease_epoch")?,
            generation: row.try_get("generation")?,
            names: names.into_iter().map(Arc::from).collect(),
            digest_key: DigestKey::new(row.try_get("digest_key")?),
            other_syncs: OtherSyncs::default(),
            dead_rows: DeadRows::default(),
        })
    }

    /// Begins a transaction that holds off the next holder of the lease until it ends.
    ///
    /// # Errors
    ///
    /// [`StateError::LeaseLost`] when another process has taken the lease since.
    pub async fn begin(&self) -> Result<PgTransaction<'static>, StateError> {
        let mut transaction = self.pool.begin().await?;
        let epoch: Option<i64> = sqlx::query_scalar("SELECT lease_epoch FROM sync WHERE id = $1 FOR SHARE")
            .bind(self.sync_id)
            .fetch_optional(&mut *transaction)
            .await?;
        if epoch == Some(self.epoch) { Ok(transaction) } else { Err(StateError::LeaseLost) }
    }

    /// Checks that a statement with the epoch in its WHERE clause affected its one row. It affects none when the
    /// epoch has changed.
    pub(super) fn expect_one(affected: u64) -> Result<(), StateError> {
        if affected == 1 { Ok(()) } else { Err(StateError::LeaseLost) }
    }

    /// The pool, for single statements and reads.
    pub(super) fn pool(&self) -> &StatePool {
        &self.pool
    }

    /// `sync.id` of this sync.
    pub fn sync_id(&self) -> i32 {
        self.sync_id
    }

    /// The epoch of the lease under which this writer writes.
    pub fn epoch(&self) -> i64 {
        self.epoch
    }

    /// The generation of the acknowledged values; rows with a lower one count as unknown.
    pub fn generation(&self) -> i32 {
        self.generation
    }

    pub(super) fn set_generation(&mut self, generation: i32) {
        self.generation = generation;
    }

    /// The attribute names of this sync, in the order of `AttributeIndex`.
    pub fn names(&self) -> &AttributeNames {
        &self.names
    }

    /// The key of the digests of this sync.
    pub fn digest_key(&self) -> &DigestKey {
        &self.digest_key
    }

    /// The other syncs of the app that use an attribute name of this one, as they were read last.
    pub fn other_syncs(&self) -> &OtherSyncs {
        &self.other_syncs
    }

    /// The number of rows of `account`, from which follows when dead ones are removed.
    pub fn set_stored_accounts(&self, rows: u64) {
        self.dead_rows.set_live(rows);
    }

    /// Dead rows of `account`.
    pub(super) fn dead_rows(&self) -> &DeadRows {
        &self.dead_rows
    }

    /// The index of an attribute name.
    pub(super) fn attribute_of(&self, name: &str) -> Option<AttributeIndex> {
        let index = self.names.iter().position(|known| &**known == name)?;
        Some(AttributeIndex(u16::try_from(index).ok()?))
    }

    pub(super) fn set_names(&mut self, names: AttributeNames) {
        self.names = names;
    }
}
