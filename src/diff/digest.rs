//! Digests of desired and of acknowledged values: 64 bits of SHA-256, the same in every release and on every machine.
//!
//! Owns: what is hashed and how. Must not know: where digests are stored.

use sha2::{Digest, Sha256};

use crate::model::{AcknowledgedValue, AttributeIndex, DesiredValue};

/// The digest of an account with an attribute in doubt. No other account has it, so such an account is always compared
/// attribute by attribute.
pub const IN_DOUBT_DIGEST: i64 = 0;

fn first_64_bits(hasher: Sha256) -> i64 {
    let bytes = hasher.finalize();
    let mut first = [0; 8];
    first.copy_from_slice(&bytes[..8]);
    // Zero is reserved; a digest that happens to be zero (with a probability of 2^-64) becomes one.
    match i64::from_be_bytes(first) {
        IN_DOUBT_DIGEST => 1,
        digest => digest,
    }
}

fn add_value(hasher: &mut Sha256, index: AttributeIndex, value: &str) {
    hasher.update(index.0.to_be_bytes());
    // The length separates a value from the next one.
    hasher.update((value.len() as u64).to_be_bytes());
    hasher.update(value);
}

/// The digest of what IM acknowledged; [`IN_DOUBT_DIGEST`] when an attribute is in doubt. `acknowledged` is indexed by
/// attribute.
pub fn of_acknowledged_values(acknowledged: &[AcknowledgedValue]) -> i64 {
    let mut hasher = Sha256::new();
    for (index, value) in (0..).map(AttributeIndex).zip(acknowledged) {
        match value {
            AcknowledgedValue::Absent => {}
            AcknowledgedValue::Value(value) => add_value(&mut hasher, index, value),
            AcknowledgedValue::Unknown | AcknowledgedValue::Provisional(_) => return IN_DOUBT_DIGEST,
        }
    }
    first_64_bits(hasher)
}

/// What [`of_acknowledged_values`] will return once IM has acknowledged all desired values. `None` when a value is kept
/// or refused: the digest then depends on what IM holds.
///
/// `positions` has the index of each configured attribute, in ascending order, with its position in `values`.
pub fn when_all_acknowledged(values: &[DesiredValue], positions: &[(AttributeIndex, usize)]) -> Option<i64> {
    let mut hasher = Sha256::new();
    for (index, position) in positions {
        match &values[*position] {
            DesiredValue::Value(value) => add_value(&mut hasher, *index, value),
            DesiredValue::Absent => {}
            DesiredValue::Keep | DesiredValue::Refused(_) => return None,
        }
    }
    Some(first_64_bits(hasher))
}

/// The digest of one value. A rejection applies as long as the desired value has the same digest.
pub fn of_value(value: &str) -> i64 {
    let mut hasher = Sha256::new();
    hasher.update(value);
    first_64_bits(hasher)
}

/// The digest of all desired values of an account.
pub fn of_desired_values(values: &[DesiredValue]) -> i64 {
    let mut hasher = Sha256::new();
    for desired in values {
        match desired {
            DesiredValue::Value(value) => {
                hasher.update(b"v");
                hasher.update((value.len() as u64).to_be_bytes());
                hasher.update(&**value);
            }
            DesiredValue::Absent => hasher.update(b"a"),
            DesiredValue::Keep => hasher.update(b"k"),
            DesiredValue::Refused(_) => hasher.update(b"r"),
        }
    }
    first_64_bits(hasher)
}
