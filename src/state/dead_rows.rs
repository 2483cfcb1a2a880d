//! Removes dead versions of the rows of `account` in time, so that the table does not grow with each round of changes.
//!
//! Owns: when a VACUUM is run, and that it disturbs nobody. Must not know: what is written.
//!
//! Autovacuum looks at a table once a minute. In that time a full pass can change every row, and the table then has twice its
//! size for good.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::pool::StatePool;

/// The table is vacuumed when one row in so many is dead.
const LIVE_ROWS_A_DEAD_ONE: u64 = 10;
/// Fewer dead rows than this are left to autovacuum.
const MIN_DEAD_ROWS: u64 = 5_000;

/// What is known of the dead rows of `account`. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct DeadRows(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Rows of the table, as counted at the begin of a pass.
    live: AtomicU64,
    /// Versions that were replaced or deleted since the last VACUUM of this process.
    dead: AtomicU64,
    is_running: AtomicBool,
}

impl DeadRows {
    /// The number of rows of the sync.
    pub(super) fn set_live(&self, rows: u64) {
        self.0.live.store(rows, Ordering::Relaxed);
    }

    /// A transaction has left so many dead rows. Begins a VACUUM in the background when there are many.
    pub(super) fn add(&self, rows: u64, pool: &StatePool) {
        let dead = self.0.dead.fetch_add(rows, Ordering::Relaxed) + rows;
        let limit = MIN_DEAD_ROWS.max(self.0.live.load(Ordering::Relaxed) / LIVE_ROWS_A_DEAD_ONE);
        if dead < limit || self.0.is_running.swap(true, Ordering::SeqCst) {
            return;
        }
        self.0.dead.store(0, Ordering::Relaxed);
        let (shared, pool) = (self.0.clone(), pool.clone());
        tokio::spawn(async move {
            // Where autovacuum is at work already, this returns at once. The role owns the table, unless somebody else has
            // created the schema; then PostgreSQL ignores the statement, and the table is left to autovacuum.
            let vacuum = sqlx::query("VACUUM (SKIP_LOCKED, TRUNCATE false) account").execute(&pool).await;
            if let Err(error) = vacuum {
                tracing::debug!(error = %super::error::StateError::from(error), "the table of accounts was not vacuumed");
            }
            shared.is_running.store(false, Ordering::SeqCst);
        });
    }
}
