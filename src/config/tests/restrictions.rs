//! The keys that a reload refuses, and the warnings about keys without effect.

use super::super::model::Config;
use super::super::restrictions::changed_fixed_keys;
use super::{MINIMAL, plus, read, with};

fn config(text: &str) -> Config {
    read(text).unwrap().config
}

#[test]
fn a_reload_finds_the_fixed_keys_that_changed() {
    let old = config(MINIMAL);
    for (text, keys) in [
        (MINIMAL.to_owned(), vec![]),
        (with("\"users\"", "\"people\""), vec!["name"]),
        // Whether these name something else, only the databases can tell.
        (with("public.users", "users"), vec![]),
        (with("imsync@localhost", "imsync:new@localhost"), vec![]),
        (plus("state", "url = \"postgres://h/other\""), vec![]),
        (with("account_column = \"id\"", "account_column = \"uid\""), vec!["source.account_column"]),
        (plus("source", "account_prefix = \"p\""), vec!["source.account_prefix"]),
        (plus("source", "account_format = \"hex\""), vec!["source.account_format"]),
        (plus("state", "schema = \"other\"\nmigrate = false"), vec!["state.schema", "state.migrate"]),
        (plus("http", "listen = \"127.0.0.1:1\""), vec!["http.listen"]),
        (plus("schedule", "interval = \"1s\""), vec![]),
        (plus("attributes", "sex = \"sex\""), vec![]),
        (plus("source", "filter = \"x\"\npage_size = 1\nwatermark_column = \"u\""), vec![]),
    ] {
        assert_eq!(changed_fixed_keys(&old, &config(&text)), keys, "\n{text}");
    }
}

#[test]
fn keys_without_effect_cause_a_warning() {
    assert!(config(MINIMAL).unimplemented_key_warnings().is_empty());
    let warned = config(&plus("http", "show_accounts = true")).unimplemented_key_warnings();
    assert_eq!(warned, ["http.show_accounts is set, but this version does not have the page yet; no account is shown"]);
    assert!(
        config(&plus("alerts", "webhook = \"https://alerts.example.com\"")).unimplemented_key_warnings().is_empty()
    );
    assert!(config(&plus("history", "keep = \"30d\"")).unimplemented_key_warnings().is_empty());
    assert!(
        config(&plus("schedule", "verify_every = \"7d\"\nverify_sample = 5")).unimplemented_key_warnings().is_empty()
    );
}
