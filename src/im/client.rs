//! The client: one method for each command of the vendor.
//!
//! Owns: the timeout of a call, one repetition with another UserSig, the log lines of calls. Must not know: batches, rates,
//! retries, URLs.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use secrecy::ExposeSecret;
use tracing::{debug, info, warn};

use super::answer::{accepted, failed_accounts, sent_accounts};
use super::call::{Accepted, AccountStatus, ApiCommand, CallError, RemoveUser, SetUser, UserAttrs, UsersRead};
use super::code::Code;
use super::hosts::ApiHosts;
use super::request::ApiRequest;
use super::settings::ClientSettings;
use super::signing_key::SigningKey;
use super::transport::HttpTransport;
use super::usersig::{Usersig, UsersigSigner};
use super::wire::{self, ApiAnswer};
use crate::clock;

/// A client for one app and one service. It keeps its connections alive; share it in an `Arc`.
///
/// Each method makes one call and does not retry it, except once with another UserSig when IM refuses the UserSig:
/// one of the key that the file holds now, or a fresh one when the old one has expired.
#[derive(Debug)]
pub struct Client {
    transport: HttpTransport,
    signer: UsersigSigner,
    timeout: Duration,
    wall_clock: fn() -> DateTime<Utc>,
}

impl Client {
    /// Fails when the settings cannot make a client (an empty key, a base URL without a host), with a message for the
    /// operator.
    pub fn new(settings: ClientSettings) -> Result<Self, String> {
        let hosts = ApiHosts::from_base(&settings.api_base)?;
        Self::with_hosts(settings, hosts, clock::now_utc)
    }

    fn with_hosts(
        settings: ClientSettings,
        hosts: ApiHosts,
        wall_clock: fn() -> DateTime<Utc>,
    ) -> Result<Self, String> {
        if settings.secret_key.expose_secret().is_empty() {
            return Err("the secret key is empty; copy the app's key from the console".to_owned());
        }
        if settings.identifier.is_empty() {
            return Err("`im.identifier` is empty; set it to an administrator of the app".to_owned());
        }
        if settings.timeout.is_zero() {
            return Err("`im.timeout` is 0; 10s is usual".to_owned());
        }
        if settings.usersig_lifetime < Duration::from_secs(1) {
            return Err("`im.usersig_lifetime` is under a second; the vendor suggests 24h or more".to_owned());
        }
        let transport = HttpTransport::new(&settings, hosts, wall_clock)?;
        let ClientSettings { sdk_app_id, identifier, secret_key, secret_key_file, usersig_lifetime, timeout, .. } =
            settings;
        let key = SigningKey::new(secret_key, secret_key_file);
        let signer = UsersigSigner::new(sdk_app_id, identifier, key, usersig_lifetime);
        Ok(Self { transport, signer, timeout, wall_clock })
    }

    /// Sets attributes of at most 100 users. Their other attributes do not change. Without users, no call is made.
    pub async fn set_attr(&self, users: &[SetUser<'_>]) -> Result<Accepted, CallError> {
        if users.is_empty() {
            return Ok(Accepted::default());
        }
        let accounts = users.iter().map(|user| user.account).collect();
        let request =
            ApiRequest { command: ApiCommand::SetAttr, body: wire::set_attr(users).into(), accounts, set: users };
        let answer = self.call(&request).await?;
        Ok(accepted(&request, answer))
    }

    /// Removes attributes of at most 100 users. IM accepts the removal of an attribute that it does not hold. Without
    /// users, no call is made.
    pub async fn remove_attr(&self, users: &[RemoveUser<'_>]) -> Result<Accepted, CallError> {
        if users.is_empty() {
            return Ok(Accepted::default());
        }
        let accounts = users.iter().map(|user| user.account).collect();
        let request =
            ApiRequest { command: ApiCommand::RemoveAttr, body: wire::remove_attr(users).into(), accounts, set: &[] };
        let answer = self.call(&request).await?;
        Ok(accepted(&request, answer))
    }

    /// Reads what IM holds of at most 100 accounts. Without accounts, no call is made.
    pub async fn get_attr(&self, accounts: &[&str]) -> Result<UsersRead, CallError> {
        if accounts.is_empty() {
            return Ok(UsersRead::default());
        }
        let body = wire::get_attr(accounts).into();
        let request = ApiRequest { command: ApiCommand::GetAttr, body, accounts: accounts.to_vec(), set: &[] };
        let mut answer = self.call(&request).await?;
        let no_users = || request.error(Code::Malformed, "the answer says OK, but has no UserAttrs".to_owned());
        let listed = answer.user_attrs.take().ok_or_else(no_users)?;
        let named: Vec<&str> = listed.iter().map(|user| user.account.as_str()).collect();
        let positions = sent_accounts(accounts, &named);
        let mut users = Vec::with_capacity(listed.len());
        for (user, position) in listed.into_iter().zip(positions) {
            // An account that was not asked for says nothing about those that were.
            let Some(position) = position else { continue };
            let account = accounts[position].to_owned();
            users.push(UserAttrs { account, attrs: user.attrs.into_iter().collect() });
        }
        Ok(UsersRead { users, failed: accepted(&request, answer).failed })
    }

    /// Tells for each of at most 100 accounts whether it exists in Chat. Without accounts, no call is made.
    pub async fn account_check(&self, accounts: &[&str]) -> Result<Vec<AccountStatus>, CallError> {
        if accounts.is_empty() {
            return Ok(Vec::new());
        }
        let body = wire::account_check(accounts).into();
        let request = ApiRequest { command: ApiCommand::AccountCheck, body, accounts: accounts.to_vec(), set: &[] };
        let items =
            self.call(&request).await?.result_item.ok_or_else(|| {
                request.error(Code::Malformed, "the answer says OK, but has no ResultItem".to_owned())
            })?;
        let named: Vec<&str> = items.iter().map(|item| item.account.as_str()).collect();
        let positions = sent_accounts(accounts, &named);
        let mut statuses = vec![None; accounts.len()];
        for (item, position) in items.iter().zip(positions) {
            // What is said of an account that was not sent says nothing about those that were.
            let Some(position) = position else { continue };
            let status = match (item.code, item.status.as_deref()) {
                (0, Some("Imported")) => AccountStatus::Imported,
                (0, Some("NotImported")) => AccountStatus::NotImported,
                _ => AccountStatus::Undetermined,
            };
            let contradicts = statuses[position].is_some_and(|before| before != status);
            statuses[position] = Some(if contradicts { AccountStatus::Undetermined } else { status });
        }
        let statuses = statuses.into_iter().map(|status| status.unwrap_or(AccountStatus::Undetermined)).collect();
        Ok(statuses)
    }

    /// Creates at most 100 accounts in Chat. One that exists does not change. Returns the positions of those that could
    /// not be created. Without accounts, no call is made.
    pub async fn account_import(&self, accounts: &[&str]) -> Result<Vec<usize>, CallError> {
        if accounts.is_empty() {
            return Ok(Vec::new());
        }
        let body = wire::account_import(accounts).into();
        let request = ApiRequest { command: ApiCommand::AccountImport, body, accounts: accounts.to_vec(), set: &[] };
        let failed = self.call(&request).await?.fail_accounts.unwrap_or_default();
        let named: Vec<&str> = failed.iter().map(String::as_str).collect();
        let positions = failed_accounts(accounts, &named).into_iter().collect::<Option<Vec<usize>>>();
        positions.ok_or_else(|| {
            let info = "FailAccounts names an account that the call did not carry".to_owned();
            request.error(Code::UnmatchedErrorList, info)
        })
    }

    /// By how much IM's clock was ahead of this machine's in the last answer, to the second; negative when it was behind.
    /// `None` before an answer with the header `Date`.
    pub fn clock_offset(&self) -> Option<TimeDelta> {
        self.transport.clock_offset()
    }

    /// The administrator's account, which every app has.
    pub fn administrator(&self) -> &str {
        self.signer.identifier()
    }

    /// Reads the app's attribute names by number (0 to 9).
    pub async fn attr_names(&self) -> Result<BTreeMap<u8, String>, CallError> {
        let request =
            ApiRequest { command: ApiCommand::GetAttrName, body: wire::empty().into(), accounts: Vec::new(), set: &[] };
        // Without names, the object may be missing or a name empty (assumed: the documentation shows neither).
        let names = self.call(&request).await?.attr_names.unwrap_or_default();
        names
            .into_iter()
            .filter(|(_, name)| !name.is_empty())
            .map(|(number, name)| number.parse().ok().filter(|number| *number <= 9).map(|number| (number, name)))
            .collect::<Option<_>>()
            .ok_or_else(|| request.error(Code::Malformed, "AttrNames has a number that is not 0 to 9".to_owned()))
    }

    /// Defines the app's attribute names by number (0 to 9). Numbers that are not given do not change (assumed).
    ///
    /// `attribute_type`: what these attributes belong to, for `timpush` only: 0 for `UserIDs`, 1 for `RegistrationIDs`. IM
    /// refuses another type than a number has.
    pub async fn set_attr_names(
        &self,
        names: &BTreeMap<u8, String>,
        attribute_type: Option<u8>,
    ) -> Result<(), CallError> {
        let body = wire::set_attr_names(names, attribute_type).into();
        let request = ApiRequest { command: ApiCommand::SetAttrName, body, accounts: Vec::new(), set: &[] };
        self.call(&request).await.map(|_| ())
    }

    /// Makes one call within the timeout, and logs it.
    async fn call(&self, request: &ApiRequest<'_>) -> Result<ApiAnswer, CallError> {
        let started = clock::monotonic();
        // The timeout includes both hosts and the repetition with a fresh UserSig: the time after which a lost call can
        // no longer be applied is counted from the start of the call.
        let result = tokio::time::timeout(self.timeout, self.call_signed(request)).await.unwrap_or_else(|_| {
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

    /// Repeats the call once with another UserSig when IM refuses the current one.
    async fn call_signed(&self, request: &ApiRequest<'_>) -> Result<ApiAnswer, CallError> {
        let usersig = self.signer.current((self.wall_clock)());
        let error = match self.exchange(request, &usersig).await {
            Err(error) if error.code.refuses_credentials() => error,
            result => return result,
        };
        let expired = error.code.means_usersig_expired();
        let Some(other) = self.signer.after_refusal(&usersig, expired, (self.wall_clock)()) else { return Err(error) };
        let why = if expired { "reports that the UserSig has expired" } else { "refuses the UserSig" };
        info!(
            command = request.command.label(),
            request_id = error.request_id.as_deref(),
            "IM {why} ({}); the call is repeated once with a fresh one",
            error.code
        );
        self.exchange(request, &other).await
    }

    async fn exchange(&self, request: &ApiRequest<'_>, usersig: &Usersig) -> Result<ApiAnswer, CallError> {
        let result = self.transport.exchange(request, usersig).await;
        if result.is_ok() {
            self.signer.accepted(usersig);
        }
        result
    }
}

#[cfg(test)]
mod tests;
