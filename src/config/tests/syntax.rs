//! Files that are not TOML.

use super::{plus, problems, with};

#[test]
fn slips_of_syntax_are_told_with_line_and_place() {
    for (text, told) in [
        (
            with("\"singapore\"", "singapore"),
            "imsync.toml:7: not valid TOML: text is written in quotes, as in region = \"singapore\"",
        ),
        (
            plus("schedule", "interval = 10s"),
            "imsync.toml:14: not valid TOML: text is written in quotes, as in interval = \"10s\"",
        ),
        (
            with("\"administrator\"", "\"administrator"),
            "imsync.toml:9: not valid TOML at column 28: invalid basic string, expected `\"`, in `identifier = \"administrator`",
        ),
        (with("[im]", "[im"), "imsync.toml:6: not valid TOML at column 4: unclosed table, expected `]`, in `[im`"),
        (
            with("name = \"users\"", "name = \"users\"\nname = \"again\""),
            "imsync.toml:2: not valid TOML at column 1: duplicate key, in `name = \"again\"`",
        ),
    ] {
        assert_eq!(problems(&text), told, "\n{text}");
    }
}

#[test]
fn lines_that_may_hold_a_secret_are_not_shown() {
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
        let told = problems(&text);
        assert!(told.contains("not valid TOML"), "{told}");
        assert!(!told.contains("hunter2"), "{told}");
    }
}

#[test]
fn a_broken_line_does_not_hide_or_invent_other_problems() {
    let text = with("\"singapore\"", "singapore").replacen("\"users\"", "5", 1) + "[schedule]\ninterval = 10\n";
    let told = problems(&text);
    let starts: Vec<_> = told.lines().map(|line| line.split(": ").take(2).collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(starts, ["imsync.toml:1 name", "imsync.toml:7 not valid TOML", "imsync.toml:14 schedule.interval"]);
    // Behind a broken header nothing is where it was meant to be.
    let text = with("[im]", "[im") + "[shedule]\n";
    assert_eq!(problems(&text).lines().count(), 1, "{}", problems(&text));
}
