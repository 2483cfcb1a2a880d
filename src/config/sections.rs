//! Every section except `[attributes]`: converts its TOML values to checked data.
//!
//! Owns: which check each key has, and which combinations of keys are refused. Must not know: databases, HTTP.
//!
//! Each function reads all keys of its section before the first `?`, so that all problems are found. It returns `None`
//! if a problem was recorded.

use secrecy::SecretString;

use super::checks;
use super::document::ConfigDocument;
use super::model::{
    AccountFormat, AlertsConfig, HistoryConfig, HttpConfig, ImAddress, ImConfig, KeepOrRemove, LogConfig,
    RemovalConfig, ScheduleConfig, SourceConfig, StateConfig,
};
use super::secrets::{self, FoundSecret, SecretLookup, ValidSecret};
use super::table_name::parse_table_name;
use crate::model::{ImAccountType, LogFormat, LogLevel, MAX_ACCOUNT_BYTES, Region, Service, UnknownAccounts};
use crate::postgres::{PgUrl, UrlFile};

/// The calls per second that IM accepts for each command, counted over all senders of the app. Source: the vendor's limits.
const MAX_CALLS_PER_SECOND: u32 = 100;
/// The length of a uuid without its hyphens.
const HEX_BYTES: usize = 32;

/// The `[source]` section. The flag: the configuration file contains the URL with a password.
pub(super) fn source(document: &mut ConfigDocument<'_>, lookup: &SecretLookup<'_>) -> Option<(SourceConfig, bool)> {
    let url = lookup.require(document, &secrets::SOURCE_URL, |text| PgUrl::parse(text, lookup.environment.pg()));
    let table = document.read("source.table", checks::table);
    let account_column = document.read("source.account_column", checks::text);
    let account_prefix = document.read("source.account_prefix", checks::text);
    let formats = [("text", AccountFormat::Text), ("hex", AccountFormat::Hex)];
    let account_format = document.read("source.account_format", checks::choice(&formats));
    let watermark_column = document.read("source.watermark_column", checks::text);
    let watermark_timezone = document.read("source.watermark_timezone", checks::time_zone);
    let watermark_grace = document.read("source.watermark_grace", checks::duration);
    let deleted_column = document.read("source.deleted_column", checks::text);
    let filter = document.read("source.filter", checks::filter);
    let page_size = document.read("source.page_size", checks::integer_u32);

    if let (Some(prefix), Some(format)) = (&account_prefix, account_format) {
        check_account_length(document, prefix, format);
    }
    if let Some(table) = &table {
        warn_about_folded_name(document, table);
    }
    if watermark_column.is_some() && watermark_column == account_column {
        document.warning(
            &["source", "watermark_column"],
            "this is also the account column, which does not change when a row is updated; only full passes will find changes",
        );
    }
    let (url, url_file, exposed) = database_url(url?);
    let source = SourceConfig {
        url,
        url_file,
        table: table?,
        account_column: account_column?,
        account_prefix: account_prefix?,
        account_format: account_format?,
        watermark_column,
        watermark_timezone: watermark_timezone?,
        watermark_grace: watermark_grace?,
        deleted_column,
        filter,
        page_size: page_size?,
    };
    Some((source, exposed))
}

/// The URL, its file, and whether the configuration file contains the URL with a password.
fn database_url(found: ValidSecret<PgUrl>) -> (PgUrl, Option<UrlFile>, bool) {
    let ValidSecret { secret: url, in_config_file, file } = found;
    let exposed = in_config_file && url.has_password();
    let url_file = file.map(|file| UrlFile::new(file, url.clone()));
    (url, url_file, exposed)
}

/// A prefix and the hexadecimal form of a uuid together are longer than an account may be.
fn check_account_length(document: &mut ConfigDocument<'_>, prefix: &str, format: AccountFormat) {
    if format == AccountFormat::Hex && !prefix.is_empty() {
        document.problem(
            "source.account_prefix",
            format!(
                "a prefix of {} bytes with account_format = \"hex\" makes accounts of {} bytes, and IM accepts at most {MAX_ACCOUNT_BYTES}; remove the prefix",
                prefix.len(),
                prefix.len() + HEX_BYTES
            ),
        );
    }
}

fn warn_about_folded_name(document: &mut ConfigDocument<'_>, table: &str) {
    if let Ok(name) = parse_table_name(table)
        && name.folded
    {
        let read = name.schema.map(|schema| format!("{schema}.")).unwrap_or_default() + &name.table;
        document.warning(
            &["source", "table"],
            &format!(
                "the name is read as {read}, because SQL folds unquoted names to lower case; put a name with capital letters in double quotes: '\"Users\"'"
            ),
        );
    }
}

/// The `[state]` section. The URL of `source` applies if the section has none. The flag: the configuration file
/// contains the section's URL with a password.
pub(super) fn state(
    document: &mut ConfigDocument<'_>,
    lookup: &SecretLookup<'_>,
    source: Option<&SourceConfig>,
) -> Option<(StateConfig, bool)> {
    let url = lookup.find(document, &secrets::STATE_URL, |text| PgUrl::parse(text, lookup.environment.pg()));
    let schema = document.read("state.schema", checks::text);
    let migrate = document.read("state.migrate", checks::boolean);
    if schema.as_deref().is_some_and(|schema| schema.starts_with("pg_")) {
        document.problem(
            "state.schema",
            "schema names that start with pg_ are reserved for PostgreSQL; choose another name",
        );
    }
    let (url, url_file, exposed) = match url {
        FoundSecret::Valid(found) => database_url(found),
        FoundSecret::NotSet => {
            let source = source?;
            (source.url.clone(), source.url_file.clone(), false)
        }
        FoundSecret::Invalid => return None,
    };
    Some((StateConfig { url, url_file, schema: schema?, migrate: migrate? }, exposed))
}

/// Reports what does not go together with the accounts of devices.
pub(super) fn device_accounts(document: &mut ConfigDocument<'_>, source: Option<&SourceConfig>, im: Option<&ImConfig>) {
    let Some(im) = im.filter(|im| im.account_type == ImAccountType::RegistrationId) else { return };
    let excluded = [
        (im.service != Service::Timpush, "needs im.service = \"timpush\": only this service has device accounts"),
        (
            im.unknown_accounts == UnknownAccounts::Import,
            "cannot be used with im.unknown_accounts = \"import\": the SDK registers a device, and no call creates one",
        ),
        (
            source.is_some_and(|source| source.account_format == AccountFormat::Hex),
            "cannot be used with source.account_format = \"hex\": a RegistrationID keeps its hyphens",
        ),
    ];
    for (_, problem) in excluded.iter().filter(|(applies, _)| *applies) {
        document.problem("im.account_type", format!("\"registration_id\" {problem}"));
    }
}

/// The `[im]` section. The flag: the configuration file contains the secret key.
pub(super) fn im(
    document: &mut ConfigDocument<'_>,
    lookup: &SecretLookup<'_>,
    needs_secret_key: bool,
) -> Option<(ImConfig, bool)> {
    let address = address(document);
    let services = Service::ALL.map(|service| (service.as_str(), service));
    let service = document.read("im.service", checks::choice(&services));
    let account_type = document.read(
        "im.account_type",
        checks::choice(&[("user_id", ImAccountType::UserId), ("registration_id", ImAccountType::RegistrationId)]),
    );
    let unknown_accounts = document.read(
        "im.unknown_accounts",
        checks::choice(&[("reject", UnknownAccounts::Reject), ("import", UnknownAccounts::Import)]),
    );
    let sdk_app_id = document.read("im.sdk_app_id", checks::integer_u32);
    let identifier = document.read("im.identifier", checks::text);
    let secret_key = if needs_secret_key {
        lookup
            .require(document, &secrets::SECRET_KEY, checks::secret_key)
            .map(|ValidSecret { secret, in_config_file, file }| (Some(secret), file, in_config_file))
    } else {
        secrets::check_keys_only(document, &secrets::SECRET_KEY);
        Some((None, None, document.value(secrets::SECRET_KEY.key).is_some()))
    };
    let usersig_lifetime = document.read("im.usersig_lifetime", checks::duration);
    let users_per_call = document.read("im.users_per_call", checks::integer_usize);
    let calls_per_second = calls_per_second(document);
    let max_in_flight = document.read("im.max_in_flight", checks::integer_usize);
    let timeout = document.read("im.timeout", checks::duration);
    let retry_for = document.read("im.retry_for", checks::duration);
    let max_rejected_share = document.read("im.max_rejected_share", checks::share);
    let (secret_key, secret_key_file, exposed) = secret_key?;
    let im = ImConfig {
        address: address?,
        service: service?,
        account_type: account_type?,
        unknown_accounts: unknown_accounts?,
        sdk_app_id: sdk_app_id?,
        identifier: identifier?,
        secret_key,
        secret_key_file,
        usersig_lifetime: usersig_lifetime?,
        users_per_call: users_per_call?,
        calls_per_second: calls_per_second?,
        max_in_flight: max_in_flight?,
        timeout: timeout?,
        retry_for: retry_for?,
        max_rejected_share: max_rejected_share?,
    };
    Some((im, exposed))
}

/// More than IM accepts makes sense with a base URL only: a simulator, or a proxy that has its own limit.
fn calls_per_second(document: &mut ConfigDocument<'_>) -> Option<u32> {
    let calls = document.read("im.calls_per_second", checks::integer_u32)?;
    if calls > MAX_CALLS_PER_SECOND && document.value("im.base_url").is_none() {
        document.problem(
            "im.calls_per_second",
            format!(
                "found the number {calls}, expected an integer from 1 to {MAX_CALLS_PER_SECOND} (IM accepts at most {MAX_CALLS_PER_SECOND} calls per second for each command, counted over all senders of the app)"
            ),
        );
        return None;
    }
    Some(calls)
}

fn address(document: &mut ConfigDocument<'_>) -> Option<ImAddress> {
    let region = document.read(
        "im.region",
        checks::choice(&[
            ("china", Region::China),
            ("singapore", Region::Singapore),
            ("seoul", Region::Seoul),
            ("tokyo", Region::Tokyo),
            ("frankfurt", Region::Frankfurt),
            ("mumbai", Region::Mumbai),
            ("silicon-valley", Region::SiliconValley),
            ("jakarta", Region::Jakarta),
            ("ksa", Region::Ksa),
        ]),
    );
    let base_url = document.read("im.base_url", checks::base_url);
    match (document.value("im.region").is_some(), document.value("im.base_url").is_some()) {
        (true, true) => {
            document.problem(
                "im.base_url",
                "im.region is also set; remove one of the two (im.base_url is for a proxy or the simulator)",
            );
            None
        }
        (false, false) => {
            document.missing(
                "im.region",
                "this key is required; set im.region to the app's data centre, or im.base_url to a proxy or the simulator",
            );
            None
        }
        (true, false) => region.map(ImAddress::Region),
        (false, true) => {
            if let Some(ImAddress::BaseUrl(url)) = &base_url
                && url.scheme() == "http"
                && !checks::is_loopback(url)
            {
                document.warning(
                    &["im", "base_url"],
                    "http to another machine sends signatures and values of users unencrypted; use https except in tests",
                );
            }
            base_url
        }
    }
}

/// The `[removal]` section.
pub(super) fn removal(document: &mut ConfigDocument<'_>) -> Option<RemovalConfig> {
    let choices = [("keep", KeepOrRemove::Keep), ("remove", KeepOrRemove::Remove)];
    let gone = document.read("removal.gone", checks::choice(&choices));
    let unmapped = document.read("removal.unmapped", checks::choice(&choices));
    let max_share = document.read("removal.max_share", checks::share);
    Some(RemovalConfig { gone: gone?, unmapped: unmapped?, max_share: max_share? })
}

/// The `[schedule]` section.
pub(super) fn schedule(document: &mut ConfigDocument<'_>) -> Option<ScheduleConfig> {
    let interval = document.read("schedule.interval", checks::duration);
    let notify_channel = document.read("schedule.notify_channel", checks::text);
    let full_every = document.read("schedule.full_every", checks::duration_or_never);
    let rejected_retry = document.read("schedule.rejected_retry", checks::duration);
    let verify_every = document.read("schedule.verify_every", checks::duration_or_never);
    let verify_sample = document.read("schedule.verify_sample", checks::integer_u32);
    Some(ScheduleConfig {
        interval: interval?,
        notify_channel,
        full_every: full_every?,
        rejected_retry: rejected_retry?,
        verify_every: verify_every?,
        verify_sample: verify_sample?,
    })
}

/// The `[http]` section.
pub(super) fn http(document: &mut ConfigDocument<'_>) -> Option<HttpConfig> {
    let listen = document.read("http.listen", checks::listen);
    let public = document.read("http.public", checks::boolean);
    let show_accounts = document.read("http.show_accounts", checks::boolean);
    if let (Some(address), Some(false)) = (listen, public)
        && !address.ip().is_loopback()
    {
        document.problem(
            "http.listen",
            format!("other machines can reach {address}; listen on 127.0.0.1 or [::1], or set http.public = true to allow this"),
        );
    }
    Some(HttpConfig { listen, public: public?, show_accounts: show_accounts? })
}

/// The `[alerts]` section. The flag: the configuration file contains the webhook.
pub(super) fn alerts(document: &mut ConfigDocument<'_>, lookup: &SecretLookup<'_>) -> Option<(AlertsConfig, bool)> {
    let webhook: FoundSecret<SecretString> = lookup.find(document, &secrets::WEBHOOK, checks::webhook);
    match webhook {
        FoundSecret::Valid(ValidSecret { secret, in_config_file, file }) => {
            Some((AlertsConfig { webhook: Some(secret), webhook_file: file }, in_config_file))
        }
        FoundSecret::NotSet => Some((AlertsConfig { webhook: None, webhook_file: None }, false)),
        FoundSecret::Invalid => None,
    }
}

/// The `[history]` section.
pub(super) fn history(document: &mut ConfigDocument<'_>) -> Option<HistoryConfig> {
    Some(HistoryConfig { keep: document.read("history.keep", checks::duration_or_never)? })
}

/// The `[log]` section.
pub(super) fn log(document: &mut ConfigDocument<'_>) -> Option<LogConfig> {
    let level = document.read(
        "log.level",
        checks::choice(&[
            ("error", LogLevel::Error),
            ("warn", LogLevel::Warn),
            ("info", LogLevel::Info),
            ("debug", LogLevel::Debug),
            ("trace", LogLevel::Trace),
        ]),
    );
    let format = document.read(
        "log.format",
        checks::choice(&[
            ("auto", LogFormat::Auto),
            ("text", LogFormat::Text),
            ("json", LogFormat::Json),
            ("journald", LogFormat::Journald),
        ]),
    );
    Some(LogConfig { level: level?, format: format? })
}
