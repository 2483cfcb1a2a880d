//! What follows when the source is not the one for which the state was stored: another table, server or type.
//!
//! Owns: the comparison of the stored with the present fingerprint, and what is dropped and requested after a change.
//! Must not know: what a fingerprint is made of, the steps of a full pass.

use super::engine::{Engine, watermark_column};
use super::error::PassError;
use super::pages::PageScan;
use crate::crash;
use crate::source::{Source, SourceChanges, SourceError, SourceFingerprint, TransactionList};
use crate::state::StateWriter;
use crate::state::sync_row::SyncRow;
use crate::state::sync_update::FullPassRequest;

/// Why a full pass is due after a change.
fn reason(changes: &SourceChanges) -> String {
    format!("the source has changed: {changes}")
}

fn log(changes: &SourceChanges) {
    let position =
        if changes.invalidate_watermark() { "the stored watermark has no meaning any more, and " } else { "" };
    tracing::warn!("{}; {position}a full pass compares every row", reason(changes));
}

/// Compares the source with the one for which the row was stored, at the start of a process. Returns the row as it is
/// then.
pub(super) async fn check_source(source: &Source, writer: &StateWriter, row: SyncRow) -> Result<SyncRow, PassError> {
    let fingerprint = source.fingerprint().to_json();
    let stored = row.source_fingerprint.as_ref().map(SourceFingerprint::from_json).unwrap_or_default();
    let changes = source.fingerprint().changes_since(&stored);
    if changes.is_empty() {
        if row.source_fingerprint.as_ref() != Some(&fingerprint) {
            writer.save_source_fingerprint(&fingerprint).await?;
        }
        return Ok(SyncRow { source_fingerprint: Some(fingerprint), ..row });
    }
    log(&changes);
    let request = FullPassRequest { number: row.full_pass_request + 1, why: reason(&changes) };
    let forget = changes.invalidate_watermark();
    writer.save_source_change(&fingerprint, &request, forget).await?;
    crash::point("source: a change is stored");
    Ok(SyncRow {
        source_fingerprint: Some(fingerprint),
        full_pass_due: Some(request.why),
        full_pass_request: request.number,
        full_pass_position: None,
        watermark_state: if forget { None } else { row.watermark_state.clone() },
        ..row
    })
}

impl Engine {
    /// Notices between two passes that the table has been altered or replaced, and introspects it again. Returns the
    /// transaction list that it has read, for an incremental pass that has begun already.
    pub async fn follow_source(&mut self) -> Result<Option<TransactionList>, PassError> {
        let source = &mut self.reader.source;
        // One statement reads the list and what shows a change.
        let read = if self.read_position.is_known() && self.full_passes.due_now().is_none() {
            source.transactions().await.map(Some)
        } else {
            source.ensure_unchanged().await.map(|()| None)
        };
        match read {
            Ok(transactions) => Ok(transactions),
            Err(SourceError::Changed(_)) => {
                let source = Source::connect(&self.config, self.comparer.mapping.columns()).await?;
                self.replace_source(source).await.map(|()| None)
            }
            // A lost connection is the matter of the pass, which reports it.
            Err(_) => Ok(None),
        }
    }

    /// Takes a new connection to the source, whose table may be another one than before.
    pub async fn replace_source(&mut self, source: Source) -> Result<(), PassError> {
        let changes = source.fingerprint().changes_since(self.reader.source.fingerprint());
        let fingerprint = source.fingerprint().to_json();
        if !changes.is_empty() {
            log(&changes);
            self.full_passes.request(&reason(&changes));
            let request = FullPassRequest { number: self.full_passes.newest_request(), why: reason(&changes) };
            if changes.invalidate_watermark() {
                self.read_position.forget();
            }
            self.writer.save_source_change(&fingerprint, &request, changes.invalidate_watermark()).await?;
            crash::point("source: a change is stored");
        } else if fingerprint != self.reader.source.fingerprint().to_json() {
            self.writer.save_source_fingerprint(&fingerprint).await?;
        }
        self.read_position.set_column(watermark_column(&source));
        self.reader.source = source;
        self.outlying = PageScan::outlying();
        Ok(())
    }
}
