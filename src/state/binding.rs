//! What a sync is bound to at first use, and the refusal of a configuration that differs.
//!
//! Owns: [`Binding`] and the messages about differences. Must not know: how the binding is stored.
//!
//! The stored values are only valid for the same table, account format and app. A different configuration would
//! remove or overwrite attributes of the wrong accounts.

use serde::{Deserialize, Serialize};

use super::error::StateError;
use crate::finding::Finding;

/// What a sync is bound to. Names are resolved by the server, so that another spelling of one table is the same
/// binding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// The table with its schema, as the server resolves it.
    pub table: String,
    /// `source.account_column`.
    pub account_column: String,
    /// `source.account_prefix`.
    pub account_prefix: String,
    /// `source.account_format`: `text` or `hex`.
    pub account_format: String,
    /// `im.sdk_app_id`.
    pub sdk_app_id: u32,
    /// `im.service`: `all_member_push` or `timpush`.
    pub service: String,
}

/// A configuration key whose value differs from the binding.
struct BindingDifference {
    key: &'static str,
    bound: String,
    configured: String,
}

impl BindingDifference {
    /// `migrate --rebind` accepts another app, nothing else.
    fn concerns_app(&self) -> bool {
        self.key.starts_with("im.")
    }
}

impl Binding {
    /// Refuses a configuration that differs from this binding. `name` is the name of the sync.
    ///
    /// # Errors
    ///
    /// [`StateError::Unmet`] with the keys that differ and the ways to fix it.
    pub fn check(&self, name: &str, configured: &Self) -> Result<(), StateError> {
        refuse(name, &self.differences(configured))
    }

    /// Refuses a configuration that differs in more than the app, which is what `migrate --rebind` accepts.
    ///
    /// # Errors
    ///
    /// [`StateError::Unmet`] with the keys that differ and the ways to fix it.
    pub fn check_except_app(&self, name: &str, configured: &Self) -> Result<(), StateError> {
        let mut differences = self.differences(configured);
        differences.retain(|difference| !difference.concerns_app());
        refuse(name, &differences)
    }

    fn differences(&self, configured: &Self) -> Vec<BindingDifference> {
        let Self { table, account_column, account_prefix, account_format, sdk_app_id, service } = self;
        [
            ("source.table", table.clone(), configured.table.clone()),
            ("source.account_column", account_column.clone(), configured.account_column.clone()),
            ("source.account_prefix", account_prefix.clone(), configured.account_prefix.clone()),
            ("source.account_format", account_format.clone(), configured.account_format.clone()),
            ("im.sdk_app_id", sdk_app_id.to_string(), configured.sdk_app_id.to_string()),
            ("im.service", service.clone(), configured.service.clone()),
        ]
        .into_iter()
        .filter(|(_, bound, configured)| bound != configured)
        .map(|(key, bound, configured)| BindingDifference { key, bound, configured })
        .collect()
    }
}

fn refuse(name: &str, differences: &[BindingDifference]) -> Result<(), StateError> {
    if differences.is_empty() {
        return Ok(());
    }
    let list: Vec<String> = differences
        .iter()
        .map(|BindingDifference { key, bound, configured }| {
            format!("{key} was \"{bound}\" and is now \"{configured}\"")
        })
        .collect();
    let fix = if differences.iter().all(BindingDifference::concerns_app) {
        "restore the value, choose another `name` to start a separate sync, or run `imsync migrate --rebind` to accept the other app (every acknowledged value then counts as unknown)"
    } else {
        "restore the value, or choose another `name` to start a separate sync"
    };
    let message = format!("the sync \"{name}\" is bound to a different configuration: {}", list.join("; "));
    Err(Finding::error("state.binding", message).remedy(fix).into())
}

#[cfg(test)]
mod tests {
    use super::Binding;

    fn bound() -> Binding {
        Binding {
            table: "public.users".to_owned(),
            account_column: "id".to_owned(),
            account_prefix: String::new(),
            account_format: "text".to_owned(),
            sdk_app_id: 1_400_000_000,
            service: "all_member_push".to_owned(),
        }
    }

    #[test]
    fn the_same_configuration_is_accepted() {
        bound().check("users", &bound()).expect("nothing differs");
    }

    #[test]
    fn another_app_is_refused_but_can_be_rebound() {
        let other = Binding { sdk_app_id: 1_400_000_001, ..bound() };
        let refusal = bound().check("users", &other).expect_err("the app differs").to_string();
        assert!(refusal.contains("im.sdk_app_id was \"1400000000\" and is now \"1400000001\""), "{refusal}");
        assert!(refusal.contains("migrate --rebind"), "{refusal}");
        bound().check_except_app("users", &other).expect("only the app differs");
    }

    #[test]
    fn another_table_cannot_be_rebound() {
        let other = Binding { table: "public.people".to_owned(), sdk_app_id: 1, ..bound() };
        for refusal in [bound().check("users", &other), bound().check_except_app("users", &other)] {
            let refusal = refusal.expect_err("the table differs").to_string();
            assert!(refusal.contains("source.table was \"public.users\" and is now \"public.people\""), "{refusal}");
            assert!(!refusal.contains("--rebind"), "{refusal}");
        }
    }
}
