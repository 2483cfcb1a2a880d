//! Which settings change the fingerprint of a mapping.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::properties::any_attribute;
use super::{attribute, config, values};
use crate::config::{AttributeConfig, Config, KeepOrRemove, Null, TooLong, Unlisted};
use crate::mapping::Mapping;

type ConfigEdit = fn(&mut Config);

#[test]
fn settings_without_effect_keep_the_fingerprint() {
    let mut plain = config(vec![attribute("sex", "gender")]);
    plain.source.filter = Some("kind IS DISTINCT FROM 'bot'".into());
    let fingerprint = Mapping::new(&plain).fingerprint().to_owned();
    assert_eq!(fingerprint.len(), 64);

    let mut same = plain.clone();
    same.source.filter = Some("  kind IS DISTINCT FROM 'bot'\n".into());
    same.attributes[0].unlisted = Unlisted::Send; // has no effect without `values`
    same.removal.max_share = 0.9;
    same.source.page_size = 7;
    same.schedule.interval = Duration::from_secs(1);
    same.http.show_accounts = true;
    same.name = "others".into();
    assert_eq!(Mapping::new(&same).fingerprint(), fingerprint);
}

#[test]
fn every_setting_that_affects_a_row_changes_the_fingerprint() {
    let base = || {
        let mut base = config(vec![
            AttributeConfig { values: Some(values(&[("m", "male")])), ..attribute("sex", "gender") },
            attribute("city", "city"),
        ]);
        base.source.filter = Some("active".into());
        base
    };
    let edits: [(&str, ConfigEdit); 15] = [
        ("nothing", |_| {}),
        ("name", |c| c.attributes[0].name = "gender".into()),
        ("column", |c| c.attributes[0].column = "sex".into()),
        ("target", |c| c.attributes[0].values = Some(values(&[("m", "man")]))),
        ("listed text", |c| c.attributes[0].values = Some(values(&[("m", "male"), ("f", "female")]))),
        ("no values", |c| c.attributes[0].values = None),
        ("unlisted", |c| c.attributes[0].unlisted = Unlisted::Keep),
        ("too_long", |c| c.attributes[1].too_long = TooLong::Truncate),
        ("null", |c| c.attributes[1].null = Null::Keep),
        ("fewer attributes", |c| drop(c.attributes.pop())),
        ("columns swapped", |c| {
            c.attributes[0].column = "city".into();
            c.attributes[1].column = "gender".into();
        }),
        ("filter", |c| c.source.filter = Some("active AND paid".into())),
        ("deleted column", |c| c.source.deleted_column = Some("deleted_at".into())),
        ("gone", |c| c.removal.gone = KeepOrRemove::Keep),
        ("unmapped", |c| c.removal.unmapped = KeepOrRemove::Remove),
    ];
    let mut seen = BTreeMap::new();
    for (what, edit) in edits {
        let mut edited = base();
        edit(&mut edited);
        if let Some(other) = seen.insert(Mapping::new(&edited).fingerprint().to_owned(), what) {
            panic!("{what} and {other} have the same fingerprint");
        }
    }
    let mut moved = base();
    moved.source.deleted_column = moved.source.filter.take();
    assert!(!seen.contains_key(Mapping::new(&moved).fingerprint()), "a filter is not a deleted column");
}

/// A fingerprint that changes without reason causes a full pass of every sync after an upgrade.
#[test]
fn the_fingerprint_of_version_1_is_stable() {
    let pinned = config(vec![
        AttributeConfig { values: Some(values(&[("m", "male"), ("f", "female")])), ..attribute("sex", "gender") },
        attribute("city", "city"),
    ]);
    assert_eq!(Mapping::new(&pinned).fingerprint(), "fb731b2e094d0fa5b228b769a911c4c14fe37f78c8c365701283837e25136c6e");
}

proptest! {
    #[test]
    fn the_order_of_attributes_keeps_the_fingerprint(
        (attributes, shuffled) in proptest::collection::vec(any_attribute(), 0..10)
            .prop_map(|attributes| {
                let named = |(number, attribute)| AttributeConfig { name: format!("a{number}"), ..attribute };
                attributes.into_iter().enumerate().map(named).collect::<Vec<_>>()
            })
            .prop_flat_map(|attributes| (Just(attributes.clone()), Just(attributes).prop_shuffle()))
    ) {
        let (one, other) = (Mapping::new(&config(attributes)), Mapping::new(&config(shuffled)));
        prop_assert_eq!(one.fingerprint(), other.fingerprint());
    }
}
