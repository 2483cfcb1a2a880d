//! One exchange with IM over HTTP: the request goes to a host, and its answer is read.
//!
//! Owns: the connection pool, the URL, the fallback to the backup host, the size limit of answers. Must not know: retries,
//! batches, rates. No URL leaves this file, because it contains the UserSig.

use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE};
use tokio::sync::Mutex;
use tracing::warn;

use super::answer::{read_answer, retry_after, server_time};
use super::call::{ApiCommand, CallError};
use super::code::Code;
use super::hosts::{ApiHost, ApiHosts};
use super::request::ApiRequest;
use super::settings::{ApiBase, ClientSettings};
use super::usersig::Usersig;
use super::wire::ApiAnswer;
use crate::clock;
use crate::http_client::{self, root_cause};
use crate::model::{Region, Service};

/// A get call's answer for 100 users has at most 120 KiB. A much larger answer does not come from IM and must not fill
/// the memory.
pub(super) const MAX_ANSWER_BYTES: usize = 8 * 1024 * 1024;
/// No answer of IM is as large. Larger answers are read by one call at a time, so that all calls in flight together
/// hold little more memory than one answer of the maximum size.
const LARGE_ANSWER_BYTES: usize = 256 * 1024;
/// A connection takes two round trips and, if a packet is lost, one second more. A slower one is given up while there is
/// time for the backup host. The limit is also a third of the timeout, so that both hosts are tried.
const MAX_CONNECT_TIME: Duration = Duration::from_secs(3);
/// Gateways close idle connections after a minute or more. A request that is sent while the connection is being closed
/// has an unknown outcome, so the client closes the connection earlier.
const IDLE_CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);

/// Sends requests of one app to one service.
pub(super) struct HttpTransport {
    http: reqwest::Client,
    hosts: ApiHosts,
    service: Service,
    /// The configured data centre; `None` with a base URL.
    region: Option<Region>,
    sdk_app_id: u32,
    /// The identifier, escaped for a query.
    identifier: String,
    wall_clock: fn() -> DateTime<Utc>,
    /// By how much IM's clock was ahead of this machine's in the last answer with a `Date`.
    clock_offset: std::sync::Mutex<Option<TimeDelta>>,
    /// Held by the one call that reads an answer over [`LARGE_ANSWER_BYTES`].
    large_answer: Mutex<()>,
}

impl std::fmt::Debug for HttpTransport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpTransport")
            .field("hosts", &self.hosts)
            .field("service", &self.service)
            .field("sdk_app_id", &self.sdk_app_id)
            .finish_non_exhaustive()
    }
}

impl HttpTransport {
    /// Fails when TLS cannot be set up, with a message for the operator.
    pub(super) fn new(
        settings: &ClientSettings,
        hosts: ApiHosts,
        wall_clock: fn() -> DateTime<Utc>,
    ) -> Result<Self, String> {
        // %20 and not +: the vendor does not document whether + stands for a space.
        let identifier = url::form_urlencoded::byte_serialize(settings.identifier.as_bytes())
            .collect::<String>()
            .replace('+', "%20");
        Ok(Self {
            http: connection_pool(settings)?,
            hosts,
            service: settings.service,
            region: match settings.api_base {
                ApiBase::Region(region) => Some(region),
                ApiBase::BaseUrl(_) => None,
            },
            sdk_app_id: settings.sdk_app_id,
            identifier,
            wall_clock,
            clock_offset: std::sync::Mutex::default(),
            large_answer: Mutex::new(()),
        })
    }

    /// Sends the request and reads its answer. When no connection to the first host can be made, the other host gets the
    /// request.
    pub(super) async fn exchange(&self, request: &ApiRequest<'_>, usersig: &Usersig) -> Result<ApiAnswer, CallError> {
        let mut unreached: Vec<String> = Vec::new();
        for (role, host) in self.hosts.in_order(clock::monotonic()) {
            match self.send(request, usersig, host).await {
                Ok(response) => {
                    self.hosts.note_connected(role, !unreached.is_empty(), clock::monotonic());
                    if let Some(failure) = unreached.first() {
                        warn!("{failure}; imsync calls {} for the next minute", host.shown);
                    }
                    return self.receive(request, usersig, host, response).await;
                }
                // Nothing was sent, so another host may get the request.
                Err(error) if error.is_connect() => {
                    unreached.push(format!("cannot connect to {}: {}", host.shown, root_cause(error)));
                }
                Err(error) => {
                    self.hosts.note_connected(role, !unreached.is_empty(), clock::monotonic());
                    return Err(connection_broke(request, usersig, host, error));
                }
            }
        }
        let info = ApiRequest::redact_usersig(&unreached.join("; "), usersig);
        Err(CallError { maybe_applied: false, ..request.error(Code::Connect, info) })
    }

    async fn send(
        &self,
        request: &ApiRequest<'_>,
        usersig: &Usersig,
        host: &ApiHost,
    ) -> Result<reqwest::Response, reqwest::Error> {
        let url = format!(
            "{}/v4/{}/{}?sdkappid={}&identifier={}&usersig={}&random={}&contenttype=json",
            host.base,
            service_path(self.service, request.command),
            command_path(self.service, request.command),
            self.sdk_app_id,
            self.identifier,
            usersig.expose(),
            rand::random::<u32>(),
        );
        self.http.post(url).header(CONTENT_TYPE, "application/json").body(request.body.clone()).send().await
    }

    /// By how much IM's clock was ahead of this machine's in the last answer, to the second; `None` before an answer that
    /// has a `Date`.
    pub(super) fn clock_offset(&self) -> Option<TimeDelta> {
        *self.lock_clock_offset()
    }

    fn lock_clock_offset(&self) -> MutexGuard<'_, Option<TimeDelta>> {
        // It is one assignment, so what a panic left behind is valid.
        self.clock_offset.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the answer and checks its status.
    async fn receive(
        &self,
        request: &ApiRequest<'_>,
        usersig: &Usersig,
        host: &ApiHost,
        response: reqwest::Response,
    ) -> Result<ApiAnswer, CallError> {
        let now = (self.wall_clock)();
        let retry_after = retry_after(response.headers(), now);
        if let Some(server) = server_time(response.headers()) {
            *self.lock_clock_offset() = Some(server - now);
        }
        let status = response.status().as_u16();
        if status != 200 {
            // The body is not shown: gateways quote the URL in it.
            let reason = response.status().canonical_reason().unwrap_or("(not a standard status)");
            let error = request.error(Code::Http(status), format!("{} answered {status} {reason}", host.shown));
            return Err(CallError { retry_after, ..error });
        }
        let body = self.read_body(response).await.map_err(|problem| match problem {
            BodyError::TooLarge => request
                .error(Code::Malformed, format!("the answer is larger than {} MiB", MAX_ANSWER_BYTES / 1024 / 1024)),
            BodyError::Connection(error) => connection_broke(request, usersig, host, error),
        })?;
        read_answer(request, usersig, &body, retry_after).map_err(|error| self.with_data_centre(error, host))
    }

    /// Names the data centre where the app may be in another one.
    fn with_data_centre(&self, mut error: CallError, host: &ApiHost) -> CallError {
        if error.code.depends_on_data_centre() {
            let setting = self
                .region
                .map_or_else(|| "im.base_url".to_owned(), |region| format!("im.region is \"{}\"", region.as_str()));
            error.info = format!("{}; the call went to {} ({setting})", error.info, host.shown);
        }
        error
    }

    async fn read_body(&self, mut response: reqwest::Response) -> Result<Vec<u8>, BodyError> {
        let announced = response.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        if announced.is_some_and(|length: usize| length > MAX_ANSWER_BYTES) {
            return Err(BodyError::TooLarge);
        }
        let mut body = Vec::new();
        let mut turn = None;
        while let Some(chunk) = response.chunk().await.map_err(BodyError::Connection)? {
            let length = body.len() + chunk.len();
            if length > MAX_ANSWER_BYTES {
                return Err(BodyError::TooLarge);
            }
            if turn.is_none() && length > LARGE_ANSWER_BYTES {
                turn = Some(self.large_answer.lock().await);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

/// Why a body could not be read.
enum BodyError {
    TooLarge,
    Connection(reqwest::Error),
}

/// A connection that was made and then failed: the call may have been applied.
fn connection_broke(request: &ApiRequest<'_>, usersig: &Usersig, host: &ApiHost, error: reqwest::Error) -> CallError {
    let info = format!("the connection to {} broke: {}", host.shown, root_cause(error));
    request.error(Code::Connect, ApiRequest::redact_usersig(&info, usersig))
}

/// The vendor's service of a command. Accounts have a service of their own, whichever push service is used.
fn service_path(service: Service, command: ApiCommand) -> &'static str {
    match command {
        ApiCommand::AccountCheck | ApiCommand::AccountImport => "im_open_login_svc",
        ApiCommand::SetAttr
        | ApiCommand::GetAttr
        | ApiCommand::RemoveAttr
        | ApiCommand::SetAttrName
        | ApiCommand::GetAttrName => service.as_str(),
    }
}

fn command_path(service: Service, command: ApiCommand) -> &'static str {
    match (service, command) {
        (_, ApiCommand::AccountCheck) => "account_check",
        (_, ApiCommand::AccountImport) => "multiaccount_import",
        (Service::Timpush, _) => command.label(),
        (Service::AllMemberPush, ApiCommand::SetAttr) => "im_set_attr",
        (Service::AllMemberPush, ApiCommand::GetAttr) => "im_get_attr",
        (Service::AllMemberPush, ApiCommand::RemoveAttr) => "im_remove_attr",
        (Service::AllMemberPush, ApiCommand::SetAttrName) => "im_set_attr_name",
        (Service::AllMemberPush, ApiCommand::GetAttrName) => "im_get_attr_name",
    }
}

fn connection_pool(settings: &ClientSettings) -> Result<reqwest::Client, String> {
    let base_url = match &settings.api_base {
        ApiBase::Region(_) => None,
        ApiBase::BaseUrl(url) => Some(url),
    };
    http_client::build(
        http_client::builder(base_url)
            .connect_timeout(MAX_CONNECT_TIME.min(settings.timeout / 3))
            // The sender bounds the calls in flight, and with them the idle connections.
            .pool_max_idle_per_host(usize::MAX)
            .pool_idle_timeout(IDLE_CONNECTION_TIMEOUT),
    )
}
