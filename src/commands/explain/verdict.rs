//! The sentence that says how an account stands, and what happens next, when.
//!
//! Owns: which facts matter, and the words. Must not know: how facts are gathered.
//!
//! A part begins with an ordinary word, never with a name, because the first letter becomes a capital.

use super::values::{ActualValues, problem};
use crate::commands::output::{duration, escape_for_terminal, time};
use crate::config::Config;
use crate::model::{AcknowledgedValue, DesiredValue};
use crate::pass::explain::{AttributeState, ExplainedAttribute, Explanation, NextPass, Presence, Sends};
use crate::source::WhyGone;
use crate::state::rejection::ListedRejection;

/// The sentence. `actual`: what IM holds now, if it was asked.
pub(super) fn verdict(config: &Config, explanation: &Explanation, actual: Option<&ActualValues>) -> String {
    let mut parts = match &explanation.presence {
        Presence::Present => Vec::new(),
        Presence::Refused(refusal) => {
            vec![format!("nothing is sent for the account, and what IM holds stays: {refusal}")]
        }
        Presence::Missing => {
            vec![format!("the table {} has no row for the account", escape_for_terminal(&config.source.table))]
        }
        Presence::Gone(why) => vec![why_gone(config, *why)],
    };
    parts.extend(refusals(explanation));
    parts.extend(in_doubt(config, explanation));
    parts.extend(pending(config, explanation));
    parts.extend(kept(explanation));
    if parts.is_empty() {
        parts.push(match explanation.acknowledged_at {
            Some(at) => format!("IM acknowledged all that the table requires, the last time at {}", time(at)),
            None => "the table requires no value, and imsync has set none".to_owned(),
        });
    } else if is_gone(explanation) && parts.len() == 1 {
        parts.push("nothing that imsync has set is left in IM".to_owned());
    }
    parts.extend(drift(explanation, actual));
    let text = parts.join("; ");
    let mut letters = text.chars();
    let first: String = letters.next().map(|letter| letter.to_uppercase().collect()).unwrap_or_default();
    let end = if text.ends_with('.') { "" } else { "." };
    format!("{first}{}{end}", letters.as_str())
}

fn is_gone(explanation: &Explanation) -> bool {
    matches!(explanation.presence, Presence::Missing | Presence::Gone(_))
}

fn refusals(explanation: &Explanation) -> Vec<String> {
    let of_account = explanation.rejection.as_ref().map(|rejection| {
        let reason = escape_for_terminal(rejection.reason.trim_end_matches('.'));
        format!(
            "the account is refused by {} ({reason}), and the next try is at {}",
            refuser(rejection),
            time(rejection.next_at)
        )
    });
    let rejected = explanation.attributes.iter().filter(|attribute| attribute.state == AttributeState::Rejected);
    let of_attributes = rejected.filter_map(|attribute| {
        let name = escape_for_terminal(&attribute.name);
        if let Some(problem) = problem(attribute) {
            return Some(format!("attribute {name} is not sent ({problem})"));
        }
        let rejection = attribute.rejection.as_ref()?;
        Some(format!(
            "attribute {name} is refused by {}, and the next try is at {}",
            refuser(rejection),
            time(rejection.next_at)
        ))
    });
    of_account.into_iter().chain(of_attributes).collect()
}

/// Who refused a value or an account.
pub(super) fn refuser(rejection: &ListedRejection) -> String {
    rejection.code.map_or("imsync".to_owned(), |code| format!("IM with code {code}"))
}

fn in_doubt(config: &Config, explanation: &Explanation) -> Vec<String> {
    let of = |is_meant: &dyn Fn(&ExplainedAttribute) -> bool| {
        names(explanation, |one| one.state == AttributeState::InDoubt && is_meant(one))
    };
    let is_provisional = |one: &ExplainedAttribute| matches!(one.acknowledged, AcknowledgedValue::Provisional(_));
    let again = of(&|one| one.sends.is_some() && !is_provisional(one));
    let later = of(&is_provisional);
    let stays = of(&|one| one.sends.is_none() && !is_provisional(one));
    let mut parts = Vec::new();
    if !again.is_empty() {
        parts.push(format!(
            "it is unknown what IM holds for {}, so {} sends it again{}",
            again.join(", "),
            which_pass(explanation),
            when(config, &explanation.next)
        ));
    }
    if !later.is_empty() {
        parts.push(format!(
            "an earlier call with {} may still be applied, so it is sent once more when that is no longer possible",
            later.join(", ")
        ));
    }
    if !stays.is_empty() {
        parts.push(format!("it is unknown what IM holds for {}, and nothing is sent for it now", stays.join(", ")));
    }
    parts
}

fn pending(config: &Config, explanation: &Explanation) -> Vec<String> {
    let of = |sends| names(explanation, |one| one.state == AttributeState::Pending && one.sends == Some(sends));
    let (set, mut remove) = (of(Sends::Set), of(Sends::Remove));
    let mut parts = Vec::new();
    if explanation.next.guard_tripped && !remove.is_empty() {
        parts.push(format!(
            "the removal guard holds back the removal of {} until a full pass counts less, or `imsync backfill --allow-removals` runs",
            remove.join(", ")
        ));
        remove.clear();
    }
    let verbs = [("sets", set), ("removes", remove)].into_iter().filter(|(_, names)| !names.is_empty());
    let verbs: Vec<String> = verbs.map(|(verb, names)| format!("{verb} {}", names.join(", "))).collect();
    if !verbs.is_empty() {
        if !explanation.next.sees_account {
            parts.push(match explanation.presence {
                Presence::Missing => "a deleted row leaves no stamp, so only a full pass finds it".to_owned(),
                _ => "the stamp of the row has not moved, so only a full pass reads it".to_owned(),
            });
        }
        let verbs = verbs.join(" and ");
        parts.push(format!("{} {verbs}{}", which_pass(explanation), when(config, &explanation.next)));
    }
    parts
}

/// What IM holds although the table requires no value, and why.
fn kept(explanation: &Explanation) -> Vec<String> {
    let why = |attribute: &ExplainedAttribute| {
        if attribute.held_by_other_sync {
            "another sync of the app holds it".to_owned()
        } else if attribute.column.is_none() {
            "the mapping no longer names it and removal.unmapped is \"keep\"".to_owned()
        } else if matches!(attribute.desired, Some(DesiredValue::Keep)) {
            format!("attributes.{} says keep for the text of its column", escape_for_terminal(&attribute.name))
        } else if is_gone(explanation) {
            "removal.gone is \"keep\"".to_owned()
        } else {
            "no pass removes it".to_owned()
        }
    };
    let is_kept = |attribute: &&ExplainedAttribute| {
        attribute.state == AttributeState::Kept && attribute.acknowledged.may_be_held()
    };
    let kept = explanation.attributes.iter().filter(is_kept);
    kept.map(|attribute| {
        format!("attribute {} stays in IM because {}", escape_for_terminal(&attribute.name), why(attribute))
    })
    .collect()
}

/// What IM holds instead of what it acknowledged last.
fn drift(explanation: &Explanation, actual: Option<&ActualValues>) -> Option<String> {
    let actual = actual?;
    let drifted = names(explanation, |attribute| {
        matches!(attribute.state, AttributeState::Current | AttributeState::Absent)
            && actual.get(&attribute.name).map(String::as_str) != attribute.acknowledged.value()
    });
    if drifted.is_empty() {
        return None;
    }
    let remedy = if explanation.presence == Presence::Present {
        let account = escape_for_terminal(explanation.account.as_str());
        format!(": `imsync backfill --account {account} --force` sends what the table requires")
    } else {
        String::new()
    };
    let names = drifted.join(", ");
    Some(format!(
        "IM holds something else for {names} than it acknowledged, so something besides this sync has changed it{remedy}"
    ))
}

/// Why a row counts as gone.
pub(super) fn why_gone(config: &Config, why: WhyGone) -> String {
    let column = escape_for_terminal(config.source.deleted_column.as_deref().unwrap_or_default());
    match (why.deleted, why.filtered) {
        (true, false) => format!("the row is marked as deleted in {column}"),
        (false, true) => "the row is left out by source.filter".to_owned(),
        (true, true) => format!("one row is marked as deleted in {column}, and one is left out by source.filter"),
        (false, false) => "the row counted as gone a moment ago".to_owned(),
    }
}

fn names(explanation: &Explanation, is_meant: impl Fn(&ExplainedAttribute) -> bool) -> Vec<String> {
    let meant = explanation.attributes.iter().filter(|attribute| is_meant(attribute));
    meant.map(|attribute| escape_for_terminal(&attribute.name)).collect()
}

/// The pass that sees the account next.
fn which_pass(explanation: &Explanation) -> String {
    let NextPass { full_because, sees_account, full_at, .. } = &explanation.next;
    match (full_because, sees_account, full_at) {
        (Some(reason), ..) => format!("the next pass, a full one ({}),", escape_for_terminal(reason)),
        (None, true, _) => "the next pass".to_owned(),
        (None, false, Some(at)) => format!("the full pass that is due at {}", time(*at)),
        (None, false, None) => "no full pass is scheduled: `imsync backfill`".to_owned(),
    }
}

fn when(config: &Config, next: &NextPass) -> String {
    match (next.is_running, next.sees_account, next.full_at) {
        (false, true, _) => "; nothing runs now: `imsync run` or `imsync backfill` does it".to_owned(),
        (false, false, Some(_)) => "; nothing runs now: `imsync backfill` does it".to_owned(),
        (_, false, _) => String::new(),
        (true, true, _) => {
            let failed = if next.last_failed { "; the last pass failed, see `imsync status`" } else { "" };
            format!(", which begins within {}{failed}", duration(config.schedule.interval.as_secs_f64()))
        }
    }
}
