//! Fault injection: rules that say for which calls the simulator returns an error, answers wrongly or waits.
//!
//! Owns: the rules, their text form, and the plan they produce for one call. Must not know: HTTP, the app's state,
//! records.

mod plan;
mod rule;
mod text;

pub(super) use plan::{FaultPlan, FaultRules, ReleaseSignal};
pub use rule::{CallMatcher, FaultAction, FaultRule, FaultRuleId, FaultyAnswer};
pub use text::{FAULT_FORMS, FaultRuleError};
