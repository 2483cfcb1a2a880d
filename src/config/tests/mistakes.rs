//! Which problems and warnings a text has, in which order, and which texts have none.

use super::super::problems::Problem;
use super::{MINIMAL, one_letter_attributes, plus, problems, read, with};

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
        with("region = \"singapore\"", "base_url = \"http://127.0.0.1:8089\"\ncalls_per_second = 100_000"),
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
