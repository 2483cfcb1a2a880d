//! Digests of wishes and of acknowledged values: 64 bits of SHA-256, stable over releases and machines.
//!
//! Owns: what is hashed and how. Must not know: where digests are stored.

use sha2::{Digest, Sha256};

use crate::model::{AcknowledgedValue, AttributeIndex, DesiredValue};

/// The digest of a row in doubt. It equals no digest of known values, so such a row is always read whole.
pub const IN_DOUBT: i64 = 0;

fn finish(hasher: Sha256) -> i64 {
    let bytes = hasher.finalize();
    let mut first = [0; 8];
    first.copy_from_slice(&bytes[..8]);
    // Zero is taken; a digest that happens to be zero becomes one (2^-64).
    match i64::from_be_bytes(first) {
        IN_DOUBT => 1,
        digest => digest,
    }
}

fn add(hasher: &mut Sha256, attribute: AttributeIndex, value: &str) {
    hasher.update(attribute.0.to_be_bytes());
    // A value is at most 50 bytes; the length keeps neighbours apart.
    hasher.update((value.len() as u64).to_be_bytes());
    hasher.update(value);
}

/// Over what IM acknowledged, by attribute; [`IN_DOUBT`] when an attribute is in doubt.
pub fn of_acknowledged(acknowledged: &[AcknowledgedValue]) -> i64 {
    let mut hasher = Sha256::new();
    for (attribute, known) in (0..).map(AttributeIndex).zip(acknowledged) {
        match known {
            AcknowledgedValue::Absent => {}
            AcknowledgedValue::Value(value) => add(&mut hasher, attribute, value),
            AcknowledgedValue::Unknown | AcknowledgedValue::Provisional(_) => return IN_DOUBT,
        }
    }
    finish(hasher)
}

/// What [`of_acknowledged`] will be once the wishes are fulfilled; `None` when they cannot tell
/// (a value is kept or refused), so that the acknowledged values must be looked at.
pub fn once_fulfilled(values: &[DesiredValue], indexes_in_order: &[(AttributeIndex, usize)]) -> Option<i64> {
    let mut hasher = Sha256::new();
    for (attribute, index) in indexes_in_order {
        match &values[*index] {
            DesiredValue::Value(value) => add(&mut hasher, *attribute, value),
            DesiredValue::Absent => {}
            DesiredValue::Keep | DesiredValue::Refused(_) => return None,
        }
    }
    Some(finish(hasher))
}

/// Over one value: a rejection of it stands as long as the wish is the same.
pub fn of_value(value: &str) -> i64 {
    let mut hasher = Sha256::new();
    hasher.update(value);
    finish(hasher)
}

/// Over all wishes of an account.
pub fn of_desired(values: &[DesiredValue]) -> i64 {
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
    finish(hasher)
}
