//! Why a pass cannot finish.
//!
//! Owns: [`PassError`] and what an error means for the caller. Must not know: the steps of a pass.

use std::sync::{Arc, Mutex};

use super::report::PassOutcome;
use crate::push::StopReason;
use crate::source::SourceError;
use crate::state::StateError;

/// Why a pass could not finish. Cheap to clone, because all deliveries of a pass share the first error.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PassError {
    /// The source could not be read.
    #[error("{0}")]
    Source(Arc<SourceError>),
    /// The state could not be read or written.
    #[error("{0}")]
    State(Arc<StateError>),
    /// The push stage stopped the pass, or a shutdown was requested.
    #[error("{0}")]
    Stop(StopReason),
    /// IM was not read: why, and what to do.
    #[error("{0}")]
    NotRead(String),
    /// There is no read position yet, so that only a full pass can run.
    #[error("this sync has no watermark yet; its first pass must be a full one")]
    NoWatermark,
}

/// The first error of a pass, which its deliveries and probes share.
pub(super) type FirstError = Arc<Mutex<Option<PassError>>>;

impl From<SourceError> for PassError {
    fn from(error: SourceError) -> Self {
        Self::Source(Arc::new(error))
    }
}

impl From<StateError> for PassError {
    fn from(error: StateError) -> Self {
        Self::State(Arc::new(error))
    }
}

impl PassError {
    /// Whether the lease is lost. Only a process that takes it again may write.
    pub fn lease_lost(&self) -> bool {
        match self {
            Self::State(error) => matches!(**error, StateError::LeaseLost),
            Self::Stop(stop) => *stop == StopReason::LeaseLost,
            Self::Source(_) | Self::NotRead(_) | Self::NoWatermark => false,
        }
    }

    /// Whether an immediate retry would be refused again, because an operator has to change something first.
    pub fn needs_operator(&self) -> bool {
        matches!(
            self,
            Self::Stop(
                StopReason::Credentials { .. } | StopReason::Systemic { .. } | StopReason::TooManyRejected { .. }
            )
        )
    }

    /// The outcome of a pass that ends with this error.
    pub(super) fn outcome(&self) -> PassOutcome {
        if matches!(self, Self::Stop(StopReason::Shutdown)) { PassOutcome::Interrupted } else { PassOutcome::Failed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_shutdown_counts_as_interrupted() {
        assert_eq!(PassError::Stop(StopReason::Shutdown).outcome(), PassOutcome::Interrupted);
        assert_eq!(PassError::Stop(StopReason::LeaseLost).outcome(), PassOutcome::Failed);
        assert_eq!(PassError::NoWatermark.outcome(), PassOutcome::Failed);
    }

    #[test]
    fn a_lost_lease_is_found_in_state_and_push_errors() {
        assert!(PassError::from(StateError::LeaseLost).lease_lost());
        assert!(PassError::Stop(StopReason::LeaseLost).lease_lost());
        assert!(!PassError::Stop(StopReason::Shutdown).lease_lost());
        assert!(!PassError::NoWatermark.lease_lost());
    }
}
