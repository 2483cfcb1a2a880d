//! What is known of one account: its row, what IM acknowledged, what is rejected, and what the next pass would do.
//!
//! Owns: gathering these facts, with the reading and the comparison of a pass. Reads, never writes. Must not know: how the
//! facts are shown, what IM holds now.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};

use super::dry_run::{DryRun, NextPassView};
use super::error::PassError;
use super::page_diff::{AccountDiff, CompareOptions, PageRows};
use super::pages::ReadPage;
use crate::mapping::MappedRow;
use crate::model::{
    Account, AcknowledgedValue, AttributeIndex, DesiredValue, LocalRefusal, MAX_STORED_ACCOUNT_BYTES, Row,
};
use crate::source::WhyGone;
use crate::state::account::StoredAccount;
use crate::state::history_listing::LastAcknowledged;
use crate::state::rejection::ListedRejection;

/// The facts about one account.
#[derive(Debug)]
pub struct Explanation {
    /// The IM account.
    pub account: Account,
    /// What the table has for it.
    pub presence: Presence,
    /// The account column and the mapped columns with their texts; `None` without a row that can be read. Of several rows
    /// it is one that is present, if there is one.
    pub row: Option<Vec<(String, Option<String>)>>,
    /// The configured attributes in the order of the configuration, then others of which IM may hold a value.
    pub attributes: Vec<ExplainedAttribute>,
    /// When the newest outcome was recorded; `None` if nothing is stored.
    pub acknowledged_at: Option<DateTime<Utc>>,
    /// The rejection of the whole account.
    pub rejection: Option<ListedRejection>,
    /// When a pass sees the row.
    pub next: NextPass,
}

/// What the table has for an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presence {
    /// No row.
    Missing,
    /// A row that counts as gone.
    Gone(WhyGone),
    /// A row that cannot be sent, or not even read.
    Refused(LocalRefusal),
    /// A row.
    Present,
}

/// One attribute of an account.
#[derive(Debug)]
pub struct ExplainedAttribute {
    /// The name.
    pub name: String,
    /// The mapped column; `None` if the mapping no longer names the attribute.
    pub column: Option<String>,
    /// What the mapping requires; `None` without a row that is present, and for an attribute that is not mapped.
    pub desired: Option<DesiredValue>,
    /// What IM acknowledged last.
    pub acknowledged: AcknowledgedValue,
    /// When IM acknowledged it, from the history where one is kept, else when the newest outcome of the account was recorded.
    pub acknowledged_at: Option<DateTime<Utc>>,
    /// What is the case.
    pub state: AttributeState,
    /// What the next pass that sees the account would do: set or remove it.
    pub sends: Option<Sends>,
    /// Another sync of the app holds the attribute, so this one does not remove it.
    pub held_by_other_sync: bool,
    /// The rejection of this attribute.
    pub rejection: Option<ListedRejection>,
}

/// What a pass sends for an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sends {
    /// The desired value.
    Set,
    /// Its removal.
    Remove,
}

/// What is the case for an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttributeState {
    /// IM acknowledged the desired value.
    Current,
    /// Something else is desired than IM acknowledged.
    Pending,
    /// It cannot be sent, or IM refused it.
    Rejected,
    /// The outcome of a call is unknown.
    InDoubt,
    /// What IM holds stays, as the configuration says.
    Kept,
    /// No value is desired, and IM holds none.
    Absent,
}

impl AttributeState {
    /// The word of the JSON document.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Pending => "pending",
            Self::Rejected => "rejected",
            Self::InDoubt => "in_doubt",
            Self::Kept => "kept",
            Self::Absent => "absent",
        }
    }
}

/// When a pass sees an account again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextPass {
    /// Another process holds the lease, so passes run by themselves.
    pub is_running: bool,
    /// Why the next pass is a full one.
    pub full_because: Option<String>,
    /// The next pass sees the account: it is a full one, or the stamp of the row is at or after the read position, or a
    /// removal is owed.
    pub sees_account: bool,
    /// When the next full pass is due; `None` if none is scheduled.
    pub full_at: Option<DateTime<Utc>>,
    /// The removal guard holds removals back.
    pub guard_tripped: bool,
    /// The newest pass failed.
    pub last_failed: bool,
}

/// What the state holds of the account.
#[derive(Default)]
struct StoredFacts {
    acknowledged: Vec<AcknowledgedValue>,
    acknowledged_at: Option<DateTime<Utc>>,
    /// By attribute name.
    from_history: HashMap<String, LastAcknowledged>,
    of_account: Option<ListedRejection>,
    of_attributes: Vec<ListedRejection>,
    /// The state tells the next pass to look at the account: a value is unknown and its retry is due.
    is_due: bool,
}

impl DryRun {
    /// Gathers what is known of an account.
    pub async fn explain(&mut self, account: &Account) -> Result<Explanation, PassError> {
        let page = self.reader.look_up(vec![account.clone()]).await?;
        let (presence, row, desired) = self.examine(account, &page).await?;
        let mut stored = self.stored(account).await?;
        let (diff, is_owed) = self.difference(page).await?;
        let is_refused = stored.of_account.is_some() || matches!(presence, Presence::Refused(_));
        let attributes = self.attributes(desired.as_deref(), &mut stored, diff.as_ref(), is_refused);
        let acknowledged_at = stored.acknowledged_at;
        // One that stands in the way of nothing ends with the next pass.
        let blocks = |one: &ExplainedAttribute| one.state == AttributeState::Rejected;
        let rejection = stored.of_account.take().filter(|_| attributes.is_empty() || attributes.iter().any(blocks));
        let now = self.row.as_ref().map_or(DateTime::<Utc>::MIN_UTC, |row| row.read_at);
        let is_due = |rejection: &ListedRejection| rejection.next_at <= now;
        let due_rejections =
            rejection.iter().chain(attributes.iter().filter_map(|one| one.rejection.as_ref())).any(is_due);
        let mut next = self.next_pass(account).await?;
        next.sees_account |= is_owed || due_rejections || stored.is_due;
        Ok(Explanation { account: account.clone(), presence, row, attributes, acknowledged_at, rejection, next })
    }

    /// What the table has for an account.
    pub async fn presence(&mut self, account: &Account) -> Result<Presence, PassError> {
        let page = self.reader.look_up(vec![account.clone()]).await?;
        Ok(self.examine(account, &page).await?.0)
    }

    async fn stored(&self, account: &Account) -> Result<StoredFacts, PassError> {
        let Some(sync) = &self.row else { return Ok(StoredFacts::default()) };
        let state = &self.reader.state;
        let texts = [account.as_str()];
        let stored = state.stored_accounts(sync.id, sync.generation, &texts, &[None]).await?.pop().flatten();
        let mut of_attributes = state.rejections_of(sync.id, account).await?;
        let of_account = of_attributes.iter().position(|rejection| rejection.attribute.is_none());
        Ok(StoredFacts {
            acknowledged: match stored {
                Some(StoredAccount::Acknowledged { known, .. }) => known,
                Some(StoredAccount::UpToDate) | None => Vec::new(),
            },
            acknowledged_at: state.acknowledged_at(sync.id, account).await?,
            from_history: state.last_acknowledged(sync.id, account).await?,
            is_due: state.is_retry_due(sync.id, account).await?,
            of_account: of_account.map(|index| of_attributes.swap_remove(index)),
            of_attributes,
        })
    }

    /// Which of these accounts the table or the state knows.
    pub async fn known_among(&mut self, accounts: Vec<Account>) -> Result<Vec<Account>, PassError> {
        let page = self.reader.look_up(accounts.clone()).await?;
        let mut known = Vec::new();
        for account in accounts {
            let is_stored = match &self.row {
                Some(sync) => self.reader.state.acknowledged_at(sync.id, &account).await?.is_some(),
                None => false,
            };
            if is_stored || !page.missing.contains(&account) {
                known.push(account);
            }
        }
        Ok(known)
    }

    /// What the table has for the account, the texts of its row, and what the mapping makes of them.
    async fn examine(
        &mut self,
        account: &Account,
        page: &ReadPage,
    ) -> Result<(Presence, Option<Vec<(String, Option<String>)>>, Option<Vec<DesiredValue>>), PassError> {
        if let Some((_, refusal)) = page.unreadable.first() {
            return Ok((Presence::Refused(refusal.clone()), None, None));
        }
        if account.as_str().len() > MAX_STORED_ACCOUNT_BYTES {
            return Ok((Presence::Missing, None, None));
        }
        let present: Vec<Row<'_>> = page.rows.iter().filter(|row| !row.gone).collect();
        let Some(row) = present.first().copied().or_else(|| page.rows.iter().next()) else {
            return Ok((Presence::Missing, None, None));
        };
        let texts = Some(self.texts(row));
        if present.len() > 1 {
            return Ok((Presence::Refused(LocalRefusal::DuplicateAccount), texts, None));
        }
        Ok(match self.comparer.mapping.apply(row) {
            MappedRow::NoAccount => (Presence::Missing, texts, None),
            MappedRow::Gone(_) => (Presence::Gone(self.reader.source.why_gone(account).await?), texts, None),
            MappedRow::Refused(_, refusal) => (Presence::Refused(refusal), texts, None),
            MappedRow::Present(desired) => (Presence::Present, texts, Some(desired.values)),
        })
    }

    fn texts(&self, row: Row<'_>) -> Vec<(String, Option<String>)> {
        let account = (self.reader.config.source.account_column.clone(), row.account.map(str::to_owned));
        let mapped = self.comparer.mapping.columns().iter().enumerate();
        let mapped = mapped.map(|(index, column)| (column.clone(), row.value(index).map(str::to_owned)));
        std::iter::once(account).chain(mapped).collect()
    }

    /// What a pass that sees the account would send and record, and whether a removal is owed already.
    async fn difference(&self, page: ReadPage) -> Result<(Option<AccountDiff>, bool), PassError> {
        let rows = PageRows { rows: page.rows, missing: page.missing, unreadable: page.unreadable };
        let owed = match &self.row {
            Some(sync) => self.reader.state.owed_removals_of(sync.id, page.looked_up.iter()).await?,
            None => HashMap::new(),
        };
        let compared = self.comparer.compare_page(rows, &owed, CompareOptions::default().of_whole_pass()).await?;
        Ok((compared.diffs.into_iter().next(), !owed.is_empty()))
    }

    fn attributes(
        &self,
        desired: Option<&[DesiredValue]>,
        stored: &mut StoredFacts,
        diff: Option<&AccountDiff>,
        account_is_refused: bool,
    ) -> Vec<ExplainedAttribute> {
        let StoredFacts { acknowledged, acknowledged_at, from_history, of_attributes: rejections, .. } = stored;
        let configured = &self.reader.config.attributes;
        let mapped: Vec<AttributeIndex> = self.comparer.rules.attribute_indexes.clone();
        let others = (0..acknowledged.len()).filter_map(|index| u16::try_from(index).ok().map(AttributeIndex));
        let others = others.filter(|index| !mapped.contains(index) && acknowledged[index.index()].may_be_held());
        let mut attributes = Vec::new();
        for (position, index) in mapped.iter().copied().chain(others).enumerate() {
            let name = self.comparer.name_of(index).to_owned();
            let rejection = rejections.iter().position(|rejection| rejection.attribute.as_deref() == Some(&*name));
            let rejection = rejection.map(|found| rejections.swap_remove(found));
            let desired = desired.and_then(|values| values.get(position)).cloned();
            let acknowledged = acknowledged.get(index.index()).cloned().unwrap_or_default();
            let sends = diff.and_then(|diff| {
                let is_set = diff.change.set.iter().any(|(set, _)| *set == index);
                let is_removed = diff.change.remove.contains(&index);
                if is_set { Some(Sends::Set) } else { is_removed.then_some(Sends::Remove) }
            });
            let held_by_other_sync = diff.is_some_and(|diff| diff.given_up.contains(&index));
            // A rejection of another value than the desired one, and one whose retry is due, does not stand in the way.
            let is_ended = diff.is_some_and(|diff| diff.resolved.contains(&Some(index)));
            let is_refused = sends.is_none()
                && ((rejection.is_some() && !is_ended)
                    || matches!(desired, Some(DesiredValue::Refused(_)))
                    || (account_is_refused && desired.as_ref().is_some_and(|desired| differs(desired, &acknowledged))));
            let state = match &desired {
                _ if is_refused => AttributeState::Rejected,
                // IM refused the value, and the table has another one now.
                _ if rejection.is_some() && sends.is_some() => AttributeState::Pending,
                _ if acknowledged.in_doubt() => AttributeState::InDoubt,
                _ if sends.is_some() => AttributeState::Pending,
                Some(DesiredValue::Keep) => AttributeState::Kept,
                Some(DesiredValue::Value(_)) => AttributeState::Current,
                _ if acknowledged.may_be_held() => AttributeState::Kept,
                _ => AttributeState::Absent,
            };
            let column = configured.get(position).map(|attribute| attribute.column.clone());
            // A history that was switched off meanwhile may not have the newest value.
            let kept = from_history.remove(&name).filter(|kept| kept.value.as_deref() == acknowledged.value());
            let acknowledged_at =
                kept.map(|kept| kept.at).or(*acknowledged_at).filter(|_| acknowledged.value().is_some());
            attributes.push(ExplainedAttribute {
                name,
                column,
                desired,
                acknowledged,
                acknowledged_at,
                state,
                sends,
                held_by_other_sync,
                rejection,
            });
        }
        attributes
    }

    async fn next_pass(&mut self, account: &Account) -> Result<NextPass, PassError> {
        let NextPassView { full_because, sees_all, stamped } =
            self.seen_by_next_pass(std::slice::from_ref(account)).await?;
        let sees_account = sees_all || stamped.contains(account);
        let every = self.reader.config.schedule.full_every.and_then(|every| TimeDelta::from_std(every).ok());
        let ended = self.row.as_ref().and_then(|row| row.full_pass_ended_at);
        let is_running = self.lease_is_held().await?;
        Ok(NextPass {
            is_running,
            full_because,
            sees_account,
            full_at: ended.zip(every).and_then(|(ended, every)| ended.checked_add_signed(every)),
            guard_tripped: self.row.as_ref().is_some_and(|row| row.guard.is_some()),
            last_failed: match &self.row {
                Some(row) => {
                    self.reader.state.last_passes(row.id, 1).await?.iter().any(|pass| pass.outcome == "failed")
                }
                None => false,
            },
        })
    }
}

/// Whether IM may hold something else than what is desired.
fn differs(desired: &DesiredValue, acknowledged: &AcknowledgedValue) -> bool {
    match desired {
        DesiredValue::Value(value) => *acknowledged != AcknowledgedValue::Value(value.clone()),
        DesiredValue::Absent => acknowledged.may_be_held(),
        DesiredValue::Keep => false,
        DesiredValue::Refused(_) => true,
    }
}
