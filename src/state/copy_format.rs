//! The binary format of COPY (PostgreSQL manual, COPY, "Binary Format").
//!
//! Owns: the buffer and the form of its fields. Must not know: which table is written.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::error::StateError;

/// 2000-01-01 in microseconds since the Unix epoch.
const PG_EPOCH_MICROS: i64 = 946_684_800_000_000;

/// A `timestamptz` of COPY: microseconds since 2000.
pub(super) fn pg_micros(time: DateTime<Utc>) -> i64 {
    time.timestamp_micros() - PG_EPOCH_MICROS
}

/// Rows in the binary format of COPY.
pub(super) struct CopyData(Vec<u8>);

impl CopyData {
    pub(super) fn with_capacity(bytes: usize) -> Self {
        let mut data = Vec::with_capacity(bytes);
        data.extend(b"PGCOPY\n\xff\r\n\0");
        // No flags, no extension of the header.
        data.extend([0; 8]);
        Self(data)
    }

    pub(super) fn begin_row(&mut self, fields: i16) {
        self.0.extend(fields.to_be_bytes());
    }

    /// `None` is NULL. No field is longer than a row of the state, which is far below 2 GiB.
    pub(super) fn field(&mut self, value: Option<&[u8]>) {
        let length = value.map_or(-1, |value| i32::try_from(value.len()).unwrap_or(i32::MAX));
        self.0.extend(length.to_be_bytes());
        self.0.extend(value.unwrap_or_default());
    }

    /// Sends the rows. `statement`: a COPY from STDIN in the binary format.
    pub(super) async fn copy(mut self, connection: &mut PgConnection, statement: &str) -> Result<(), StateError> {
        self.0.extend((-1_i16).to_be_bytes());
        let mut copy = connection.copy_in_raw(statement).await?;
        if let Err(error) = copy.send(self.0).await {
            // The server says why, if it still answers.
            copy.abort("the rows could not be sent").await?;
            return Err(error.into());
        }
        copy.finish().await?;
        Ok(())
    }
}
