//! Alerts: a JSON document is posted to a webhook when the state of the sync changes.
//!
//! Owns: which changes are told, once each, and how they reach the receiver. Must not know: passes, HTTP pages, metrics.
//!
//! Two states are compared: what is the case (`conditions`), and what the receiver knows (`told`, which the state tables
//! keep). The difference is the next alert (`alert_state`). A POST that was accepted makes both equal. So nothing is queued:
//! however long a receiver is away, it gets one alert for each condition, or none when the condition has ended meanwhile.
//!
//! | file | owns |
//! |---|---|
//! | `kind` | the kinds of alerts and their severities |
//! | `conditions` | what is the case, and since when |
//! | `told` | what the receiver knows, as it is stored |
//! | `alert_state` | the next alert |
//! | `document` | the JSON document of an alert |
//! | `webhook` | one POST, and why it failed |
//! | `monitor` | the task that posts, retries and stores; what the daemon reports to it |

mod alert_state;
mod conditions;
mod document;
mod kind;
mod monitor;
mod told;
mod webhook;

pub(super) use conditions::PassFacts;
pub(super) use monitor::{AlertMonitor, Alerts};

#[cfg(test)]
mod tests;
