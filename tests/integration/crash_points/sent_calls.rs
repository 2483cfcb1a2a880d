//! Counts needless sends by replaying the calls over what IM held before them.
//!
//! Owns: this count. Must not know: imsync's state, the reason for a call.

use std::collections::{BTreeMap, BTreeSet};

use imsync::simulator::RecordedCall;

type Users = BTreeMap<String, BTreeMap<String, String>>;

/// Accounts for which at least one call changed nothing: IM already held the values, or had none where values were
/// removed.
pub(super) fn sent_needlessly(mut held: Users, calls: &[RecordedCall]) -> BTreeSet<String> {
    let mut needless = BTreeSet::new();
    for call in calls.iter().filter(|call| call.applied) {
        for user in &call.users {
            if call.errors.iter().any(|error| error.account == user.account) || user.attributes.is_empty() {
                continue;
            }
            let attributes = held.entry(user.account.clone()).or_default();
            let mut changed = false;
            for (name, value) in &user.attributes {
                let before = match value {
                    Some(value) => attributes.insert(name.clone(), value.clone()),
                    None => attributes.remove(name),
                };
                changed |= before != *value;
            }
            if !changed {
                needless.insert(user.account.clone());
            }
        }
    }
    needless
}

#[cfg(test)]
mod tests {
    use imsync::simulator::RecordedUser;

    use super::*;

    fn call(account: &str, attributes: &[(&str, Option<&str>)], applied: bool) -> RecordedCall {
        let attributes = attributes.iter().map(|(name, value)| ((*name).to_owned(), value.map(str::to_owned)));
        RecordedCall {
            id: 0,
            at_millis: 0,
            endpoint: "all_member_push/set_attr".to_owned(),
            users: vec![RecordedUser { account: account.to_owned(), attributes: attributes.collect() }],
            body: String::new(),
            code: None,
            broken: None,
            applied,
            errors: Vec::new(),
            given_up: false,
        }
    }

    #[test]
    fn only_values_that_im_held_already_count() {
        let held = Users::from([("a".to_owned(), BTreeMap::from([("city".to_owned(), "x".to_owned())]))]);
        let changed = call("a", &[("city", Some("y"))], true);
        let refused = call("a", &[("city", Some("x"))], false);
        assert!(sent_needlessly(held.clone(), &[changed.clone(), refused.clone()]).is_empty());
        let same = call("a", &[("city", Some("x"))], true);
        assert_eq!(sent_needlessly(held.clone(), std::slice::from_ref(&same)).len(), 1);
        assert!(
            sent_needlessly(held.clone(), &[changed, same]).is_empty(),
            "a change and its reversal are not a repetition"
        );
        assert_eq!(sent_needlessly(held.clone(), &[call("b", &[("city", None)], true)]).len(), 1);
        assert!(sent_needlessly(held, &[call("a", &[("city", Some("x")), ("plan", Some("z"))], true)]).is_empty());
    }
}
