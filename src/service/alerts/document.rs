//! The JSON document of an alert.
//!
//! Owns: its fields and its sentences. Must not know: when an alert is sent, and to whom.
//!
//! It contains no account and no value, because the receiver is often a third party; `imsync status` and `imsync rejected`
//! show the accounts. The text stands in it once for each kind of receiver: `text` for Slack and Mattermost, `msg_type` and
//! `content` for Feishu and Lark, `msgtype` and `markdown` for `WeCom` and `DingTalk`. None of these names collides with another.

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};

use super::alert_state::Alert;
use super::conditions::AlertDetails;
use super::kind::AlertKind;

/// The version of the document. A field that is added does not raise it.
const VERSION: u32 = 1;
/// A chat message has a limit: `WeCom` takes 4,096 bytes.
const MAX_SUMMARY_CHARS: usize = 900;

/// Who sends the alerts.
#[derive(Clone, Debug)]
pub(super) struct Sender {
    /// The name of the sync.
    pub(super) sync: String,
    /// The name of this machine.
    pub(super) host: String,
}

/// The document of an alert that is sent at `at`.
pub(super) fn document(alert: &Alert, sender: &Sender, at: DateTime<Utc>) -> Value {
    let Sender { sync, host } = sender;
    let kind = alert.kind.label();
    let summary = shortened(&summary(alert));
    let (status, change) = match (&alert.finding, alert.kind) {
        (Some(_), _) => ("firing", kind.to_owned()),
        (None, AlertKind::Failing) => ("resolved", "recovered".to_owned()),
        (None, _) => ("resolved", format!("{kind} resolved")),
    };
    let text = chat_text(&format!("[imsync {sync}] {change}: {summary}"));
    let time = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Secs, true);
    json!({
        "version": VERSION,
        "sync": sync,
        "kind": kind,
        "status": status,
        "severity": alert.kind.severity(),
        "summary": summary,
        "key": format!("imsync/{sync}/{kind}"),
        "since": time(alert.since),
        "at": time(at),
        "host": host,
        "details": details(alert),
        "text": text,
        "msg_type": "text",
        "content": { "text": text },
        "msgtype": "markdown",
        "markdown": { "title": format!("imsync {}", chat_text(sync)), "content": text, "text": text },
    })
}

fn summary(alert: &Alert) -> String {
    let Some(finding) = &alert.finding else {
        return match alert.kind {
            AlertKind::Failing => "the sync works again",
            AlertKind::Guard => "the removal guard is lifted",
            AlertKind::Rejected => "no account is rejected any more",
            AlertKind::InDoubt => "no call with an unknown outcome waits for a retry any more",
            AlertKind::Drift => "the last verification found no account that differs in IM",
            AlertKind::MissedChanges => "the last full pass found no change that incremental passes had missed",
        }
        .to_owned();
    };
    let count = finding.accounts.unwrap_or(0);
    let accounts = if count == 1 { "1 account".to_owned() } else { format!("{count} accounts") };
    match alert.kind {
        AlertKind::Failing => {
            format!("the sync does not work: {}", finding.reason.as_deref().unwrap_or("the daemon is not ready"))
        }
        AlertKind::Guard => format!(
            "the removal guard holds removals back: {count} of {} known accounts would lose an attribute; nothing is removed until \
             somebody decides",
            finding.details["known"]
        ),
        AlertKind::Rejected => {
            let verb = if count == 1 { "is" } else { "are" };
            let new = alert.new_accounts;
            format!("{accounts} {verb} rejected, {new} of them new; `imsync rejected` lists the reasons")
        }
        AlertKind::InDoubt => format!(
            "calls whose outcome is unknown have been waiting for a clear answer for {} min; `imsync status` counts the accounts",
            finding.held_for.as_secs() / 60
        ),
        AlertKind::Drift => format!(
            "IM does not hold what the table says for {accounts} of the last verification; `imsync verify --repair` sends it"
        ),
        AlertKind::MissedChanges => format!(
            "{accounts} changed without the watermark column moving, and only the last full pass found the change; `imsync check` \
             shows the trigger that prevents it"
        ),
    }
}

/// The numbers of the alert, for programs.
fn details(alert: &Alert) -> Value {
    let Some(AlertDetails { accounts, details, reason, .. }) = &alert.finding else { return json!({}) };
    let mut details = details.clone();
    if let Some(accounts) = accounts {
        details["accounts"] = json!(accounts);
    }
    if alert.kind.tells_growth() {
        details["new_accounts"] = json!(alert.new_accounts);
    }
    if let Some(reason) = reason {
        details["reason"] = json!(reason);
    }
    details
}

/// In one line, and not too long for a chat.
fn shortened(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MAX_SUMMARY_CHARS) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// Chats read `<!channel>`, `<at user_id="all">` and `<@all>` as a call to everybody. A message of a database could contain one.
fn chat_text(text: &str) -> String {
    text.chars()
        .map(|character| match character {
            '<' => '‹',
            '>' => '›',
            character if character.is_control() => ' ',
            character => character,
        })
        .collect()
}
