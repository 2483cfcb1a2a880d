//! What a reload refuses, and what does nothing yet.

use super::super::{Config, differs_in_fixed_keys};
use super::{MINIMAL, plus, read, with};

fn config(text: &str) -> Config {
    read(text).unwrap().config
}

#[test]
fn a_reload_tells_which_fixed_keys_differ() {
    let old = config(MINIMAL);
    for (text, keys) in [
        (MINIMAL.to_owned(), vec![]),
        (with("\"users\"", "\"people\""), vec!["name"]),
        (with("public.users", "users"), vec!["source.table"]),
        (with("account_column = \"id\"", "account_column = \"uid\""), vec!["source.account_column"]),
        (plus("source", "account_prefix = \"p\""), vec!["source.account_prefix"]),
        (plus("source", "account_format = \"hex\""), vec!["source.account_format"]),
        // The state follows the source.
        (with("imsync@localhost", "imsync:new@localhost"), vec!["source.url"]),
        (plus("state", "url = \"postgres://h/other\""), vec!["state.url"]),
        (plus("state", "schema = \"other\"\nmigrate = false"), vec!["state.schema", "state.migrate"]),
        (plus("http", "listen = \"127.0.0.1:1\""), vec!["http.listen"]),
        (plus("schedule", "interval = \"1s\""), vec![]),
        (plus("attributes", "sex = \"sex\""), vec![]),
        (plus("source", "filter = \"x\"\npage_size = 1\nwatermark_column = \"u\""), vec![]),
    ] {
        assert_eq!(differs_in_fixed_keys(&old, &config(&text)), keys, "\n{text}");
    }
}

#[test]
fn keys_without_effect_say_so_when_they_are_used() {
    assert!(config(MINIMAL).not_yet_in_force().is_empty());
    for (section, line, sentence) in [
        (
            "schedule",
            "notify_channel = \"imsync\"",
            "schedule.notify_channel is set, but this version does not LISTEN yet: changes wait for the next poll",
        ),
        (
            "schedule",
            "verify_every = \"7d\"",
            "schedule.verify_every is set, but this version does not verify by itself yet: nothing is read back from IM",
        ),
        (
            "alerts",
            "webhook = \"https://alerts.example.com\"",
            "alerts.webhook is set, but this version does not send alerts yet: nothing is posted",
        ),
        (
            "history",
            "keep = \"30d\"",
            "history.keep is set, but this version does not keep a history yet: nothing is recorded",
        ),
        (
            "http",
            "show_accounts = true",
            "http.show_accounts is set, but this version does not have the page yet: no account is shown",
        ),
    ] {
        assert_eq!(config(&plus(section, line)).not_yet_in_force(), [sentence]);
    }
    assert!(config(&plus("schedule", "verify_every = \"never\"\nverify_sample = 5")).not_yet_in_force().is_empty());
}
