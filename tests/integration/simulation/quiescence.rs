//! A quiescence: transactions end, faults are removed, and imsync must make IM equal to the table.
//!
//! Owns: the passes of a quiescence, and what must be true after each. Must not know: the history before it.

use std::collections::BTreeSet;
use std::time::Duration;

use super::operation::Watermark;
use super::process::Ended;
use super::settings::TIMEOUT_MILLIS;
use super::state_claims::{StateClaim, StateClaims};
use super::system::System;
use super::table::{self, ExpectedValue, Row, Users};

/// The time limit for settling: several time-outs and delays on a busy machine.
const SETTLE_TIMEOUT: Duration = Duration::from_mins(2);
/// A call may still be applied this long after it was sent.
const LATE_WRITE_WINDOW: Duration = Duration::from_millis(2 * TIMEOUT_MILLIS);

fn split(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

impl System {
    pub(super) async fn quiescence(&mut self) -> Result<(), String> {
        self.end_daemons().await?;
        self.import_all();
        self.writers.end_all(&mut self.observer).await;
        self.clear_faults();
        let im = self.env.handle().clone();
        let released = tokio::time::timeout(SETTLE_TIMEOUT, im.wait_until(|counters| counters.held == 0));
        released.await.map_err(|_| "calls remain held".to_owned())?;

        let is_resumed = self.has_position().await?;
        self.command(&split("rejected retry")).await?;
        let mut first = self.settle("run --once --json").await?;
        if self.settings.watermark == Watermark::Counter && self.full_due().await? {
            // A counter cannot show where a transaction of the first transaction list began, so a full pass is due.
            first = self.settle("run --once --json").await?;
        }
        if self.settings.watermark == Watermark::None && is_resumed {
            // A resumed pass has not seen the rows before its position again, and without a watermark the next one does.
            first = self.settle("run --once --json").await?;
        }
        while self.rejections_due().await? {
            // A pass spends about a second on due rejections, and the next pass continues.
            self.settle("run --once --json").await?;
        }
        let guarded = self.guarded().await?;
        if first.code != Some(1) && !guarded {
            let kind = first.pass()?["kind"].clone();
            self.counts.count("quiescences", format!("first converging pass: {}", kind.as_str().unwrap_or_default()));
            let compares_all = self.settings.watermark == Watermark::None;
            self.expect_equal("after an incremental pass", |row| compares_all || row.is_some_and(|row| row.detectable))
                .await?;
        }

        let unreadable = self.unreadable().await?;
        self.settle("backfill --allow-removals --json").await?;
        self.expect_equal("after a full pass", |_| true).await?;
        self.settle("run --once --json").await?;
        self.expect_equal("after a full pass and another pass", |_| true).await?;
        if self.unreadable().await? != unreadable {
            return Err(format!("accounts whose rows raise an error have changed at IM: {unreadable:?}"));
        }
        self.expect_at_rest().await
    }

    /// Runs a pass, and further ones until none fails and no attribute stays in doubt that a call can resolve. IM
    /// answers by now. The passes may only wait for late writes, and for an account whose state was queried without
    /// success before.
    async fn settle(&mut self, command: &str) -> Result<Ended, String> {
        let mut ended = self.command(&split(command)).await?;
        let deadline = imsync::clock::monotonic() + SETTLE_TIMEOUT;
        while !self.guarded().await? && (ended.code == Some(1) || !self.unsettled().await?.is_empty()) {
            if imsync::clock::monotonic() > deadline {
                let unsettled = self.unsettled().await?;
                return Err(format!("the quiescence does not settle: in doubt {unsettled:?}, {ended:?}"));
            }
            self.counts.count("quiescences", "passes that waited for unknown outcomes");
            tokio::time::sleep(LATE_WRITE_WINDOW / 4).await;
            ended = self.command(&split("run --once --json")).await?;
        }
        Ok(ended)
    }

    /// What IM holds for the accounts whose rows raise an error.
    async fn unreadable(&mut self) -> Result<Users, String> {
        let rows = table::rows(&mut self.observer, &self.settings).await.map_err(|error| error.to_string())?;
        let mut users = self.env.handle().users();
        users.retain(|account, _| rows.get(account).is_some_and(|row| row.raises(&self.settings, self.version)));
        Ok(users)
    }

    async fn full_due(&mut self) -> Result<bool, String> {
        let due = sqlx::query_scalar("SELECT coalesce(bool_or(full_pass_due IS NOT NULL), false) FROM imsync.sync");
        due.fetch_one(&mut self.observer).await.map_err(|error| error.to_string())
    }

    /// Whether the next full pass may resume an interrupted one. The table is missing before imsync's first start.
    async fn has_position(&mut self) -> Result<bool, String> {
        let ready: bool = sqlx::query_scalar("SELECT to_regclass('imsync.owed_removal') IS NOT NULL")
            .fetch_one(&mut self.observer)
            .await
            .map_err(|error| error.to_string())?;
        if !ready {
            return Ok(false);
        }
        let found =
            sqlx::query_scalar("SELECT coalesce(bool_or(full_pass_position IS NOT NULL), false) FROM imsync.sync");
        found.fetch_one(&mut self.observer).await.map_err(|error| error.to_string())
    }

    async fn rejections_due(&mut self) -> Result<bool, String> {
        let due = sqlx::query_scalar("SELECT EXISTS (SELECT FROM imsync.rejection WHERE next_at <= clock_timestamp())");
        due.fetch_one(&mut self.observer).await.map_err(|error| error.to_string())
    }

    async fn guarded(&mut self) -> Result<bool, String> {
        let guarded = sqlx::query_scalar("SELECT coalesce(bool_or(guard IS NOT NULL), false) FROM imsync.sync");
        guarded.fetch_one(&mut self.observer).await.map_err(|error| error.to_string())
    }

    /// Checks that IM holds the values that the table requires, for the selected rows (`None`: an account without a
    /// row).
    async fn expect_equal(&mut self, when: &str, concerns: impl Fn(Option<&Row>) -> bool) -> Result<(), String> {
        let rows = table::rows(&mut self.observer, &self.settings).await.map_err(|error| error.to_string())?;
        let im = self.env.handle().users();
        let state = StateClaims::read(&mut self.observer).await.map_err(|error| error.to_string())?;
        let mut differences = Vec::new();
        for account in rows.keys().chain(im.keys()).collect::<BTreeSet<_>>() {
            let row = rows.get(account);
            if !concerns(row) {
                continue;
            }
            let held = im.get(account);
            for (attribute, expected) in table::expected_values(account, row, &self.settings, self.version) {
                let holds = held.and_then(|attributes| attributes.get(attribute)).map(String::as_str);
                let matches = match expected {
                    ExpectedValue::Is(value) => holds == Some(value),
                    ExpectedValue::Nothing => holds.is_none(),
                    ExpectedValue::Kept | ExpectedValue::Refused => true,
                };
                if !matches {
                    let shown = row.map_or("no row", |row| &row.shown);
                    let recorded = state.accounts.get(account);
                    differences.push(format!(
                        "{account}.{attribute}: expected {expected:?}, IM holds {holds:?}, the state has {recorded:?} \
                         (attributes {:?}), the table has {shown}",
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

    /// The attributes in doubt that a call could resolve.
    async fn unsettled(&mut self) -> Result<Vec<String>, String> {
        let rows = table::rows(&mut self.observer, &self.settings).await.map_err(|error| error.to_string())?;
        let state = StateClaims::read(&mut self.observer).await.map_err(|error| error.to_string())?;
        let can = |account: &str, attribute: &str| {
            let expected_values = table::expected_values(account, rows.get(account), &self.settings, self.version);
            !matches!(expected_values.get(attribute), Some(ExpectedValue::Kept | ExpectedValue::Refused))
        };
        let in_doubt = state.attributes_in_doubt().filter(|(account, attribute)| can(account, attribute));
        Ok(in_doubt.map(|(account, attribute)| format!("{account}.{attribute}")).collect())
    }

    /// Checks that nothing resolvable is in doubt, that exactly the values that cannot be sent are listed as rejected,
    /// and that no work is left.
    async fn expect_at_rest(&mut self) -> Result<(), String> {
        let unsettled = self.unsettled().await?;
        if !unsettled.is_empty() {
            return Err(format!("still in doubt after a quiescence: {unsettled:?}"));
        }
        let rows = table::rows(&mut self.observer, &self.settings).await.map_err(|error| error.to_string())?;
        let state = StateClaims::read(&mut self.observer).await.map_err(|error| error.to_string())?;
        if !state.intents.is_empty() {
            return Err(format!("intents remain: {:?}", state.intents));
        }
        let mut refused = BTreeSet::new();
        for (account, row) in rows.iter().filter(|(_, row)| !row.is_gone(&self.settings, self.version)) {
            if table::too_long(account) || row.raises(&self.settings, self.version) {
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
                "rejections: unexpected {:?}, missing {:?}",
                listed.difference(refused).collect::<Vec<_>>(),
                refused.difference(listed).collect::<Vec<_>>()
            ));
        }
        let accounts_in_doubt =
            state.accounts.values().filter(|(_, claims)| claims.contains(&StateClaim::Unknown)).count();
        let status = self.command(&split("status --json")).await?.pass()?;
        if status["in_doubt"] != accounts_in_doubt || !status["guard"].is_null() {
            return Err(format!("status disagrees with the state ({accounts_in_doubt} accounts in doubt): {status}"));
        }
        for command in ["run --once --json", "backfill --json"] {
            let idle = self.command(&split(command)).await?;
            let expected = if refused.is_empty() { 0 } else { 3 };
            if idle.code != Some(expected) || idle.pass()?["calls"] != 0 {
                return Err(format!("`{command}` over an unchanged table: exit {:?}, {}", idle.code, idle.stdout));
            }
        }
        // From here on, a timestamp can find every change again.
        sqlx::query("UPDATE users SET detectable = true WHERE NOT detectable")
            .execute(&mut self.observer)
            .await
            .map_err(|error| error.to_string())?;
        self.counts.count("quiescences", "IM equal to the table");
        Ok(())
    }
}
