//! Compares a page: mapped rows and the stored state of their accounts become account diffs.
//!
//! Owns: joining mapping, state and diff for one page. Reads, never writes. Must not know: sending, recording, cursors.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::ambiguous_accounts::refuse_ambiguous_accounts;
use super::met_accounts::MetAccounts;
use super::page_diff::{
    Absent, AccountDiff, CompareOptions, PageDiff, PageRows, RemovalMode, RetryRejections, may_be_held,
};
use crate::config::{Config, KeepOrRemove};
use crate::diff::{self, AttributeDiff, DiffRules, DigestKey, PriorRejection};
use crate::mapping::{AccountContent, MappedRow, Mapping, OutlinedAccount};
use crate::model::{Account, AcknowledgedValue, AttributeIndex, AttributeNames, DesiredValue, LocalRefusal, Row, Rows};
use crate::state::account::StoredAccount;
use crate::state::other_syncs::OtherSyncs;
use crate::state::owed_removal::RemovalReason;
use crate::state::rejection::StandingRejection;
use crate::state::{State, StateError};

/// Compares pages with one mapping and one state. Cheap to clone.
#[derive(Clone, Debug)]
pub struct PageComparer {
    /// The configured mapping.
    pub(super) mapping: Arc<Mapping>,
    /// The rules of the diff, without `force`.
    pub(super) rules: DiffRules,
    /// Attribute names, by attribute index.
    pub names: AttributeNames,
    /// Each configured attribute and its place in the mapping, in the order of the attribute indexes.
    in_order: Vec<(AttributeIndex, usize)>,
    /// `None` where there are no state tables or no sync row yet: nothing is acknowledged then.
    state: Option<StateRef>,
    /// Learns which stored accounts were met.
    pub(super) met: MetAccounts,
}

/// The sync whose state is compared with.
#[derive(Clone, Debug)]
pub(super) struct StateRef {
    pub(super) state: State,
    pub(super) sync_id: i32,
    /// Acknowledged values of an older generation count as unknown.
    pub(super) generation: i32,
    /// The key of the digests.
    pub(super) digest_key: DigestKey,
    /// Other syncs of the app, whose values are not removed.
    pub(super) other_syncs: OtherSyncs,
}

/// What the state holds of one account.
struct AccountState {
    stored: Option<StoredAccount>,
    /// The standing rejections of the account, in the diff's terms.
    rejected: Vec<PriorRejection>,
    /// Attributes that another sync of the app holds.
    held_by_others: Vec<AttributeIndex>,
    /// It owes a removal of what was not acknowledged.
    is_forced: bool,
}

/// What the state holds of the accounts of a page: stored values in the order of the accounts, rejections, and what other
/// syncs hold.
pub(super) type PageState =
    (Vec<Option<StoredAccount>>, HashMap<Account, Vec<StandingRejection>>, HashMap<Account, Vec<AttributeIndex>>);

/// The part of a stored account that the diff needs.
#[derive(Default)]
struct StoredPart {
    acknowledged: Vec<AcknowledgedValue>,
    /// Nobody can tell what IM holds besides: the state has no row, or one of an earlier generation, or `--force` already
    /// owes a removal of what was not acknowledged.
    is_unsure: bool,
    late_write: Option<Duration>,
    retry_scheduled: bool,
}

impl StoredPart {
    /// Whether IM may hold a value of this attribute, so that the account can lose it.
    fn may_lose(&self, attribute: AttributeIndex) -> bool {
        self.is_unsure || may_be_held(&self.acknowledged, attribute)
    }
}

impl PageComparer {
    /// `attributes`: the index of each configured attribute, in the mapping's order.
    pub(super) fn new(
        config: &Config,
        mapping: Arc<Mapping>,
        names: AttributeNames,
        attributes: Vec<AttributeIndex>,
        state: Option<StateRef>,
    ) -> Self {
        let mut in_order: Vec<(AttributeIndex, usize)> = attributes.iter().copied().zip(0..).collect();
        in_order.sort();
        Self {
            mapping,
            rules: DiffRules {
                attribute_indexes: attributes,
                remove_unmapped: config.removal.unmapped == KeepOrRemove::Remove,
                remove_gone: config.removal.gone == KeepOrRemove::Remove,
                force: false,
                // Nothing was stored yet under another key.
                digest_key: state.as_ref().map_or_else(|| DigestKey::new(&[]), |state| state.digest_key.clone()),
                force_removals: false,
            },
            names,
            in_order,
            state,
            met: MetAccounts::default(),
        }
    }

    fn attribute_of(&self, name: &str) -> Option<AttributeIndex> {
        let index = self.names.iter().position(|known| &**known == name)?;
        Some(AttributeIndex(u16::try_from(index).ok()?))
    }

    /// The name of an attribute; empty for an index that has none.
    pub fn name_of(&self, attribute: AttributeIndex) -> &str {
        self.names.get(attribute.index()).map_or("", |name| &**name)
    }

    /// Compares a page. `owed`: the removals that these accounts owe already. One that `--force` began is wanted in every
    /// later comparison too.
    pub(super) async fn compare_page(
        &self,
        page: PageRows,
        owed: &HashMap<Account, RemovalReason>,
        options: CompareOptions,
    ) -> Result<PageDiff, StateError> {
        let PageRows { rows, missing, unreadable } = page;
        let mut page_diff = PageDiff::default();
        let mut accounts: Vec<OutlinedAccount<'_>> = Vec::with_capacity(rows.len() + missing.len() + unreadable.len());
        accounts.extend(rows.iter().filter_map(|row| self.mapping.outline(row)));
        page_diff.without_account = rows.len() - accounts.len();
        page_diff.present = accounts.iter().filter(|row| matches!(row.content, AccountContent::Present(_))).count();
        complete_page(&mut accounts, &missing, unreadable);
        if accounts.is_empty() {
            return Ok(page_diff);
        }

        let is_forced = |account: &str| owed.get(account) == Some(&RemovalReason::Forced);
        let rules = [false, true].map(|force_removals| DiffRules {
            force: options.force,
            force_removals: force_removals || options.force,
            ..self.rules.clone()
        });
        let needs_values = |account: &str| options.force || is_forced(account);
        let (stored, mut standing, mut held) = self.read_state(&accounts, needs_values, options.absent).await?;
        let met = accounts.iter().zip(&stored).map(|(account, stored)| (&*account.account, stored.is_some()));
        self.met.note_compared(met, options.counts_repairs);
        page_diff.diffs.reserve(stored.iter().filter(|stored| **stored != Some(StoredAccount::UpToDate)).count());
        for (account, stored) in accounts.into_iter().zip(stored) {
            let standing = standing.remove(&*account.account);
            if standing.is_none() && matches!(stored, Some(StoredAccount::UpToDate)) {
                continue;
            }
            let is_forced = is_forced(&account.account);
            let state = AccountState {
                stored,
                rejected: self.rejected(&standing.unwrap_or_default(), options.retry),
                held_by_others: held.remove(&*account.account).unwrap_or_default(),
                is_forced,
            };
            let mapped = self.mapping.complete(account);
            page_diff.diffs.extend(self.compare_account(mapped, state, &rules[usize::from(is_forced)], options));
        }
        Ok(page_diff)
    }

    /// The accounts of a page, each once.
    pub(super) fn outline_page<'p>(
        &self,
        rows: &'p Rows,
        missing: &'p [Account],
        unreadable: Vec<(Account, LocalRefusal)>,
    ) -> Vec<OutlinedAccount<'p>> {
        let mut accounts = rows.iter().filter_map(|row| self.mapping.outline(row)).collect();
        complete_page(&mut accounts, missing, unreadable);
        accounts
    }

    /// What the state holds of these accounts. `needs_values`: the accounts whose values are wanted also if their digest is
    /// that of the row.
    pub(super) async fn read_state(
        &self,
        accounts: &[OutlinedAccount<'_>],
        needs_values: impl Fn(&str) -> bool,
        absent: Absent,
    ) -> Result<PageState, StateError> {
        let nothing = || vec![None; accounts.len()];
        let Some(StateRef { state, sync_id, generation, digest_key, other_syncs }) = &self.state else {
            return Ok((nothing(), HashMap::new(), HashMap::new()));
        };
        let texts: Vec<&str> = accounts.iter().map(|account| &*account.account).collect();
        let stored = async {
            if absent.values {
                return Ok(nothing());
            }
            let digest = |OutlinedAccount { account, content }: &OutlinedAccount<'_>| match content {
                AccountContent::Present(row) if !needs_values(account) => self.digest(*row, digest_key),
                _ => None,
            };
            let digests: Vec<Option<i64>> = accounts.iter().map(digest).collect();
            state.stored_accounts(*sync_id, *generation, &texts, &digests).await
        };
        let standing = async {
            if absent.rejections {
                return Ok(HashMap::new());
            }
            state.standing_rejections(*sync_id, &texts).await
        };
        let others = other_syncs.known();
        let held =
            async { if others.is_empty() { Ok(HashMap::new()) } else { state.held_by_others(&others, &texts).await } };
        tokio::try_join!(stored, standing, held)
    }

    /// The digest that the account of this row has once IM has acknowledged its values.
    fn digest(&self, row: Row<'_>, key: &DigestKey) -> Option<i64> {
        let desired =
            |(attribute, position): &(AttributeIndex, usize)| (*attribute, self.mapping.desired_text(row, *position));
        key.when_all_acknowledged(self.in_order.iter().map(desired))
    }

    /// Standing rejections in the diff's terms. Those of attributes without an index are left out.
    fn rejected(&self, standing: &[StandingRejection], retry: RetryRejections) -> Vec<PriorRejection> {
        let rejected = |standing: &StandingRejection| {
            let attribute = match &standing.attribute {
                None => None,
                Some(name) => Some(self.attribute_of(name)?),
            };
            let due = match retry {
                RetryRejections::None => false,
                RetryRejections::Due => standing.due,
                RetryRejections::All => true,
            };
            Some(PriorRejection { attribute, desired_digest: standing.desired_digest, due })
        };
        standing.iter().filter_map(rejected).collect()
    }

    /// `None` if there is nothing to send, to record or to resolve for the account.
    fn compare_account(
        &self,
        mapped: MappedRow,
        state: AccountState,
        rules: &DiffRules,
        options: CompareOptions,
    ) -> Option<AccountDiff> {
        let AccountState { stored, rejected, held_by_others, is_forced } = state;
        let is_stored = stored.is_some();
        let is_as_desired = matches!(stored, Some(StoredAccount::UpToDate));
        let mut known = match stored {
            Some(StoredAccount::Acknowledged { known, late_write, retry_pending, is_current }) => StoredPart {
                acknowledged: known,
                is_unsure: !is_current || is_forced,
                late_write,
                retry_scheduled: retry_pending,
            },
            Some(StoredAccount::UpToDate) => StoredPart::default(),
            None => StoredPart { is_unsure: true, ..StoredPart::default() },
        };
        let mut values = Vec::new();
        let is_gone = matches!(mapped, MappedRow::Gone(_));
        let difference = match mapped {
            MappedRow::NoAccount => return None,
            MappedRow::Gone(account) => diff::of_gone_account(account, &known.acknowledged, &rejected, rules),
            MappedRow::Refused(account, refusal) => diff::of_refused_account(account, refusal, &rejected),
            MappedRow::Present(desired) => {
                if is_as_desired {
                    if rejected.is_empty() {
                        return None;
                    }
                    known.acknowledged = self.as_acknowledged(&desired.values);
                }
                let difference = diff::of_present_account(&desired, &known.acknowledged, &rejected, rules);
                values = desired.values;
                difference
            }
        };
        let AttributeDiff { mut change, mut refused, resolved, stays_in_doubt: unresolvable } = difference;
        refused.retain(|refusal| !is_recorded(refusal, &rejected, &rules.digest_key));

        let given_up = change.remove.extract_if(.., |attribute| held_by_others.contains(attribute)).collect();
        // A removal by which nothing can be lost needs no decision of the removal guard.
        let may_be_lost = |attribute: &AttributeIndex| known.may_lose(*attribute);
        let counted: Vec<AttributeIndex> = change.remove.iter().copied().filter(may_be_lost).collect();
        let counted_removal = self.reason_of(&counted, &known.acknowledged, is_gone);
        let removal_waits = options.removals == RemovalMode::Owed && counted_removal.is_some();
        if removal_waits {
            change.remove.retain(|attribute| !may_be_lost(attribute));
        }
        let diff = AccountDiff {
            is_stored,
            acknowledged: known.acknowledged,
            late_write: known.late_write,
            retry_scheduled: known.retry_scheduled,
            change,
            counted_removal,
            removal_waits,
            given_up,
            may_be_overwritten: false,
            refused,
            resolved,
            standing: rejected.iter().map(|rejected| rejected.attribute).collect(),
            desired: values,
            unresolvable,
        };
        (diff.needs_delivery() || removal_waits || unresolvable).then_some(diff)
    }

    /// Why these attributes are removed; `None` if there are none.
    fn reason_of(
        &self,
        remove: &[AttributeIndex],
        acknowledged: &[AcknowledgedValue],
        is_gone: bool,
    ) -> Option<RemovalReason> {
        let is_mapped = |attribute: &AttributeIndex| self.rules.attribute_indexes.contains(attribute);
        if remove.is_empty() {
            None
        } else if !remove.iter().all(|attribute| may_be_held(acknowledged, *attribute)) {
            Some(RemovalReason::Forced)
        } else if is_gone {
            Some(RemovalReason::Gone)
        } else if remove.iter().any(is_mapped) {
            Some(RemovalReason::Emptied)
        } else {
            Some(RemovalReason::Unmapped)
        }
    }

    /// The acknowledged values of an account whose stored digest is that of its desired values.
    fn as_acknowledged(&self, values: &[DesiredValue]) -> Vec<AcknowledgedValue> {
        let mut acknowledged = vec![AcknowledgedValue::Absent; self.names.len()];
        for (attribute, index) in &self.in_order {
            if let DesiredValue::Value(value) = &values[*index] {
                acknowledged[attribute.index()] = AcknowledgedValue::Value(value.clone());
            }
        }
        acknowledged
    }
}

/// Whether the same refusal already stands as a rejection and is not to be counted as a new attempt.
fn is_recorded(
    (attribute, refusal): &(Option<AttributeIndex>, LocalRefusal),
    rejected: &[PriorRejection],
    key: &DigestKey,
) -> bool {
    let digest = key.of_value(&refusal.to_string());
    rejected.iter().any(|known| known.attribute == *attribute && known.desired_digest == digest && !known.due)
}

/// Adds the accounts of a page that have no readable row, and leaves one entry for each account.
fn complete_page<'p>(
    accounts: &mut Vec<OutlinedAccount<'p>>,
    missing: &'p [Account],
    unreadable: Vec<(Account, LocalRefusal)>,
) {
    accounts.extend(unreadable.into_iter().map(|(account, refusal)| OutlinedAccount {
        account: account.as_str().to_owned().into(),
        content: AccountContent::Refused(refusal),
    }));
    let gone =
        |account: &'p Account| OutlinedAccount { account: account.as_str().into(), content: AccountContent::Gone };
    accounts.extend(missing.iter().map(gone));
    refuse_ambiguous_accounts(accounts);
}
