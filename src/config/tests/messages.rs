//! The exact message of each mistake that a configuration can contain.

use super::{one_letter_attributes, plus, problems, with};

/// Each text has exactly this one problem.
fn assert_messages(table: impl IntoIterator<Item = (String, String)>) {
    for (text, expected) in table {
        assert_eq!(problems(&text), expected, "\n{text}");
    }
}

#[test]
fn a_missing_key_has_exactly_this_message() {
    assert_messages([
        (with("name = \"users\"\n", ""), "imsync.toml: name: this key is required; expected a string of 1 to 63 bytes".to_owned()),
        (
            with("table = \"public.users\"\n", ""),
            "imsync.toml:2: source.table: this key is required; expected a table name such as \"users\", \"public.users\" or 'public.\"Users\"'".to_owned(),
        ),
        (
            with("url = \"postgres://imsync@localhost/app\"\n", ""),
            "imsync.toml:2: source.url: this key is required; set url, url_file or the environment variable IMSYNC_SOURCE_URL or IMSYNC_SOURCE_URL_FILE".to_owned(),
        ),
        (
            with("secret_key = \"0123456789abcdef\"\n", ""),
            "imsync.toml:6: im.secret_key: this key is required; set secret_key, secret_key_file or the environment variable IMSYNC_SECRET_KEY or IMSYNC_SECRET_KEY_FILE".to_owned(),
        ),
        (
            with("region = \"singapore\"\n", ""),
            "imsync.toml:6: im.region: this key is required; set im.region to the app's data centre, or im.base_url to a proxy or the simulator".to_owned(),
        ),
        (
            with("city = \"city\"\n", ""),
            "imsync.toml:11: attributes: at least one attribute is required; expected a section with one line per attribute, such as city = \"city\"".to_owned(),
        ),
        (
            with("[attributes]\ncity = \"city\"\n", ""),
            "imsync.toml: attributes: this section is required; expected a section with one line per attribute, such as city = \"city\"".to_owned(),
        ),
        (
            plus("attributes.sex", "values = { m = \"male\" }"),
            "imsync.toml:13: attributes.sex.column: this key is required; expected a column name of 1 to 63 bytes".to_owned(),
        ),
    ]);
}

#[test]
fn an_unknown_key_has_exactly_this_message() {
    assert_messages([
        (plus("source", "tabel = \"t\""), "imsync.toml:3: source.tabel: unknown key; did you mean \"table\"?".to_owned()),
        (plus("source", "pageSize = 5"), "imsync.toml:3: source.pageSize: unknown key; did you mean \"page_size\"?".to_owned()),
        (
            plus("source", "interval = \"5s\""),
            "imsync.toml:3: source.interval: unknown key in this section; it belongs in [schedule]".to_owned(),
        ),
        (
            plus("im", "name = \"users\""),
            "imsync.toml:7: im.name: unknown key in this section; it belongs above the first section".to_owned(),
        ),
        (plus("state", "password = 5"), "imsync.toml:14: state.password: unknown key, expected url, url_file, schema or migrate".to_owned()),
        (plus("shedule", "interval = \"5s\""), "imsync.toml:13: shedule: unknown section; did you mean [schedule]?".to_owned()),
        (
            plus("database", "host = \"x\""),
            "imsync.toml:13: database: unknown section, expected [source], [state], [im], [attributes], [removal], [schedule], [http], [alerts], [history] or [log]".to_owned(),
        ),
        (
            with("name = \"users\"\n", "name = \"users\"\ninterval = \"5s\"\n"),
            "imsync.toml:2: interval: unknown key above the first section; it belongs in [schedule]".to_owned(),
        ),
        (
            plus("attributes.sex", "column = \"sex\"\nvalue = {}"),
            "imsync.toml:15: attributes.sex.value: unknown key; did you mean \"values\"?".to_owned(),
        ),
    ]);
}

#[test]
fn a_wrong_type_has_exactly_this_message() {
    assert_messages([
        (with("name = \"users\"", "name = 5"), "imsync.toml:1: name: found the number 5, expected a string of 1 to 63 bytes".to_owned()),
        (
            with("sdk_app_id = 1400000000", "sdk_app_id = \"1400000000\""),
            "imsync.toml:8: im.sdk_app_id: found \"1400000000\", expected an integer from 1 to 4294967295 (the SDKAppID shown in the console); remove the quotes".to_owned(),
        ),
        (
            plus("schedule", "interval = 10"),
            "imsync.toml:14: schedule.interval: found the number 10, expected a duration from 100ms to 1d, such as \"10s\" (units: ms, s, m, h, d)".to_owned(),
        ),
        (
            plus("schedule", "full_every = false"),
            "imsync.toml:14: schedule.full_every: found false, expected a duration from 1s to 365d, such as \"24h\" (units: ms, s, m, h, d), or \"never\"".to_owned(),
        ),
        (
            plus("state", "migrate = \"false\""),
            "imsync.toml:14: state.migrate: found \"false\", expected true or false; remove the quotes".to_owned(),
        ),
        (
            with("[attributes]\ncity = \"city\"\n", "[[attributes]]\ncity = \"city\"\n"),
            "imsync.toml:11: attributes: found an array, expected the section [attributes]".to_owned(),
        ),
        (plus("attributes", "sex = 1"), "imsync.toml:12: attributes.sex: found the number 1, expected a column name in quotes, or a table with the key `column`".to_owned()),
    ]);
}

#[test]
fn a_value_out_of_range_has_exactly_this_message() {
    let long = "x".repeat(64);
    assert_messages([
        (with("\"users\"", "\"\""), "imsync.toml:1: name: found an empty string, expected a string of 1 to 63 bytes".to_owned()),
        (with("\"users\"", &format!("\"{long}\"")), "imsync.toml:1: name: found a string of 64 bytes, expected a string of 1 to 63 bytes".to_owned()),
        (with("\"users\"", "\"a\\u0000b\""), "imsync.toml:1: name: found a string with a NUL byte, expected a string of 1 to 63 bytes".to_owned()),
        (
            with("\"administrator\"", "\"a\\nb\""),
            "imsync.toml:9: im.identifier: found a string with a control character, expected a string of 1 to 32 bytes".to_owned(),
        ),
        (plus("source", "page_size = 0"), "imsync.toml:3: source.page_size: found the number 0, expected an integer from 1 to 100000".to_owned()),
        (plus("source", "page_size = -1"), "imsync.toml:3: source.page_size: found the number -1, expected an integer from 1 to 100000".to_owned()),
        (
            plus("im", "users_per_call = 101"),
            "imsync.toml:7: im.users_per_call: found the number 101, expected an integer from 1 to 100 (IM accepts at most 100 users per call)".to_owned(),
        ),
        (
            plus("im", "calls_per_second = 200"),
            "imsync.toml:7: im.calls_per_second: found the number 200, expected an integer from 1 to 100 (IM accepts at most 100 calls per second for each command, counted over all senders of the app)".to_owned(),
        ),
        (
            plus("im", "calls_per_second = 100001"),
            "imsync.toml:7: im.calls_per_second: found the number 100001, expected an integer from 1 to 100000 (at most 100 without im.base_url, because IM accepts no more for each command)".to_owned(),
        ),
        (with("1400000000", "4294967296"), "imsync.toml:8: im.sdk_app_id: found the number 4294967296, expected an integer from 1 to 4294967295 (the SDKAppID shown in the console)".to_owned()),
        (
            plus("removal", "max_share = 20"),
            "imsync.toml:14: removal.max_share: found the number 20, expected a number from 0 to 1, such as 0.2 for 20 percent".to_owned(),
        ),
        (
            plus("im", "max_rejected_share = nan"),
            "imsync.toml:7: im.max_rejected_share: found the number nan, expected a number from 0 to 1, such as 0.2 for 20 percent".to_owned(),
        ),
        (
            plus("source", "watermark_grace = \"500ms\""),
            "imsync.toml:3: source.watermark_grace: found \"500ms\", expected a duration from 1s to 1d, such as \"5s\" (units: ms, s, m, h, d)".to_owned(),
        ),
        (
            plus("schedule", "interval = \"1h30m\""),
            "imsync.toml:14: schedule.interval: found \"1h30m\", expected a duration from 100ms to 1d, such as \"10s\" (units: ms, s, m, h, d)".to_owned(),
        ),
        (
            plus("schedule", "interval = \"never\""),
            "imsync.toml:14: schedule.interval: found \"never\", expected a duration from 100ms to 1d, such as \"10s\" (units: ms, s, m, h, d)".to_owned(),
        ),
    ]);
}

#[test]
fn a_wrong_choice_has_exactly_this_message() {
    assert_messages([
        (
            with("\"singapore\"", "\"singapur\""),
            "imsync.toml:7: im.region: found \"singapur\", expected \"china\", \"singapore\", \"seoul\", \"tokyo\", \"frankfurt\", \"mumbai\", \"silicon-valley\", \"jakarta\" or \"ksa\"; did you mean \"singapore\"?".to_owned(),
        ),
        (plus("removal", "gone = \"delete\""), "imsync.toml:14: removal.gone: found \"delete\", expected \"remove\" or \"keep\"".to_owned()),
        (plus("log", "level = \"warning\""), "imsync.toml:14: log.level: found \"warning\", expected \"error\", \"warn\", \"info\", \"debug\" or \"trace\"".to_owned()),
    ]);
}

#[test]
fn a_wrong_name_or_filter_has_exactly_this_message() {
    assert_messages([
        (
            with("\"public.users\"", "\"my-table\""),
            "imsync.toml:4: source.table: found \"my-table\", expected a table name such as \"users\", \"public.users\" or 'public.\"Users\"' (a part with characters other than letters, digits and _ needs double quotes)".to_owned(),
        ),
        (
            plus("source", "filter = \"WHERE active\""),
            "imsync.toml:3: source.filter: found \"WHERE active\", expected an SQL condition without the keyword WHERE".to_owned(),
        ),
        (plus("state", "schema = \"pg_imsync\""), "imsync.toml:14: state.schema: schema names that start with pg_ are reserved for PostgreSQL; choose another name".to_owned()),
    ]);
}

#[test]
fn a_wrong_combination_has_exactly_this_message() {
    assert_messages([
        (
            plus("im", "base_url = \"http://127.0.0.1:8089\""),
            "imsync.toml:7: im.base_url: im.region is also set; remove one of the two (im.base_url is for a proxy or the simulator)".to_owned(),
        ),
        (
            plus("source", "account_format = \"hex\"\naccount_prefix = \"u_\""),
            "imsync.toml:4: source.account_prefix: a prefix of 2 bytes with account_format = \"hex\" makes accounts of 34 bytes, and IM accepts at most 32; remove the prefix".to_owned(),
        ),
        (
            plus("http", "listen = \"0.0.0.0:9474\""),
            "imsync.toml:14: http.listen: other machines can reach 0.0.0.0:9474; listen on 127.0.0.1 or [::1], or set http.public = true to allow this".to_owned(),
        ),
        (
            plus("http", "listen = \":9474\""),
            "imsync.toml:14: http.listen: found \":9474\", expected an IP address and a port, such as \"127.0.0.1:9474\" or \"[::1]:9474\"".to_owned(),
        ),
    ]);
}

#[test]
fn a_wrong_address_has_exactly_this_message() {
    assert_messages([
        (
            with("region = \"singapore\"", "base_url = \"ftp://h\""),
            "imsync.toml:7: im.base_url: found a URL that starts with ftp:, expected an http or https URL with a host and an optional path, such as \"http://127.0.0.1:8089\"".to_owned(),
        ),
        (
            with("region = \"singapore\"", "base_url = \"127.0.0.1:8089\""),
            "imsync.toml:7: im.base_url: found \"127.0.0.1:8089\", expected an http or https URL with a host and an optional path, such as \"http://127.0.0.1:8089\" (relative URL without a base)".to_owned(),
        ),
        (
            with("region = \"singapore\"", "base_url = \"https://u:p@h\""),
            "imsync.toml:7: im.base_url: found a URL with a user name or password, expected an http or https URL with a host and an optional path, such as \"http://127.0.0.1:8089\"".to_owned(),
        ),
        (
            with("postgres://imsync@localhost/app", "localhost:5432/app"),
            "imsync.toml:3: source.url: the URL does not start with postgres:// or postgresql://; expected a URL such as \"postgres://user:password@host:5432/database\"".to_owned(),
        ),
    ]);
}

#[test]
fn a_wrong_attribute_has_exactly_this_message() {
    let value = "v".repeat(51);
    assert_messages([
        (
            plus("attributes", &format!("\"{value}\" = \"x\"")),
            format!("imsync.toml:12: attributes.{value}: the attribute name has 51 bytes; IM accepts names of 1 to 50 bytes"),
        ),
        (plus("attributes", "\"\" = \"x\""), "imsync.toml:12: attributes.\"\": the attribute name is empty; IM accepts names of 1 to 50 bytes".to_owned()),
        (
            plus("attributes", &one_letter_attributes('j')),
            "imsync.toml:11: attributes: found 11 attributes; an IM app has at most 10 attribute names, so remove 1".to_owned(),
        ),
        (
            plus("attributes.sex", &format!("column = \"sex\"\nvalues = {{ m = \"{value}\" }}")),
            "imsync.toml:15: attributes.sex.values.m: found a string of 51 bytes, expected a string of 1 to 50 bytes".to_owned(),
        ),
        (
            plus("attributes.sex", "column = \"sex\"\nvalues = { \"1 2\" = 1 }"),
            "imsync.toml:15: attributes.sex.values.\"1 2\": found the number 1, expected a string of 1 to 50 bytes".to_owned(),
        ),
        (
            plus("attributes.sex", "column = \"sex\"\nvalues = { x = \"\" }"),
            "imsync.toml:15: attributes.sex.values.x: found an empty string, expected a string of 1 to 50 bytes; IM does not store empty values, so to remove the attribute, leave this text out and set unlisted = \"remove\"".to_owned(),
        ),
        (
            plus("attributes.sex", "column = \"sex\"\nvalues = {}"),
            "imsync.toml:15: attributes.sex.values: the table is empty; remove this key to send the column's text unchanged".to_owned(),
        ),
    ]);
}
