//! The state never lies: what `imsync.account` calls known is what the simulator holds, at every moment.
//!
//! Owns: the comparison. Must not know: how imsync records outcomes.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use sqlx::{Connection, PgConnection};

use crate::support::TestEnvironment;

type AcknowledgedValues = BTreeMap<String, (String, BTreeMap<String, Option<String>>)>;

/// What the state claims: by account the time of recording and the known attributes; accounts with an intent left out.
async fn claims(connection: &mut PgConnection) -> sqlx::Result<(AcknowledgedValues, HashSet<String>)> {
    let rows: Vec<(String, String, Vec<String>, String)> = sqlx::query_as(
        "SELECT account, acknowledged_at::text, attribute_names, CASE WHEN account.generation = sync.generation \
         THEN acknowledged::text ELSE '[]' END FROM imsync.account JOIN imsync.sync ON sync.id = sync_id",
    )
    .fetch_all(&mut *connection)
    .await?;
    let under_way: Vec<String> =
        sqlx::query_scalar("SELECT DISTINCT unnest(accounts) FROM imsync.intent").fetch_all(&mut *connection).await?;
    let mut ledger = AcknowledgedValues::new();
    for (account, recorded, names, acknowledged) in rows {
        let slots: Vec<serde_json::Value> = serde_json::from_str(&acknowledged).expect("an array of slots");
        let known = names.into_iter().zip(slots).filter_map(|(name, slot)| match slot {
            serde_json::Value::String(value) => Some((name, Some(value))),
            serde_json::Value::Null => Some((name, None)),
            // In doubt: either value may be there.
            _ => None,
        });
        ledger.insert(account, (recorded, known.collect()));
    }
    Ok((ledger, under_way.into_iter().collect()))
}

/// Claims that are not so. Looks at the state before and after it looks at IM, and judges only what stood still.
pub(crate) async fn lies(
    connection: &mut PgConnection,
    env: &imsync::simulator::SimulatorHandle,
) -> sqlx::Result<Vec<String>> {
    let (before, moving) = claims(connection).await?;
    let users = env.users();
    let (after, still_moving) = claims(connection).await?;
    let mut lies = Vec::new();
    for (account, known) in &before {
        if after.get(account) != Some(known) || moving.contains(account) || still_moving.contains(account) {
            continue;
        }
        for (name, claimed) in &known.1 {
            let held = users.get(account).and_then(|attributes| attributes.get(name));
            if held != claimed.as_ref() {
                lies.push(format!("{account}.{name}: the state claims {claimed:?}, IM holds {held:?}"));
            }
        }
    }
    Ok(lies)
}

/// The state claims nothing that is not so.
pub(crate) async fn expect_truth(env: &TestEnvironment) {
    let lies = lies(&mut env.database.connect().await, env.handle()).await.expect("the state tables can be read");
    assert_eq!(lies, Vec::<String>::new());
}

/// Looks for lies all the time until it is told to stop.
pub(super) struct StateWatcher {
    stop: Arc<AtomicBool>,
    looks: Arc<AtomicU32>,
    task: tokio::task::JoinHandle<Vec<String>>,
}

impl StateWatcher {
    pub(super) fn start(env: &TestEnvironment) -> Self {
        let (stop, looks) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let (handle, url) = (env.handle().clone(), env.database.url().to_owned());
        let (stopped, counted) = (stop.clone(), looks.clone());
        let task = tokio::spawn(async move {
            let mut found = Vec::new();
            let mut connection = None;
            while !stopped.load(Ordering::Relaxed) {
                let open = match &mut connection {
                    Some(open) => open,
                    None => match PgConnection::connect(&url).await {
                        Ok(new) => connection.insert(new),
                        Err(_) => continue,
                    },
                };
                match lies(open, &handle).await {
                    Ok(lies) => {
                        found.extend(lies);
                        counted.fetch_add(1, Ordering::Relaxed);
                    }
                    // No tables yet, or the connection was cut: that is part of the test.
                    Err(_) => connection = None,
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            found
        });
        Self { stop, looks, task }
    }

    /// No lie was seen, and it was looked.
    pub(super) async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        let found = self.task.await.expect("the watch ends");
        assert_eq!(found, Vec::<String>::new());
        assert!(self.looks.load(Ordering::Relaxed) > 5, "the watch had looked only a few times");
    }
}
