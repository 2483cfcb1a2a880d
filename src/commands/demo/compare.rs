//! The comparison of table and IM at the end, account by account.
//!
//! Owns: what IM should hold by the table's word, in a query of its own; the differences. Must not know: imsync's
//! mapping, which would otherwise vouch for itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use sqlx::PgConnection;

/// Attributes by name, by account. Accounts without any are left out.
pub(super) type Holdings = BTreeMap<String, BTreeMap<String, String>>;

/// What the configuration in `stage` asks for, said once more in SQL: NULL and empty texts are no attribute, people who
/// are deleted have none.
const EXPECTED: &str = "
SELECT id, attribute, value
FROM users,
     LATERAL (VALUES ('name', name), ('city', city), ('language', language), ('plan', plan),
                     ('sex', CASE gender WHEN 'm' THEN 'male' WHEN 'f' THEN 'female' END),
                     ('level', level::text), ('vip', CASE WHEN vip THEN 'yes' ELSE 'no' END)) AS a (attribute, value)
WHERE deleted_at IS NULL AND value <> ''";

/// What the table says that IM should hold.
pub(super) async fn expected(connection: &mut PgConnection) -> sqlx::Result<Holdings> {
    let mut accounts = Holdings::new();
    let rows: Vec<(String, String, String)> = sqlx::query_as(EXPECTED).fetch_all(connection).await?;
    for (account, attribute, value) in rows {
        accounts.entry(account).or_default().insert(attribute, value);
    }
    Ok(accounts)
}

/// One attribute of one account that is not the same on both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) account: String,
    pub(super) attribute: String,
    pub(super) table: Option<String>,
    pub(super) im: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |value: &Option<String>| value.as_ref().map_or("nothing".to_owned(), |value| format!("{value:?}"));
        let Self { account, attribute, table, im } = self;
        write!(f, "{account}: {attribute} is {} in the table and {} in IM", shown(table), shown(im))
    }
}

/// Everything that differs, in the order of the accounts.
pub(super) fn differences(table: &Holdings, im: &Holdings) -> Vec<Difference> {
    let none = BTreeMap::new();
    let accounts: BTreeSet<&String> = table.keys().chain(im.keys()).collect();
    let mut found = Vec::new();
    for account in accounts {
        let (wanted, held) = (table.get(account).unwrap_or(&none), im.get(account).unwrap_or(&none));
        if wanted == held {
            continue;
        }
        let attributes: BTreeSet<&String> = wanted.keys().chain(held.keys()).collect();
        found.extend(attributes.into_iter().filter(|name| wanted.get(*name) != held.get(*name)).map(|name| {
            Difference {
                account: account.clone(),
                attribute: name.clone(),
                table: wanted.get(name).cloned(),
                im: held.get(name).cloned(),
            }
        }));
    }
    found
}

/// How many accounts differ.
pub(super) fn accounts(differences: &[Difference]) -> usize {
    differences.iter().map(|difference| &difference.account).collect::<BTreeSet<_>>().len()
}
