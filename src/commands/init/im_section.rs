//! The `[im]` section: what the command line gives, and what is left to fill in.
//!
//! Owns: its lines. Must not know: what the other sections contain.

use super::toml_text::{comment, string};
use crate::config::Environment;
use crate::config::environment::{SECRET_KEY, SECRET_KEY_FILE};

/// The mark of a line to fill in.
pub(super) const TO_FILL_IN: &str = "# <-";
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
        let mut text = String::from("[im]\n");
        text.push_str(&match (&self.region, &self.base_url) {
            (Some(region), _) => format!("# The data centre of the app.\nregion = {}\n", string(region)),
            (None, Some(url)) => {
                format!("# A proxy or the simulator. Replaces `region`.\nbase_url = {}\n", string(url))
            }
            (None, None) => format!(
                "# The data centre of the app: china singapore seoul tokyo frankfurt mumbai silicon-valley jakarta ksa.\n# region = \"singapore\" {TO_FILL_IN}\n"
            ),
        });
        text.push_str("# The SDKAppID of the app, from the console.\n");
        text.push_str(&match self.sdk_app_id {
            Some(id) => format!("sdk_app_id = {id}\n"),
            None => format!("# sdk_app_id = 1400000000 {TO_FILL_IN}\n"),
        });
        text.push_str("# The UserID of an administrator of the app, from the console.\n");
        let identifier = self.identifier.as_deref().unwrap_or(ADMINISTRATOR);
        text.push_str(&format!("identifier = {}\n", string(identifier)));
        text.push_str(&self.key(environment));
        text
    }

    fn key(&self, environment: &Environment) -> String {
        let variable = [SECRET_KEY, SECRET_KEY_FILE].into_iter().find(|name| environment.contains(name));
        match (&self.secret_key_file, variable) {
            (Some(file), _) => {
                format!("# The file with the secret key of the app.\nsecret_key_file = {}\n", string(file))
            }
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
