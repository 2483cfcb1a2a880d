//! Reduces the rows of a page to one for each account.
//!
//! Owns: which of several rows of one account counts: the present one if all others are gone; otherwise the account is
//! refused. Must not know: the state, what is sent.

use std::collections::HashMap;

use crate::mapping::{AccountContent, OutlinedAccount};
use crate::model::LocalRefusal;

/// Leaves one entry for each account.
///
/// If several rows of an account are present, it cannot be decided which one counts: they are replaced by one refusal. If
/// one row is present and the others are gone, the present row counts.
pub(super) fn refuse_ambiguous_accounts(accounts: &mut Vec<OutlinedAccount<'_>>) {
    let (mut dropped, mut ambiguous) = (vec![false; accounts.len()], Vec::new());
    let mut kept: HashMap<&str, usize> = HashMap::with_capacity(accounts.len());
    for (index, OutlinedAccount { account, content }) in accounts.iter().enumerate() {
        let Some(earlier) = kept.insert(account, index) else { continue };
        match (&accounts[earlier].content, content) {
            (AccountContent::Gone, AccountContent::Present(_) | AccountContent::Refused(_)) => dropped[earlier] = true,
            (_, later) => {
                kept.insert(account, earlier);
                dropped[index] = true;
                if !matches!(later, AccountContent::Gone) {
                    ambiguous.push(earlier);
                }
            }
        }
    }
    for index in ambiguous {
        accounts[index].content = AccountContent::Refused(LocalRefusal::DuplicateAccount);
    }
    let mut dropped = dropped.into_iter();
    accounts.retain(|_| !dropped.next().unwrap_or(false));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Rows;

    fn shown(rows: &[(&str, bool)]) -> Vec<String> {
        let mut texts = Rows::default();
        for (account, gone) in rows {
            texts.push(Some(account), None, *gone, []);
        }
        let outlined = texts.iter().map(|row| OutlinedAccount {
            account: row.account.unwrap_or_default().into(),
            content: if row.gone { AccountContent::Gone } else { AccountContent::Present(row) },
        });
        let mut accounts: Vec<_> = outlined.collect();
        refuse_ambiguous_accounts(&mut accounts);
        let show = |OutlinedAccount { account, content }: &OutlinedAccount<'_>| match content {
            AccountContent::Present(_) => format!("{account} present"),
            AccountContent::Gone => format!("{account} gone"),
            AccountContent::Refused(LocalRefusal::DuplicateAccount) => format!("{account} twice"),
            AccountContent::Refused(_) => format!("{account} other"),
        };
        accounts.iter().map(show).collect()
    }

    #[test]
    fn two_present_rows_of_an_account_are_refused() {
        let rows = [("a", false), ("b", false), ("a", false), ("a", false)];
        assert_eq!(shown(&rows), ["a twice", "b present"]);
    }

    #[test]
    fn a_present_row_counts_more_than_gone_ones() {
        assert_eq!(shown(&[("a", true), ("a", false), ("a", true)]), ["a present"]);
        assert_eq!(shown(&[("a", true), ("a", true)]), ["a gone"]);
        assert_eq!(shown(&[("a", true), ("a", false), ("a", false)]), ["a twice"]);
    }
}
