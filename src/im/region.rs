//! The hosts of the vendor's data centres, and which of two is called.
//!
//! Owns: the host names, the memory that the first could not be reached. Must not know: what is sent, what answers mean.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::model::Region;

/// How long the backup host is called after the first could not be reached, before the first is tried again.
/// Long enough that few calls wait for a dead host, short enough that a passing fault is soon forgotten.
const AWAY_FOR: Duration = Duration::from_mins(1);

/// Host and backup host of a data centre.
/// Source: the vendor's page on calling its REST API. Tokyo's backup is assumed by the pattern of the others.
fn names(region: Region) -> (&'static str, &'static str) {
    match region {
        Region::China => ("console.tim.qq.com", "adminapi.my-imcloud.com"),
        Region::Singapore => ("adminapisgp.im.qcloud.com", "adminapisgp.my-imcloud.com"),
        Region::Seoul => ("adminapikr.im.qcloud.com", "adminapikr.my-imcloud.com"),
        Region::Tokyo => ("adminapijpn.im.qcloud.com", "adminapijpn.my-imcloud.com"),
        Region::Frankfurt => ("adminapiger.im.qcloud.com", "adminapiger.my-imcloud.com"),
        Region::Mumbai => ("adminapiind.im.qcloud.com", "adminapiind.my-imcloud.com"),
        Region::SiliconValley => ("adminapiusa.im.qcloud.com", "adminapiusa.my-imcloud.com"),
        Region::Jakarta => ("adminapiidn.im.qcloud.com", "adminapiidn.my-imcloud.com"),
    }
}

/// An address to call.
pub(super) struct Host {
    /// What stands before `/v4/`; may hold a proxy's password.
    pub(super) base: String,
    /// For logs and errors: host and port, without path or password.
    pub(super) shown: String,
}

impl Host {
    /// The address of `im.base_url`; the error is a sentence for the operator.
    pub(super) fn of_url(url: &url::Url) -> Result<Self, String> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(format!("`im.base_url` begins with {}:, it must begin with http:// or https://", url.scheme()));
        }
        let Some(name) = url.host_str().filter(|name| !name.is_empty()) else {
            return Err("`im.base_url` has no host; write it like http://127.0.0.1:8089".to_owned());
        };
        if url.query().is_some() || url.fragment().is_some() {
            return Err("`im.base_url` has a ? or #; write scheme, host, port and path alone".to_owned());
        }
        let shown = url.port().map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"));
        Ok(Self { base: url.as_str().trim_end_matches('/').to_owned(), shown })
    }
}

/// The address is one of this machine's own.
pub(super) fn is_this_machine(url: &url::Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// The addresses of an app.
pub(super) struct Hosts {
    first: Host,
    backup: Option<Host>,
    /// Until when the backup is called; `None` while the first is.
    away_until: Mutex<Option<Instant>>,
}

/// Which of the two hosts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Which {
    First,
    Backup,
}

impl Hosts {
    pub(super) fn of_region(region: Region) -> Self {
        let host = |name: &str| Host { base: format!("https://{name}"), shown: name.to_owned() };
        let (first, backup) = names(region);
        Self::new(host(first), Some(host(backup)))
    }

    pub(super) fn new(first: Host, backup: Option<Host>) -> Self {
        Self { first, backup, away_until: Mutex::new(None) }
    }

    /// The addresses to try, in order.
    pub(super) fn order(&self, now: Instant) -> impl Iterator<Item = (Which, &Host)> {
        let first = Some((Which::First, &self.first));
        let backup = self.backup.as_ref().map(|host| (Which::Backup, host));
        let order = if backup.is_some() && self.prefers_backup(now) { [backup, first] } else { [first, backup] };
        order.into_iter().flatten()
    }

    fn prefers_backup(&self, now: Instant) -> bool {
        let mut away_until = self.away_until.lock().unwrap_or_else(PoisonError::into_inner);
        match *away_until {
            None => false,
            Some(until) if now < until => true,
            Some(_) => {
                // This call alone tries the first host; those beside it keep to the backup and do not wait with it.
                *away_until = Some(now + AWAY_FOR);
                false
            }
        }
    }

    /// A connection to this address was made, after the one before it failed if `fell_back`.
    pub(super) fn reached(&self, which: Which, fell_back: bool, now: Instant) {
        let mut away_until = self.away_until.lock().unwrap_or_else(PoisonError::into_inner);
        match which {
            Which::First => *away_until = None,
            Which::Backup if fell_back => *away_until = Some(now + AWAY_FOR),
            Which::Backup => {}
        }
    }
}

impl std::fmt::Debug for Hosts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let backup = self.backup.as_ref().map(|host| &host.shown);
        f.debug_struct("Hosts").field("first", &self.first.shown).field("backup", &backup).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(hosts: &Hosts, now: Instant) -> Vec<Which> {
        hosts.order(now).map(|(which, _)| which).collect()
    }

    #[test]
    fn the_backup_is_remembered_and_then_one_call_tries_the_first_again() {
        let hosts = Hosts::of_region(Region::Singapore);
        let start = crate::clock::monotonic();
        assert_eq!(order(&hosts, start), [Which::First, Which::Backup]);
        hosts.reached(Which::Backup, true, start);
        assert_eq!(order(&hosts, start + AWAY_FOR / 2), [Which::Backup, Which::First]);
        hosts.reached(Which::Backup, false, start + AWAY_FOR / 2);
        let later = start + AWAY_FOR;
        assert_eq!(order(&hosts, later), [Which::First, Which::Backup], "use of the backup does not prolong it");
        assert_eq!(order(&hosts, later), [Which::Backup, Which::First], "only one call tries");
        hosts.reached(Which::First, false, later);
        assert_eq!(order(&hosts, later), [Which::First, Which::Backup]);
    }

    #[test]
    fn without_a_backup_there_is_one_address() {
        let hosts = Hosts::new(Host { base: "http://127.0.0.1:1".to_owned(), shown: "127.0.0.1:1".to_owned() }, None);
        assert_eq!(order(&hosts, crate::clock::monotonic()), [Which::First]);
    }
}
