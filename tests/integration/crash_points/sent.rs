//! What was sent without need: calls are played once more over what IM held before them.
//!
//! Owns: that count. Must not know: imsync's state, why something was sent.

use std::collections::{BTreeMap, BTreeSet};

use imsync::simulator::RecordedCall;

type Users = BTreeMap<String, BTreeMap<String, String>>;

/// Accounts for which at least one call changed nothing: IM held the values already, or nothing where they were removed.
pub(super) fn needlessly(mut held: Users, calls: &[RecordedCall]) -> BTreeSet<String> {
    let mut needless = BTreeSet::new();
    for call in calls.iter().filter(|call| call.applied) {
        for user in &call.users {
            if call.errors.iter().any(|error| error.account == user.account) || user.attributes.is_empty() {
                continue;
            }
            let attributes = held.entry(user.account.clone()).or_default();
            let mut news = false;
            for (name, value) in &user.attributes {
                let before = match value {
                    Some(value) => attributes.insert(name.clone(), value.clone()),
                    None => attributes.remove(name),
                };
                news |= before != *value;
            }
            if !news {
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
    fn only_what_im_held_already_counts() {
        let held = Users::from([("a".to_owned(), BTreeMap::from([("city".to_owned(), "x".to_owned())]))]);
        let news = call("a", &[("city", Some("y"))], true);
        let refused = call("a", &[("city", Some("x"))], false);
        assert!(needlessly(held.clone(), &[news.clone(), refused.clone()]).is_empty());
        let same = call("a", &[("city", Some("x"))], true);
        assert_eq!(needlessly(held.clone(), std::slice::from_ref(&same)).len(), 1);
        assert!(needlessly(held.clone(), &[news, same]).is_empty(), "there and back is no repetition");
        assert_eq!(needlessly(held.clone(), &[call("b", &[("city", None)], true)]).len(), 1);
        assert!(needlessly(held, &[call("a", &[("city", Some("x")), ("plan", Some("z"))], true)]).is_empty());
    }
}
