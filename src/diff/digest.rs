//! Digests of wishes and of acknowledged values: 64 bits of SHA-256, stable over releases and machines.
//!
//! Owns: what is hashed and how. Must not know: where digests are stored.

use sha2::{Digest, Sha256};

use crate::model::{Known, Slot, Want};

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

fn add(hasher: &mut Sha256, slot: Slot, value: &str) {
    hasher.update(slot.0.to_be_bytes());
    // A value is at most 50 bytes; the length keeps neighbours apart.
    hasher.update((value.len() as u64).to_be_bytes());
    hasher.update(value);
}

/// Over what IM acknowledged, by slot; [`IN_DOUBT`] when an attribute is in doubt.
pub fn of_acknowledged(acknowledged: &[Known]) -> i64 {
    let mut hasher = Sha256::new();
    for (slot, known) in (0..).map(Slot).zip(acknowledged) {
        match known {
            Known::Absent => {}
            Known::Value(value) => add(&mut hasher, slot, value),
            Known::Unknown | Known::Provisional(_) => return IN_DOUBT,
        }
    }
    finish(hasher)
}

/// What [`of_acknowledged`] will be once the wishes are fulfilled; `None` when they cannot tell
/// (a value is kept or refused), so that the acknowledged values must be looked at.
pub fn once_fulfilled(wants: &[Want], slots_in_order: &[(Slot, usize)]) -> Option<i64> {
    let mut hasher = Sha256::new();
    for (slot, index) in slots_in_order {
        match &wants[*index] {
            Want::Value(value) => add(&mut hasher, *slot, value),
            Want::Absent => {}
            Want::Keep | Want::Refused(_) => return None,
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
pub fn of_wants(wants: &[Want]) -> i64 {
    let mut hasher = Sha256::new();
    for want in wants {
        match want {
            Want::Value(value) => {
                hasher.update(b"v");
                hasher.update((value.len() as u64).to_be_bytes());
                hasher.update(&**value);
            }
            Want::Absent => hasher.update(b"a"),
            Want::Keep => hasher.update(b"k"),
            Want::Refused(_) => hasher.update(b"r"),
        }
    }
    finish(hasher)
}
