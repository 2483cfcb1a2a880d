//! Compares what the table requires IM to hold with what IM acknowledged: what to set, what to remove. Pure.
//!
//! Owns: the decision what is sent for an account. Must not know: PostgreSQL, IM, how the desired values came about.
//!
//! `attribute_diff` compares one account attribute by attribute. [`DigestKey`] makes the digests by which a page of unchanged
//! accounts is recognized without that comparison.

mod attribute_diff;
mod digest;
#[cfg(test)]
mod tests;

pub use attribute_diff::{
    AttributeDiff, DiffRules, PriorRejection, REMOVAL, of_gone_account, of_present_account, of_refused_account,
    previous_values,
};
pub use digest::DigestKey;
