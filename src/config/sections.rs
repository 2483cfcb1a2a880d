//! The other sections: raw TOML becomes checked data, section by section.
//!
//! Owns: which check each key gets, and combinations of keys that cannot be. Must not know: databases, HTTP.

use secrecy::SecretString;

use super::document::Document;
use super::secrets::{self, Found, Looking};
use super::table_name::parse_table_name;
use super::{
    AccountFormat, Alerts, Endpoint, History, Http, Im, KeepOrRemove, Log, LogFormat, LogLevel, PgUrl, Removal,
    Schedule, Source, State, checks,
};
use crate::model::{MAX_ACCOUNT_BYTES, Region, Service};

/// Bytes of a uuid without its hyphens.
const HEX_BYTES: usize = 32;

/// Every reader runs to its end before the first `?`, so that all problems are found at once. The flag: the URL stands
/// in the file with a password.
pub(super) fn source(document: &mut Document<'_>, looking: &Looking<'_>) -> Option<(Source, bool)> {
    let url = looking.require(document, &secrets::SOURCE_URL, PgUrl::parse);
    let table = document.read("source.table", checks::table);
    let account_column = document.read("source.account_column", checks::text);
    let account_prefix = document.read("source.account_prefix", checks::text);
    let formats = [("text", AccountFormat::Text), ("hex", AccountFormat::Hex)];
    let account_format = document.read("source.account_format", checks::choice(&formats));
    let watermark_column = document.read("source.watermark_column", checks::text);
    let watermark_timezone = document.read("source.watermark_timezone", checks::text);
    let watermark_grace = document.read("source.watermark_grace", checks::duration);
    let deleted_column = document.read("source.deleted_column", checks::text);
    let filter = document.read("source.filter", checks::filter);
    let page_size = document.read("source.page_size", checks::whole_u32);

    if let (Some(prefix), Some(AccountFormat::Hex)) = (&account_prefix, account_format)
        && !prefix.is_empty()
    {
        document.problem(
            "source.account_prefix",
            format!(
                "a prefix of {} bytes and account_format = \"hex\" make accounts of {} bytes; IM takes at most {MAX_ACCOUNT_BYTES}, so leave the prefix out",
                prefix.len(),
                prefix.len() + HEX_BYTES
            ),
        );
    }
    if let Some(Ok(name)) = table.as_deref().map(parse_table_name)
        && name.folded
    {
        let read = name.schema.map(|schema| format!("{schema}.")).unwrap_or_default() + &name.table;
        document.notice(
            &["source", "table"],
            &format!("read as {read}, as SQL does; write a name with capital letters in double quotes: '\"Users\"'"),
        );
    }
    if watermark_column.is_some() && watermark_column == account_column {
        document.notice(
            &["source", "watermark_column"],
            "it is the account column too, which does not move when a row changes: only full passes will see changes",
        );
    }
    let (url, in_file) = url?;
    let exposed = in_file && url.has_password();
    let source = Source {
        url,
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

/// `source` is the source's URL, which counts unless the state has one of its own.
pub(super) fn state(
    document: &mut Document<'_>,
    looking: &Looking<'_>,
    source: Option<&PgUrl>,
) -> Option<(State, bool)> {
    let url = looking.find(document, &secrets::STATE_URL, PgUrl::parse);
    let schema = document.read("state.schema", checks::text);
    let migrate = document.read("state.migrate", checks::switch);
    if schema.as_deref().is_some_and(|schema| schema.starts_with("pg_")) {
        document.problem("state.schema", "names that begin with pg_ are kept for Postgres itself; choose another");
    }
    let (url, exposed) = match url {
        Found::Good { secret, in_file } => {
            let exposed = in_file && secret.has_password();
            (secret, exposed)
        }
        Found::Absent => (source?.clone(), false),
        Found::Faulty => return None,
    };
    Some((State { url, schema: schema?, migrate: migrate? }, exposed))
}

/// The flag: the secret key stands in the file.
pub(super) fn im(document: &mut Document<'_>, looking: &Looking<'_>, needs_secret_key: bool) -> Option<(Im, bool)> {
    let endpoint = endpoint(document);
    let services = Service::ALL.map(|service| (service.as_str(), service));
    let service = document.read("im.service", checks::choice(&services));
    let sdk_app_id = document.read("im.sdk_app_id", checks::whole_u32);
    let identifier = document.read("im.identifier", checks::text);
    let secret_key = if needs_secret_key {
        looking.require(document, &secrets::SECRET_KEY, checks::secret_key).map(|(key, in_file)| (Some(key), in_file))
    } else {
        secrets::glance(document, &secrets::SECRET_KEY);
        Some((None, document.value(secrets::SECRET_KEY.key).is_some()))
    };
    let usersig_lifetime = document.read("im.usersig_lifetime", checks::duration);
    let users_per_call = document.read("im.users_per_call", checks::whole_usize);
    let calls_per_second = document.read("im.calls_per_second", checks::whole_u32);
    let max_in_flight = document.read("im.max_in_flight", checks::whole_usize);
    let timeout = document.read("im.timeout", checks::duration);
    let retry_for = document.read("im.retry_for", checks::duration);
    let max_rejected_share = document.read("im.max_rejected_share", checks::share);
    let (secret_key, exposed) = secret_key?;
    let im = Im {
        endpoint: endpoint?,
        service: service?,
        sdk_app_id: sdk_app_id?,
        identifier: identifier?,
        secret_key,
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

fn endpoint(document: &mut Document<'_>) -> Option<Endpoint> {
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
        ]),
    );
    let base_url = document.read("im.base_url", checks::base_url);
    match (document.value("im.region").is_some(), document.value("im.base_url").is_some()) {
        (true, true) => {
            document
                .problem("im.base_url", "im.region is set too; keep the region, or the URL of a proxy or simulator");
            None
        }
        (false, false) => {
            document.missing(
                "im.region",
                "missing; set im.region to the app's data centre, or im.base_url to a proxy or the simulator",
            );
            None
        }
        (true, false) => region.map(Endpoint::Region),
        (false, true) => {
            if let Some(Endpoint::BaseUrl(url)) = &base_url
                && url.scheme() == "http"
                && !checks::is_loopback(url)
            {
                document.notice(
                    &["im", "base_url"],
                    "http to another machine: signatures and users' values travel readable; use https outside of tests",
                );
            }
            base_url
        }
    }
}

pub(super) fn removal(document: &mut Document<'_>) -> Option<Removal> {
    let choices = [("keep", KeepOrRemove::Keep), ("remove", KeepOrRemove::Remove)];
    let gone = document.read("removal.gone", checks::choice(&choices));
    let unmapped = document.read("removal.unmapped", checks::choice(&choices));
    let max_share = document.read("removal.max_share", checks::share);
    Some(Removal { gone: gone?, unmapped: unmapped?, max_share: max_share? })
}

pub(super) fn schedule(document: &mut Document<'_>) -> Option<Schedule> {
    let interval = document.read("schedule.interval", checks::duration);
    let notify_channel = document.read("schedule.notify_channel", checks::text);
    let full_every = document.read("schedule.full_every", checks::duration_or_never);
    let rejected_retry = document.read("schedule.rejected_retry", checks::duration);
    let verify_every = document.read("schedule.verify_every", checks::duration_or_never);
    let verify_sample = document.read("schedule.verify_sample", checks::whole_u32);
    Some(Schedule {
        interval: interval?,
        notify_channel,
        full_every: full_every?,
        rejected_retry: rejected_retry?,
        verify_every: verify_every?,
        verify_sample: verify_sample?,
    })
}

pub(super) fn http(document: &mut Document<'_>) -> Option<Http> {
    let listen = document.read("http.listen", checks::listen);
    let public = document.read("http.public", checks::switch);
    let show_accounts = document.read("http.show_accounts", checks::switch);
    if let (Some(address), Some(false)) = (listen, public)
        && !address.ip().is_loopback()
    {
        document.problem(
            "http.listen",
            format!("{address} can be reached from other machines; listen on 127.0.0.1 or [::1], or set http.public = true if that is meant"),
        );
    }
    Some(Http { listen, public: public?, show_accounts: show_accounts? })
}

/// The flag: the webhook stands in the file.
pub(super) fn alerts(document: &mut Document<'_>, looking: &Looking<'_>) -> Option<(Alerts, bool)> {
    let webhook: Found<SecretString> = looking.find(document, &secrets::WEBHOOK, checks::webhook);
    match webhook {
        Found::Good { secret, in_file } => Some((Alerts { webhook: Some(secret) }, in_file)),
        Found::Absent => Some((Alerts { webhook: None }, false)),
        Found::Faulty => None,
    }
}

pub(super) fn history(document: &mut Document<'_>) -> Option<History> {
    Some(History { keep: document.read("history.keep", checks::duration_or_never)? })
}

pub(super) fn log(document: &mut Document<'_>) -> Option<Log> {
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
    Some(Log { level: level?, format: format? })
}
