//! Points in the order of the watermark column.
//!
//! Owns: their comparison and their arithmetic. Must not know: the texts that the database shows for them.

use serde::{Deserialize, Serialize};

/// A point in the order of the watermark column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum WatermarkPoint {
    /// Before every row.
    #[serde(rename = "beginning")]
    Beginning,
    /// Microseconds since the Unix epoch for a timestamp column, the value itself for a bigint column.
    #[serde(rename = "at")]
    At(i64),
}

impl WatermarkPoint {
    /// The bound `by` lower, in the unit of [`WatermarkPoint::At`]. The beginning stays the beginning.
    #[must_use]
    pub fn lowered_by(self, by: i64) -> Self {
        match self {
            Self::Beginning => Self::Beginning,
            Self::At(value) => Self::At(value.saturating_sub(by)),
        }
    }
}

/// What the watermark column contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WatermarkKind {
    /// Times. A list is taken at the time of the database clock, and a transaction writes no stamp older than its start.
    Timestamp,
    /// Values of a sequence. A list is taken at the largest value, and the start of a transaction tells nothing about
    /// the values that it writes.
    Counter,
}

#[cfg(test)]
mod tests {
    use super::WatermarkPoint;

    #[test]
    fn a_bound_is_lowered_and_never_overflows() {
        assert_eq!(WatermarkPoint::At(5).lowered_by(7), WatermarkPoint::At(-2));
        assert_eq!(WatermarkPoint::At(i64::MIN).lowered_by(1), WatermarkPoint::At(i64::MIN));
        assert_eq!(WatermarkPoint::Beginning.lowered_by(1), WatermarkPoint::Beginning);
        assert!(WatermarkPoint::Beginning < WatermarkPoint::At(i64::MIN));
    }
}
