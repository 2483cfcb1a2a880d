//! Digests of desired and of acknowledged values: 64 bits of SHA-256 under a random key of the sync, the same in every
//! release and on every machine.
//!
//! Owns: what is hashed and how. Must not know: where digests and keys are stored.
//!
//! Users choose the values. Without a key, anybody could compute two values with the same 64 bits (about 2^32 attempts),
//! and imsync would take a change from one to the other for no change.

use std::fmt;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::model::{AcknowledgedValue, AttributeIndex, DesiredText, DesiredValue};

/// The digest of an account with an attribute in doubt. No other account has it, so such an account is always compared
/// attribute by attribute.
const IN_DOUBT_DIGEST: i64 = 0;

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

/// The key of the digests of one sync: random bytes that no user of the customer's app knows.
#[derive(Clone, PartialEq, Eq)]
pub struct DigestKey(Arc<[u8]>);

impl fmt::Debug for DigestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DigestKey")
    }
}

impl DigestKey {
    /// A key of these bytes.
    pub fn new(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    fn hasher(&self) -> Sha256 {
        let mut hasher = Sha256::new();
        // The length separates the key from the values.
        hasher.update((self.0.len() as u64).to_be_bytes());
        hasher.update(&self.0);
        hasher
    }

    /// The digest of what IM acknowledged; [`IN_DOUBT_DIGEST`] when an attribute is in doubt. `acknowledged` is indexed by
    /// attribute.
    pub fn of_acknowledged_values(&self, acknowledged: &[AcknowledgedValue]) -> i64 {
        let mut hasher = self.hasher();
        for (index, value) in (0..).map(AttributeIndex).zip(acknowledged) {
            match value {
                AcknowledgedValue::Absent => {}
                AcknowledgedValue::Value(value) => add_value(&mut hasher, index, value),
                AcknowledgedValue::Unknown | AcknowledgedValue::Provisional(_) => return IN_DOUBT_DIGEST,
            }
        }
        first_64_bits(hasher)
    }

    /// What [`DigestKey::of_acknowledged_values`] will return once IM has acknowledged all desired values. `None` when a value is kept
    /// or refused: the digest then depends on what IM holds.
    ///
    /// `values` has the index of each configured attribute, in ascending order, with its desired value.
    pub fn when_all_acknowledged<'v>(
        &self,
        values: impl Iterator<Item = (AttributeIndex, DesiredText<'v>)>,
    ) -> Option<i64> {
        let mut hasher = self.hasher();
        for (index, desired) in values {
            match desired {
                DesiredText::Value(value) => add_value(&mut hasher, index, value),
                DesiredText::Absent => {}
                DesiredText::Keep | DesiredText::Refused(_) => return None,
            }
        }
        Some(first_64_bits(hasher))
    }

    /// The digest of one value. A rejection applies as long as the desired value has the same digest.
    pub fn of_value(&self, value: &str) -> i64 {
        let mut hasher = self.hasher();
        hasher.update(value);
        first_64_bits(hasher)
    }

    /// The digest of all desired values of an account.
    pub fn of_desired_values(&self, values: &[DesiredValue]) -> i64 {
        let mut hasher = self.hasher();
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
}
