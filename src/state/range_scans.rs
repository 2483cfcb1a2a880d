//! Whether a page of accounts is read by range or looked up one by one.
//!
//! Owns: how often a range is tried. Must not know: statements, accounts.

use std::sync::atomic::{AtomicU32, Ordering};

/// After several vain scans, so many pages are looked up before the next scan.
const MAX_LOOKED_UP: u32 = 16;

/// Whether the next page is scanned.
#[derive(Debug, Default)]
pub(super) struct RangeScans {
    /// So many pages are looked up first.
    looked_up_first: AtomicU32,
    /// So many pages are looked up after the next vain scan.
    after_vain: AtomicU32,
}

impl RangeScans {
    /// Asked once for each page.
    pub(super) fn is_due(&self) -> bool {
        self.looked_up_first.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |pages| pages.checked_sub(1)).is_err()
    }

    /// `paid`: the range held few other accounts.
    pub(super) fn note(&self, paid: bool) {
        let pages = if paid { 0 } else { self.after_vain.load(Ordering::Relaxed) };
        self.looked_up_first.store(pages, Ordering::Relaxed);
        self.after_vain.store(if paid { 1 } else { (pages * 2).clamp(1, MAX_LOOKED_UP) }, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vain_scans_become_rare_until_one_pays() {
        let scans = RangeScans::default();
        let pages_before_scan = || (0..100).take_while(|_| !scans.is_due()).count();
        let vain = [0, 0, 1, 2, 4, 8, 16, 16].map(|expected| {
            let pages = pages_before_scan();
            scans.note(false);
            (pages, expected)
        });
        assert!(vain.iter().all(|(pages, expected)| pages == expected), "{vain:?}");
        assert_eq!(pages_before_scan(), 16);
        scans.note(true);
        assert_eq!(pages_before_scan(), 0);
    }
}
