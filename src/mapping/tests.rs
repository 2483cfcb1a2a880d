//! The mapping by table and by property: what each text and each row becomes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use secrecy::SecretString;
use unicode_segmentation::UnicodeSegmentation;

use super::{Mapped, Mapping};
use crate::config::{
    AccountFormat, Alerts, Attribute, Config, Endpoint, History, Http, Im, KeepOrRemove, Log, LogFormat, LogLevel,
    Null, PgUrl, Removal, Schedule, Source, State, TooLong, Unlisted,
};
use crate::model::{Account, DesiredAccount, DesiredValue, LocalRefusal, MAX_VALUE_BYTES, Region, Row, Service};

mod fingerprint;
mod garbage;

const UUID: &str = "8b1f9c1e-0f6c-4c59-9c40-6f3f6d8a2b11";

fn attribute(name: &str, column: &str) -> Attribute {
    Attribute {
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
    PgUrl(SecretString::from("postgres://imsync@localhost/app"))
}

fn source() -> Source {
    Source {
        url: url(),
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

fn config(attributes: Vec<Attribute>) -> Config {
    Config {
        path: PathBuf::from("imsync.toml"),
        name: "users".into(),
        source: source(),
        state: State { url: url(), schema: "imsync".into(), migrate: true },
        im: Im {
            endpoint: Endpoint::Region(Region::Singapore),
            service: Service::AllMemberPush,
            sdk_app_id: 1_400_000_000,
            identifier: "administrator".into(),
            secret_key: None,
            usersig_lifetime: Duration::from_hours(24),
            users_per_call: 100,
            calls_per_second: 95,
            max_in_flight: 64,
            timeout: Duration::from_secs(10),
            retry_for: Duration::from_mins(1),
            max_rejected_share: 0.4,
        },
        attributes,
        removal: Removal { gone: KeepOrRemove::Remove, unmapped: KeepOrRemove::Keep, max_share: 0.2 },
        schedule: Schedule {
            interval: Duration::from_secs(10),
            notify_channel: None,
            full_every: None,
            rejected_retry: Duration::from_hours(1),
            verify_every: None,
            verify_sample: 1000,
        },
        http: Http { listen: None, public: false, show_accounts: false },
        alerts: Alerts { webhook: None },
        history: History { keep: None },
        log: Log { level: LogLevel::Info, format: LogFormat::Auto },
    }
}

fn row(account: Option<&str>, texts: &[Option<&str>]) -> Row {
    Row {
        account: account.map(Into::into),
        watermark: None,
        gone: false,
        values: texts.iter().map(|text| text.map(Into::into)).collect(),
    }
}

/// What one attribute's rules make of one text.
fn desired(attribute: Attribute, text: Option<&str>) -> DesiredValue {
    match Mapping::new(&config(vec![attribute])).apply(&row(Some("u1"), &[text])) {
        Mapped::Present(desired) => desired.values.into_iter().next().expect("one attribute, one desired"),
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

fn truncating() -> Attribute {
    Attribute { too_long: TooLong::Truncate, ..attribute("sex", "gender") }
}

#[test]
fn null_and_empty_go_by_null_also_where_values_lists_the_empty_text() {
    for listed in [None, Some(values(&[("", "none"), ("m", "male")]))] {
        for (null, expected) in [(Null::Remove, DesiredValue::Absent), (Null::Keep, DesiredValue::Keep)] {
            for text in [None, Some("")] {
                for unlisted in [Unlisted::Reject, Unlisted::Send, Unlisted::Keep, Unlisted::Remove] {
                    let attribute = Attribute { values: listed.clone(), null, unlisted, ..attribute("sex", "gender") };
                    assert_eq!(desired(attribute, text), expected, "{text:?} with null = {null:?}");
                }
            }
        }
    }
}

#[test]
fn a_listed_text_becomes_its_target_and_the_look_up_is_exact() {
    let listed = || Attribute { values: Some(values(&[("m", "male"), ("f", "female")])), ..attribute("sex", "gender") };
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
            Attribute { values: Some(values(&[("m", "male")])), unlisted: rule, ..attribute("sex", "gender") };
        assert_eq!(desired(attribute, Some(text)), expected, "{rule:?} {text}");
    }
    let truncated = Attribute { values: Some(values(&[("m", "male")])), unlisted: Unlisted::Send, ..truncating() };
    assert_eq!(desired(truncated, Some(&long)), value(&long[..50]));
    // No list, nothing unlisted.
    let plain = Attribute { unlisted: Unlisted::Remove, ..attribute("sex", "gender") };
    assert_eq!(desired(plain, Some("d")), value("d"));
}

#[test]
fn a_target_of_values_obeys_the_limits_of_a_value() {
    let long = "x".repeat(51);
    let listed = |attribute: Attribute| Attribute { values: Some(values(&[("a", ""), ("b", &long)])), ..attribute };
    assert_eq!(desired(listed(attribute("sex", "gender")), Some("a")), DesiredValue::Absent);
    let keep = Attribute { null: Null::Keep, ..attribute("sex", "gender") };
    assert_eq!(desired(listed(keep), Some("a")), DesiredValue::Keep);
    assert_eq!(desired(listed(attribute("sex", "gender")), Some("b")), too_long(51));
    assert_eq!(desired(listed(truncating()), Some("b")), value(&long[..50]));
}

#[test]
fn fifty_bytes_pass_and_fifty_one_do_not() {
    // Latin, Chinese (3 bytes a sign), Arabic (2 bytes), Hebrew with a right-to-left mark.
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
    let family = "\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}\u{200d}\u{1f466}"; // one sign, 25 bytes
    let flag = "\u{1f1e9}\u{1f1ea}"; // one sign of two regional indicators, 8 bytes
    let accented = "e\u{0301}"; // 3 bytes
    let hangul = "\u{1112}\u{1161}\u{11ab}"; // three conjoining letters, 9 bytes
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
fn a_single_sign_over_fifty_bytes_is_refused_whole() {
    let sign = format!("a{}", "\u{0301}".repeat(25)); // 51 bytes, one grapheme
    assert_eq!(desired(truncating(), Some(&sign)), too_long(51));
    assert_eq!(desired(truncating(), Some(&format!("x{sign}"))), value("x"));
}

#[test]
fn each_attribute_stands_alone_in_the_order_of_the_file() {
    let mapping = Mapping::new(&config(vec![
        attribute("city", "city"),
        Attribute { values: Some(values(&[("m", "male")])), ..attribute("sex", "gender") },
        attribute("town", "city"),
        Attribute { null: Null::Keep, ..attribute("level", "level") },
    ]));
    assert_eq!(mapping.columns(), ["city", "gender", "level"]);
    assert_eq!(mapping.names().iter().map(|name| &**name).collect::<Vec<_>>(), ["city", "sex", "town", "level"]);
    let mapped = mapping.apply(&row(Some("u1"), &[Some("Graz"), Some("?"), None]));
    assert_eq!(
        mapped,
        Mapped::Present(DesiredAccount {
            account: Account::new("u1"),
            values: vec![value("Graz"), unlisted(), value("Graz"), DesiredValue::Keep],
        })
    );
}

#[test]
fn rows_without_a_sendable_account() {
    let mapping = Mapping::new(&config(vec![attribute("city", "city")]));
    assert_eq!(mapping.apply(&row(None, &[Some("Graz")])), Mapped::NoAccount);
    assert_eq!(mapping.apply(&row(Some(""), &[Some("Graz")])), Mapped::NoAccount);

    // Eight times four bytes are 32: bytes count, not characters.
    for account in ["u".repeat(32), "\u{1f600}".repeat(8)] {
        assert!(matches!(mapping.apply(&row(Some(&account), &[Some("Graz")])), Mapped::Present(_)), "{account}");
        let longer = account + "u";
        assert_eq!(
            mapping.apply(&row(Some(&longer), &[Some("Graz")])),
            Mapped::Refused(Account::new(longer.as_str()), LocalRefusal::AccountTooLong { bytes: 33 })
        );
    }

    let mut prefixed = config(vec![attribute("city", "city")]);
    prefixed.source.account_prefix = "app_".into();
    let prefixed = Mapping::new(&prefixed);
    assert_eq!(prefixed.apply(&row(Some(""), &[None])), Mapped::NoAccount, "a prefix alone is no account");
    assert!(matches!(prefixed.apply(&row(Some(&"u".repeat(28)), &[None])), Mapped::Present(_)));
    assert!(matches!(prefixed.apply(&row(Some(&"u".repeat(29)), &[None])), Mapped::Refused(..)));
}

#[test]
fn a_row_that_is_gone_is_gone_whatever_else_it_holds() {
    let mapping = Mapping::new(&config(vec![attribute("city", "city")]));
    for account in ["u1".to_owned(), "u".repeat(33)] {
        let gone = Row { gone: true, ..row(Some(&account), &[Some("Graz")]) };
        assert_eq!(mapping.apply(&gone), Mapped::Gone(Account::new(account)));
    }
    assert_eq!(mapping.apply(&Row { gone: true, ..row(None, &[None]) }), Mapped::NoAccount);
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
        let source = Source { account_prefix: prefix.into(), account_format: format, ..source() };
        assert_eq!(source.account_of(text).as_str(), expected);
    }
}

/// Texts around the limit, rich in signs of several characters.
fn texts() -> impl Strategy<Value = String> {
    let sign = prop_oneof![
        any::<char>().prop_map(String::from),
        proptest::sample::select(vec![
            "a",
            "e\u{0301}",
            "\u{0301}",
            "\u{200d}",
            "\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}",
            "\u{1f1e9}",
            "\u{5317}",
            "\u{0633}",
            "\r",
            "\n",
            "\u{1f44d}\u{1f3fd}",
            "\u{0915}\u{094d}\u{0937}",
        ])
        .prop_map(String::from),
    ];
    proptest::collection::vec(sign, 0..40).prop_map(|signs| signs.concat())
}

fn rules() -> impl Strategy<Value = Attribute> {
    let listed = proptest::option::of(proptest::collection::btree_map(texts(), texts(), 0..4));
    let unlisted = proptest::sample::select(vec![Unlisted::Reject, Unlisted::Send, Unlisted::Keep, Unlisted::Remove]);
    let too_long = proptest::sample::select(vec![TooLong::Reject, TooLong::Truncate]);
    let null = proptest::sample::select(vec![Null::Remove, Null::Keep]);
    (listed, unlisted, too_long, null).prop_map(|(values, unlisted, too_long, null)| Attribute {
        values,
        unlisted,
        too_long,
        null,
        ..attribute("sex", "gender")
    })
}

proptest! {
    #[test]
    fn a_value_is_never_empty_nor_over_the_limit(rules in rules(), text in proptest::option::of(texts()), pick in 0..4_usize) {
        // Now and then a listed text, so that targets are met too.
        let listed = rules.values.as_ref().and_then(|values| values.keys().nth(pick)).cloned();
        for text in [text, listed] {
            if let DesiredValue::Value(value) = desired(rules.clone(), text.as_deref()) {
                prop_assert!((1..=MAX_VALUE_BYTES).contains(&value.len()), "{} bytes", value.len());
            }
        }
    }

    #[test]
    fn a_truncated_value_is_the_longest_run_of_whole_graphemes_that_fits(text in texts()) {
        let mut fits = String::new();
        for grapheme in text.graphemes(true) {
            if fits.len() + grapheme.len() > MAX_VALUE_BYTES {
                break;
            }
            fits.push_str(grapheme);
        }
        match desired(truncating(), Some(&text)) {
            DesiredValue::Value(value) => prop_assert_eq!(&*value, fits),
            DesiredValue::Absent => prop_assert!(text.is_empty()),
            DesiredValue::Refused(_) => prop_assert!(fits.is_empty()),
            DesiredValue::Keep => prop_assert!(false, "nothing asks to keep"),
        }
    }
}
