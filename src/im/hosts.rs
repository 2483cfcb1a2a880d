//! The hosts of the vendor's data centres, and when the backup host is called.
//!
//! Owns: the host names, the record that the primary host could not be reached. Must not know: what is sent, what answers
//! mean.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

use super::settings::ApiBase;
use crate::http_client::is_loopback;
use crate::model::Region;

/// How long the backup host is called before the primary host is tried again.
/// It is long enough that few calls wait for a dead host, and short enough that a temporary fault has no lasting effect.
const BACKUP_PERIOD: Duration = Duration::from_mins(1);

/// The primary host and the backup host of a data centre.
/// Source: the vendor's page on calling its REST API. Tokyo's backup host is assumed: it follows the pattern of
/// the others.
fn host_names(region: Region) -> (&'static str, &'static str) {
    match region {
        Region::China => ("console.tim.qq.com", "adminapi.my-imcloud.com"),
        Region::Singapore => ("adminapisgp.im.qcloud.com", "adminapisgp.my-imcloud.com"),
        Region::Seoul => ("adminapikr.im.qcloud.com", "adminapikr.my-imcloud.com"),
        Region::Tokyo => ("adminapijpn.im.qcloud.com", "adminapijpn.my-imcloud.com"),
        Region::Frankfurt => ("adminapiger.im.qcloud.com", "adminapiger.my-imcloud.com"),
        Region::Mumbai => ("adminapiind.im.qcloud.com", "adminapiind.my-imcloud.com"),
        Region::SiliconValley => ("adminapiusa.im.qcloud.com", "adminapiusa.my-imcloud.com"),
        Region::Jakarta => ("adminapiidn.im.qcloud.com", "adminapiidn.my-imcloud.com"),
        // Not on a page of the vendor: public programs of the vendor and of others use these.
        Region::Ksa => ("adminapiksa.im.qcloud.com", "adminapiksa.my-imcloud.com"),
    }
}

/// A host to call.
pub(super) struct ApiHost {
    /// The URL before `/v4/`. It may contain a proxy's password.
    pub(super) base: String,
    /// Host and port for logs and errors, without path and password.
    pub(super) shown: String,
}

impl ApiHost {
    /// The host of `im.base_url`. The error is a message for the operator.
    fn from_url(url: &url::Url) -> Result<Self, String> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(format!("`im.base_url` begins with {}:; it must begin with http:// or https://", url.scheme()));
        }
        let Some(name) = url.host_str().filter(|name| !name.is_empty()) else {
            return Err("`im.base_url` has no host; write it like http://127.0.0.1:8089".to_owned());
        };
        if url.query().is_some() || url.fragment().is_some() {
            return Err("`im.base_url` has a ? or #; write only scheme, host, port and path".to_owned());
        }
        let shown = url.port().map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"));
        Ok(Self { base: url.as_str().trim_end_matches('/').to_owned(), shown })
    }
}

/// The hosts of an app.
pub(super) struct ApiHosts {
    primary: ApiHost,
    backup: Option<ApiHost>,
    /// Until when the backup host is called; `None` while the primary host is.
    backup_until: Mutex<Option<Instant>>,
}

/// One of the two hosts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum HostRole {
    Primary,
    Backup,
}

impl ApiHosts {
    /// The hosts that the settings name. The error is a message for the operator.
    pub(super) fn from_base(base: &ApiBase) -> Result<Self, String> {
        match base {
            ApiBase::Region(region) => Ok(Self::of_region(*region)),
            ApiBase::BaseUrl(url) => {
                let host = ApiHost::from_url(url)?;
                if url.scheme() == "http" && !is_loopback(url) {
                    warn!(
                        "imsync calls {} without TLS: the network can read the UserSig and users' values",
                        host.shown
                    );
                }
                Ok(Self::new(host, None))
            }
        }
    }

    fn of_region(region: Region) -> Self {
        let host = |name: &str| ApiHost { base: format!("https://{name}"), shown: name.to_owned() };
        let (primary, backup) = host_names(region);
        Self::new(host(primary), Some(host(backup)))
    }

    pub(super) fn new(primary: ApiHost, backup: Option<ApiHost>) -> Self {
        Self { primary, backup, backup_until: Mutex::new(None) }
    }

    /// The hosts to try, in this order.
    pub(super) fn in_order(&self, now: Instant) -> impl Iterator<Item = (HostRole, &ApiHost)> {
        let primary = Some((HostRole::Primary, &self.primary));
        let backup = self.backup.as_ref().map(|host| (HostRole::Backup, host));
        let order = if backup.is_some() && self.prefers_backup(now) { [backup, primary] } else { [primary, backup] };
        order.into_iter().flatten()
    }

    fn prefers_backup(&self, now: Instant) -> bool {
        let mut backup_until = self.backup_until.lock().unwrap_or_else(PoisonError::into_inner);
        match *backup_until {
            None => false,
            Some(until) if now < until => true,
            Some(_) => {
                // Only this call tries the primary host. Concurrent calls keep to the backup host and do not wait.
                *backup_until = Some(now + BACKUP_PERIOD);
                false
            }
        }
    }

    /// Records that a connection to this host was made; `fell_back` if the connection to the other host failed before.
    pub(super) fn note_connected(&self, role: HostRole, fell_back: bool, now: Instant) {
        let mut backup_until = self.backup_until.lock().unwrap_or_else(PoisonError::into_inner);
        match role {
            HostRole::Primary => *backup_until = None,
            HostRole::Backup if fell_back => *backup_until = Some(now + BACKUP_PERIOD),
            HostRole::Backup => {}
        }
    }
}

impl std::fmt::Debug for ApiHosts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let backup = self.backup.as_ref().map(|host| &host.shown);
        f.debug_struct("ApiHosts")
            .field("primary", &self.primary.shown)
            .field("backup", &backup)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(hosts: &ApiHosts, now: Instant) -> Vec<HostRole> {
        hosts.in_order(now).map(|(role, _)| role).collect()
    }

    #[test]
    fn the_backup_is_used_until_one_call_retries_the_primary() {
        let hosts = ApiHosts::of_region(Region::Singapore);
        let start = crate::clock::monotonic();
        assert_eq!(order(&hosts, start), [HostRole::Primary, HostRole::Backup]);
        hosts.note_connected(HostRole::Backup, true, start);
        assert_eq!(order(&hosts, start + BACKUP_PERIOD / 2), [HostRole::Backup, HostRole::Primary]);
        hosts.note_connected(HostRole::Backup, false, start + BACKUP_PERIOD / 2);
        let later = start + BACKUP_PERIOD;
        assert_eq!(
            order(&hosts, later),
            [HostRole::Primary, HostRole::Backup],
            "use of the backup host does not extend the period"
        );
        assert_eq!(order(&hosts, later), [HostRole::Backup, HostRole::Primary], "only one call tries the primary host");
        hosts.note_connected(HostRole::Primary, false, later);
        assert_eq!(order(&hosts, later), [HostRole::Primary, HostRole::Backup]);
    }

    #[test]
    fn without_a_backup_there_is_one_host() {
        let hosts =
            ApiHosts::new(ApiHost { base: "http://127.0.0.1:1".to_owned(), shown: "127.0.0.1:1".to_owned() }, None);
        assert_eq!(order(&hosts, crate::clock::monotonic()), [HostRole::Primary]);
    }
}
