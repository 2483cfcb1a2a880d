//! What a running daemon cannot change, and what this version does not do yet.
//!
//! Owns: both lists. Must not know: how a reload is done.

use super::Config;

/// Keys whose values differ and that a reload (SIGHUP) must refuse: they name the sync, its ground, or what is already open.
///
/// A change of the app (`sdk_app_id`, `service`) is not among them: the state itself refuses it where it matters.
pub fn differs_in_fixed_keys(old: &Config, new: &Config) -> Vec<&'static str> {
    // A state without a URL of its own follows the source's; then one sentence is enough.
    let follows = |config: &Config| config.state.url.same_as(&config.source.url);
    let told_by_source = follows(old) && follows(new);
    let state_moved = !told_by_source && !old.state.url.same_as(&new.state.url);
    let (was, is) = (&old.source, &new.source);
    [
        ("name", old.name != new.name),
        ("source.url", !was.url.same_as(&is.url)),
        ("source.table", was.table != is.table),
        ("source.account_column", was.account_column != is.account_column),
        ("source.account_prefix", was.account_prefix != is.account_prefix),
        ("source.account_format", was.account_format != is.account_format),
        ("state.url", state_moved),
        ("state.schema", old.state.schema != new.state.schema),
        ("state.migrate", old.state.migrate != new.state.migrate),
        ("http.listen", old.http.listen != new.http.listen),
    ]
    .into_iter()
    .filter_map(|(key, differs)| differs.then_some(key))
    .collect()
}

impl Config {
    /// Keys that ask for something this version does not do yet, a sentence for each: a start says them.
    pub fn not_yet_in_force(&self) -> Vec<String> {
        let later = "is set, but this version does not";
        [
            (
                self.schedule.notify_channel.is_some(),
                format!("schedule.notify_channel {later} LISTEN yet: changes wait for the next poll"),
            ),
            (
                self.schedule.verify_every.is_some(),
                format!("schedule.verify_every {later} verify by itself yet: nothing is read back from IM"),
            ),
            (self.alerts.webhook.is_some(), format!("alerts.webhook {later} send alerts yet: nothing is posted")),
            (self.history.keep.is_some(), format!("history.keep {later} keep a history yet: nothing is recorded")),
            (self.http.show_accounts, format!("http.show_accounts {later} have the page yet: no account is shown")),
        ]
        .into_iter()
        .filter_map(|(asked, sentence)| asked.then_some(sentence))
        .collect()
    }
}
