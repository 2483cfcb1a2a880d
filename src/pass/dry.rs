//! What a pass would do: the same transactions and comparing, without a lease, a call or a write.
//!
//! Owns: `preview` and `--dry-run`. Must not know: printing.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::Value;

use super::guard::{self, Withheld};
use super::view::{Glance, Item, Retry, View};
use super::{FullOptions, PassError, binding, full_due_at_start, saved_tracker};
use crate::config::Config;
use crate::mapping::Mapping;
use crate::model::{Account, AcknowledgedValue, AttributeIndex, Row};
use crate::source::Source;
use crate::source::watermark::WatermarkTracker;
use crate::state::State;
use crate::state::sync::{SyncRow, append_names};

/// What would be looked at.
#[derive(Clone, Debug)]
pub enum Scope {
    /// What the next pass of the daemon would.
    Next,
    Full,
    Accounts(Vec<Account>),
}

/// What it would come to, in accounts.
#[derive(Clone, Debug, Default)]
pub struct Forecast {
    pub rows_read: u64,
    /// Rows whose account is NULL or empty: nothing is sent for them.
    pub without_account: u64,
    pub changed: u64,
    pub set: u64,
    pub removed: u64,
    /// Refused here, and with rejections that stand and stay; what is sent is taken to be accepted.
    pub rejected: u64,
    /// Accounts with rejections that stand now and do not stay as they are.
    answered: u64,
    pub calls: u64,
    /// The guard's document if it would trip or stands tripped.
    pub guard: Option<Value>,
    /// The next pass would be a full one, for this reason.
    pub full_because: Option<String>,
}

/// A reader of the table beside the state, with no right to change either.
#[derive(Debug)]
pub struct Onlooker {
    config: Arc<Config>,
    source: Source,
    state: State,
    row: Option<SyncRow>,
    view: View,
}

impl Onlooker {
    /// Without state tables, or before first use, everything counts as never sent.
    pub async fn new(
        config: Arc<Config>,
        mapping: Arc<Mapping>,
        source: Source,
        state: State,
    ) -> Result<Self, PassError> {
        let row = state.sync_row().await?;
        if let Some(row) = &row {
            row.check_binding(&config.name, &binding(&config, &source))?;
        }
        let known = row.as_ref().map(|row| row.attribute_names.clone()).unwrap_or_default();
        let (names, attributes) = append_names(&known, mapping.names());
        let ledger = row.as_ref().map(|row| (state.clone(), row.id, row.generation));
        let view = View::new(&config, mapping, names.into(), attributes, ledger);
        Ok(Self { config, source, state, row, view })
    }

    pub fn view(&self) -> &View {
        &self.view
    }

    /// Walks the scope and hands every account with something to do to `see`; stops early when it returns false.
    pub async fn walk(
        &mut self,
        scope: Scope,
        options: FullOptions,
        mut see: impl FnMut(&Item, &View) -> bool,
    ) -> Result<Forecast, PassError> {
        let mut forecast = Forecast::default();
        let mut withheld = Withheld::default();
        let glance = Glance { removals: true, retry: Retry::RetryDue, force: options.force, ..Glance::default() };
        let full_because = match (&scope, &self.row) {
            (Scope::Next, Some(row)) => {
                full_due_at_start(&self.config, &self.view.mapping, row).or_else(|| self.overdue(row))
            }
            (Scope::Next, None) => Some("the first pass of this sync".to_owned()),
            _ => None,
        };
        let only = match &scope {
            Scope::Accounts(accounts) => Some(accounts.clone()),
            Scope::Next | Scope::Full => None,
        };
        let tracker = self.row.as_ref().and_then(|row| saved_tracker(&self.config, row));
        let all = only.is_none() && (matches!(scope, Scope::Full) || full_because.is_some());
        match scope {
            Scope::Accounts(accounts) => {
                for chunk in accounts.chunks(self.page_size()) {
                    if !self.look_up(chunk, glance, &mut forecast, &mut withheld, &mut see).await? {
                        break;
                    }
                }
            }
            Scope::Next if full_because.is_none() && tracker.is_some() => {
                let tracker = tracker.expect("asked just before");
                self.walk_changes(tracker, glance, &mut forecast, &mut withheld, &mut see).await?;
            }
            Scope::Next | Scope::Full => self.walk_all(glance, &mut forecast, &mut withheld, &mut see).await?,
        }
        forecast.full_because = full_because;
        let per_call = self.config.im.users_per_call as u64;
        forecast.calls = forecast.set.div_ceil(per_call) + forecast.removed.div_ceil(per_call);
        forecast.guard = self.guard(&withheld, options, all).await?;
        if let Some(row) = &self.row {
            let standing = self.state.count_rejected(row.id, only.as_deref()).await?;
            forecast.rejected += standing.saturating_sub(forecast.answered);
        }
        Ok(forecast)
    }

    fn page_size(&self) -> usize {
        self.config.source.page_size as usize
    }

    fn overdue(&self, row: &SyncRow) -> Option<String> {
        let every = self.config.schedule.full_every?;
        let due =
            row.full_pass_ended_at.is_none_or(|ended| (row.read_at - ended).to_std().unwrap_or_default() >= every);
        due.then(|| "schedule.full_every is over".to_owned())
    }

    /// `all`: by a full pass, which lifts a guard when it counts below the share.
    async fn guard(&self, withheld: &Withheld, options: FullOptions, all: bool) -> Result<Option<Value>, PassError> {
        let Some(row) = &self.row else { return Ok(None) };
        if options.allow_removals {
            return Ok(None);
        }
        let max_share = self.config.removal.max_share;
        let trips = guard::judge(&self.state, row.id, withheld, max_share, &mut None).await?;
        Ok(trips.or_else(|| row.guard.clone().filter(|_| !all)))
    }

    async fn walk_changes(
        &mut self,
        mut tracker: WatermarkTracker,
        glance: Glance,
        forecast: &mut Forecast,
        withheld: &mut Withheld,
        see: &mut impl FnMut(&Item, &View) -> bool,
    ) -> Result<(), PassError> {
        // Observed on a copy: the state keeps the transaction list it has.
        tracker.observe(&self.source.transactions().await?);
        let Some(id) = self.row.as_ref().map(|row| row.id) else { return Ok(()) };
        let limit = i64::try_from(self.page_size()).unwrap_or(i64::MAX);
        let doubts = self.state.doubts_due(id, None, limit).await?;
        let doubts: Vec<Account> = doubts.into_iter().map(|(_, account)| account).collect();
        let mut shown: HashSet<Account> = doubts.iter().cloned().collect();
        if !self.look_up(&doubts, glance, forecast, withheld, see).await? {
            return Ok(());
        }
        let mut cursor = None;
        loop {
            let page = self.source.changed_since(tracker.read_from(), cursor.as_ref()).await?;
            cursor = page.cursor();
            let fresh = |item: &Item| shown.insert(item.account().clone());
            if !self.look(page.rows, Vec::new(), glance, forecast, withheld, fresh, see).await? {
                return Ok(());
            }
            if page.last {
                break;
            }
        }
        let due = self.state.rejections_due(id, limit).await?;
        let due: Vec<Account> = due.into_iter().filter(|account| !shown.contains(account)).collect();
        self.look_up(&due, glance, forecast, withheld, see).await?;
        Ok(())
    }

    async fn walk_all(
        &mut self,
        glance: Glance,
        forecast: &mut Forecast,
        withheld: &mut Withheld,
        see: &mut impl FnMut(&Item, &View) -> bool,
    ) -> Result<(), PassError> {
        let mut after: Option<String> = None;
        loop {
            let page = self.source.all_after(after.as_deref()).await?;
            after = page.rows.iter().rev().find_map(|row| row.account.as_deref().map(str::to_owned)).or(after);
            if !self.look(page.rows, Vec::new(), glance, forecast, withheld, |_| true, see).await? {
                return Ok(());
            }
            if page.last {
                break;
            }
        }
        let Some(id) = self.row.as_ref().map(|row| row.id) else { return Ok(()) };
        let mut after: Option<String> = None;
        loop {
            let limit = i64::try_from(self.page_size()).unwrap_or(i64::MAX);
            let accounts = self.state.accounts_after(id, after.as_deref(), limit).await?;
            let Some(last) = accounts.last() else { return Ok(()) };
            after = Some(last.as_str().to_owned());
            let rows = self.source_rows(&accounts).await?;
            let found = self.accounts_of(&rows);
            let missing = accounts.into_iter().filter(|account| !found.contains(account)).collect();
            if !self.look(Vec::new(), missing, glance, forecast, withheld, |_| true, see).await? {
                return Ok(());
            }
        }
    }

    async fn source_rows(&mut self, accounts: &[Account]) -> Result<Vec<Row>, PassError> {
        Ok(self.source.rows_of(accounts).await?)
    }

    fn accounts_of(&self, rows: &[Row]) -> HashSet<Account> {
        rows.iter().filter_map(|row| row.account.as_deref()).map(|text| self.config.source.account_of(text)).collect()
    }

    async fn look_up(
        &mut self,
        accounts: &[Account],
        glance: Glance,
        forecast: &mut Forecast,
        withheld: &mut Withheld,
        see: &mut impl FnMut(&Item, &View) -> bool,
    ) -> Result<bool, PassError> {
        if accounts.is_empty() {
            return Ok(true);
        }
        let rows = self.source_rows(accounts).await?;
        let found = self.accounts_of(&rows);
        let missing = accounts.iter().filter(|account| !found.contains(*account)).cloned().collect();
        self.look(rows, missing, glance, forecast, withheld, |_| true, see).await
    }

    #[expect(clippy::too_many_arguments, reason = "the collectors of one walk travel together")]
    async fn look(
        &mut self,
        rows: Vec<Row>,
        missing: Vec<Account>,
        glance: Glance,
        forecast: &mut Forecast,
        withheld: &mut Withheld,
        mut fresh: impl FnMut(&Item) -> bool,
        see: &mut impl FnMut(&Item, &View) -> bool,
    ) -> Result<bool, PassError> {
        forecast.rows_read += rows.len() as u64;
        let seen = self.view.look(&rows, missing, glance).await?;
        forecast.without_account += seen.without_account as u64;
        for item in seen.items.iter().filter(|item| fresh(item)) {
            forecast.answered += u64::from(answers_rejections(item));
            forecast.set += u64::from(!item.change.set.is_empty());
            forecast.removed += u64::from(!item.change.remove.is_empty());
            forecast.changed += u64::from(item.sends());
            forecast.rejected += u64::from(!item.refused.is_empty());
            let loses = |attribute: &AttributeIndex| {
                item.acknowledged.get(attribute.index()).is_some_and(AcknowledgedValue::may_be_held)
            };
            if item.change.remove.iter().any(loses) {
                withheld.note(std::iter::once(item.account().clone()));
            }
            if item.sends() && !see(item, &self.view) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// All rejections of the account that stand now are over if IM accepts what is sent, or are put anew.
fn answers_rejections(item: &Item) -> bool {
    let over = |attribute: &Option<AttributeIndex>| {
        item.resolved.contains(attribute)
            || match attribute {
                Some(attribute) => {
                    item.change.set.iter().any(|(set, _)| set == attribute) || item.change.remove.contains(attribute)
                }
                None => item.sends(),
            }
    };
    !item.standing.is_empty() && (!item.refused.is_empty() || item.standing.iter().all(over))
}
