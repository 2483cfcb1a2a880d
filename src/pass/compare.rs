//! Looks at a page: mapped rows beside what is acknowledged become diffs of work. Reads, never writes.
//!
//! Owns: joining mapping, state and diff for one page. Must not know: sending, recording, cursors.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::config::Config;
use crate::diff::{self, Rejected, Rules, digest};
use crate::mapping::{Mapped, Mapping};
use crate::model::{
    Account, AcknowledgedValue, AttributeIndex, AttributeNames, Change, DesiredValue, LocalRefusal, Row,
};
use crate::push::ChangeOrigin;
use crate::state::account::StoredAccount;
use crate::state::rejection::StandingRejection;
use crate::state::{State, StateError};

/// One account with something to do.
#[derive(Clone, Debug)]
pub struct AccountDiff {
    /// There is a row for it in the state.
    pub exists: bool,
    /// By attribute, as stored.
    pub acknowledged: Vec<AcknowledgedValue>,
    /// So long a call of unknown outcome may still record_outcome.
    pub late_write: Option<Duration>,
    /// A call had no known outcome, and that is not settled yet: it may be an account on which IM never answers.
    pub unsettled: bool,
    pub change: Change,
    /// Removals that the pass must not make yet.
    pub pending: bool,
    /// Values refused here, to be recorded.
    pub refused: Vec<(Option<AttributeIndex>, LocalRefusal)>,
    /// Rejections that no longer stand.
    pub resolved: Vec<Option<AttributeIndex>>,
    /// What stood before, by attribute.
    pub standing: Vec<Option<AttributeIndex>>,
    /// Key of a rejection of the whole account.
    pub desired_digest: i64,
    /// Doubts that no call settles now.
    pub stuck: bool,
}

impl AccountDiff {
    pub fn account(&self) -> &Account {
        &self.change.account
    }

    pub fn sends(&self) -> bool {
        !self.change.set.is_empty() || !self.change.remove.is_empty()
    }
}

/// Which standing rejections are tried again although nothing changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RetryRejections {
    #[default]
    None,
    /// Those whose pause is over.
    RetryDue,
    /// All: somebody asked for these accounts by name.
    All,
}

/// How a page is looked at.
#[derive(Clone, Copy, Debug)]
pub struct CompareOptions {
    /// Removals may go at once; else they are only noticed.
    pub removals: bool,
    /// Which standing rejections are tried again although nothing changed.
    pub retry: RetryRejections,
    /// Every attribute again, whatever is acknowledged.
    pub force: bool,
    /// What the calls that come of it say about IM.
    pub origin: ChangeOrigin,
}

impl Default for CompareOptions {
    fn default() -> Self {
        Self { removals: false, retry: RetryRejections::None, force: false, origin: ChangeOrigin::New }
    }
}

/// What a page turned out to be.
#[derive(Debug, Default)]
pub struct PageDiff {
    pub diffs: Vec<AccountDiff>,
    /// Rows with a NULL or empty account.
    pub without_account: usize,
    /// Accounts with a local refusal that stands already.
    pub still_refused: usize,
}

/// What all looks of a pass share.
#[derive(Clone, Debug)]
pub struct PageComparer {
    pub mapping: Arc<Mapping>,
    pub rules: Rules,
    /// Attribute names by attribute.
    pub names: AttributeNames,
    /// AttributeIndex and index in the mapping's order, by attribute.
    in_order: Vec<(AttributeIndex, usize)>,
    /// Nothing is stored yet where there is no state or no sync row.
    ledger: Option<StateRef>,
}

#[derive(Clone, Debug)]
struct StateRef {
    state: State,
    sync_id: i32,
    generation: i32,
}

impl PageComparer {
    /// `ledger`: the state, the sync's id and its generation.
    pub fn new(
        config: &Config,
        mapping: Arc<Mapping>,
        names: AttributeNames,
        attributes: Vec<AttributeIndex>,
        ledger: Option<(State, i32, i32)>,
    ) -> Self {
        let mut in_order: Vec<(AttributeIndex, usize)> = attributes.iter().copied().zip(0..).collect();
        in_order.sort();
        Self {
            mapping,
            rules: Rules {
                attributes,
                remove_unmapped: config.removal.unmapped == crate::config::KeepOrRemove::Remove,
                remove_gone: config.removal.gone == crate::config::KeepOrRemove::Remove,
                force: false,
            },
            names,
            in_order,
            ledger: ledger.map(|(state, sync_id, generation)| StateRef { state, sync_id, generation }),
        }
    }

    pub fn attribute_of(&self, name: &str) -> Option<AttributeIndex> {
        let index = self.names.iter().position(|known| &**known == name)?;
        Some(AttributeIndex(u16::try_from(index).ok()?))
    }

    pub fn name_of(&self, attribute: AttributeIndex) -> &str {
        self.names.get(attribute.index()).map_or("", |name| &**name)
    }

    /// Rows of one snapshot, beside accounts that were looked up and have no row.
    pub async fn compare_page(
        &self,
        rows: &[Row],
        missing: Vec<Account>,
        options: CompareOptions,
    ) -> Result<PageDiff, StateError> {
        let mut page_diff = PageDiff::default();
        let mut mapped: Vec<(Account, Mapped)> = Vec::with_capacity(rows.len() + missing.len());
        for row in rows {
            match self.mapping.apply(row) {
                Mapped::NoAccount => page_diff.without_account += 1,
                Mapped::Gone(account) => mapped.push((account.clone(), Mapped::Gone(account))),
                Mapped::Refused(account, refusal) => mapped.push((account.clone(), Mapped::Refused(account, refusal))),
                Mapped::Present(desired) => mapped.push((desired.account.clone(), Mapped::Present(desired))),
            }
        }
        mapped.extend(missing.into_iter().map(|account| (account.clone(), Mapped::Gone(account))));
        refuse_twins(&mut mapped);
        if mapped.is_empty() {
            return Ok(page_diff);
        }

        let rules = Rules { force: options.force, ..self.rules.clone() };
        let (mut stored, mut standing) = self.known_of(&mapped, options.force).await?;
        for (account, mapped) in mapped {
            let stored = stored.remove(&account);
            let standing = standing.remove(&account).unwrap_or_default();
            if let Some(diff) = self.diff(mapped, stored, &standing, &rules, options, &mut page_diff.still_refused) {
                page_diff.diffs.push(diff);
            }
        }
        Ok(page_diff)
    }

    async fn known_of(
        &self,
        mapped: &[(Account, Mapped)],
        force: bool,
    ) -> Result<(HashMap<Account, StoredAccount>, HashMap<Account, Vec<StandingRejection>>), StateError> {
        let Some(StateRef { state, sync_id, generation }) = &self.ledger else {
            return Ok((HashMap::new(), HashMap::new()));
        };
        let wanted: Vec<(Account, Option<i64>)> = mapped
            .iter()
            .map(|(account, mapped)| {
                let digest = match mapped {
                    Mapped::Present(desired) if !force => digest::once_fulfilled(&desired.values, &self.in_order),
                    _ => None,
                };
                (account.clone(), digest)
            })
            .collect();
        let accounts: Vec<Account> = mapped.iter().map(|(account, _)| account.clone()).collect();
        let stored = state.stored(*sync_id, *generation, &wanted);
        let standing = state.rejections_of(*sync_id, &accounts);
        tokio::try_join!(stored, standing)
    }

    fn diff(
        &self,
        mapped: Mapped,
        stored: Option<StoredAccount>,
        standing: &[StandingRejection],
        rules: &Rules,
        options: CompareOptions,
        still_refused: &mut usize,
    ) -> Option<AccountDiff> {
        let exists = stored.is_some();
        let rejected: Vec<Rejected> = standing
            .iter()
            .filter_map(|standing| {
                let attribute = match &standing.attribute {
                    None => None,
                    Some(name) => Some(self.attribute_of(name)?),
                };
                let due = match options.retry {
                    RetryRejections::None => false,
                    RetryRejections::RetryDue => standing.due,
                    RetryRejections::All => true,
                };
                Some(Rejected { attribute, desired_digest: standing.desired_digest, due })
            })
            .collect();
        let as_wanted = matches!(stored, Some(StoredAccount::AsWanted));
        let (mut acknowledged, late_write, unsettled) = match stored {
            Some(StoredAccount::Acknowledged { known, late_write, unsettled }) => (known, late_write, unsettled),
            Some(StoredAccount::AsWanted) | None => (Vec::new(), None, false),
        };
        let mut desired_digest = 0;
        let difference = match mapped {
            Mapped::NoAccount => return None,
            Mapped::Gone(account) => diff::gone(account, &acknowledged, &rejected, rules),
            Mapped::Refused(account, refusal) => diff::refused(account, refusal, &rejected),
            Mapped::Present(desired) => {
                if as_wanted {
                    if rejected.is_empty() {
                        return None;
                    }
                    acknowledged = self.as_acknowledged(&desired.values);
                }
                desired_digest = digest::of_desired(&desired.values);
                diff::present(&desired, &acknowledged, &rejected, rules)
            }
        };
        let mut refused = difference.refused;
        let before = refused.len();
        refused.retain(|(attribute, refusal)| {
            let digest = digest::of_value(&refusal.to_string());
            !rejected.iter().any(|r| r.attribute == *attribute && r.desired_digest == digest && !r.due)
        });
        *still_refused += usize::from(refused.len() < before);

        let mut change = difference.change;
        let mut pending = false;
        if !options.removals {
            // What is not known to be there (`--force` removes it all the same) is no loss and needs no guard.
            let losable = |attribute: &AttributeIndex| {
                acknowledged.get(attribute.index()).is_some_and(AcknowledgedValue::may_be_held)
            };
            pending = change.remove.iter().any(losable);
            change.remove.retain(|attribute| !losable(attribute));
        }
        let diff = AccountDiff {
            exists,
            acknowledged,
            late_write,
            unsettled,
            change,
            pending,
            refused,
            resolved: difference.resolved,
            standing: rejected.iter().map(|r| r.attribute).collect(),
            desired_digest,
            stuck: difference.stuck,
        };
        let idle = !diff.sends() && !pending && diff.refused.is_empty() && diff.resolved.is_empty() && !diff.stuck;
        (!idle).then_some(diff)
    }

    /// The acknowledged values of a row whose digest says that it is as wanted.
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

/// An account that several rows carry cannot be decided; all its rows are replaced by one refusal.
/// One living row beside gone ones is decided: the living row counts.
fn refuse_twins(mapped: &mut Vec<(Account, Mapped)>) {
    let mut first: HashMap<Account, usize> = HashMap::with_capacity(mapped.len());
    let mut drop = vec![false; mapped.len()];
    let mut twins: Vec<usize> = Vec::new();
    for index in 0..mapped.len() {
        let Some(earlier) = first.get(&mapped[index].0).copied() else {
            first.insert(mapped[index].0.clone(), index);
            continue;
        };
        match (&mapped[earlier].1, &mapped[index].1) {
            (_, Mapped::Gone(_)) => drop[index] = true,
            (Mapped::Gone(_), _) => {
                drop[earlier] = true;
                first.insert(mapped[index].0.clone(), index);
            }
            _ => {
                drop[index] = true;
                twins.push(earlier);
            }
        }
    }
    for index in twins {
        let account = mapped[index].0.clone();
        mapped[index].1 = Mapped::Refused(account, LocalRefusal::AccountTwice);
    }
    let mut index = 0;
    mapped.retain(|_| {
        index += 1;
        !drop[index - 1]
    });
}
