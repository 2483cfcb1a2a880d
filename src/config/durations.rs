//! Durations as people write them: an integer and one unit.
//!
//! Owns: their syntax, both ways. Must not know: which key one stands for, or its range.

use std::time::Duration;

/// Units by size, in milliseconds.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// `"250ms"`, `"10s"`, `"5m"`, `"24h"`, `"30d"`. The error is the rule that was broken.
pub fn parse(text: &str) -> Result<Duration, &'static str> {
    const RULE: &str = "a duration is a whole number and one unit of ms, s, m, h, d";
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let &(_, factor) = UNITS.iter().find(|(name, _)| *name == unit).ok_or(RULE)?;
    if number.is_empty() {
        return Err(RULE);
    }
    let number: u64 = number.parse().map_err(|_| "the number is too large")?;
    number.checked_mul(factor).map(Duration::from_millis).ok_or("the number is too large")
}

/// The shortest way to write it that [`parse`] reads back; parts below a millisecond are dropped.
pub fn shown(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis == 0 {
        return "0s".to_owned();
    }
    let (unit, factor) =
        UNITS.into_iter().find(|(_, factor)| millis.is_multiple_of(u128::from(*factor))).unwrap_or(("ms", 1));
    format!("{}{unit}", millis / u128::from(factor))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_unit_is_read() {
        for (text, millis) in [
            ("0s", 0),
            ("250ms", 250),
            ("10s", 10_000),
            ("5m", 300_000),
            ("24h", 86_400_000),
            ("30d", 2_592_000_000),
            ("007s", 7000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "s", "10", "10 s", " 10s", "10S", "1h30m", "1.5h", "-1s", "10sec", "٣s", "1e3s"] {
            assert!(parse(text).is_err(), "{text:?}");
        }
        assert_eq!(parse("99999999999999999999s"), Err("the number is too large"));
        assert_eq!(parse("18446744073709551615d"), Err("the number is too large"));
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(millis in any::<u64>()) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse(&shown(duration)).unwrap(), duration);
        }
    }

    #[test]
    fn the_largest_whole_unit_is_shown() {
        assert_eq!(shown(Duration::from_hours(24)), "1d");
        assert_eq!(shown(Duration::from_secs(90)), "90s");
        assert_eq!(shown(Duration::from_millis(100)), "100ms");
    }
}
