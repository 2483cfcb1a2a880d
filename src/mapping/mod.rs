//! A row's column texts become desired attributes, or refusals. Pure.
//!
//! Owns: `values`, `unlisted`, `too_long`, `null`, the limits of 50 and 32 bytes. Must not know: Postgres, IM, what was sent before.

use crate::config;
use crate::model::{Account, Desired, Refusal, Row};

/// Raised when the rules of this module change, so that a new release compares everything once. Part of the mapping's fingerprint.
pub const VERSION: u32 = 1;

/// The configured mapping, ready to apply.
#[derive(Clone, Debug)]
pub struct Mapping {}

/// What a row means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mapped {
    /// NULL or empty account: counted and skipped.
    NoAccount,
    /// The account cannot be sent at all.
    Refused(Account, Refusal),
    /// Soft-deleted or filtered out.
    Gone(Account),
    Present(Desired),
}

impl Mapping {
    pub fn new(_config: &config::Config) -> Self {
        unimplemented!()
    }

    /// The distinct columns to read, in the order in which `Row::values` holds them.
    pub fn columns(&self) -> &[String] {
        unimplemented!()
    }

    /// The attribute names, in the order of `Desired::wants`.
    pub fn names(&self) -> &[std::sync::Arc<str>] {
        unimplemented!()
    }

    pub fn apply(&self, _row: &Row) -> Mapped {
        unimplemented!()
    }

    /// SHA-256 (hex) over everything that decides what a row becomes: attributes, filter, deleted column, removal of gone
    /// and unmapped, [`VERSION`]. Spelling that means the same gives the same.
    pub fn fingerprint(&self) -> &str {
        unimplemented!()
    }
}
