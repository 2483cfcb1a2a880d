//! Fault rules as text: for the command line, for the control interface, and for display.
//!
//! Owns: the accepted forms, and the messages for texts of another form. Must not know: how a rule is applied.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::rule::{CallMatcher, FaultAction, FaultRule, FaultyAnswer};
use crate::simulator::endpoint::{SimulatedCommand, SimulatedService};

/// The accepted forms, for `--help`. A rule consists of an action, its argument and conditions, separated by colons:
/// `refuse:70107:account=u17`, `slow:200ms`, `hold:10s:command=set_attr:times=1`, `throttle:30`.
pub const FAULT_FORMS: &str = "\
refuse:CODE            answer with this error code and apply nothing; with
                       account=…:per-account only those accounts fail (timpush
                       lists them and applies the call to the others)
fail:ANSWER            apply nothing and send a wrong answer
apply-then-fail:ANSWER apply the call, then send a wrong answer
                       ANSWER: an error code, http-STATUS, html, cut, close,
                       garbage, huge or huge-MEGABYTES
http:STATUS            same as fail:http-STATUS; retry-after=SECONDS may follow
hold[:DURATION]        wait before applying, until released or for this long
apply-then-hold[:DURATION]
                       apply the call, then delay the answer in the same way
slow:DURATION          wait this long before applying
throttle:CALLS         accept this many calls a second; answer others with 60007
late:DURATION          never answer; apply the call this long after the caller
                       has disconnected
Durations: 200ms, 1.5s, 2m. Conditions, each after a colon:
service=all_member_push|timpush,
command=set_attr_name|get_attr_name|set_attr|get_attr|remove_attr,
account=NAME[,NAME…], attribute=NAME, contains=TEXT (of the body, no colon),
larger-than=BYTES (of the body), after=N (skip the first N), every=N, times=N,
chance=0…1, seed=N";

/// The size of a `huge` answer if the rule gives none.
const DEFAULT_HUGE_MEGABYTES: u64 = 64;
const MEGABYTE: u64 = 1 << 20;

/// A text is not a fault rule. The message lists the accepted forms.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("fault \"{rule}\": {problem}. Accepted forms:\n{FAULT_FORMS}")]
pub struct FaultRuleError {
    /// The text.
    pub rule: String,
    /// What is wrong with it.
    pub problem: String,
}

impl FromStr for FaultRule {
    type Err = FaultRuleError;

    fn from_str(rule: &str) -> Result<Self, FaultRuleError> {
        parse(rule).map_err(|problem| FaultRuleError { rule: rule.to_owned(), problem })
    }
}

/// The part of a rule after its action: at most one argument, then conditions.
#[derive(Default)]
struct RuleArguments<'a> {
    argument: Option<&'a str>,
    matcher: CallMatcher,
    per_account: bool,
    retry_after_seconds: Option<u64>,
}

fn parse(rule: &str) -> Result<FaultRule, String> {
    let (action, rest) = rule.split_once(':').map_or((rule, None), |(action, rest)| (action, Some(rest)));
    let arguments = parse_arguments(rest)?;
    let argument = |what: &str, example: &str| {
        arguments.argument.ok_or_else(|| format!("{action} needs {what}, such as {action}:{example}"))
    };
    let answer = || parse_faulty_answer(argument("what to answer", "http-502")?, arguments.retry_after_seconds);
    let optional_duration = || arguments.argument.map(parse_duration).transpose();
    let action = match action {
        "refuse" => {
            if arguments.per_account && arguments.matcher.accounts.is_empty() {
                return Err("per-account needs account=…".to_owned());
            }
            FaultAction::Refuse {
                code: parse_number(argument("an error code", "70107")?, "an error code")?,
                per_account: arguments.per_account,
            }
        }
        "fail" => FaultAction::Fail(answer()?),
        "apply-then-fail" => FaultAction::ApplyThenFail(answer()?),
        "http" => FaultAction::Fail(parse_http(argument("an HTTP status", "503")?, arguments.retry_after_seconds)?),
        "hold" => FaultAction::Hold(optional_duration()?),
        "apply-then-hold" => FaultAction::ApplyThenHold(optional_duration()?),
        "slow" => FaultAction::Slow(parse_duration(argument("a duration", "200ms")?)?),
        "throttle" => {
            FaultAction::Throttle(parse_number(argument("calls a second", "30")?, "a number of calls a second")?)
        }
        // `ghost` is the former name.
        "late" | "ghost" => FaultAction::ApplyAfterDisconnect(parse_duration(argument("a duration", "200ms")?)?),
        other => return Err(format!("\"{other}\" is not an action of the simulator")),
    };
    if arguments.per_account && !matches!(action, FaultAction::Refuse { .. }) {
        return Err("per-account is valid with refuse only".to_owned());
    }
    let takes_retry_after = matches!(
        action,
        FaultAction::Fail(FaultyAnswer::Http { .. }) | FaultAction::ApplyThenFail(FaultyAnswer::Http { .. })
    );
    if arguments.retry_after_seconds.is_some() && !takes_retry_after {
        return Err("retry-after is valid with an HTTP status only".to_owned());
    }
    Ok(FaultRule { matcher: arguments.matcher, action })
}

fn parse_arguments(rest: Option<&str>) -> Result<RuleArguments<'_>, String> {
    let mut arguments = RuleArguments::default();
    for (index, part) in rest.into_iter().flat_map(|rest| rest.split(':')).enumerate() {
        let Some((name, value)) = part.split_once('=') else {
            match part {
                "per-account" => arguments.per_account = true,
                "" => return Err("an argument or a condition is missing after a colon".to_owned()),
                _ if index == 0 => arguments.argument = Some(part),
                _ => return Err(format!("\"{part}\" is not a condition")),
            }
            continue;
        };
        if value.is_empty() {
            return Err(format!("{name}= has no value"));
        }
        let matcher = &mut arguments.matcher;
        match name {
            "service" => {
                let known = SimulatedService::parse(value);
                matcher.service = Some(known.ok_or_else(|| format!("there is no service \"{value}\""))?);
            }
            "command" => {
                let known = SimulatedCommand::parse(value.strip_prefix("im_").unwrap_or(value));
                matcher.command = Some(known.ok_or_else(|| format!("there is no command \"{value}\""))?);
            }
            "account" => matcher.accounts.extend(value.split(',').map(str::to_owned)),
            "attribute" => matcher.attribute = Some(value.to_owned()),
            "contains" => matcher.contains = Some(value.to_owned()),
            "larger-than" => matcher.larger_than = Some(parse_number(value, "a number of bytes")?),
            "after" => matcher.after = parse_number(value, "a number of calls")?,
            "every" => matcher.every = Some(parse_positive(value, "every")?),
            "times" => matcher.times = Some(parse_positive(value, "times")?),
            "chance" => {
                let chance = value.parse().ok().filter(|chance| (0.0..=1.0).contains(chance));
                matcher.chance = Some(chance.ok_or_else(|| format!("chance={value} is not between 0 and 1"))?);
            }
            "seed" => matcher.seed = parse_number(value, "a seed")?,
            "retry-after" => arguments.retry_after_seconds = Some(parse_number(value, "a number of seconds")?),
            _ => return Err(format!("there is no condition \"{name}\"")),
        }
    }
    Ok(arguments)
}

fn parse_faulty_answer(text: &str, retry_after_seconds: Option<u64>) -> Result<FaultyAnswer, String> {
    match text {
        "html" => Ok(FaultyAnswer::Html),
        "cut" => Ok(FaultyAnswer::Cut),
        "close" => Ok(FaultyAnswer::Close),
        "garbage" => Ok(FaultyAnswer::Garbage),
        "huge" => Ok(FaultyAnswer::Huge(DEFAULT_HUGE_MEGABYTES * MEGABYTE)),
        _ => {
            if let Some(status) = text.strip_prefix("http-") {
                parse_http(status, retry_after_seconds)
            } else if let Some(size) = text.strip_prefix("huge-") {
                Ok(FaultyAnswer::Huge(parse_number::<u64>(size, "a number of megabytes")?.saturating_mul(MEGABYTE)))
            } else {
                let code = text.parse();
                let code = code
                    .map_err(|_| format!("\"{text}\" is neither an error code nor a wrong answer of the simulator"));
                code.map(FaultyAnswer::Code)
            }
        }
    }
}

fn parse_http(status: &str, retry_after_seconds: Option<u64>) -> Result<FaultyAnswer, String> {
    let known = status.parse().ok().filter(|status| (200..600).contains(status));
    let status = known.ok_or_else(|| format!("\"{status}\" is not an HTTP status from 200 to 599"))?;
    Ok(FaultyAnswer::Http { status, retry_after_seconds })
}

fn parse_number<T: FromStr>(text: &str, what: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("\"{text}\" is not {what}"))
}

fn parse_positive(text: &str, name: &str) -> Result<u64, String> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| format!("{name}={text} is not a positive number"))
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

impl fmt::Display for FaultRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { matcher, action } = self;
        match action {
            FaultAction::Refuse { code, per_account } => {
                write!(f, "refuse:{code}{}", if *per_account { ":per-account" } else { "" })
            }
            FaultAction::Fail(answer) => write!(f, "fail:{answer}"),
            FaultAction::ApplyThenFail(answer) => write!(f, "apply-then-fail:{answer}"),
            FaultAction::Hold(None) => f.write_str("hold"),
            FaultAction::Hold(Some(limit)) => write!(f, "hold:{}ms", limit.as_millis()),
            FaultAction::ApplyThenHold(None) => f.write_str("apply-then-hold"),
            FaultAction::ApplyThenHold(Some(limit)) => write!(f, "apply-then-hold:{}ms", limit.as_millis()),
            FaultAction::Slow(delay) => write!(f, "slow:{}ms", delay.as_millis()),
            FaultAction::Throttle(calls) => write!(f, "throttle:{calls}"),
            FaultAction::ApplyAfterDisconnect(after) => write!(f, "late:{}ms", after.as_millis()),
        }?;
        write!(f, "{matcher}")
    }
}

impl fmt::Display for FaultyAnswer {
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

impl fmt::Display for CallMatcher {
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
        if let Some(text) = &self.contains {
            write!(f, ":contains={text}")?;
        }
        if let Some(bytes) = self.larger_than {
            write!(f, ":larger-than={bytes}")?;
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
