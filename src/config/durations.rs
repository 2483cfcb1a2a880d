//! The text form of durations: an integer followed by one unit, such as `10s`.
//!
//! Owns: reading and writing that form. Must not know: which key has a duration, or its range.

use std::time::Duration;

/// The units with their length in milliseconds, the longest first.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// Reads `"250ms"`, `"10s"`, `"5m"`, `"24h"` or `"30d"`. The error says what is wrong with the text.
pub fn parse(text: &str) -> Result<Duration, &'static str> {
    const RULE: &str = "a duration is an integer followed by one of the units ms, s, m, h, d";
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let &(_, factor) = UNITS.iter().find(|(name, _)| *name == unit).ok_or(RULE)?;
    if number.is_empty() {
        return Err(RULE);
    }
    let number: u64 = number.parse().map_err(|_| "the number is too large")?;
    number.checked_mul(factor).map(Duration::from_millis).ok_or("the number is too large")
}

/// Writes a duration with the longest unit that needs no fraction, so that [`parse`] reads it back. Parts of less than
/// a millisecond are dropped.
pub fn format(duration: Duration) -> String {
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
    fn every_unit_is_parsed() {
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
    fn other_texts_are_refused() {
        for text in ["", "s", "10", "10 s", " 10s", "10S", "1h30m", "1.5h", "-1s", "10sec", "٣s", "1e3s"] {
            assert!(parse(text).is_err(), "{text:?}");
        }
        assert_eq!(parse("99999999999999999999s"), Err("the number is too large"));
        assert_eq!(parse("18446744073709551615d"), Err("the number is too large"));
    }

    proptest! {
        #[test]
        fn a_formatted_duration_can_be_parsed(millis in any::<u64>()) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse(&format(duration)).unwrap(), duration);
        }
    }

    #[test]
    fn the_longest_unit_without_a_fraction_is_used() {
        assert_eq!(format(Duration::from_hours(24)), "1d");
        assert_eq!(format(Duration::from_secs(90)), "90s");
        assert_eq!(format(Duration::from_millis(100)), "100ms");
    }
}
