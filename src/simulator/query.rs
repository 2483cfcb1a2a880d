//! The query parameters of a call's URL.
//!
//! Owns: the parameters that a call needs, and the error code for each defect. Must not know: the body, the app's
//! state.

use std::borrow::Cow;
use std::sync::{Mutex, PoisonError};

use super::error_code;
use super::usersig;

/// The app, and who may call it.
pub(super) struct AppCredentials {
    pub(super) sdk_app_id: u32,
    /// The app's admin account.
    pub(super) identifier: String,
    /// The keys with which a UserSig may be signed: one, or two while the app's key is rotated.
    pub(super) secret_keys: Mutex<Vec<String>>,
}

impl AppCredentials {
    pub(super) fn set_secret_keys(&self, keys: &[&str]) {
        *self.secret_keys.lock().unwrap_or_else(PoisonError::into_inner) =
            keys.iter().map(|key| (*key).to_owned()).collect();
    }

    fn check_usersig(&self, usersig: &str, identifier: &str, now: i64) -> Result<(), i64> {
        let keys = self.secret_keys.lock().unwrap_or_else(PoisonError::into_inner);
        let checks = keys.iter().map(|key| usersig::check(usersig, identifier, self.sdk_app_id, key, now));
        // The error is that of the newest key.
        checks.reduce(Result::or).unwrap_or(Err(error_code::USERSIG_WRONG))
    }
}

/// The query parameters, percent-decoded but not checked.
#[derive(Default)]
pub(super) struct CallQuery<'a> {
    sdk_app_id: Option<Cow<'a, str>>,
    identifier: Option<Cow<'a, str>>,
    usersig: Option<Cow<'a, str>>,
    random: Option<Cow<'a, str>>,
    content_type: Option<Cow<'a, str>>,
}

impl<'a> CallQuery<'a> {
    /// Parses a query string. Names are case-sensitive; unknown names are ignored. Assumed: of two parameters with the
    /// same name the last one counts.
    pub(super) fn parse(query: &'a str) -> Self {
        let mut parsed = Self::default();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let parameter = match name.as_ref() {
                "sdkappid" => &mut parsed.sdk_app_id,
                "identifier" => &mut parsed.identifier,
                "usersig" => &mut parsed.usersig,
                "random" => &mut parsed.random,
                "contenttype" => &mut parsed.content_type,
                _ => continue,
            };
            *parameter = Some(value);
        }
        parsed
    }

    /// The value of `random`, if it is an unsigned 32-bit integer in decimal digits.
    pub(super) fn random(&self) -> Option<u32> {
        parse_digits(self.random.as_deref()?)
    }

    /// Checks all parameters. `now` is the vendor's time in Unix seconds. The error is the vendor's code.
    ///
    /// Assumed: the order of the checks, and these codes: 60009 (wrong URL) for a missing or malformed `random` and for
    /// a `contenttype` other than `json`; 60006 for an `sdkappid` that is not a number and 70020 for the `sdkappid` of
    /// another app; and that an identifier which is not the admin needs a valid signature before it gets 90009.
    pub(super) fn check(&self, credentials: &AppCredentials, now: i64) -> Result<(), i64> {
        let sdk_app_id = required(self.sdk_app_id.as_deref(), error_code::SDKAPPID_MISSING)?;
        let sdk_app_id = parse_digits(sdk_app_id).ok_or(error_code::SDKAPPID_NOT_VALID)?;
        if sdk_app_id != credentials.sdk_app_id {
            return Err(error_code::NO_SUCH_APP);
        }
        let identifier = required(self.identifier.as_deref(), error_code::IDENTIFIER_MISSING)?;
        let usersig = required(self.usersig.as_deref(), error_code::USERSIG_MISSING)?;
        credentials.check_usersig(usersig, identifier, now)?;
        if identifier != credentials.identifier {
            return Err(error_code::NOT_ADMIN);
        }
        if self.random().is_none() || self.content_type.as_deref() != Some("json") {
            return Err(error_code::WRONG_URL);
        }
        Ok(())
    }
}

/// The value of a parameter, or `code` if it is missing or empty.
fn required(value: Option<&str>, code: i64) -> Result<&str, i64> {
    value.filter(|text| !text.is_empty()).ok_or(code)
}

/// Parses a number in decimal digits, without sign or spaces.
fn parse_digits(text: &str) -> Option<u32> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}
