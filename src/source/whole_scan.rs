//! How many rows of a scan of the whole table raise an error.
//!
//! Owns: when that is so many that the filter or the view is at fault. Must not know: how a page is read.

/// So many rows of the whole table may raise an error, whatever their share. Above that, and above half of the rows read so
/// far, the filter or the view is at fault, and the scan is given up. Other reads are of chosen rows, such as those that
/// were rejected before, so their share tells nothing.
const MAX_UNREADABLE: usize = 50;

/// What a scan of the whole table has read so far.
#[derive(Debug, Default)]
pub(super) struct WholeScan {
    /// A page of the scan is being read.
    pub(super) is_reading: bool,
    looked_at: usize,
    unreadable: usize,
}

impl WholeScan {
    /// Counts rows, if they belong to the scan.
    pub(super) fn add(&mut self, readable: usize, unreadable: usize) {
        if self.is_reading {
            self.looked_at += readable + unreadable;
            self.unreadable += unreadable;
        }
    }

    /// Whether the filter or the view is at fault, and not single rows.
    pub(super) fn is_hopeless(&self) -> bool {
        self.is_reading && self.unreadable > MAX_UNREADABLE && self.unreadable * 2 > self.looked_at
    }
}
