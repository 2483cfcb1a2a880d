//! The `[im]` section: what the command line gives, and what is left to fill in.
//!
//! Owns: its lines. Must not know: what the other sections contain.

use super::toml_text::{TO_FILL_IN, comment, entry, gap};
use crate::config::Environment;
use crate::config::environment::{SECRET_KEY, SECRET_KEY_FILE};

/// The administrator that the console of the vendor creates.
const ADMINISTRATOR: &str = "administrator";
/// The file of the secret key, beside the configuration.
const KEY_FILE: &str = "secret_key";

/// The options for `[im]`.
#[derive(Clone, Debug, Default)]
pub struct ImOptions {
    /// `im.region`.
    pub region: Option<String>,
    /// `im.base_url`.
    pub base_url: Option<String>,
    /// `im.sdk_app_id`.
    pub sdk_app_id: Option<u32>,
    /// `im.identifier`.
    pub identifier: Option<String>,
    /// `im.secret_key_file`.
    pub secret_key_file: Option<String>,
}

impl ImOptions {
    /// With values in place of what is left to fill in, so that the other sections can be checked.
    pub(super) fn filled(&self) -> Self {
        let mut filled = self.clone();
        if filled.region.is_none() && filled.base_url.is_none() {
            filled.region = Some("singapore".to_owned());
        }
        filled.sdk_app_id = filled.sdk_app_id.or(Some(1));
        filled
    }

    /// The lines of the section.
    pub(super) fn lines(&self, environment: &Environment) -> String {
        let address = match (&self.region, &self.base_url) {
            (Some(region), _) => comment("The data centre of the app.") + &entry("region", region),
            (None, Some(url)) => comment("A proxy or the simulator. Replaces `region`.") + &entry("base_url", url),
            (None, None) => {
                comment(
                    "The data centre of the app: china singapore seoul tokyo frankfurt mumbai silicon-valley jakarta ksa.",
                ) + &gap("region", "\"singapore\"")
            }
        };
        let app = self.sdk_app_id.map_or_else(|| gap("sdk_app_id", "1400000000"), |id| format!("sdk_app_id = {id}\n"));
        [
            "[im]\n".to_owned(),
            address,
            comment("The SDKAppID of the app, from the console."),
            app,
            comment("The UserID of an administrator of the app, from the console."),
            entry("identifier", self.identifier.as_deref().unwrap_or(ADMINISTRATOR)),
            self.key(environment),
        ]
        .concat()
    }

    fn key(&self, environment: &Environment) -> String {
        let variable = [SECRET_KEY, SECRET_KEY_FILE].into_iter().find(|name| environment.contains(name));
        match (&self.secret_key_file, variable) {
            (Some(file), _) => comment("The file with the secret key of the app.") + &entry("secret_key_file", file),
            (None, Some(variable)) => {
                comment(&format!("The secret key of the app comes from {variable}, which every command then needs."))
                    + &format!("# secret_key_file = \"{KEY_FILE}\"\n")
            }
            (None, None) => {
                comment(
                    "The file with the secret key of the app, from the console: one line, mode 0600. A relative path starts in the directory of this file.",
                ) + &format!("secret_key_file = \"{KEY_FILE}\" {TO_FILL_IN}\n")
            }
        }
    }
}
