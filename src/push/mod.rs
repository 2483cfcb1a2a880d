//! The push stage: sends changes to IM and reports the outcome of every attribute.
//!
//! This file lists the files of the module and re-exports what other modules use. The module owns everything between a list
//! of changes and their outcomes: batches, the rate limit, retries, the isolation of accounts that IM refuses, and the reasons
//! to stop a pass. It must not know SQL, rows or the mapping.
//!
//! The files from the bottom to the top; each imports only from files above it in this list:
//!
//! | file | owns |
//! |---|---|
//! | `attempts` | the attempts of one call, the pause before the next one |
//! | `disposition` | what is done with a call, by the class of its code |
//! | `last_answers` | when IM answered last |
//! | `unusable_commands` | commands of the service of accounts that cannot be used |
//! | `slow_start` | one call at a time until IM has answered |
//! | `rate_limit` | when the next call of a command may start |
//! | `batch` | origins, operations, batches |
//! | `refusal_stats` | the counts of a pass: accepted, refused |
//! | `stop` | the reasons to stop a pass, and their messages |
//! | `call`, `send_once` | the contents of a call; one attempt to send it, with its metrics |
//! | `probe` | an acknowledged value that is sent again, and where it comes from |
//! | `pusher`, `session` | what passes share; what the deliveries of one pass share |
//! | `read_attributes` | reading what IM holds of many accounts, beside the passes |
//! | `permit`, `retry` | what a call waits for; the attempts of a call |
//! | `send_probe` | a probe from the reservation of its account to the record of its outcome |
//! | `unknown_accounts` | which accounts Chat does not know, and their creation |
//! | `alive` | whether IM answers at all |
//! | `attribution` | whether accounts or the app are at fault |
//! | `gateway` | whether a gateway before IM refuses some content or every call |
//! | `task` | the concurrent work of a delivery |
//! | `split_refused_batch` | how a refused batch is split |
//! | `held_refusals` | refusals of unclear cause |
//! | `outage` | what it means that a batch gets no answer |
//! | `outcomes`, `settlement` | the outcomes of a delivery; how an answer changes them and the counts |
//! | `answer_handler`, `delivery` | what follows from each answer; the loop of a delivery |

mod alive;
mod answer_handler;
mod attempts;
mod attribution;
mod batch;
mod call;
mod delivery;
mod disposition;
mod gateway;
mod held_refusals;
mod last_answers;
mod outage;
mod outcomes;
mod permit;
mod probe;
mod pusher;
mod rate_limit;
mod read_attributes;
mod refusal_stats;
mod retry;
mod send_once;
mod send_probe;
mod session;
mod settlement;
mod slow_start;
mod split_refused_batch;
mod stop;
mod task;
mod unknown_accounts;
mod unusable_commands;

pub use batch::ChangeOrigin;
pub use probe::{Probe, ProbeAnswer, ProbeFailed, ProbeSource, TakenProbe};
pub use pusher::{PushLimits, Pusher};
pub use read_attributes::{ReadAccount, ReadFailure};
pub use session::PushSession;
pub use stop::StopReason;
pub use unknown_accounts::unknown_account_code;

#[cfg(test)]
mod tests;
