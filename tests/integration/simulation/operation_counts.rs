//! Counts of what a soak test did.
//!
//! Owns: counting, and the table at the end. Must not know: what is counted.

use std::collections::BTreeMap;
use std::fmt;

/// Counts by group and name.
#[derive(Clone, Debug, Default)]
pub(super) struct OperationCounts(BTreeMap<&'static str, BTreeMap<String, u64>>);

impl OperationCounts {
    pub(super) fn count(&mut self, group: &'static str, name: impl Into<String>) {
        self.add(group, name, 1);
    }

    pub(super) fn add(&mut self, group: &'static str, name: impl Into<String>, count: u64) {
        *self.0.entry(group).or_default().entry(name.into()).or_default() += count;
    }

    pub(super) fn sum(&self, group: &str) -> u64 {
        self.0.get(group).map_or(0, |names| names.values().sum())
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (group, names) in &other.0 {
            for (name, count) in names {
                self.add(group, name.clone(), *count);
            }
        }
    }
}

impl fmt::Display for OperationCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (group, names) in &self.0 {
            writeln!(f, "{group}: {}", self.sum(group))?;
            for (name, count) in names {
                writeln!(f, "  {count:>7}  {name}")?;
            }
        }
        Ok(())
    }
}
