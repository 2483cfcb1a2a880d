//! The defaults of the minimal configuration, and keys that are all set.

use std::time::Duration;

use super::super::keys::{KEYS, split_path};
use super::super::load::LoadedConfig;
use super::super::model::{
    AccountFormat, AttributeConfig, ImAddress, KeepOrRemove, LogConfig, Null, TooLong, Unlisted,
};
use super::super::value_type::ValueType;
use super::{MINIMAL, plus, read, with};
use crate::model::{LogFormat, LogLevel, Region, Service};

#[test]
fn an_application_name_fits_what_the_server_keeps() {
    let mut config = read(MINIMAL).unwrap().config;
    assert_eq!(config.application_name(), "imsync users");
    config.name = "ü".repeat(40);
    let long = config.application_name();
    assert!(long.len() <= 63 && long.ends_with('ü'), "{long}");
}

#[test]
fn the_minimal_configuration_has_the_documented_defaults() {
    let LoadedConfig { config, warnings } = read(MINIMAL).unwrap();
    assert!(warnings.is_empty());
    assert_eq!(config.name, "users");
    let source = config.source;
    assert_eq!(source.url.redacted(), "imsync@localhost:5432/app");
    assert_eq!((source.table.as_str(), source.account_column.as_str()), ("public.users", "id"));
    assert_eq!((source.account_prefix.as_str(), source.account_format), ("", AccountFormat::Text));
    assert_eq!((source.watermark_column, source.watermark_timezone.as_str()), (None, "UTC"));
    assert_eq!((source.watermark_grace, source.page_size), (Duration::from_secs(5), 5000));
    assert_eq!((source.deleted_column, source.filter), (None, None));
    assert!(config.state.url.same_as(&source.url));
    assert_eq!((config.state.schema.as_str(), config.state.migrate), ("imsync", true));
    let im = config.im;
    assert_eq!((im.address, im.service), (ImAddress::Region(Region::Singapore), Service::AllMemberPush));
    assert_eq!((im.sdk_app_id, im.identifier.as_str()), (1_400_000_000, "administrator"));
    assert!(im.secret_key.is_some());
    assert_eq!(im.usersig_lifetime, Duration::from_hours(24));
    assert_eq!((im.users_per_call, im.calls_per_second, im.max_in_flight), (100, 95, 64));
    assert_eq!((im.timeout, im.retry_for), (Duration::from_secs(10), Duration::from_mins(1)));
    assert!((im.max_rejected_share - 0.4).abs() < 1e-9);
    let [city] = config.attributes.as_slice() else { panic!("one attribute") };
    assert_eq!((city.name.as_str(), city.column.as_str(), &city.values), ("city", "city", &None));
    assert_eq!((city.unlisted, city.too_long, city.null), (Unlisted::Reject, TooLong::Reject, Null::Remove));
    assert_eq!((config.removal.gone, config.removal.unmapped), (KeepOrRemove::Remove, KeepOrRemove::Keep));
    assert!((config.removal.max_share - 0.2).abs() < 1e-9);
    let schedule = config.schedule;
    assert_eq!((schedule.interval, schedule.notify_channel), (Duration::from_secs(10), None));
    assert_eq!(schedule.full_every, Some(Duration::from_hours(24)));
    assert_eq!(schedule.rejected_retry, Duration::from_hours(1));
    assert_eq!((schedule.verify_every, schedule.verify_sample), (None, 1000));
    assert_eq!((config.http.listen, config.http.public, config.http.show_accounts), (None, false, false));
    assert!(config.alerts.webhook.is_none() && config.history.keep.is_none());
    assert_eq!(config.log, LogConfig { level: LogLevel::Info, format: LogFormat::Auto });
}

#[test]
fn every_region_and_choice_is_accepted() {
    for region in ["china", "singapore", "seoul", "tokyo", "frankfurt", "mumbai", "silicon-valley", "jakarta", "ksa"] {
        let text = with("region = \"singapore\"", &format!("region = \"{region}\""));
        assert!(read(&text).is_ok(), "{region}");
    }
    // The words in the message and the words that are accepted are two lists, and they must be equal.
    for key in KEYS {
        let (ValueType::Choice(words), (section, name)) = (&key.value_type, split_path(key.path)) else { continue };
        for word in *words {
            let text = match section {
                "attributes.NAME" => plus("attributes.sex", &format!("column = \"sex\"\n{name} = \"{word}\"")),
                "im" if *word == "registration_id" => {
                    plus("im", &format!("service = \"timpush\"\n{name} = \"{word}\""))
                }
                "im" if name == "region" => with("region = \"singapore\"", &format!("region = \"{word}\"")),
                _ => plus(section, &format!("{name} = \"{word}\"")),
            };
            assert!(read(&text).is_ok(), "{} = {word}", key.path);
        }
    }
}

#[test]
fn an_attribute_with_every_key_is_read() {
    let text = plus(
        "attributes.sex",
        "column = \"gender\"\nvalues = { m = \"male\", f = \"female\" }\nunlisted = \"keep\"\ntoo_long = \"truncate\"\nnull = \"keep\"",
    );
    let config = read(&text).unwrap().config;
    let values = [("f", "female"), ("m", "male")].map(|(text, value)| (text.to_owned(), value.to_owned()));
    let sex = AttributeConfig {
        name: "sex".to_owned(),
        column: "gender".to_owned(),
        values: Some(values.into_iter().collect()),
        unlisted: Unlisted::Keep,
        too_long: TooLong::Truncate,
        null: Null::Keep,
    };
    assert_eq!(config.attributes[1], sex);
}

#[test]
fn attribute_names_may_have_any_characters() {
    let text = plus("attributes", "\"常住 城市\" = \"home city\"\n\"a.b\" = \"x\"");
    let names: Vec<_> = read(&text).unwrap().config.attributes.into_iter().map(|attribute| attribute.name).collect();
    assert_eq!(names, ["a.b", "city", "常住 城市"]);
}

#[test]
fn carriage_returns_and_a_byte_order_mark_are_accepted() {
    assert!(read(&format!("\u{feff}{}", MINIMAL.replace('\n', "\r\n"))).is_ok());
}
