//! Keys that a running daemon cannot change, and keys that have no effect in this version.
//!
//! Owns: both lists. Must not know: how a reload works, or who shows the warnings.

use super::model::Config;

/// The keys whose values differ and that a reload (SIGHUP) must refuse, because they identify the sync or belong to
/// resources that are already open.
///
/// `source.table`, `source.url` and `state.url` are not in this list: what they name may have another spelling now, which
/// the databases decide. `im.sdk_app_id` and `im.service` are not in it either. The state is bound to them and refuses a
/// change itself.
pub fn changed_fixed_keys(old: &Config, new: &Config) -> Vec<&'static str> {
    let (old_source, new_source) = (&old.source, &new.source);
    [
        ("name", old.name != new.name),
        ("source.account_column", old_source.account_column != new_source.account_column),
        ("source.account_prefix", old_source.account_prefix != new_source.account_prefix),
        ("source.account_format", old_source.account_format != new_source.account_format),
        ("state.schema", old.state.schema != new.state.schema),
        ("state.migrate", old.state.migrate != new.state.migrate),
        ("http.listen", old.http.listen != new.http.listen),
    ]
    .into_iter()
    .filter_map(|(key, changed)| changed.then_some(key))
    .collect()
}

impl Config {
    /// One warning for each key that is set and that this version does not implement. They are logged at start and
    /// after a reload, and `check` reports them.
    pub fn unimplemented_key_warnings(&self) -> Vec<String> {
        [("http.show_accounts", self.http.show_accounts, "have the page yet; no account is shown")]
            .into_iter()
            .filter(|(_, is_set, _)| *is_set)
            .map(|(key, _, missing)| format!("{key} is set, but this version does not {missing}"))
            .collect()
    }
}
