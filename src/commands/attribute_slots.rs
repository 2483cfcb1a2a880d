//! The attribute names of the app beside those of the mapping, for `attributes` and `check`.
//!
//! Owns: which mapped names the app does not know, and which slots are free. Must not know: requests, what is printed about it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::output::escape_for_terminal;
use crate::config::Config;
use crate::im::{CallError, Client};

/// The slots of an app, numbered from 0: the vendor's documentation of the attribute names.
pub(super) const SLOTS: u8 = 10;

/// The names of the app by slot, and what the mapping wants of them.
pub(super) struct AttributeSlots {
    pub(super) config: Arc<Config>,
    pub(super) names: BTreeMap<u8, String>,
}

impl AttributeSlots {
    pub(super) async fn read(config: &Arc<Config>, client: &Client) -> Result<Self, CallError> {
        Ok(Self { config: Arc::clone(config), names: client.attr_names().await? })
    }

    fn has(&self, name: &str) -> bool {
        self.names.values().any(|known| known == name)
    }

    /// The mapped names that the app does not know, in the order of the configuration.
    pub(super) fn missing(&self) -> Vec<&str> {
        let mapped = self.config.attributes.iter().map(|attribute| attribute.name.as_str());
        mapped.filter(|name| !self.has(name)).collect()
    }

    /// The slots without a name.
    pub(super) fn free(&self) -> impl Iterator<Item = u8> {
        (0..SLOTS).filter(|slot| !self.names.contains_key(slot))
    }

    /// A name of the app that differs in case only. It may be a slip, and its slot cannot be freed again.
    pub(super) fn similar(&self, name: &str) -> Option<&str> {
        let known = self.names.values().find(|known| known.to_lowercase() == name.to_lowercase());
        known.map(String::as_str)
    }

    /// `"sex", "city"`.
    pub(super) fn known(&self) -> String {
        let known: Vec<String> = self.names.values().map(|name| format!("\"{}\"", escape_for_terminal(name))).collect();
        if known.is_empty() { "none".to_owned() } else { known.join(", ") }
    }

    /// `slot 0: "sex", slot 1: "city"`.
    pub(super) fn described(&self) -> String {
        let described: Vec<String> =
            self.names.iter().map(|(slot, name)| format!("slot {slot}: \"{}\"", escape_for_terminal(name))).collect();
        if described.is_empty() { "no name is set".to_owned() } else { described.join(", ") }
    }
}
