//! Histories that once failed, kept as they were found (some cut short by hand).
//!
//! Owns: the list. Must not know: how they are run.
