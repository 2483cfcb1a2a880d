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
//! A view, a foreign table, other storage than the heap, and a table with fewer blocks than would be accessed: all rows are
//! read, and a reservoir keeps the sample (algorithm R, Vitter 1985).

use std::collections::HashSet;

use sqlx::Row as _;

use super::error::SourceError;
use super::page::Page;
use super::reader::Source;
use super::table::RelationKind;

/// Positions of one statement, at most. The first statement has as many as would do if every position had a row.
const MAX_POSITIONS_AT_ONCE: u64 = 5_000;
/// So many positions are tried before their share of rows is taken for that of the table.
const FIRST_POSITIONS: u64 = 400;
/// What is drawn beyond the number that is expected to be enough, because the last statement may find fewer rows.
const RESERVE: f64 = 1.2;
/// A relation of at most so many blocks is read as a whole.
const SMALL_RELATION: u64 = 100;
/// The header of a block, and the smallest row with its line pointer. Source: PostgreSQL, `MaxHeapTuplesPerPage`.
const BLOCK_HEADER: u64 = 24;
const SMALLEST_ROW: u64 = 28;

/// The blocks of the largest part and of all, the number of parts, whether all are heaps, and the size of a block.
const PARTS: &str = "
WITH RECURSIVE part (oid) AS (
  SELECT $1::int8::oid UNION SELECT h.inhrelid FROM part JOIN pg_catalog.pg_inherits AS h ON h.inhparent = part.oid)
SELECT coalesce(max(pg_catalog.pg_relation_size(c.oid)), 0)::int8 / current_setting('block_size')::int8,
  coalesce(sum(pg_catalog.pg_relation_size(c.oid)), 0)::int8 / current_setting('block_size')::int8, count(*)::int8,
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
    /// Of the largest part.
    blocks: u64,
    /// Of all parts.
    all_blocks: u64,
    parts: u64,
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
        let number = |index| row.try_get::<i64, _>(index).map(|number| u64::try_from(number).unwrap_or(0));
        let (blocks, all_blocks, parts, block_size) = (number(0)?, number(1)?, number(2)?.max(1), number(4)?);
        let is_heap: bool = row.try_get(3)?;
        let numbers = block_size.saturating_sub(BLOCK_HEADER) / SMALLEST_ROW;
        let is_large = all_blocks > SMALL_RELATION && all_blocks >= wanted as u64 && numbers > 0;
        Ok((is_heap && is_large).then_some(Positions { blocks, all_blocks, parts, numbers }))
    }

    /// Draws positions until enough accounts are found; `None` when that would take more accesses than there are blocks.
    async fn draw(&mut self, positions: &Positions, wanted: usize) -> Result<Option<Vec<String>>, SourceError> {
        // The planner would rather read a table of some ten thousand blocks as a whole.
        self.session.set("enable_seqscan", "off").await?;
        let drawn = self.draw_positions(positions, wanted).await?;
        self.session.set("enable_seqscan", "on").await?;
        Ok(drawn)
    }

    async fn draw_positions(
        &mut self,
        positions: &Positions,
        wanted: usize,
    ) -> Result<Option<Vec<String>>, SourceError> {
        let mut found: Vec<String> = Vec::with_capacity(wanted);
        let mut known = HashSet::with_capacity(wanted);
        let mut tried = 0_u64;
        while found.len() < wanted {
            let missing = (wanted - found.len()) as u64;
            let needed = positions.needed(missing, tried, found.len() as u64);
            // A few positions say little about the others.
            let count = needed.min(MAX_POSITIONS_AT_ONCE).min((tried * 4).max(FIRST_POSITIONS));
            // Each part is accessed at each of the positions.
            let is_too_much =
                |positions_tried: u64| positions_tried.saturating_mul(positions.parts) > positions.all_blocks;
            if is_too_much(tried + count) || (tried >= FIRST_POSITIONS && is_too_much(tried + needed)) {
                return Ok(None);
            }
            tried += count;
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
    /// How many positions probably have so many rows, after `found` rows at `tried` positions.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an estimate"
    )]
    fn needed(&self, missing: u64, tried: u64, found: u64) -> u64 {
        if tried == 0 {
            return missing.div_ceil(self.parts);
        }
        // At least half a row counts as found, so that a poor start does not look like an empty table.
        let rows_at_position = (found as f64).max(0.5) / tried as f64;
        (missing as f64 / rows_at_position * RESERVE).ceil() as u64
    }

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
