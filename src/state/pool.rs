//! The pool of connections to the state database. No statement on it waits for a server that has vanished.
//!
//! Owns: [`StatePool`], and what happens to a connection whose answer does not arrive. Must not know: the tables.
//!
//! The pool is an [`Executor`], so that this holds for every statement and cannot be forgotten.

use std::io;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt as _, TryStreamExt as _};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgPool, PgQueryResult, PgRow, PgStatement, PgTypeInfo};
use sqlx::{Either, Execute, Executor, PgConnection, PgTransaction, Postgres, SqlStr};

use crate::postgres::{self, Connector};

/// `statement_timeout` of each session. The slowest statement (a count over ten million accounts) takes seconds.
pub(super) const STATEMENT_TIMEOUT: Duration = Duration::from_mins(2);
/// No answer takes longer. Longer than `statement_timeout`, so that it only ends what the server cannot end.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(130);

/// The connections of one [`super::State`]. Cheap to clone.
#[derive(Clone, Debug)]
pub struct StatePool {
    pool: PgPool,
    connector: Connector,
}

impl StatePool {
    pub(super) fn new(pool: PgPool, connector: Connector) -> Self {
        Self { pool, connector }
    }

    /// A connection, for several statements. Their caller waits for them with [`StatePool::while_running`].
    pub(super) async fn acquire(&self) -> Result<PoolConnection<Postgres>, sqlx::Error> {
        self.renew_options().await;
        match self.pool.acquire().await {
            Err(error) if self.renewed_after(&error).await => self.pool.acquire().await,
            acquired => acquired,
        }
    }

    /// Gives the pool the options of the moment. It opens a connection only when none is idle, or when an idle one turns
    /// out to be lost; [`StatePool::renewed_after`] is for the latter.
    async fn renew_options(&self) {
        if self.pool.num_idle() == 0 {
            self.set_options(false).await;
        }
    }

    /// Whether a connection may succeed now that was refused with the options of the pool.
    async fn renewed_after(&self, error: &sqlx::Error) -> bool {
        Connector::is_refusal(error) && self.set_options(true).await
    }

    /// False when the options have not changed.
    async fn set_options(&self, refused: bool) -> bool {
        let Some(options) = self.connector.renewed_options(refused).await else {
            return false;
        };
        self.pool.set_connect_options(options);
        true
    }

    /// Begins a transaction. Only the holder of the lease writes in one, and what waits for the server is abandoned when
    /// the lease is lost.
    pub(super) async fn begin(&self) -> Result<PgTransaction<'static>, sqlx::Error> {
        self.renew_options().await;
        match self.pool.begin().await {
            Err(error) if self.renewed_after(&error).await => self.pool.begin().await,
            begun => begun,
        }
    }

    /// Closes all connections.
    pub(super) async fn close(&self) {
        self.pool.close().await;
    }

    /// Waits for statements on another connection than those of [`Executor`], as long as the server answers.
    pub(super) async fn while_running<T, E: From<sqlx::Error>>(
        &self,
        statements: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        postgres::while_running(&self.connector, statements, || {}).await?
    }

    /// Runs one statement on a connection of the pool. A connection without an answer is closed: the pool would wait for
    /// it to become usable again.
    async fn run<T>(
        &self,
        statement: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, sqlx::Error> {
        let mut connection = self.acquire().await?;
        let answer = postgres::while_running(&self.connector, statement(&mut connection), || {});
        match tokio::time::timeout(ANSWER_TIMEOUT, answer).await {
            Ok(Ok(result)) => {
                // Dropped, it would return in a task of its own, and the next statement would open another one meanwhile.
                // The server may vanish before it is back; then it is closed.
                let _ = postgres::while_running(&self.connector, connection.return_to_pool(), || {}).await;
                result
            }
            Ok(Err(lost)) => {
                drop(connection.detach());
                Err(lost)
            }
            Err(_) => {
                drop(connection.detach());
                let message = format!("no answer within {} s", ANSWER_TIMEOUT.as_secs());
                Err(sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, message)))
            }
        }
    }
}

impl<'p> Executor<'p> for &'p StatePool {
    type Database = Postgres;

    /// The answers are collected first. Every statement on the state tables has a limit on its rows.
    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, sqlx::Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let answers = async move {
            let collected =
                self.run(async |connection| connection.fetch_many(query).try_collect::<Vec<_>>().await).await;
            match collected {
                Ok(answers) => answers.into_iter().map(Ok).collect(),
                Err(error) => vec![Err(error)],
            }
        };
        stream::once(answers).flat_map(stream::iter).boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, sqlx::Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        Box::pin(self.run(async |connection| connection.fetch_optional(query).await))
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, sqlx::Error>>
    where
        'p: 'e,
    {
        Box::pin(self.run(async |connection| connection.prepare_with(sql, parameters).await))
    }
}
