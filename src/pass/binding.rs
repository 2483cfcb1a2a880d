//! What the state of a sync is bound to.
//!
//! Owns: which parts of a configuration and its source these are. Must not know: what follows from another binding.

use crate::config::{AccountFormat, Config};
use crate::source::Source;
use crate::state::binding::Binding;

/// What the state of this configuration is bound to. The state of another binding is not used.
pub fn binding(config: &Config, source: &Source) -> Binding {
    Binding {
        table: source.resolved_table().to_owned(),
        account_column: config.source.account_column.clone(),
        account_prefix: config.source.account_prefix.clone(),
        account_format: match config.source.account_format {
            AccountFormat::Text => "text".to_owned(),
            AccountFormat::Hex => "hex".to_owned(),
        },
        sdk_app_id: config.im.sdk_app_id,
        service: config.im.service.as_str().to_owned(),
    }
}
