//! Reads the state of the accounts of a page that lie side by side in the table `account`.
//!
//! Owns: the scan of a range of the key. Must not know: what is desired of an account.
//!
//! A full pass reads the source in the order of its accounts, which often is that of the state too. Then one scan of the key
//! costs a fraction of a look-up for each account.

use super::database::State;
use super::error::StateError;

/// Fewer accounts are looked up one by one.
const MIN_ACCOUNTS: usize = 32;
impl State {
    /// The digest that is stored for each of these accounts: 0 where the row has to be compared attribute by attribute, `None`
    /// for an account without a row. `None` for all where they have to be looked up one by one, because too many other
    /// accounts lie between them.
    pub(super) async fn digests_in_range(
        &self,
        sync_id: i32,
        generation: i32,
        accounts: &[&str],
    ) -> Result<Option<Vec<Option<i64>>>, StateError> {
        if accounts.len() < MIN_ACCOUNTS || !self.range_scans().is_due() {
            return Ok(None);
        }
        let mut in_order: Vec<usize> = (0..accounts.len()).collect();
        in_order.sort_by_key(|position| accounts[*position].as_bytes());
        let (Some(first), Some(last)) = (in_order.first(), in_order.last()) else { return Ok(None) };
        let limit = accounts.len() + accounts.len() / 4;
        // One bound and LIMIT: without statistics, the planner would sort what it finds between two bounds, in however large a
        // part of the table. As arrays: a row of the answer costs more than an account.
        let (stored, digests): (Option<Vec<String>>, Option<Vec<i64>>) = sqlx::query_as(
            "SELECT array_agg(account), array_agg(digest) FROM (SELECT account, \
             CASE WHEN generation = $3 AND in_doubt_retry_at IS NULL THEN digest ELSE 0 END AS digest \
             FROM account WHERE sync_id = $1 AND account >= $2 ORDER BY account LIMIT $4) AS step",
        )
        .bind(sync_id)
        .bind(accounts[*first])
        .bind(generation)
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_one(self.pool())
        .await?;
        let (stored, digests) = (stored.unwrap_or_default(), digests.unwrap_or_default());
        let reaches_last =
            stored.len() < limit || stored.last().is_some_and(|end| end.as_bytes() >= accounts[*last].as_bytes());
        self.range_scans().note(reaches_last);
        if !reaches_last {
            return Ok(None);
        }
        let mut found = vec![None; accounts.len()];
        let mut rows = stored.iter().zip(&digests).peekable();
        for position in in_order {
            let account = accounts[position].as_bytes();
            while rows.next_if(|(stored, _)| stored.as_bytes() < account).is_some() {}
            found[position] = rows.next_if(|(stored, _)| stored.as_bytes() == account).map(|(_, digest)| *digest);
        }
        Ok(Some(found))
    }
}
