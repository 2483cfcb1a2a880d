//! One exchange with IM over HTTP.
//!
//! Owns: the connection pool, time-outs, the way to the backup host, one repeat with a fresh UserSig, the log of calls.
//! Must not know: batches, pace, retries. No URL leaves this file: it carries the UserSig.

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE};
use reqwest::redirect::Policy;
use secrecy::ExposeSecret;
use tokio::sync::Mutex;
use tracing::{debug, info, warn};

use super::answer::{Request, accepted, retry_after, understood};
use super::region::{Host, Hosts, is_this_machine};
use super::usersig::{Signature, Signer};
use super::wire::{self, Answer};
use super::{Accepted, ApiBase, ApiCommand, CallError, ClientSettings, Code, RemoveUser, SetUser, UserAttrs};
use crate::clock;
use crate::model::Service;

/// A get call's answer for 100 users is at most 120 KiB; what is far larger is not IM's and shall not fill the memory.
const MAX_ANSWER_BYTES: usize = 8 * 1024 * 1024;
/// More than any answer of IM's. What is longer is read by one call at a time, so that all that are in flight together
/// hold little more than one answer of the largest size.
const LARGE_ANSWER_BYTES: usize = 256 * 1024;
/// A connection is made within two round trips and, if a packet is lost, a second more. What takes longer is left
/// for the backup host while there is time; never more than a third of the time-out, so that both hosts get a turn.
const MAX_CONNECT: Duration = Duration::from_secs(3);
/// Gateways close idle connections after a minute or more; a request sent into one that is just being closed
/// has an unknown outcome, so we give it up first.
const IDLE_CONNECTION: Duration = Duration::from_secs(30);

/// A client for one app and one service. Keeps its connections alive; share it in an `Arc`.
pub struct Client {
    http: reqwest::Client,
    hosts: Hosts,
    signer: Signer,
    service: Service,
    sdk_app_id: u32,
    /// The identifier as it stands in a query.
    identifier: String,
    timeout: Duration,
    wall_clock: fn() -> DateTime<Utc>,
    /// Held by the one call that reads an answer over [`LARGE_ANSWER_BYTES`].
    large: Mutex<()>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("hosts", &self.hosts)
            .field("service", &self.service)
            .field("sdk_app_id", &self.sdk_app_id)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Fails when the settings cannot make a client (an empty key, a base URL without a host), with a sentence for the
    /// operator.
    pub fn new(settings: ClientSettings) -> Result<Self, String> {
        let hosts = match &settings.endpoint {
            ApiBase::Region(region) => Hosts::of_region(*region),
            ApiBase::BaseUrl(url) => {
                let host = Host::of_url(url)?;
                if url.scheme() == "http" && !is_this_machine(url) {
                    warn!("{} is called without TLS: UserSig and users' values can be read on the way", host.shown);
                }
                Hosts::new(host, None)
            }
        };
        Self::with_hosts(settings, hosts, clock::now_utc)
    }

    fn with_hosts(settings: ClientSettings, hosts: Hosts, wall_clock: fn() -> DateTime<Utc>) -> Result<Self, String> {
        if settings.secret_key.expose_secret().is_empty() {
            return Err("the secret key is empty; give the app's key from the console".to_owned());
        }
        if settings.identifier.is_empty() {
            return Err("`im.identifier` is empty; name an administrator of the app".to_owned());
        }
        if settings.timeout.is_zero() {
            return Err("`im.timeout` is 0; 10s is usual".to_owned());
        }
        if settings.usersig_lifetime < Duration::from_secs(1) {
            return Err("`im.usersig_lifetime` is under a second; the vendor suggests 24h or more".to_owned());
        }
        // %20 and not +: whether the vendor takes + for a space is not documented.
        let identifier: String = url::form_urlencoded::byte_serialize(settings.identifier.as_bytes())
            .collect::<String>()
            .replace('+', "%20");
        Ok(Self {
            http: connections(&settings)?,
            hosts,
            signer: Signer::new(
                settings.sdk_app_id,
                settings.identifier,
                settings.secret_key,
                settings.usersig_lifetime,
            ),
            service: settings.service,
            sdk_app_id: settings.sdk_app_id,
            identifier,
            timeout: settings.timeout,
            wall_clock,
            large: Mutex::new(()),
        })
    }

    pub fn service(&self) -> Service {
        self.service
    }

    pub fn sdk_app_id(&self) -> u32 {
        self.sdk_app_id
    }

    /// Sets attributes; a user's others stay as they are. At most 100 users. Nobody to set: no call.
    pub async fn set_attr(&self, users: &[SetUser<'_>]) -> Result<Accepted, CallError> {
        if users.is_empty() {
            return Ok(Accepted::default());
        }
        let accounts = users.iter().map(|user| user.account).collect();
        let request = Request { command: ApiCommand::SetAttr, body: wire::set_attr(users), accounts, set: users };
        let answer = self.call(&request).await?;
        Ok(accepted(&request, answer))
    }

    /// Removes attributes; one that is not there is removed all the same. At most 100 users. Nobody: no call.
    pub async fn remove_attr(&self, users: &[RemoveUser<'_>]) -> Result<Accepted, CallError> {
        if users.is_empty() {
            return Ok(Accepted::default());
        }
        let accounts = users.iter().map(|user| user.account).collect();
        let request = Request { command: ApiCommand::RemoveAttr, body: wire::remove_attr(users), accounts, set: &[] };
        let answer = self.call(&request).await?;
        Ok(accepted(&request, answer))
    }

    /// What IM holds of these accounts, in the order of its answer. At most 100 accounts. Nobody: no call.
    pub async fn get_attr(&self, accounts: &[&str]) -> Result<Vec<UserAttrs>, CallError> {
        if accounts.is_empty() {
            return Ok(Vec::new());
        }
        let body = wire::get_attr(accounts);
        let request = Request { command: ApiCommand::GetAttr, body, accounts: accounts.to_vec(), set: &[] };
        let users = self
            .call(&request)
            .await?
            .user_attrs
            .ok_or_else(|| request.error(Code::Malformed, "the answer says OK, but has no UserAttrs".to_owned()))?;
        Ok(users
            .into_iter()
            .map(|user| UserAttrs { account: user.account, attrs: user.attrs.into_iter().collect() })
            .collect())
    }

    /// The app's attribute names by number ("0" to "9").
    pub async fn attr_names(&self) -> Result<BTreeMap<u8, String>, CallError> {
        let request = Request { command: ApiCommand::GetAttrName, body: wire::empty(), accounts: Vec::new(), set: &[] };
        // An app without names may leave the object out, or a name empty (assumed; the documentation shows neither).
        let names = self.call(&request).await?.attr_names.unwrap_or_default();
        names
            .into_iter()
            .filter(|(_, name)| !name.is_empty())
            .map(|(number, name)| number.parse().ok().filter(|number| *number <= 9).map(|number| (number, name)))
            .collect::<Option<_>>()
            .ok_or_else(|| request.error(Code::Malformed, "AttrNames has a number that is not 0 to 9".to_owned()))
    }

    /// Names the app's attributes; numbers that are not given stay as they are (assumed).
    pub async fn set_attr_names(&self, names: &BTreeMap<u8, String>) -> Result<(), CallError> {
        let body = wire::set_attr_names(names);
        let request = Request { command: ApiCommand::SetAttrName, body, accounts: Vec::new(), set: &[] };
        self.call(&request).await.map(|_| ())
    }

    /// One call within the time-out, and its line in the log.
    async fn call(&self, request: &Request<'_>) -> Result<Answer, CallError> {
        let started = clock::monotonic();
        // The time-out spans both hosts and the repeat with a fresh UserSig: whoever waits until a lost call cannot
        // land any more counts from its beginning.
        let result = tokio::time::timeout(self.timeout, self.signed(request)).await.unwrap_or_else(|_| {
            Err(request.error(Code::Timeout, format!("no complete answer within {:?}", self.timeout)))
        });
        let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let (command, users) = (request.command.label(), request.accounts.len());
        match &result {
            Ok(answer) => {
                debug!(command, code = "0", users, duration_ms, request_id = answer.request_id, "IM accepted a call");
            }
            Err(error) => {
                let (code, request_id) = (error.code.label(), error.request_id.as_deref());
                warn!(command, code, users, duration_ms, request_id, "{error}");
            }
        }
        result
    }

    /// Repeats the call once with a fresh UserSig when IM calls the one in use expired.
    async fn signed(&self, request: &Request<'_>) -> Result<Answer, CallError> {
        let signature = self.signer.current((self.wall_clock)());
        let result = self.reach(request, &signature).await;
        let Err(error) = &result else { return result };
        if !error.code.means_usersig_expired() {
            return result;
        }
        let Some(fresh) = self.signer.after_refusal(&signature, (self.wall_clock)()) else { return result };
        info!(
            command = request.command.label(),
            request_id = error.request_id.as_deref(),
            "IM calls the UserSig expired ({}); repeating the call once with a fresh one",
            error.code
        );
        self.reach(request, &fresh).await
    }

    /// Goes to the backup host when the first cannot be reached.
    async fn reach(&self, request: &Request<'_>, signature: &Signature) -> Result<Answer, CallError> {
        let mut unreached: Vec<String> = Vec::new();
        for (which, host) in self.hosts.order(clock::monotonic()) {
            match self.send(request, signature, host).await {
                Ok(response) => {
                    self.hosts.reached(which, !unreached.is_empty(), clock::monotonic());
                    if let Some(before) = unreached.first() {
                        warn!("{before}; {} answers and is called for a while", host.shown);
                    }
                    return self.receive(request, signature, host, response).await;
                }
                // Nothing was sent: another host may have the call.
                Err(error) if error.is_connect() => {
                    unreached.push(format!("cannot connect to {}: {}", host.shown, innermost(error)));
                }
                Err(error) => {
                    self.hosts.reached(which, !unreached.is_empty(), clock::monotonic());
                    return Err(broken(request, signature, host, error));
                }
            }
        }
        let mut error = request.error(Code::Connect, Request::clean_signature(&unreached.join("; "), signature));
        error.maybe_applied = false;
        Err(error)
    }

    async fn send(
        &self,
        request: &Request<'_>,
        signature: &Signature,
        host: &Host,
    ) -> Result<reqwest::Response, reqwest::Error> {
        let url = format!(
            "{}/v4/{}/{}?sdkappid={}&identifier={}&usersig={}&random={}&contenttype=json",
            host.base,
            self.service.as_str(),
            command_path(self.service, request.command),
            self.sdk_app_id,
            self.identifier,
            signature.expose(),
            rand::random::<u32>(),
        );
        self.http.post(url).header(CONTENT_TYPE, "application/json").body(request.body.clone()).send().await
    }

    /// Reads what came back and says what it means.
    async fn receive(
        &self,
        request: &Request<'_>,
        signature: &Signature,
        host: &Host,
        mut response: reqwest::Response,
    ) -> Result<Answer, CallError> {
        let retry_after = retry_after(response.headers(), (self.wall_clock)());
        let status = response.status().as_u16();
        if status != 200 {
            // The body is not shown: gateways quote the URL in it.
            let reason = response.status().canonical_reason().unwrap_or("without a standard meaning");
            let error = request.error(Code::Http(status), format!("{} answered {status} {reason}", host.shown));
            return Err(CallError { retry_after, ..error });
        }
        let too_large = || {
            request.error(Code::Malformed, format!("the answer is larger than {} MiB", MAX_ANSWER_BYTES / 1024 / 1024))
        };
        let announced = response.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        if announced.is_some_and(|length: usize| length > MAX_ANSWER_BYTES) {
            return Err(too_large());
        }
        let mut body = Vec::new();
        let mut alone = None;
        while let Some(chunk) = response.chunk().await.map_err(|error| broken(request, signature, host, error))? {
            if body.len() + chunk.len() > MAX_ANSWER_BYTES {
                return Err(too_large());
            }
            if alone.is_none() && body.len() + chunk.len() > LARGE_ANSWER_BYTES {
                alone = Some(self.large.lock().await);
            }
            body.extend_from_slice(&chunk);
        }
        understood(request, signature, &body, retry_after)
    }
}

/// A connection that was made and then failed: the call may have been applied.
fn broken(request: &Request<'_>, signature: &Signature, host: &Host, error: reqwest::Error) -> CallError {
    let info = format!("the connection to {} broke: {}", host.shown, innermost(error));
    request.error(Code::Connect, Request::clean_signature(&info, signature))
}

/// The cause at the bottom ("Connection refused", "invalid peer certificate: …"). The layers above it name the URL.
fn innermost(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut cause: &dyn Error = &error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

fn command_path(service: Service, command: ApiCommand) -> &'static str {
    match service {
        Service::Timpush => command.label(),
        Service::AllMemberPush => match command {
            ApiCommand::SetAttr => "im_set_attr",
            ApiCommand::GetAttr => "im_get_attr",
            ApiCommand::RemoveAttr => "im_remove_attr",
            ApiCommand::SetAttrName => "im_set_attr_name",
            ApiCommand::GetAttrName => "im_get_attr_name",
        },
    }
}

/// The connection pool.
fn connections(settings: &ClientSettings) -> Result<reqwest::Client, String> {
    // An error means that a provider is installed already, which then serves us too.
    let _ = rustls::crypto::ring::default_provider().install_default();
    #[expect(clippy::disallowed_methods, reason = "this is the place where HTTP clients to IM are built")]
    let builder = reqwest::Client::builder()
        .user_agent(concat!("imsync/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(MAX_CONNECT.min(settings.timeout / 3))
        // As many connections stay open as calls were in flight at once; the sender bounds those.
        .pool_max_idle_per_host(usize::MAX)
        .pool_idle_timeout(IDLE_CONNECTION)
        .redirect(Policy::none())
        .referer(false)
        .retry(reqwest::retry::never());
    let builder = match &settings.endpoint {
        // HTTPS_PROXY of the environment is meant for hosts on the Internet: it stays in force here.
        ApiBase::Region(_) => builder.https_only(true),
        // An address of one's own is called as it is written.
        ApiBase::BaseUrl(url) if url.scheme() == "https" => builder.no_proxy(),
        // Without TLS the machine's CA certificates need not be there, nor be read.
        ApiBase::BaseUrl(_) => builder.no_proxy().tls_certs_only([]),
    };
    builder
        .build()
        .map_err(|error| format!("cannot set up TLS: {}; is the package ca-certificates installed?", innermost(error)))
}

#[cfg(test)]
mod tests;
