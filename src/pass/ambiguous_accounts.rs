//! Reduces the rows of a page to one for each account.
//!
//! Owns: which of several rows of one account counts: the present one if all others are gone; otherwise the account is
//! refused. Must not know: the state, what is sent.

use std::collections::HashMap;

use crate::mapping::MappedRow;
use crate::model::{Account, LocalRefusal};

/// Leaves one entry for each account.
///
/// If several rows of an account are present, it cannot be decided which one counts: they are replaced by one refusal. If
/// one row is present and the others are gone, the present row counts.
pub(super) fn refuse_ambiguous_accounts(mapped: &mut Vec<(Account, MappedRow)>) {
    let mut kept: HashMap<Account, usize> = HashMap::with_capacity(mapped.len());
    let mut dropped = vec![false; mapped.len()];
    let mut ambiguous: Vec<usize> = Vec::new();
    for index in 0..mapped.len() {
        let Some(earlier) = kept.get(&mapped[index].0).copied() else {
            kept.insert(mapped[index].0.clone(), index);
            continue;
        };
        match (&mapped[earlier].1, &mapped[index].1) {
            (_, MappedRow::Gone(_)) => dropped[index] = true,
            (MappedRow::Gone(_), _) => {
                dropped[earlier] = true;
                kept.insert(mapped[index].0.clone(), index);
            }
            _ => {
                dropped[index] = true;
                ambiguous.push(earlier);
            }
        }
    }
    for index in ambiguous {
        let account = mapped[index].0.clone();
        mapped[index].1 = MappedRow::Refused(account, LocalRefusal::DuplicateAccount);
    }
    let mut dropped = dropped.into_iter();
    mapped.retain(|_| !dropped.next().unwrap_or(false));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::DesiredAccount;

    fn present(account: &str) -> (Account, MappedRow) {
        let account = Account::new(account);
        (account.clone(), MappedRow::Present(DesiredAccount { account, values: Vec::new() }))
    }

    fn gone(account: &str) -> (Account, MappedRow) {
        let account = Account::new(account);
        (account.clone(), MappedRow::Gone(account))
    }

    fn shown(mut mapped: Vec<(Account, MappedRow)>) -> Vec<String> {
        refuse_ambiguous_accounts(&mut mapped);
        let show = |(account, mapped): &(Account, MappedRow)| match mapped {
            MappedRow::Present(_) => format!("{account} present"),
            MappedRow::Gone(_) => format!("{account} gone"),
            MappedRow::Refused(_, LocalRefusal::DuplicateAccount) => format!("{account} twice"),
            MappedRow::Refused(..) | MappedRow::NoAccount => format!("{account} other"),
        };
        mapped.iter().map(show).collect()
    }

    #[test]
    fn two_present_rows_of_an_account_are_refused() {
        assert_eq!(shown(vec![present("a"), present("b"), present("a"), present("a")]), ["a twice", "b present"]);
    }

    #[test]
    fn a_present_row_counts_more_than_gone_ones() {
        assert_eq!(shown(vec![gone("a"), present("a"), gone("a")]), ["a present"]);
        assert_eq!(shown(vec![gone("a"), gone("a")]), ["a gone"]);
        assert_eq!(shown(vec![gone("a"), present("a"), present("a")]), ["a twice"]);
    }
}
