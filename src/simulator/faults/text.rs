//! Fault rules as text: for a command line, for the control interface, and for showing them.
//!
//! Owns: the forms that are allowed and the messages for those that are not. Must not know: what a rule does.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::super::endpoint::{Command, Service};
use super::{Action, Matcher, Rule, Wrong};

/// The allowed forms, for `--help`. A rule is an action, its argument, and conditions, separated by colons:
/// `refuse:70107:account=u17`, `slow:200ms`, `hold:10s:command=set_attr:times=1`, `throttle:30`.
pub const FORMS: &str = "\
refuse:CODE            answer with this error code and apply nothing; with account=…:per-account, only those
                       accounts fail (timpush lists them and applies the others)
fail:WRONG             apply nothing and answer wrongly
apply-then-fail:WRONG  apply, then answer wrongly
                       WRONG: an error code, http-STATUS, html, cut, close, garbage, huge or huge-MEGABYTES
http:STATUS            short for fail:http-STATUS; retry-after=SECONDS may follow
hold[:DURATION]        wait before applying, until released or for this long
apply-then-hold[:DURATION]  apply at once, then wait with the answer
slow:DURATION          wait before applying
throttle:CALLS         let no more than so many calls a second through; others get 60007
ghost:DURATION         never answer; apply this long after the caller has gone away
Durations: 200ms, 1.5s, 2m. Conditions, each after a colon:
service=all_member_push|timpush, command=set_attr_name|get_attr_name|set_attr|get_attr|remove_attr,
account=NAME[,NAME…], attribute=NAME, after=N (skip the first N), every=N, times=N, chance=0…1, seed=N";

/// The size of `huge` when none is given.
const HUGE_MEGABYTES: u64 = 64;
const MEGABYTE: u64 = 1 << 20;

/// Why a text is not a rule.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("fault \"{rule}\": {problem}. Allowed forms:\n{FORMS}")]
pub struct RuleError {
    pub rule: String,
    pub problem: String,
}

impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(rule: &str) -> Result<Self, RuleError> {
        parse(rule).map_err(|problem| RuleError { rule: rule.to_owned(), problem })
    }
}

/// What follows the action: at most one plain argument, then conditions.
#[derive(Default)]
struct Rest<'a> {
    argument: Option<&'a str>,
    matcher: Matcher,
    per_account: bool,
    retry_after_seconds: Option<u64>,
}

fn parse(rule: &str) -> Result<Rule, String> {
    let (action, rest) = rule.split_once(':').map_or((rule, None), |(action, rest)| (action, Some(rest)));
    let rest = parse_rest(rest)?;
    let argument = |what: &str, example: &str| {
        rest.argument.ok_or_else(|| format!("{action} needs {what}, such as {action}:{example}"))
    };
    let wrong = || parse_wrong(argument("what to answer", "http-502")?, rest.retry_after_seconds);
    let optional_duration = || rest.argument.map(parse_duration).transpose();
    let action = match action {
        "refuse" => {
            if rest.per_account && rest.matcher.accounts.is_empty() {
                return Err("per-account needs account=…".to_owned());
            }
            Action::Refuse {
                code: parse_number(argument("an error code", "70107")?, "an error code")?,
                per_account: rest.per_account,
            }
        }
        "fail" => Action::Fail(wrong()?),
        "apply-then-fail" => Action::ApplyThenFail(wrong()?),
        "http" => Action::Fail(parse_http(argument("an HTTP status", "503")?, rest.retry_after_seconds)?),
        "hold" => Action::Hold(optional_duration()?),
        "apply-then-hold" => Action::ApplyThenHold(optional_duration()?),
        "slow" => Action::Slow(parse_duration(argument("a duration", "200ms")?)?),
        "throttle" => Action::Throttle(parse_number(argument("calls a second", "30")?, "a number of calls a second")?),
        "ghost" => Action::Ghost(parse_duration(argument("a duration", "200ms")?)?),
        other => return Err(format!("\"{other}\" is not something the simulator can do")),
    };
    if rest.per_account && !matches!(action, Action::Refuse { .. }) {
        return Err("per-account goes with refuse only".to_owned());
    }
    let takes_retry_after =
        matches!(action, Action::Fail(Wrong::Http { .. }) | Action::ApplyThenFail(Wrong::Http { .. }));
    if rest.retry_after_seconds.is_some() && !takes_retry_after {
        return Err("retry-after goes with an HTTP status only".to_owned());
    }
    Ok(Rule { matcher: rest.matcher, action })
}

fn parse_rest(rest: Option<&str>) -> Result<Rest<'_>, String> {
    let mut found = Rest::default();
    for (place, part) in rest.into_iter().flat_map(|rest| rest.split(':')).enumerate() {
        let Some((name, value)) = part.split_once('=') else {
            match part {
                "per-account" => found.per_account = true,
                "" => return Err("there is nothing between or after colons".to_owned()),
                _ if place == 0 => found.argument = Some(part),
                _ => return Err(format!("\"{part}\" is not a condition")),
            }
            continue;
        };
        if value.is_empty() {
            return Err(format!("{name}= has no value"));
        }
        let matcher = &mut found.matcher;
        match name {
            "service" => {
                let known = Service::parse(value);
                matcher.service = Some(known.ok_or_else(|| format!("there is no service \"{value}\""))?);
            }
            "command" => {
                let known = Command::parse(value.strip_prefix("im_").unwrap_or(value));
                matcher.command = Some(known.ok_or_else(|| format!("there is no command \"{value}\""))?);
            }
            "account" => matcher.accounts.extend(value.split(',').map(str::to_owned)),
            "attribute" => matcher.attribute = Some(value.to_owned()),
            "after" => matcher.after = parse_number(value, "a number of calls")?,
            "every" => matcher.every = Some(parse_positive(value, "every")?),
            "times" => matcher.times = Some(parse_positive(value, "times")?),
            "chance" => {
                let chance = value.parse().ok().filter(|chance| (0.0..=1.0).contains(chance));
                matcher.chance = Some(chance.ok_or_else(|| format!("chance={value} is not between 0 and 1"))?);
            }
            "seed" => matcher.seed = parse_number(value, "a seed")?,
            "retry-after" => found.retry_after_seconds = Some(parse_number(value, "a number of seconds")?),
            _ => return Err(format!("there is no condition \"{name}\"")),
        }
    }
    Ok(found)
}

fn parse_wrong(text: &str, retry_after_seconds: Option<u64>) -> Result<Wrong, String> {
    match text {
        "html" => Ok(Wrong::Html),
        "cut" => Ok(Wrong::Cut),
        "close" => Ok(Wrong::Close),
        "garbage" => Ok(Wrong::Garbage),
        "huge" => Ok(Wrong::Huge(HUGE_MEGABYTES * MEGABYTE)),
        _ => {
            if let Some(status) = text.strip_prefix("http-") {
                parse_http(status, retry_after_seconds)
            } else if let Some(size) = text.strip_prefix("huge-") {
                Ok(Wrong::Huge(parse_number::<u64>(size, "a number of megabytes")?.saturating_mul(MEGABYTE)))
            } else {
                let code = text.parse();
                let code = code.map_err(|_| {
                    format!("\"{text}\" is neither a wrong answer that the simulator knows nor an error code")
                });
                code.map(Wrong::Code)
            }
        }
    }
}

fn parse_http(status: &str, retry_after_seconds: Option<u64>) -> Result<Wrong, String> {
    let known = status.parse().ok().filter(|status| (200..600).contains(status));
    let status = known.ok_or_else(|| format!("\"{status}\" is not an HTTP status from 200 to 599"))?;
    Ok(Wrong::Http { status, retry_after_seconds })
}

fn parse_number<T: FromStr>(text: &str, what: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("\"{text}\" is not {what}"))
}

fn parse_positive(text: &str, name: &str) -> Result<u64, String> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| format!("{name}={text} is not a number above 0"))
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|letter: char| letter.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let seconds_in_unit = match unit {
        "ms" => Some(0.001),
        "s" => Some(1.0),
        "m" => Some(60.0),
        _ => None,
    };
    let seconds = seconds_in_unit.and_then(|unit| Some(unit * number.parse::<f64>().ok()?));
    let duration = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    duration.ok_or_else(|| format!("\"{text}\" is not a duration such as 200ms, 1.5s or 2m"))
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { matcher, action } = self;
        match action {
            Action::Refuse { code, per_account } => {
                write!(f, "refuse:{code}{}", if *per_account { ":per-account" } else { "" })
            }
            Action::Fail(wrong) => write!(f, "fail:{wrong}"),
            Action::ApplyThenFail(wrong) => write!(f, "apply-then-fail:{wrong}"),
            Action::Hold(None) => f.write_str("hold"),
            Action::Hold(Some(limit)) => write!(f, "hold:{}ms", limit.as_millis()),
            Action::ApplyThenHold(None) => f.write_str("apply-then-hold"),
            Action::ApplyThenHold(Some(limit)) => write!(f, "apply-then-hold:{}ms", limit.as_millis()),
            Action::Slow(delay) => write!(f, "slow:{}ms", delay.as_millis()),
            Action::Throttle(calls) => write!(f, "throttle:{calls}"),
            Action::Ghost(after) => write!(f, "ghost:{}ms", after.as_millis()),
        }?;
        write!(f, "{matcher}")
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "{code}"),
            Self::Http { status, retry_after_seconds: None } => write!(f, "http-{status}"),
            Self::Http { status, retry_after_seconds: Some(seconds) } => {
                write!(f, "http-{status}:retry-after={seconds}")
            }
            Self::Html => f.write_str("html"),
            Self::Cut => f.write_str("cut"),
            Self::Close => f.write_str("close"),
            Self::Garbage => f.write_str("garbage"),
            Self::Huge(bytes) => write!(f, "huge-{}", bytes.div_ceil(MEGABYTE)),
        }
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(service) = self.service {
            write!(f, ":service={}", service.name())?;
        }
        if let Some(command) = self.command {
            write!(f, ":command={}", command.name())?;
        }
        if !self.accounts.is_empty() {
            write!(f, ":account={}", self.accounts.join(","))?;
        }
        if let Some(attribute) = &self.attribute {
            write!(f, ":attribute={attribute}")?;
        }
        if self.after > 0 {
            write!(f, ":after={}", self.after)?;
        }
        if let Some(every) = self.every {
            write!(f, ":every={every}")?;
        }
        if let Some(times) = self.times {
            write!(f, ":times={times}")?;
        }
        if let Some(chance) = self.chance {
            write!(f, ":chance={chance}:seed={}", self.seed)?;
        }
        Ok(())
    }
}
