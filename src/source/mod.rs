//! The customer's Postgres table: introspection, keyset pages, look-ups, the fence.
//!
//! Owns: every statement that touches the source database. Must not know: IM, the state tables, the mapping's rules.

use crate::config;
use crate::model::{Account, Row};

pub mod watermark;

pub use watermark::{Bound, Reading};

/// What can go wrong with the source. Displays with table, column or key and the remedy; never with a password.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The database is away or broke off: try again later.
    #[error("the source database is away: {0}")]
    Away(String),
    /// Table, column, type or privilege: the sentence names it and says what to do.
    #[error("{0}")]
    Unsuitable(String),
    /// Any other error of a statement.
    #[error("the source database refused a statement: {0}")]
    Refused(String),
}

/// Where an incremental read goes on: the last row of the page before, both as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    pub watermark: String,
    pub account: String,
}

/// A page of rows, in order, of one snapshot.
#[derive(Debug)]
pub struct Page {
    pub rows: Vec<Row>,
    /// Where an incremental read goes on; `None` on an empty page and in the order of accounts.
    pub cursor: Option<Cursor>,
    /// Fewer rows than asked for: the scan has reached its end.
    pub last: bool,
}

/// One open connection to the source with the table's description. All statements go through it one after the other,
/// so that none of our own sessions appears in a fence.
#[derive(Debug)]
pub struct Source {}

impl Source {
    /// Connects, sets the session (DateStyle and its like, timeouts, `application_name`), introspects, and checks
    /// what a pass needs. `columns` are the mapped columns (see `Mapping::columns`), in their order.
    pub async fn connect(_config: &config::Config, _columns: &[String]) -> Result<Self, SourceError> {
        unimplemented!()
    }

    /// `schema.table`, quoted where needed, as resolved: the state is bound to it.
    pub fn resolved_table(&self) -> &str {
        unimplemented!()
    }

    /// The watermark column serves incremental passes (it is configured).
    pub fn has_watermark(&self) -> bool {
        unimplemented!()
    }

    /// The watermark column is a bigint.
    pub fn watermark_is_counter(&self) -> bool {
        unimplemented!()
    }

    /// Things worth a warning at start: replica, no index, future stamps…
    pub fn warnings(&self) -> &[String] {
        unimplemented!()
    }

    /// Rough number of rows from the planner's statistics, for progress bars; `None` when never analysed.
    pub async fn estimated_rows(&mut self) -> Result<Option<u64>, SourceError> {
        unimplemented!()
    }

    /// Clock (or counter), running and prepared transactions, by separate statements in autocommit and in that order.
    pub async fn reading(&mut self) -> Result<Reading, SourceError> {
        unimplemented!()
    }

    /// The next page in the order (watermark, account) from `from` on (slack subtracted here), after `after`.
    pub async fn changed_since(&mut self, _from: Bound, _after: Option<&Cursor>) -> Result<Page, SourceError> {
        unimplemented!()
    }

    /// The next page in the order of the account column, after the row whose account column has this text.
    pub async fn all_after(&mut self, _after: Option<&str>) -> Result<Page, SourceError> {
        unimplemented!()
    }

    /// The rows of these IM accounts. Accounts without a row, also those that cannot be a value of the column, are simply not among them.
    pub async fn rows_of(&mut self, _accounts: &[Account]) -> Result<Vec<Row>, SourceError> {
        unimplemented!()
    }
}

/// The IM account of a row: prefix put before, format applied. Pure; shared with the mapping through [`config::Source`].
pub fn account_of(_config: &config::Source, _text: &str) -> Account {
    unimplemented!()
}
