//! Draws accounts at random, each row of the relation with the same probability, without reading all of it.
//!
//! Owns: the method, and when the whole relation is read instead. Must not know: what is done with the accounts.
//!
//! A row of a heap has one position (`ctid`): a block and a number in it. Positions are drawn uniformly from all blocks of
//! the largest part and all numbers that a block can have, and the server looks them up with a TID scan. A drawn position
//! has a row or not; each row that is visible has exactly one, so all rows are equally likely, however full their blocks
//! are. (Taking all rows of random blocks, as `TABLESAMPLE SYSTEM` does, would take neighbours together.) The parts of a
//! partitioned table are searched at the same positions, with the same result for each row.
//!
//! A view, a foreign table, other storage than the heap, and a table with fewer blocks than accounts are wanted: all rows
//! are read, and a reservoir keeps the sample (algorithm R, Vitter 1985).

use std::collections::HashSet;

use sqlx::Row as _;

use super::error::SourceError;
use super::page::Page;
use super::reader::Source;
use super::table::RelationKind;

/// Positions of one statement.
const POSITIONS_AT_ONCE: u64 = 5_000;
/// So many positions are drawn for each account that is wanted before the whole relation is read. A block of 8 KiB has 291
/// numbers, and rows of a kilobyte leave 283 of them unused.
const POSITIONS_FOR_ACCOUNT: u64 = 400;
/// A relation of at most so many blocks is read as a whole.
const SMALL_RELATION: u64 = 100;
/// The header of a block, and the smallest row with its line pointer. Source: PostgreSQL, `MaxHeapTuplesPerPage`.
const BLOCK_HEADER: u64 = 24;
const SMALLEST_ROW: u64 = 28;

/// The blocks of the largest part, whether all parts are heaps, and the size of a block.
const PARTS: &str = "
WITH RECURSIVE part (oid) AS (
  SELECT $1::int8::oid UNION SELECT h.inhrelid FROM part JOIN pg_catalog.pg_inherits AS h ON h.inhparent = part.oid)
SELECT coalesce(max(pg_catalog.pg_relation_size(c.oid)), 0)::int8 / current_setting('block_size')::int8,
  coalesce(bool_and(coalesce(a.amname = 'heap', FALSE)), FALSE), current_setting('block_size')::int8
FROM part JOIN pg_catalog.pg_class AS c USING (oid) LEFT JOIN pg_catalog.pg_am AS a ON a.oid = c.relam
WHERE c.relkind IN ('r', 'm', 'f')";

/// A sample of the accounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountSample {
    /// The texts of the account column, in no order, each once.
    pub texts: Vec<String>,
    /// All rows were read for it.
    pub read_all: bool,
}

/// Where rows can be.
struct Positions {
    blocks: u64,
    /// Numbers in a block.
    numbers: u64,
}

impl Source {
    /// Draws at most `wanted` accounts. Fewer if the relation has fewer.
    ///
    /// # Errors
    /// When the source cannot be read.
    pub async fn random_accounts(&mut self, wanted: usize) -> Result<AccountSample, SourceError> {
        if let Some(positions) = self.positions(wanted).await?
            && let Some(texts) = self.draw(&positions, wanted).await?
        {
            return Ok(AccountSample { texts, read_all: false });
        }
        Ok(AccountSample { texts: self.reservoir(wanted).await?, read_all: true })
    }

    /// Where the rows can be; `None` where reading all of them is better.
    async fn positions(&mut self, wanted: usize) -> Result<Option<Positions>, SourceError> {
        match self.table.kind {
            RelationKind::View | RelationKind::Foreign => return Ok(None),
            RelationKind::Table | RelationKind::Partitioned | RelationKind::MaterializedView => {}
        }
        let row = self.session.row(sqlx::query(PARTS).bind(self.table.oid)).await?;
        let (blocks, is_heap, block_size): (i64, bool, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let (blocks, block_size) = (u64::try_from(blocks).unwrap_or(0), u64::try_from(block_size).unwrap_or(8192));
        let numbers = block_size.saturating_sub(BLOCK_HEADER) / SMALLEST_ROW;
        let is_large = blocks > SMALL_RELATION && blocks >= wanted as u64;
        Ok((is_heap && is_large).then_some(Positions { blocks, numbers }))
    }

    /// Draws positions until enough accounts are found; `None` when hardly any position has a row.
    async fn draw(&mut self, positions: &Positions, wanted: usize) -> Result<Option<Vec<String>>, SourceError> {
        let mut found: Vec<String> = Vec::with_capacity(wanted);
        let mut known = HashSet::with_capacity(wanted);
        let mut left = (wanted as u64).saturating_mul(POSITIONS_FOR_ACCOUNT);
        while found.len() < wanted {
            if left == 0 {
                return Ok(None);
            }
            let count = left.min(POSITIONS_AT_ONCE);
            left -= count;
            let drawn: Vec<String> = (0..count).map(|_| positions.draw()).collect();
            let rows = self.session.rows(sqlx::query(self.statements.at_positions.clone()).bind(drawn)).await?;
            let mut texts = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<String>, _>>()?;
            // The server returns them in the order of the table, and the last ones may not be needed.
            shuffle(&mut texts);
            found.extend(texts.into_iter().filter(|text| known.insert(text.clone())));
        }
        found.truncate(wanted);
        Ok(Some(found))
    }

    /// Reads all rows. Each is in the sample with the same probability.
    async fn reservoir(&mut self, wanted: usize) -> Result<Vec<String>, SourceError> {
        let (mut kept, mut seen) = (Vec::with_capacity(wanted), 0_usize);
        let mut after: Option<String> = None;
        loop {
            let page: Page = self.all_after(after.as_deref()).await?;
            let end = page.cursor().and_then(|cursor| cursor.account);
            let unreadable = page.unreadable.iter().map(|row| &*row.account);
            for text in page.rows.iter().filter_map(|row| row.account).chain(unreadable) {
                seen += 1;
                if kept.len() < wanted {
                    kept.push(text.to_owned());
                } else {
                    let place = rand::random_range(0..seen);
                    if let Some(place) = kept.get_mut(place) {
                        text.clone_into(place);
                    }
                }
            }
            if page.last || end.is_none() {
                break;
            }
            after = end;
        }
        self.forget_ahead().await;
        let mut known = HashSet::with_capacity(kept.len());
        kept.retain(|text| known.insert(text.clone()));
        Ok(kept)
    }
}

impl Positions {
    fn draw(&self) -> String {
        // The first number of a block is 1.
        format!("({},{})", rand::random_range(0..self.blocks), rand::random_range(1..=self.numbers))
    }
}

/// Fisher-Yates.
fn shuffle(texts: &mut [String]) {
    for last in (1..texts.len()).rev() {
        texts.swap(last, rand::random_range(0..=last));
    }
}
