//! Fault rules as text.

use std::time::Duration;

use crate::simulator::{Action, Command, Matcher, Rule, Service, Wrong};

fn rule(text: &str) -> Rule {
    text.parse().unwrap()
}

#[test]
fn rules_are_read_with_their_conditions() {
    let matcher = Matcher { accounts: vec!["u17".to_owned()], ..Matcher::default() };
    assert_eq!(
        rule("refuse:70107:account=u17"),
        Rule { matcher, action: Action::Refuse { code: 70107, per_account: false } }
    );
    let matcher = Matcher { command: Some(Command::SetAttr), times: Some(1), ..Matcher::default() };
    let action = Action::Hold(Some(Duration::from_secs(10)));
    assert_eq!(rule("hold:10s:command=set_attr:times=1"), Rule { matcher: matcher.clone(), action });
    assert_eq!(rule("hold:command=im_set_attr:times=1"), Rule { matcher, action: Action::Hold(None) });
    assert_eq!(rule("slow:1.5s").action, Action::Slow(Duration::from_millis(1500)));
    assert_eq!(rule("throttle:30").action, Action::Throttle(30));
    assert_eq!(rule("ghost:2m:service=timpush").matcher.service, Some(Service::TimPush));
    let wrong = Wrong::Http { status: 503, retry_after_seconds: Some(2) };
    assert_eq!(rule("http:503:retry-after=2").action, Action::Fail(wrong.clone()));
    assert_eq!(rule("apply-then-fail:http-503:retry-after=2").action, Action::ApplyThenFail(wrong));
}

#[test]
fn a_rule_that_is_shown_can_be_read_again() {
    for text in [
        "refuse:70107:per-account:account=u1,u2",
        "fail:http-502",
        "fail:http-429:retry-after=7:times=2",
        "apply-then-fail:91000:every=3",
        "apply-then-fail:cut",
        "fail:huge-64",
        "hold",
        "hold:250ms:service=timpush:command=remove_attr:attribute=city",
        "apply-then-hold",
        "slow:200ms:chance=0.25:seed=7",
        "throttle:30:after=5",
        "ghost:1000ms",
    ] {
        assert_eq!(rule(text).to_string(), text);
    }
}

#[test]
fn what_is_wrong_is_named_with_the_forms_that_are_allowed() {
    for (text, problem) in [
        ("explode", "\"explode\" is not something the simulator can do"),
        ("refuse", "refuse needs an error code, such as refuse:70107"),
        ("refuse:many", "\"many\" is not an error code"),
        ("refuse:1:per-account", "per-account needs account=…"),
        ("slow", "slow needs a duration, such as slow:200ms"),
        ("slow:200", "\"200\" is not a duration such as 200ms, 1.5s or 2m"),
        ("slow:-1s", "\"-1s\" is not a duration such as 200ms, 1.5s or 2m"),
        ("fail:nonsense", "\"nonsense\" is neither a wrong answer that the simulator knows nor an error code"),
        ("http:99", "\"99\" is not an HTTP status from 200 to 599"),
        ("slow:1s:retry-after=3", "retry-after goes with an HTTP status only"),
        ("hold:1s:often", "\"often\" is not a condition"),
        ("hold:colour=red", "there is no condition \"colour\""),
        ("hold:command=set", "there is no command \"set\""),
        ("hold:service=push", "there is no service \"push\""),
        ("hold:times=0", "times=0 is not a number above 0"),
        ("hold:chance=2", "chance=2 is not between 0 and 1"),
        ("hold:account=", "account= has no value"),
        ("hold:", "there is nothing between or after colons"),
    ] {
        let error = text.parse::<Rule>().unwrap_err();
        assert_eq!(error.problem, problem, "{text}");
        let message = error.to_string();
        assert!(message.starts_with(&format!("fault \"{text}\": ")) && message.contains("throttle:CALLS"), "{message}");
    }
}
