//! Several rows of one page that have the same account.
//!
//! Owns: which of these rows counts. Must not know: the state, what is sent.

use std::collections::HashMap;

use crate::mapping::Mapped;
use crate::model::{Account, LocalRefusal};

/// Leaves one entry for each account.
///
/// If several rows of an account are present, it cannot be decided which one counts: they are replaced by one refusal. If
/// one row is present and the others are gone, the present row counts.
pub(super) fn refuse_duplicates(mapped: &mut Vec<(Account, Mapped)>) {
    let mut kept: HashMap<Account, usize> = HashMap::with_capacity(mapped.len());
    let mut dropped = vec![false; mapped.len()];
    let mut ambiguous: Vec<usize> = Vec::new();
    for index in 0..mapped.len() {
        let Some(earlier) = kept.get(&mapped[index].0).copied() else {
            kept.insert(mapped[index].0.clone(), index);
            continue;
        };
        match (&mapped[earlier].1, &mapped[index].1) {
            (_, Mapped::Gone(_)) => dropped[index] = true,
            (Mapped::Gone(_), _) => {
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
        mapped[index].1 = Mapped::Refused(account, LocalRefusal::AccountTwice);
    }
    let mut dropped = dropped.into_iter();
    mapped.retain(|_| !dropped.next().unwrap_or(false));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::DesiredAccount;

    fn present(account: &str) -> (Account, Mapped) {
        let account = Account::new(account);
        (account.clone(), Mapped::Present(DesiredAccount { account, values: Vec::new() }))
    }

    fn gone(account: &str) -> (Account, Mapped) {
        let account = Account::new(account);
        (account.clone(), Mapped::Gone(account))
    }

    fn shown(mut mapped: Vec<(Account, Mapped)>) -> Vec<String> {
        refuse_duplicates(&mut mapped);
        let show = |(account, mapped): &(Account, Mapped)| match mapped {
            Mapped::Present(_) => format!("{account} present"),
            Mapped::Gone(_) => format!("{account} gone"),
            Mapped::Refused(_, LocalRefusal::AccountTwice) => format!("{account} twice"),
            Mapped::Refused(..) | Mapped::NoAccount => format!("{account} other"),
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
