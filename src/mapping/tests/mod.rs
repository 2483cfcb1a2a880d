//! The mapping of texts and rows, tested by tables of cases and by properties.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{MappedRow, Mapping};
use crate::config::{
    AccountFormat, AlertsConfig, AttributeConfig, Config, HistoryConfig, HttpConfig, ImAddress, ImConfig, KeepOrRemove,
    LogConfig, LogFormat, LogLevel, Null, PgUrl, PgVariables, RemovalConfig, ScheduleConfig, SourceConfig, StateConfig,
    TooLong, Unlisted,
};
use crate::model::{Account, DesiredAccount, DesiredValue, LocalRefusal, Region, Rows, Service};

mod bad_input;
mod fingerprint;
mod properties;
mod sample;

const UUID: &str = "8b1f9c1e-0f6c-4c59-9c40-6f3f6d8a2b11";

fn attribute(name: &str, column: &str) -> AttributeConfig {
    AttributeConfig {
        name: name.into(),
        column: column.into(),
        values: None,
        unlisted: Unlisted::Reject,
        too_long: TooLong::Reject,
        null: Null::Remove,
    }
}

fn values(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(text, target)| ((*text).to_owned(), (*target).to_owned())).collect()
}

fn url() -> PgUrl {
    PgUrl::parse("postgres://imsync@localhost/app", &PgVariables::default()).expect("the URL is valid")
}

fn source() -> SourceConfig {
    SourceConfig {
        url: url(),
        url_file: None,
        table: "public.users".into(),
        account_column: "id".into(),
        account_prefix: String::new(),
        account_format: AccountFormat::Text,
        watermark_column: None,
        watermark_timezone: "UTC".into(),
        watermark_grace: Duration::from_secs(5),
        deleted_column: None,
        filter: None,
        page_size: 5000,
    }
}

fn config(attributes: Vec<AttributeConfig>) -> Config {
    Config {
        path: PathBuf::from("imsync.toml"),
        name: "users".into(),
        source: source(),
        state: StateConfig { url: url(), url_file: None, schema: "imsync".into(), migrate: true },
        im: ImConfig {
            address: ImAddress::Region(Region::Singapore),
            service: Service::AllMemberPush,
            sdk_app_id: 1_400_000_000,
            identifier: "administrator".into(),
            secret_key: None,
            secret_key_file: None,
            usersig_lifetime: Duration::from_hours(24),
            users_per_call: 100,
            calls_per_second: 95,
            max_in_flight: 64,
            timeout: Duration::from_secs(10),
            retry_for: Duration::from_mins(1),
            max_rejected_share: 0.4,
            account_type: crate::model::ImAccountType::UserId,
            unknown_accounts: crate::model::UnknownAccounts::Reject,
        },
        attributes,
        removal: RemovalConfig { gone: KeepOrRemove::Remove, unmapped: KeepOrRemove::Keep, max_share: 0.2 },
        schedule: ScheduleConfig {
            interval: Duration::from_secs(10),
            notify_channel: None,
            full_every: None,
            rejected_retry: Duration::from_hours(1),
            verify_every: None,
            verify_sample: 1000,
        },
        http: HttpConfig { listen: None, public: false, show_accounts: false },
        alerts: AlertsConfig { webhook: None, webhook_file: None },
        history: HistoryConfig { keep: None },
        log: LogConfig { level: LogLevel::Info, format: LogFormat::Auto },
    }
}

fn row(account: Option<&str>, texts: &[Option<&str>]) -> Rows {
    let mut rows = Rows::default();
    rows.push(account, None, false, texts.iter().copied());
    rows
}

fn gone_row(account: Option<&str>, texts: &[Option<&str>]) -> Rows {
    let mut rows = Rows::default();
    rows.push(account, None, true, texts.iter().copied());
    rows
}

/// What the mapping makes of the only row.
fn applied(mapping: &Mapping, rows: &Rows) -> MappedRow {
    mapping.apply(rows.row(0))
}

/// What an attribute with these settings makes of one text.
fn desired(attribute: AttributeConfig, text: Option<&str>) -> DesiredValue {
    match applied(&Mapping::new(&config(vec![attribute])), &row(Some("u1"), &[text])) {
        MappedRow::Present(desired) => desired.values.into_iter().next().expect("one attribute has one desired value"),
        other => panic!("u1 is present, not {other:?}"),
    }
}

fn value(text: &str) -> DesiredValue {
    DesiredValue::Value(text.into())
}

fn too_long(bytes: usize) -> DesiredValue {
    DesiredValue::Refused(LocalRefusal::ValueTooLong { column: Arc::from("gender"), bytes })
}

fn unlisted() -> DesiredValue {
    DesiredValue::Refused(LocalRefusal::Unlisted { column: Arc::from("gender") })
}

fn truncating() -> AttributeConfig {
    AttributeConfig { too_long: TooLong::Truncate, ..attribute("sex", "gender") }
}

#[test]
fn empty_texts_are_mapped_by_null_even_if_values_lists_them() {
    for listed in [None, Some(values(&[("", "none"), ("m", "male")]))] {
        for (null, expected) in [(Null::Remove, DesiredValue::Absent), (Null::Keep, DesiredValue::Keep)] {
            for text in [None, Some("")] {
                for unlisted in [Unlisted::Reject, Unlisted::Send, Unlisted::Keep, Unlisted::Remove] {
                    let attribute =
                        AttributeConfig { values: listed.clone(), null, unlisted, ..attribute("sex", "gender") };
                    assert_eq!(desired(attribute, text), expected, "{text:?} with null = {null:?}");
                }
            }
        }
    }
}

#[test]
fn a_listed_text_becomes_its_target_by_exact_look_up() {
    let listed =
        || AttributeConfig { values: Some(values(&[("m", "male"), ("f", "female")])), ..attribute("sex", "gender") };
    assert_eq!(desired(listed(), Some("m")), value("male"));
    assert_eq!(desired(listed(), Some("f")), value("female"));
    for text in ["M", " m", "m ", "mm", "\u{ff4d}", "male"] {
        assert_eq!(desired(listed(), Some(text)), unlisted(), "{text:?}");
    }
}

#[test]
fn unlisted_decides_about_every_other_text() {
    let long = "x".repeat(51);
    for (rule, text, expected) in [
        (Unlisted::Reject, "d", unlisted()),
        (Unlisted::Send, "d", value("d")),
        (Unlisted::Keep, "d", DesiredValue::Keep),
        (Unlisted::Remove, "d", DesiredValue::Absent),
        (Unlisted::Reject, long.as_str(), unlisted()),
        (Unlisted::Send, long.as_str(), too_long(51)),
        (Unlisted::Keep, long.as_str(), DesiredValue::Keep),
        (Unlisted::Remove, long.as_str(), DesiredValue::Absent),
    ] {
        let attribute =
            AttributeConfig { values: Some(values(&[("m", "male")])), unlisted: rule, ..attribute("sex", "gender") };
        assert_eq!(desired(attribute, Some(text)), expected, "{rule:?} {text}");
    }
    let truncated =
        AttributeConfig { values: Some(values(&[("m", "male")])), unlisted: Unlisted::Send, ..truncating() };
    assert_eq!(desired(truncated, Some(&long)), value(&long[..50]));
    // Without a list, no text is unlisted.
    let plain = AttributeConfig { unlisted: Unlisted::Remove, ..attribute("sex", "gender") };
    assert_eq!(desired(plain, Some("d")), value("d"));
}

#[test]
fn a_target_in_values_has_the_limits_of_a_value() {
    let long = "x".repeat(51);
    let listed =
        |attribute: AttributeConfig| AttributeConfig { values: Some(values(&[("a", ""), ("b", &long)])), ..attribute };
    assert_eq!(desired(listed(attribute("sex", "gender")), Some("a")), DesiredValue::Absent);
    let keep = AttributeConfig { null: Null::Keep, ..attribute("sex", "gender") };
    assert_eq!(desired(listed(keep), Some("a")), DesiredValue::Keep);
    assert_eq!(desired(listed(attribute("sex", "gender")), Some("b")), too_long(51));
    assert_eq!(desired(listed(truncating()), Some("b")), value(&long[..50]));
}

#[test]
fn fifty_bytes_are_sent_and_fifty_one_are_refused() {
    // Latin, Chinese (3 bytes per character), Arabic (2 bytes), Hebrew with a right-to-left mark.
    for fits in
        ["x".repeat(50), "\u{5317}".repeat(16) + "xy", "\u{0633}".repeat(25), "\u{05d0}".repeat(23) + "\u{200f}y"]
    {
        assert_eq!(fits.len(), 50);
        assert_eq!(desired(attribute("sex", "gender"), Some(&fits)), value(&fits));
        assert_eq!(desired(truncating(), Some(&fits)), value(&fits));
        let over = fits.clone() + "z";
        assert_eq!(desired(attribute("sex", "gender"), Some(&over)), too_long(51));
        assert_eq!(desired(truncating(), Some(&over)), value(&fits));
    }
}

#[test]
fn truncation_ends_between_graphemes() {
    let family = "\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}\u{200d}\u{1f466}"; // one grapheme, 25 bytes
    let flag = "\u{1f1e9}\u{1f1ea}"; // one grapheme of two regional indicators, 8 bytes
    let accented = "e\u{0301}"; // 3 bytes
    let hangul = "\u{1112}\u{1161}\u{11ab}"; // one grapheme of three conjoining letters, 9 bytes
    for (text, kept) in [
        ("\u{5317}".repeat(17), "\u{5317}".repeat(16)),
        (family.repeat(3), family.repeat(2)),
        (format!("x{}", family.repeat(2)), format!("x{family}")),
        (flag.repeat(7), flag.repeat(6)),
        (format!("xyz{}", flag.repeat(6)), format!("xyz{}", flag.repeat(5))),
        (format!("{}{accented}", "x".repeat(48)), "x".repeat(48)),
        (format!("{}{accented}x", "x".repeat(47)), format!("{}{accented}", "x".repeat(47))),
        (format!("{}\r\n", "x".repeat(49)), "x".repeat(49)),
        (hangul.repeat(6), hangul.repeat(5)),
        (format!("{}\u{05d0}", "x".repeat(49)), "x".repeat(49)),
    ] {
        assert!(text.len() > 50);
        assert_eq!(desired(truncating(), Some(&text)), value(&kept), "{text}");
    }
}

#[test]
fn a_single_grapheme_over_fifty_bytes_is_refused() {
    let grapheme = format!("a{}", "\u{0301}".repeat(25)); // 51 bytes, one grapheme
    assert_eq!(desired(truncating(), Some(&grapheme)), too_long(51));
    assert_eq!(desired(truncating(), Some(&format!("x{grapheme}"))), value("x"));
}

#[test]
fn attributes_are_mapped_in_the_order_of_the_configuration() {
    let mapping = Mapping::new(&config(vec![
        attribute("city", "city"),
        AttributeConfig { values: Some(values(&[("m", "male")])), ..attribute("sex", "gender") },
        attribute("town", "city"),
        AttributeConfig { null: Null::Keep, ..attribute("level", "level") },
    ]));
    assert_eq!(mapping.columns(), ["city", "gender", "level"]);
    assert_eq!(mapping.names().iter().map(|name| &**name).collect::<Vec<_>>(), ["city", "sex", "town", "level"]);
    let mapped = applied(&mapping, &row(Some("u1"), &[Some("Graz"), Some("?"), None]));
    assert_eq!(
        mapped,
        MappedRow::Present(DesiredAccount {
            account: Account::new("u1"),
            values: vec![value("Graz"), unlisted(), value("Graz"), DesiredValue::Keep],
        })
    );
}

#[test]
fn rows_with_an_account_that_cannot_be_sent() {
    let mapping = Mapping::new(&config(vec![attribute("city", "city")]));
    assert_eq!(applied(&mapping, &row(None, &[Some("Graz")])), MappedRow::NoAccount);
    assert_eq!(applied(&mapping, &row(Some(""), &[Some("Graz")])), MappedRow::NoAccount);

    // The limit counts bytes: eight characters of four bytes are 32.
    for account in ["u".repeat(32), "\u{1f600}".repeat(8)] {
        assert!(matches!(applied(&mapping, &row(Some(&account), &[Some("Graz")])), MappedRow::Present(_)), "{account}");
        let longer = account + "u";
        assert_eq!(
            applied(&mapping, &row(Some(&longer), &[Some("Graz")])),
            MappedRow::Refused(Account::new(longer.as_str()), LocalRefusal::AccountTooLong { bytes: 33, allowed: 32 })
        );
    }

    let mut prefixed = config(vec![attribute("city", "city")]);
    prefixed.source.account_prefix = "app_".into();
    let prefixed = Mapping::new(&prefixed);
    assert_eq!(applied(&prefixed, &row(Some(""), &[None])), MappedRow::NoAccount, "the prefix alone is not an account");
    assert!(matches!(applied(&prefixed, &row(Some(&"u".repeat(28)), &[None])), MappedRow::Present(_)));
    assert!(matches!(applied(&prefixed, &row(Some(&"u".repeat(29)), &[None])), MappedRow::Refused(..)));
}

#[test]
fn a_gone_row_is_gone_whatever_its_values_are() {
    let mapping = Mapping::new(&config(vec![attribute("city", "city")]));
    for account in ["u1".to_owned(), "u".repeat(33)] {
        let gone = gone_row(Some(&account), &[Some("Graz")]);
        assert_eq!(applied(&mapping, &gone), MappedRow::Gone(Account::new(account)));
    }
    assert_eq!(applied(&mapping, &gone_row(None, &[None])), MappedRow::NoAccount);
}

#[test]
fn an_account_is_the_prefix_and_the_formatted_text() {
    for (prefix, format, text, expected) in [
        ("", AccountFormat::Text, "42", "42"),
        ("app_", AccountFormat::Text, "42", "app_42"),
        ("", AccountFormat::Text, UUID, UUID),
        ("", AccountFormat::Hex, UUID, "8b1f9c1e0f6c4c599c406f3f6d8a2b11"),
        ("t-", AccountFormat::Hex, UUID, "t-8b1f9c1e0f6c4c599c406f3f6d8a2b11"),
    ] {
        let source = SourceConfig { account_prefix: prefix.into(), account_format: format, ..source() };
        assert_eq!(source.account_of(text).as_str(), expected);
    }
}
