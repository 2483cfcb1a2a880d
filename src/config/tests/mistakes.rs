//! Mistakes in a configuration and the exact messages that report them.

use super::super::problems::Problem;
use super::{MINIMAL, plus, problems, read, with};

/// One line for each of the attributes `a` to `last`.
fn one_letter_attributes(last: char) -> String {
    let lines: Vec<_> = ('a'..=last).map(|name| format!("{name} = \"x\"")).collect();
    lines.join("\n")
}

/// Each mistake gives exactly this one line and no other.
#[test]
fn each_mistake_has_exactly_this_message() {
    let long = "x".repeat(64);
    let value = "v".repeat(51);
    let table = [
        // Missing.
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
            "imsync.toml:13: attributes.sex.column: this key is required; expected a string of 1 to 63 bytes".to_owned(),
        ),
        // Unknown.
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
        // Types.
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
        // Ranges.
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
        // Choices.
        (
            with("\"singapore\"", "\"singapur\""),
            "imsync.toml:7: im.region: found \"singapur\", expected \"china\", \"singapore\", \"seoul\", \"tokyo\", \"frankfurt\", \"mumbai\", \"silicon-valley\" or \"jakarta\"; did you mean \"singapore\"?".to_owned(),
        ),
        (plus("removal", "gone = \"delete\""), "imsync.toml:14: removal.gone: found \"delete\", expected \"remove\" or \"keep\"".to_owned()),
        (plus("log", "level = \"warning\""), "imsync.toml:14: log.level: found \"warning\", expected \"error\", \"warn\", \"info\", \"debug\" or \"trace\"".to_owned()),
        // Names and conditions.
        (
            with("\"public.users\"", "\"my-table\""),
            "imsync.toml:4: source.table: found \"my-table\", expected a table name such as \"users\", \"public.users\" or 'public.\"Users\"' (a part with characters other than letters, digits and _ needs double quotes)".to_owned(),
        ),
        (
            plus("source", "filter = \"WHERE active\""),
            "imsync.toml:3: source.filter: found \"WHERE active\", expected an SQL condition without the keyword WHERE".to_owned(),
        ),
        (plus("state", "schema = \"pg_imsync\""), "imsync.toml:14: state.schema: schema names that start with pg_ are reserved for PostgreSQL; choose another name".to_owned()),
        // Combinations.
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
        // Addresses.
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
        // Attributes.
        (
            plus("attributes", &format!("\"{value}\" = \"x\"")),
            format!("imsync.toml:12: attributes.{value}: the attribute name has 51 bytes; IM accepts names of 1 to 50 bytes"),
        ),
        (plus("attributes", "\"\" = \"x\""), "imsync.toml:12: attributes.\"\": the attribute name is empty; IM accepts names of 1 to 50 bytes".to_owned()),
        (
            plus("attributes", &one_letter_attributes('j')),
            "imsync.toml:11: attributes: found 11 attributes; an IM app has at most 10 attribute names".to_owned(),
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
    ];
    for (text, expected) in table {
        assert_eq!(problems(&text), expected, "\n{text}");
    }
}

#[test]
fn all_mistakes_are_reported_in_the_order_of_the_file() {
    let text = r#"nmae = "users"
[source]
url = "mysql://localhost/app"
tabel = "users"
account_column = 7
page_size = 0
[im]
region = "mars"
users_per_call = 500
[attributes]
city = ""
[removal]
max_share = 2.0
"#;
    let problems = read(text).unwrap_err();
    let reported: Vec<_> =
        problems.as_slice().iter().map(|at| (at.line, at.key.as_deref().unwrap_or_default())).collect();
    assert_eq!(
        reported,
        [
            (Some(1), "nmae"),
            (Some(2), "source.table"),
            (Some(3), "source.url"),
            (Some(4), "source.tabel"),
            (Some(5), "source.account_column"),
            (Some(6), "source.page_size"),
            (Some(7), "im.sdk_app_id"),
            (Some(7), "im.identifier"),
            (Some(7), "im.secret_key"),
            (Some(8), "im.region"),
            (Some(9), "im.users_per_call"),
            (Some(11), "attributes.city"),
            (Some(13), "removal.max_share"),
            (None, "name"),
        ]
    );
    assert_eq!(problems.to_string().lines().count(), reported.len());
}

#[test]
fn an_empty_file_is_refused_with_every_required_key() {
    let problems = read("").unwrap_err();
    let keys: Vec<_> = problems.into_iter().filter_map(|problem| problem.key).collect();
    assert_eq!(
        keys,
        [
            "name",
            "source.url",
            "source.table",
            "source.account_column",
            "im.region",
            "im.sdk_app_id",
            "im.identifier",
            "im.secret_key",
            "attributes"
        ]
    );
}

#[test]
fn a_section_of_a_wrong_type_is_reported_once() {
    assert_eq!(
        problems(&with("[im]\nregion = \"singapore\"\nsdk_app_id = 1400000000\nidentifier = \"administrator\"\nsecret_key = \"0123456789abcdef\"\n", ""). replacen("name = \"users\"", "name = \"users\"\nim = 5", 1)),
        "imsync.toml:2: im: found a number, expected the section [im]"
    );
}

#[test]
fn problems_can_be_written_as_json() {
    let problems = read(&with("\"singapore\"", "5")).unwrap_err();
    let json = serde_json::to_value(&problems).unwrap();
    assert_eq!(json[0]["file"], "imsync.toml");
    assert_eq!(json[0]["line"], 7);
    assert_eq!(json[0]["key"], "im.region");
    assert!(json[0]["message"].as_str().unwrap().starts_with("found the number 5, expected \"china\""));
    let bare = Problem { file: "f".to_owned(), line: None, key: None, message: "m".to_owned() };
    assert_eq!(bare.to_string(), "f: m");
}

#[test]
fn valid_but_unusual_settings_cause_a_warning() {
    for (text, expected) in [
        (
            with("\"public.users\"", "\"public.Users\""),
            "imsync.toml:4: source.table: the name is read as public.users, because SQL folds unquoted names to lower case; put a name with capital letters in double quotes: '\"Users\"'",
        ),
        (
            with("region = \"singapore\"", "base_url = \"http://proxy.example.com/im\""),
            "imsync.toml:7: im.base_url: http to another machine sends signatures and values of users unencrypted; use https except in tests",
        ),
        (
            plus("source", "watermark_column = \"id\""),
            "imsync.toml:3: source.watermark_column: this is also the account column, which does not change when a row is updated; only full passes will find changes",
        ),
        (
            plus("attributes.sex", "column = \"sex\"\nunlisted = \"keep\""),
            "imsync.toml:15: attributes.sex.unlisted: this key has no effect without \"values\"; every text is sent unchanged",
        ),
    ] {
        assert_eq!(read(&text).unwrap().warnings, [expected]);
    }
    for url in ["http://127.0.0.1:8089", "http://localhost:1", "http://[::1]:1/x", "https://proxy.example.com/im"] {
        let text = with("region = \"singapore\"", &format!("base_url = \"{url}\""));
        assert_eq!(read(&text).unwrap().warnings, Vec::<String>::new(), "{url}");
    }
    assert!(read(MINIMAL).unwrap().warnings.is_empty());
}

#[test]
fn values_at_a_limit_are_accepted() {
    let name = "n".repeat(50);
    for text in [
        plus("im", "users_per_call = 1\ncalls_per_second = 100\nmax_rejected_share = 1\ntimeout = \"1s\""),
        plus("im", "users_per_call = 100\ncalls_per_second = 1\nmax_rejected_share = 0.0"),
        plus("source", "page_size = 100_000\nwatermark_grace = \"1s\""),
        plus("source", "page_size = 0x10\nfilter = '''\na = 1\nAND b'''"),
        plus("schedule", "interval = \"100ms\"\nfull_every = \"never\"\nverify_every = \"1d\""),
        plus("http", "listen = \"0.0.0.0:9474\"\npublic = true"),
        plus("http", "listen = \"[::1]:9474\""),
        plus("attributes", &format!("{name} = \"x\"")),
        plus("attributes", &one_letter_attributes('i')),
        plus("source", &format!("account_prefix = \"{}\"", "p".repeat(31))),
        with("1400000000", "4294967295"),
    ] {
        assert_eq!(problems(&text), "", "\n{text}");
    }
}
