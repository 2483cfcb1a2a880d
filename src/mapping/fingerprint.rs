//! The fingerprint of the mapping: it changes exactly when a row may be mapped to something else.
//!
//! Owns: which settings make two mappings different. Must not know: how a row is mapped.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::config::{self, AttributeConfig, KeepOrRemove, Null, TooLong, Unlisted};
use crate::model::ImAccountType;

/// Part of the fingerprint. Raised when the rules of this module change, so that a new release compares every row once.
pub const MAPPING_VERSION: u32 = 1;

/// SHA-256 in hex over a canonical JSON document: attributes sorted by name, so that their order in the file does not
/// matter, and only the settings that take effect.
pub(super) fn mapping_fingerprint(config: &config::Config) -> String {
    let attributes: BTreeMap<&str, Value> =
        config.attributes.iter().map(|attribute| (attribute.name.as_str(), canonical_form(attribute))).collect();
    // Only arrays, because the order of a JSON object depends on the features of serde_json.
    let mut document = vec![
        json!(MAPPING_VERSION),
        json!(attributes.into_iter().collect::<Vec<_>>()),
        json!(config.source.filter.as_deref().map(str::trim)),
        json!(config.source.deleted_column),
        json!(keep_or_remove(config.removal.gone)),
        json!(keep_or_remove(config.removal.unmapped)),
    ];
    // Only where it differs from the default, so that the fingerprints of other mappings stay as they are.
    if config.im.account_type == ImAccountType::RegistrationId {
        document.push(json!("registration_id"));
    }
    let digest = Sha256::digest(Value::Array(document).to_string().as_bytes());
    digest.iter().fold(String::with_capacity(64), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// The settings of an attribute that take effect.
fn canonical_form(attribute: &AttributeConfig) -> Value {
    let AttributeConfig { name: _, column, values, unlisted, too_long, null } = attribute;
    let too_long = match too_long {
        TooLong::Reject => "reject",
        TooLong::Truncate => "truncate",
    };
    let if_null = match null {
        Null::Remove => "remove",
        Null::Keep => "keep",
    };
    // `unlisted` has no effect without `values`, and the empty text is never looked up.
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
