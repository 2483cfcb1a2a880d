//! Whether a pass waits for calls that IM does not answer, and the passes that did not.
//!
//! Owns: plain data. Must not know: how long a pass waits.

use std::sync::Arc;

use super::delivery_context::DeliveryContext;

/// Whether a pass waits for its slowest call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlowCalls {
    /// A command that runs one pass waits for all of its calls.
    Await,
    /// A daemon goes on with the next pass.
    LeaveBehind,
}

/// A pass that ended before its slowest call.
#[derive(Debug)]
pub(super) struct DetachedPass {
    pub(super) context: Arc<DeliveryContext>,
    /// Its calls that are in a report already.
    pub(super) reported_calls: u64,
}
