//! Checks that the state is true: IM holds every value that `imsync.account` calls acknowledged, at every moment.
//!
//! Owns: the comparison of the state with the simulator. Must not know: how imsync records outcomes.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use imsync::simulator::SimulatorHandle;
use sqlx::{Connection, PgConnection};

use crate::support::TestEnvironment;

/// By account: the time of the record and the acknowledged attributes. `None` means that IM holds no value.
type AcknowledgedValues = BTreeMap<String, (String, BTreeMap<String, Option<String>>)>;

/// Returns what the state claims, and the accounts that have an intent, of one moment: between two statements a record could
/// be committed, which changes the row and deletes the intent.
async fn claims(connection: &mut PgConnection) -> sqlx::Result<(AcknowledgedValues, HashSet<String>)> {
    let mut connection = connection.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    let rows: Vec<(String, String, Vec<String>, String)> = sqlx::query_as(
        "SELECT account, acknowledged_at::text, attribute_names, CASE WHEN account.generation = sync.generation \
         THEN acknowledged::text ELSE '[]' END FROM imsync.account JOIN imsync.sync ON sync.id = sync_id",
    )
    .fetch_all(&mut *connection)
    .await?;
    let with_intent: Vec<String> =
        sqlx::query_scalar("SELECT DISTINCT unnest(accounts) FROM imsync.intent").fetch_all(&mut *connection).await?;
    let mut claims = AcknowledgedValues::new();
    for (account, recorded, names, acknowledged) in rows {
        let values: Vec<serde_json::Value> = serde_json::from_str(&acknowledged).expect("the column holds an array");
        let known = names.into_iter().zip(values).filter_map(|(name, value)| match value {
            serde_json::Value::String(value) => Some((name, Some(value))),
            serde_json::Value::Null => Some((name, None)),
            // The attribute is in doubt: IM may hold either value.
            _ => None,
        });
        claims.insert(account, (recorded, known.collect()));
    }
    Ok((claims, with_intent.into_iter().collect()))
}

/// Returns the claims of the state that are not true. Reads the state before and after it reads IM, and checks only the
/// accounts that do not change in between.
pub(crate) async fn false_claims(
    connection: &mut PgConnection,
    simulator: &SimulatorHandle,
) -> sqlx::Result<Vec<String>> {
    let (before, intents_before) = claims(connection).await?;
    let users = simulator.users();
    let (after, intents_after) = claims(connection).await?;
    let mut found = Vec::new();
    for (account, known) in &before {
        let changes = after.get(account) != Some(known);
        if changes || intents_before.contains(account) || intents_after.contains(account) {
            continue;
        }
        for (name, claimed) in &known.1 {
            let held = users.get(account).and_then(|attributes| attributes.get(name));
            if held != claimed.as_ref() {
                found.push(format!("{account}.{name}: the state claims {claimed:?}, IM holds {held:?}"));
            }
        }
    }
    Ok(found)
}

/// What a history that was kept from the beginning and the state say differently of an attribute: the state holds a value that
/// the newest row did not set, or the newest row sets one that the state does not hold. A refused value that IM holds already
/// was that of a probe.
pub(crate) const HISTORY_CONTRADICTIONS: &str = "
    SELECT count(*) FROM (SELECT DISTINCT ON (sync_id, account, attribute) * FROM imsync.history
        WHERE outcome <> 'rejected' OR old_value IS DISTINCT FROM new_value ORDER BY sync_id, account, attribute, at DESC) AS newest
    FULL JOIN (SELECT sync_id, account, attribute, json_typeof(acknowledged->(n::int - 1)) AS type, acknowledged->>(n::int - 1) AS value
        FROM imsync.account JOIN imsync.sync ON sync.id = sync_id, unnest(attribute_names) WITH ORDINALITY AS a (attribute, n)
        WHERE account.generation = sync.generation) AS stored USING (sync_id, account, attribute)
    WHERE EXISTS (SELECT FROM imsync.history) AND (
        (type = 'string' AND (outcome IS DISTINCT FROM 'acknowledged' OR new_value IS DISTINCT FROM value))
        OR (outcome = 'acknowledged' AND coalesce(type IN ('string', 'null'), NOT EXISTS (SELECT FROM imsync.account AS a
                WHERE (a.sync_id, a.account) = (newest.sync_id, newest.account))) AND new_value IS DISTINCT FROM value))";

/// Asserts that the state claims only what is true.
pub(crate) async fn expect_truth(env: &TestEnvironment) {
    let found =
        false_claims(&mut env.database.connect().await, env.handle()).await.expect("the state tables can be read");
    assert_eq!(found, Vec::<String>::new());
    // `status`, the metrics and the removal guard take these numbers as they are stored.
    let miscounted = "SELECT count(*) FROM imsync.account_count AS c WHERE (c.known, c.in_doubt, c.rejected, c.owed_removals) IS DISTINCT FROM (
            (SELECT count(*) FROM imsync.account a WHERE a.sync_id = c.sync_id AND (in_doubt_retry_at IS NULL OR acknowledged::text LIKE '%\"%')),
            (SELECT count(*) FROM imsync.account a WHERE a.sync_id = c.sync_id AND in_doubt_retry_at IS NOT NULL),
            (SELECT count(DISTINCT account) FROM imsync.rejection r WHERE r.sync_id = c.sync_id),
            (SELECT count(*) FROM imsync.owed_removal o WHERE o.sync_id = c.sync_id))";
    assert_eq!(env.number(miscounted).await, 0, "the numbers of accounts are those of the rows");
    assert_eq!(env.number(HISTORY_CONTRADICTIONS).await, 0, "the history and the state agree");
}

/// Checks the state continuously in the background, until it is stopped.
pub(super) struct StateWatcher {
    stop: Arc<AtomicBool>,
    checks: Arc<AtomicU32>,
    task: tokio::task::JoinHandle<Vec<String>>,
}

impl StateWatcher {
    pub(super) fn start(env: &TestEnvironment) -> Self {
        let (stop, checks) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let (simulator, url) = (env.handle().clone(), env.database.url().to_owned());
        let task = tokio::spawn(watch(url, simulator, stop.clone(), checks.clone()));
        Self { stop, checks, task }
    }

    /// Stops the watcher. Asserts that it has found no false claim and has checked more than a few times.
    pub(super) async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        let found = self.task.await.expect("the watcher ends");
        assert_eq!(found, Vec::<String>::new());
        assert!(self.checks.load(Ordering::Relaxed) > 5, "the watcher has checked the state only a few times");
    }
}

/// Checks the state every 20 ms, and returns all false claims when `stop` is set.
async fn watch(url: String, simulator: SimulatorHandle, stop: Arc<AtomicBool>, checks: Arc<AtomicU32>) -> Vec<String> {
    let mut found = Vec::new();
    let mut connection = None;
    while !stop.load(Ordering::Relaxed) {
        let open = match &mut connection {
            Some(open) => open,
            None => match PgConnection::connect(&url).await {
                Ok(new) => connection.insert(new),
                Err(_) => continue,
            },
        };
        match false_claims(open, &simulator).await {
            Ok(claims) => {
                found.extend(claims);
                checks.fetch_add(1, Ordering::Relaxed);
            }
            // The tables do not exist yet, or the test has terminated the connection.
            Err(_) => connection = None,
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    found
}
