//! The checks of a call's URL: method, parameters, signature.
//!
//! Owns: what the query must carry and the code for what is wrong. Must not know: the body, the state.

use std::borrow::Cow;

use super::code;
use super::usersig;

/// Who may call.
pub(super) struct Keys {
    pub(super) sdk_app_id: u32,
    pub(super) identifier: String,
    pub(super) secret_key: String,
}

/// The parameters of a call's URL as they came.
#[derive(Default)]
pub(super) struct Query<'a> {
    sdk_app_id: Option<Cow<'a, str>>,
    identifier: Option<Cow<'a, str>>,
    usersig: Option<Cow<'a, str>>,
    random: Option<Cow<'a, str>>,
    content_type: Option<Cow<'a, str>>,
}

impl<'a> Query<'a> {
    /// Read the parameters. Names are case-sensitive; unknown ones are ignored. Assumed: the last of two equal names counts.
    pub(super) fn parse(query: &'a str) -> Self {
        let mut found = Self::default();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let place = match name.as_ref() {
                "sdkappid" => &mut found.sdk_app_id,
                "identifier" => &mut found.identifier,
                "usersig" => &mut found.usersig,
                "random" => &mut found.random,
                "contenttype" => &mut found.content_type,
                _ => continue,
            };
            *place = Some(value);
        }
        found
    }

    /// The call's `random`, when it is a 32-bit unsigned integer in plain decimal digits.
    pub(super) fn random(&self) -> Option<u32> {
        digits(self.random.as_deref()?)
    }

    /// Check everything the URL carries; the error is the vendor's code.
    ///
    /// Assumed: the order of the checks; 60009 (wrong URL) for a missing or malformed `random` and for a `contenttype`
    /// other than `json`; 60006 for an `sdkappid` that is no number and 70020 for one that is another app's; 60010 for
    /// an identifier that is properly signed but is not the admin.
    pub(super) fn check(&self, keys: &Keys, now: i64) -> Result<(), i64> {
        let sdk_app_id = self.sdk_app_id.as_deref().filter(|text| !text.is_empty()).ok_or(code::SDKAPPID_MISSING)?;
        let sdk_app_id = digits(sdk_app_id).ok_or(code::SDKAPPID_NOT_VALID)?;
        if sdk_app_id != keys.sdk_app_id {
            return Err(code::NO_SUCH_APP);
        }
        let identifier = self.identifier.as_deref().filter(|text| !text.is_empty()).ok_or(code::IDENTIFIER_MISSING)?;
        let usersig = self.usersig.as_deref().filter(|text| !text.is_empty()).ok_or(code::USERSIG_MISSING)?;
        usersig::check(usersig, identifier, sdk_app_id, &keys.secret_key, now)?;
        if identifier != keys.identifier {
            return Err(code::NOT_ADMIN);
        }
        if self.random().is_none() || self.content_type.as_deref() != Some("json") {
            return Err(code::WRONG_URL);
        }
        Ok(())
    }
}

/// A `u32` in plain decimal digits: no sign, no spaces.
fn digits(text: &str) -> Option<u32> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}
