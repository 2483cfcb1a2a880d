//! The probe: an acknowledged value that is sent again, to find out whether IM accepts it.
//!
//! Owns: the interface through which the push stage gets an account for a probe. Must not know: how the account is chosen
//! and reserved, what is stored, when a probe is sent.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::model::{Account, AttributeIndex};

/// A value that IM has acknowledged. Sending it again changes nothing, and shows whether accounts or the app are at
/// fault for refusals.
#[derive(Clone, Debug)]
pub struct Probe {
    /// The account that holds the value.
    pub account: Account,
    /// The attribute that holds the value.
    pub attribute: AttributeIndex,
    /// The value that IM acknowledged last.
    pub value: Arc<str>,
}

/// What IM has answered to a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeAnswer {
    /// It accepted the value.
    Accepted,
    /// It, or a gateway before it, refused the value.
    Refused,
    /// There is no answer that tells.
    None,
}

/// The state could not be read or written. The source of the probe has recorded why, and the pass stops.
#[derive(Clone, Copy, Debug)]
pub struct ProbeFailed;

/// Where probes come from. Every call that can change IM goes through the queue, so the owner of the queue implements it.
pub trait ProbeSource: std::fmt::Debug + Send + Sync {
    /// Takes an account that no call carries and that none will carry until the probe ends, and stores the intent to send
    /// its value. `None`: there is no account with an acknowledged value, apart from `tried`. A value of `wanted` is
    /// preferred.
    fn take<'a>(
        &'a self,
        wanted: Option<AttributeIndex>,
        tried: &'a [Account],
    ) -> BoxFuture<'a, Result<Option<Box<dyn TakenProbe>>, ProbeFailed>>;
}

/// A probe whose account is reserved and whose intent is stored.
pub trait TakenProbe: std::fmt::Debug + Send + Sync {
    /// What to send.
    fn probe(&self) -> &Probe;

    /// Records the outcome, deletes the intent and releases the account. `may_be_applied_later`: IM may still apply one of
    /// the attempts, after whatever is sent for the account next.
    fn end(
        self: Box<Self>,
        answer: ProbeAnswer,
        may_be_applied_later: bool,
    ) -> BoxFuture<'static, Result<(), ProbeFailed>>;
}
