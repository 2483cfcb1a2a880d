//! The comparison of the table with IM, account by account, at the end of the demo.
//!
//! Owns: the query for what IM should hold, and the list of differences. Must not know: imsync's mapping. If the
//! comparison used it, a defect in the mapping would stay hidden.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use sqlx::PgConnection;

/// For each account, its attribute values by attribute name. Accounts without attributes are left out.
pub(super) type AttributesByAccount = BTreeMap<String, BTreeMap<String, String>>;

/// The mapping of the configuration in `environment`, written a second time in SQL: NULL and empty texts are not
/// attributes, and deleted users have none.
const EXPECTED_ATTRIBUTES: &str = "
SELECT id, attribute, value
FROM users,
     LATERAL (VALUES ('name', name), ('city', city), ('language', language), ('plan', plan),
                     ('sex', CASE gender WHEN 'm' THEN 'male' WHEN 'f' THEN 'female' END),
                     ('level', level::text), ('vip', CASE WHEN vip THEN 'yes' ELSE 'no' END)) AS a (attribute, value)
WHERE deleted_at IS NULL AND value <> ''";

/// Reads from the table what IM should hold.
pub(super) async fn expected_attributes(connection: &mut PgConnection) -> sqlx::Result<AttributesByAccount> {
    let mut accounts = AttributesByAccount::new();
    let rows: Vec<(String, String, String)> = sqlx::query_as(EXPECTED_ATTRIBUTES).fetch_all(connection).await?;
    for (account, attribute, value) in rows {
        accounts.entry(account).or_default().insert(attribute, value);
    }
    Ok(accounts)
}

/// One attribute of one account whose value in the table is not its value in IM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AttributeDifference {
    pub(super) account: String,
    pub(super) attribute: String,
    /// The value that the table asks for; `None` when IM should hold no value.
    pub(super) in_table: Option<String>,
    /// The value that IM holds, if any.
    pub(super) in_im: Option<String>,
}

impl fmt::Display for AttributeDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |value: &Option<String>| value.as_ref().map_or("not set".to_owned(), |value| format!("{value:?}"));
        let Self { account, attribute, in_table, in_im } = self;
        write!(f, "{account}: {attribute} is {} in the table and {} in IM", shown(in_table), shown(in_im))
    }
}

/// All differences between the table and IM, ordered by account.
pub(super) fn differences(table: &AttributesByAccount, im: &AttributesByAccount) -> Vec<AttributeDifference> {
    let none = BTreeMap::new();
    let accounts: BTreeSet<&String> = table.keys().chain(im.keys()).collect();
    let mut found = Vec::new();
    for account in accounts {
        let (expected, held) = (table.get(account).unwrap_or(&none), im.get(account).unwrap_or(&none));
        if expected == held {
            continue;
        }
        let attributes: BTreeSet<&String> = expected.keys().chain(held.keys()).collect();
        found.extend(attributes.into_iter().filter(|name| expected.get(*name) != held.get(*name)).map(|name| {
            AttributeDifference {
                account: account.clone(),
                attribute: name.clone(),
                in_table: expected.get(name).cloned(),
                in_im: held.get(name).cloned(),
            }
        }));
    }
    found
}

/// The number of accounts with at least one difference.
pub(super) fn count_accounts(differences: &[AttributeDifference]) -> usize {
    differences.iter().map(|difference| &difference.account).collect::<BTreeSet<_>>().len()
}
