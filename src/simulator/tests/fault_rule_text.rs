//! The text form of fault rules.
//!
//! Owns: the tests of parsing and display. Must not know: a running simulator.

use std::time::Duration;

use crate::simulator::{CallMatcher, FaultAction, FaultRule, FaultyAnswer, SimulatedCommand, SimulatedService};

fn rule(text: &str) -> FaultRule {
    text.parse().unwrap()
}

#[test]
fn rules_are_parsed_with_their_conditions() {
    let matcher = CallMatcher { accounts: vec!["u17".to_owned()], ..CallMatcher::default() };
    assert_eq!(
        rule("refuse:70107:account=u17"),
        FaultRule { matcher, action: FaultAction::Refuse { code: 70107, per_account: false } }
    );
    let matcher = CallMatcher { command: Some(SimulatedCommand::SetAttr), times: Some(1), ..CallMatcher::default() };
    let action = FaultAction::Hold(Some(Duration::from_secs(10)));
    assert_eq!(rule("hold:10s:command=set_attr:times=1"), FaultRule { matcher: matcher.clone(), action });
    assert_eq!(rule("hold:command=im_set_attr:times=1"), FaultRule { matcher, action: FaultAction::Hold(None) });
    assert_eq!(rule("slow:1.5s").action, FaultAction::Slow(Duration::from_millis(1500)));
    assert_eq!(rule("throttle:30").action, FaultAction::Throttle(30));
    assert_eq!(rule("ghost:2m:service=timpush").matcher.service, Some(SimulatedService::TimPush));
    let wrong = FaultyAnswer::Http { status: 503, retry_after_seconds: Some(2) };
    assert_eq!(rule("http:503:retry-after=2").action, FaultAction::Fail(wrong.clone()));
    assert_eq!(rule("apply-then-fail:http-503:retry-after=2").action, FaultAction::ApplyThenFail(wrong));
}

#[test]
fn a_displayed_rule_parses_to_the_same_text() {
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
        "late:1000ms",
        "fail:http-403:contains=<script",
        "fail:http-413:larger-than=2048:times=3",
    ] {
        assert_eq!(rule(text).to_string(), text);
    }
}

#[test]
fn an_invalid_rule_is_reported_with_the_accepted_forms() {
    for (text, problem) in [
        ("explode", "\"explode\" is not an action of the simulator"),
        ("refuse", "refuse needs an error code, such as refuse:70107"),
        ("refuse:many", "\"many\" is not an error code"),
        ("refuse:1:per-account", "per-account needs account=…"),
        ("slow", "slow needs a duration, such as slow:200ms"),
        ("slow:200", "\"200\" is not a duration such as 200ms, 1.5s or 2m"),
        ("slow:-1s", "\"-1s\" is not a duration such as 200ms, 1.5s or 2m"),
        ("fail:nonsense", "\"nonsense\" is neither an error code nor a wrong answer of the simulator"),
        ("http:99", "\"99\" is not an HTTP status from 200 to 599"),
        ("slow:1s:retry-after=3", "retry-after is valid with an HTTP status only"),
        ("hold:1s:often", "\"often\" is not a condition"),
        ("hold:colour=red", "there is no condition \"colour\""),
        ("hold:command=set", "there is no command \"set\""),
        ("hold:service=push", "there is no service \"push\""),
        ("hold:times=0", "times=0 is not a positive number"),
        ("hold:chance=2", "chance=2 is not between 0 and 1"),
        ("hold:account=", "account= has no value"),
        ("hold:", "an argument or a condition is missing after a colon"),
    ] {
        let error = text.parse::<FaultRule>().unwrap_err();
        assert_eq!(error.problem, problem, "{text}");
        let message = error.to_string();
        assert!(message.starts_with(&format!("fault \"{text}\": ")) && message.contains("throttle:CALLS"), "{message}");
    }
}
