//! How often passes write to the sync row.
//!
//! Owns: when the row and the progress were last stored, and how often they may be. Must not know: what is stored.

use std::time::Duration;

use tokio::time::Instant;

use crate::clock;

/// Passes that record nothing store their read position at most this often.
const IDLE_SAVE: Duration = Duration::from_mins(1);
/// Progress is stored at most this often.
const PROGRESS_SAVE: Duration = Duration::from_secs(1);

/// When the sync row was last written by this process.
#[derive(Debug, Default)]
pub(super) struct SaveTimes {
    row: Option<Instant>,
    progress: Option<Instant>,
}

impl SaveTimes {
    /// Whether a pass that recorded nothing stores its read position.
    pub(super) fn idle_save_is_due(&self) -> bool {
        self.row.is_none_or(|saved| saved.elapsed() >= IDLE_SAVE)
    }

    /// Whether the progress of a running pass may be stored.
    pub(super) fn progress_save_is_due(&self) -> bool {
        self.progress.is_none_or(|saved| saved.elapsed() >= PROGRESS_SAVE)
    }

    /// The sync row was stored at the end of a pass.
    pub(super) fn note_row_saved(&mut self) {
        self.row = Some(clock::monotonic());
    }

    /// The progress of a running pass was stored.
    pub(super) fn note_progress_saved(&mut self) {
        self.progress = Some(clock::monotonic());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn saves_are_due_at_first_and_after_their_intervals() {
        let mut saves = SaveTimes::default();
        assert!(saves.idle_save_is_due() && saves.progress_save_is_due());
        saves.note_row_saved();
        saves.note_progress_saved();
        assert!(!saves.idle_save_is_due() && !saves.progress_save_is_due());
        tokio::time::advance(PROGRESS_SAVE).await;
        assert!(!saves.idle_save_is_due() && saves.progress_save_is_due());
        tokio::time::advance(IDLE_SAVE).await;
        assert!(saves.idle_save_is_due());
    }
}
