//! After the storm: transactions end, faults go, and imsync has to bring IM and table together.
//!
//! Owns: the passes of a quiescence, and what must be true after each. Must not know: what went before.

use std::collections::BTreeSet;
use std::time::Duration;

use super::operation::Watermark;
use super::plan::TIMEOUT_MILLIS;
use super::process::Ended;
use super::state_claims::{StateClaim, StateClaims};
use super::system::System;
use super::table::{self, ExpectedValue, Row};

/// How long all may take to come to rest. Several time-outs and pauses on a machine that is busy with other things.
const REST: Duration = Duration::from_mins(2);
/// A call may land until so long after it was sent.
const GHOSTS: Duration = Duration::from_millis(2 * TIMEOUT_MILLIS);

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

impl System {
    pub(super) async fn quiescence(&mut self) -> Result<(), String> {
        self.end_daemons().await?;
        self.import_all();
        self.writers.end_all(&mut self.eye).await;
        self.clear_faults();
        let im = self.env.handle().clone();
        let landed = tokio::time::timeout(REST, im.wait_until(|counters| counters.held == 0));
        landed.await.map_err(|_| "calls are held for ever".to_owned())?;

        self.command(&words("rejected retry")).await?;
        let mut first = self.settles("run --once --json").await?;
        if self.settings.watermark == Watermark::Counter && self.full_due().await? {
            // Of a transaction of the very first fence no counter tells where it began.
            first = self.settles("run --once --json").await?;
        }
        while self.rejections_due().await? {
            // A pass spends about a second on them; the next goes on.
            self.settles("run --once --json").await?;
        }
        let guarded = self.guarded().await?;
        if first.code != Some(1) && !guarded {
            let kind = first.pass()?["kind"].clone();
            self.counts
                .count("quiescences", format!("reached first by a pass that is {}", kind.as_str().unwrap_or_default()));
            let whole = self.settings.watermark == Watermark::None;
            self.equal("after a pass over what changed", |row| whole || row.is_some_and(|row| row.honest)).await?;
        }

        self.settles("backfill --allow-removals --json").await?;
        self.equal("after a full pass", |_| true).await?;
        self.settles("run --once --json").await?;
        self.equal("after a full pass and one more", |_| true).await?;
        self.at_rest().await
    }

    /// A pass, and further ones until none fails and nothing is in doubt that a call can settle. IM answers by now; what
    /// has to wait is what a late call may still overwrite, and an account whose doubts were asked about in vain before.
    async fn settles(&mut self, command: &str) -> Result<Ended, String> {
        let mut ended = self.command(&words(command)).await?;
        let deadline = imsync::clock::monotonic() + REST;
        while !self.guarded().await? && (ended.code == Some(1) || !self.unsettled().await?.is_empty()) {
            if imsync::clock::monotonic() > deadline {
                let unsettled = self.unsettled().await?;
                return Err(format!("a quiescence does not settle: in doubt {unsettled:?}, {ended:?}"));
            }
            self.counts.count("quiescences", "passes that had to wait for doubts");
            tokio::time::sleep(GHOSTS / 4).await;
            ended = self.command(&words("run --once --json")).await?;
        }
        Ok(ended)
    }

    async fn full_due(&mut self) -> Result<bool, String> {
        let due = sqlx::query_scalar("SELECT coalesce(bool_or(full_pass_due IS NOT NULL), false) FROM imsync.sync");
        due.fetch_one(&mut self.eye).await.map_err(|error| error.to_string())
    }

    async fn rejections_due(&mut self) -> Result<bool, String> {
        let due = sqlx::query_scalar("SELECT EXISTS (SELECT FROM imsync.rejection WHERE next_at <= clock_timestamp())");
        due.fetch_one(&mut self.eye).await.map_err(|error| error.to_string())
    }

    async fn guarded(&mut self) -> Result<bool, String> {
        let guarded = sqlx::query_scalar("SELECT coalesce(bool_or(guard IS NOT NULL), false) FROM imsync.sync");
        guarded.fetch_one(&mut self.eye).await.map_err(|error| error.to_string())
    }

    /// IM holds what the table expected_values, as far as these rows (none: an account without a row) are concerned.
    async fn equal(&mut self, when: &str, concerns: impl Fn(Option<&Row>) -> bool) -> Result<(), String> {
        let rows = table::rows(&mut self.eye).await.map_err(|error| error.to_string())?;
        let im = self.env.handle().users();
        let state = StateClaims::read(&mut self.eye).await.map_err(|error| error.to_string())?;
        let mut differences = Vec::new();
        for account in rows.keys().chain(im.keys()).collect::<BTreeSet<_>>() {
            let row = rows.get(account);
            if !concerns(row) {
                continue;
            }
            let held = im.get(account);
            for (attribute, expected) in table::expected_values(account, row, &self.settings, self.version) {
                let holds = held.and_then(|attributes| attributes.get(attribute)).map(String::as_str);
                let so = match expected {
                    ExpectedValue::Is(value) => holds == Some(value),
                    ExpectedValue::Nothing => holds.is_none(),
                    ExpectedValue::Kept | ExpectedValue::Refused => true,
                };
                if !so {
                    let shown = row.map_or("no row", |row| &row.shown);
                    let recorded = state.accounts.get(account);
                    differences.push(format!(
                        "{account}.{attribute}: wanted {expected:?}, IM holds {holds:?}, the state {recorded:?} \
                         (slots {:?}), the table {shown}",
                        state.names
                    ));
                }
            }
        }
        if differences.is_empty() {
            return Ok(());
        }
        Err(format!("{when} IM and table differ:\n{}", differences.join("\n")))
    }

    /// Doubts that a call could settle.
    async fn unsettled(&mut self) -> Result<Vec<String>, String> {
        let rows = table::rows(&mut self.eye).await.map_err(|error| error.to_string())?;
        let state = StateClaims::read(&mut self.eye).await.map_err(|error| error.to_string())?;
        let can = |account: &str, attribute: &str| {
            let expected_values = table::expected_values(account, rows.get(account), &self.settings, self.version);
            !matches!(expected_values.get(attribute), Some(ExpectedValue::Kept | ExpectedValue::Refused))
        };
        let doubts = state.doubts().filter(|(account, attribute)| can(account, attribute));
        Ok(doubts.map(|(account, attribute)| format!("{account}.{attribute}")).collect())
    }

    /// Nothing is in doubt that could be settled, exactly what cannot be sent is listed, and nothing is left to do.
    async fn at_rest(&mut self) -> Result<(), String> {
        let unsettled = self.unsettled().await?;
        if !unsettled.is_empty() {
            return Err(format!("still in doubt after a quiescence: {unsettled:?}"));
        }
        let rows = table::rows(&mut self.eye).await.map_err(|error| error.to_string())?;
        let state = StateClaims::read(&mut self.eye).await.map_err(|error| error.to_string())?;
        if !state.intents.is_empty() {
            return Err(format!("intents are left over: {:?}", state.intents));
        }
        let mut refused = BTreeSet::new();
        for (account, row) in rows.iter().filter(|(_, row)| !row.is_gone(self.version)) {
            if table::too_long(account) {
                refused.insert((account.clone(), String::new()));
                continue;
            }
            let expected_values = table::expected_values(account, Some(row), &self.settings, self.version);
            let not_sent = expected_values.into_iter().filter(|(_, expected)| *expected == ExpectedValue::Refused);
            refused.extend(not_sent.map(|(attribute, _)| (account.clone(), attribute.to_owned())));
        }
        if state.rejections != refused {
            let (listed, refused) = (&state.rejections, &refused);
            return Err(format!(
                "rejections: listed without reason {:?}, missing {:?}",
                listed.difference(refused).collect::<Vec<_>>(),
                refused.difference(listed).collect::<Vec<_>>()
            ));
        }
        let doubtful = state.accounts.values().filter(|(_, claims)| claims.contains(&StateClaim::Unknown)).count();
        let status = self.command(&words("status --json")).await?.pass()?;
        if status["in_doubt"] != doubtful || !status["guard"].is_null() {
            return Err(format!("status does not say that all is well ({doubtful} in doubt): {status}"));
        }
        for command in ["run --once --json", "backfill --json"] {
            let idle = self.command(&words(command)).await?;
            let expected = if refused.is_empty() { 0 } else { 3 };
            if idle.code != Some(expected) || idle.pass()?["calls"] != 0 {
                return Err(format!("`{command}` over an unchanged table: exit {:?}, {}", idle.code, idle.stdout));
            }
        }
        // From here on a timestamp can find every change again.
        sqlx::query("UPDATE users SET honest = true WHERE NOT honest")
            .execute(&mut self.eye)
            .await
            .map_err(|error| error.to_string())?;
        self.counts.count("quiescences", "IM equal to the table");
        Ok(())
    }
}
