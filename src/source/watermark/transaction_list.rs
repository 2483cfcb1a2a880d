//! The transaction list: the database clock and the open transactions at one moment.
//!
//! Owns: plain data, the input of the watermark. Must not know: how it is read, what follows from it.

use tokio::time::Instant;

use super::newest_rows::NewestRows;
use super::point::{WatermarkKind, WatermarkPoint};

/// One reading of the source: its clock, then its running transactions, then its prepared transactions.
#[derive(Clone, Debug)]
pub struct TransactionList {
    /// The unit of `taken_at`.
    pub kind: WatermarkKind,
    /// The database clock before the transactions were read, in microseconds since the Unix epoch.
    pub clock: i64,
    /// The position of this list in the order of the watermark column: the clock, or the largest value of a bigint
    /// column ([`WatermarkPoint::Beginning`] for an empty table). Once a pass that began with this list is complete, the
    /// next pass reads from here.
    pub taken_at: WatermarkPoint,
    /// The rows with the largest values of a bigint column.
    pub newest: NewestRows,
    /// The monotonic clock of this process just before `clock` was queried and just after the answer arrived. `None` on
    /// a standby, where `clock` is the time of the last replayed commit and does not advance steadily.
    pub read_between: Option<(Instant, Instant)>,
    /// `pg_postmaster_start_time()` in microseconds since the Unix epoch. Virtual transaction ids start again after a
    /// restart of the server.
    pub server_start: i64,
    /// Sessions of the source database that are in a transaction, without the session that asks.
    pub running: Vec<RunningTransaction>,
    /// Prepared transactions of the source database.
    pub prepared: Vec<PreparedTransaction>,
}

/// A session that is in a transaction.
#[derive(Clone, Debug)]
pub struct RunningTransaction {
    /// The virtual transaction id.
    pub id: String,
    /// The process id of the server process.
    pub pid: i32,
    /// When the transaction began, in microseconds since the Unix epoch; `None` where the role may not see it.
    pub started: Option<i64>,
    /// `application_name`; `None` where the role may not see it.
    pub application: Option<String>,
}

impl RunningTransaction {
    /// `application_name` when it is known and not empty.
    pub(super) fn application_name(&self) -> Option<String> {
        self.application.clone().filter(|name| !name.is_empty())
    }
}

/// A prepared transaction (`PREPARE TRANSACTION`).
#[derive(Clone, Debug)]
pub struct PreparedTransaction {
    /// The virtual transaction id under which it ran; `-1/xid` after a restart of the server.
    pub id: String,
    /// The global transaction identifier that the client gave it.
    pub gid: String,
    /// When it was prepared, in microseconds since the Unix epoch.
    pub prepared_at: i64,
}
