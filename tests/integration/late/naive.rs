//! The poller of the usual kind: it remembers the newest stamp it has seen and asks for what is newer.
//!
//! Owns: its polls and its copy. Must not know: imsync.

use std::collections::BTreeMap;

use sqlx::PgConnection;

pub(super) struct Naive {
    session: PgConnection,
    newest: String,
    pub(super) copy: BTreeMap<String, String>,
    pub(super) rows_read: u64,
}

impl Naive {
    /// Begins with a copy of the whole table.
    pub(super) async fn new(session: PgConnection) -> Self {
        let mut naive = Self { session, newest: "-infinity".to_owned(), copy: BTreeMap::new(), rows_read: 0 };
        naive.poll().await;
        naive.rows_read = 0;
        naive
    }

    pub(super) async fn poll(&mut self) {
        let rows: Vec<(String, String, String)> = sqlx::query_as(
            "SELECT id, city, updated_at::text FROM users WHERE updated_at > $1::text::timestamptz
             ORDER BY updated_at, id",
        )
        .bind(&self.newest)
        .fetch_all(&mut self.session)
        .await
        .expect("a plain query");
        self.rows_read += rows.len() as u64;
        for (id, city, stamp) in rows {
            self.copy.insert(id, city);
            self.newest = stamp;
        }
    }
}
