//! Waiting for the lease while another process holds it.
//!
//! Owns: how often the lease is tried, and what a standby shows. Must not know: passes.

use std::time::Duration;

use super::connect::Resources;
use super::context::{DaemonContext, Ended, Wake};
use super::systemd;
use crate::state::{Lease, StateWriter};

/// How often a standby tries to take the lease. The server ends a silent session of the holder after 4 s, so a standby has the
/// lease less than 5 s after the holder was suspended or its network vanished.
pub(super) const LEASE_RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// Takes the lease, as soon as no other process holds it. Otherwise returns why the wait ended.
pub(super) async fn wait_for_lease(
    context: &mut DaemonContext,
    resources: &mut Resources,
) -> Result<(Lease, StateWriter), Ended> {
    let mut logged_holder = None;
    loop {
        match resources.take_lease().await {
            Ok(Ok(taken)) => return Ok(taken),
            Ok(Err(holder)) => {
                context.readiness.set_standby();
                let holder = holder.to_string();
                // Logged once for each holder, not on every attempt.
                if logged_holder.as_ref() != Some(&holder) {
                    tracing::info!("standing by: {holder} holds the lease");
                    systemd::status(&format!("standing by: {holder} holds the lease"));
                    logged_holder = Some(holder);
                }
            }
            Err(error) => return Err(Ended::Retry(error.to_string())),
        }
        match context.sleep(LEASE_RETRY_INTERVAL).await {
            Wake::Elapsed => {}
            Wake::Shutdown => return Err(Ended::Shutdown),
            Wake::Reloaded => return Err(Ended::Reload),
        }
    }
}
