//! Files that are not valid TOML.

use super::{plus, problems, with};

#[test]
fn syntax_errors_are_reported_with_line_and_column() {
    for (text, expected) in [
        (
            with("\"singapore\"", "singapore"),
            "imsync.toml:7: invalid TOML: a string needs quotes, as in region = \"singapore\"",
        ),
        (
            plus("schedule", "interval = 10s"),
            "imsync.toml:14: invalid TOML: a string needs quotes, as in interval = \"10s\"",
        ),
        (
            with("\"administrator\"", "\"administrator"),
            "imsync.toml:9: invalid TOML at column 28: invalid basic string, expected `\"`, in `identifier = \"administrator`",
        ),
        (with("[im]", "[im"), "imsync.toml:6: invalid TOML at column 4: unclosed table, expected `]`, in `[im`"),
        (
            with("name = \"users\"", "name = \"users\"\nname = \"again\""),
            "imsync.toml:2: invalid TOML at column 1: this key or section stands above already; remove one of the two, in `name = \"again\"`",
        ),
    ] {
        assert_eq!(problems(&text), expected, "\n{text}");
    }
}

#[test]
fn lines_that_may_contain_a_secret_are_not_shown() {
    for text in [
        with("\"0123456789abcdef\"", "\"hunter2"),
        with("\"0123456789abcdef\"", "hunter2"),
        with("\"0123456789abcdef\"", "\"\"\"\nhunter2"),
        with("secret_key = \"0123456789abcdef\"", "secretkey = hunter2"),
        with("\"postgres://imsync@localhost/app\"", "\"postgres://u:hunter2@localhost/app"),
        with("\"postgres://imsync@localhost/app\"", "postgres://u:hunter2@localhost/app"),
        plus("alerts", "webhook = https://hunter2"),
        plus("alerts", "hunter2"),
    ] {
        let reported = problems(&text);
        assert!(reported.contains("invalid TOML"), "{reported}");
        assert!(!reported.contains("hunter2"), "{reported}");
    }
}

#[test]
fn a_broken_line_neither_hides_nor_causes_other_problems() {
    let text = with("\"singapore\"", "singapore").replacen("\"users\"", "5", 1) + "[schedule]\ninterval = 10\n";
    let reported = problems(&text);
    let starts: Vec<_> = reported.lines().map(|line| line.split(": ").take(2).collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(starts, ["imsync.toml:1 name", "imsync.toml:7 invalid TOML", "imsync.toml:14 schedule.interval"]);
    // After a broken header, the parser puts every key into the wrong section.
    let text = with("[im]", "[im") + "[shedule]\n";
    assert_eq!(problems(&text).lines().count(), 1, "{}", problems(&text));
}
