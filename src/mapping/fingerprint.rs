//! The mapping's fingerprint: it changes exactly when a row could come to mean something else.
//!
//! Owns: what counts as the same mapping. Must not know: how a row is mapped.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::VERSION;
use crate::config::{self, AttributeConfig, KeepOrRemove, Null, TooLong, Unlisted};

/// SHA-256 in hex over a canonical JSON document: attributes by name, so that their order in the file does not matter,
/// and only the settings that can take effect.
pub(super) fn of(config: &config::Config) -> String {
    let attributes: BTreeMap<&str, Value> =
        config.attributes.iter().map(|attribute| (attribute.name.as_str(), meaning(attribute))).collect();
    // Arrays only: the order of a JSON object would depend on how serde_json was built.
    let document = json!([
        VERSION,
        attributes.into_iter().collect::<Vec<_>>(),
        config.source.filter.as_deref().map(str::trim),
        config.source.deleted_column,
        keep_or_remove(config.removal.gone),
        keep_or_remove(config.removal.unmapped),
    ]);
    let digest = Sha256::digest(document.to_string().as_bytes());
    digest.iter().fold(String::with_capacity(64), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

fn meaning(attribute: &AttributeConfig) -> Value {
    let AttributeConfig { name: _, column, values, unlisted, too_long, null } = attribute;
    let too_long = match too_long {
        TooLong::Reject => "reject",
        TooLong::Truncate => "truncate",
    };
    let if_null = match null {
        Null::Remove => "remove",
        Null::Keep => "keep",
    };
    // `unlisted` decides nothing without `values`, and the empty text is never looked up.
    let look_up = values.as_ref().map(|values| {
        let unlisted = match unlisted {
            Unlisted::Reject => "reject",
            Unlisted::Send => "send",
            Unlisted::Keep => "keep",
            Unlisted::Remove => "remove",
        };
        json!([values.iter().filter(|(text, _)| !text.is_empty()).collect::<Vec<_>>(), unlisted])
    });
    json!([column, look_up, too_long, if_null])
}

fn keep_or_remove(choice: KeepOrRemove) -> &'static str {
    match choice {
        KeepOrRemove::Keep => "keep",
        KeepOrRemove::Remove => "remove",
    }
}
