//! The UserSig (`TLSSigAPIv2`): made once, renewed before it expires and when IM refuses it.
//!
//! Owns: the UserSigs, which are never shown. Must not know: HTTP, where the key comes from.
//! Source: the vendor's page "UserSig" and its package `tls-sig-api-v2`.

use std::fmt;
use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use flate2::Compression;
use flate2::write::ZlibEncoder;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use sha2::Sha256;

use super::signing_key::SigningKey;

/// The minimum time between two renewals after a refusal. When IM refuses the fresh UserSig too, the clock or the key is
/// wrong, and IM stops checking the UserSigs of an app for which too many fail.
const MIN_RENEWAL_INTERVAL: Duration = Duration::from_mins(1);

/// A UserSig as it stands in the URL.
#[derive(Clone)]
pub(super) struct Usersig {
    text: Arc<SecretString>,
    made_at: DateTime<Utc>,
    /// Distinguishes UserSigs that are equal because they were made in the same second.
    serial: u64,
    /// It was made because IM refused the one before.
    made_after_refusal: bool,
}

impl Usersig {
    /// The text that goes into the URL. It must not be shown.
    pub(super) fn expose(&self) -> &str {
        self.text.expose_secret()
    }
}

impl fmt::Debug for Usersig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Usersig").field("made_at", &self.made_at).finish_non_exhaustive()
    }
}

/// Makes UserSigs for one identifier of one app.
pub(super) struct UsersigSigner {
    sdk_app_id: u32,
    identifier: String,
    lifetime: Duration,
    state: Mutex<SignerState>,
}

struct SignerState {
    key: SigningKey,
    usersig: Option<Usersig>,
}

impl fmt::Debug for UsersigSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UsersigSigner").field("lifetime", &self.lifetime).finish_non_exhaustive()
    }
}

impl UsersigSigner {
    pub(super) fn new(sdk_app_id: u32, identifier: String, key: SigningKey, lifetime: Duration) -> Self {
        let state = Mutex::new(SignerState { key, usersig: None });
        Self { sdk_app_id, identifier, lifetime, state }
    }

    /// The account that the UserSigs are for.
    pub(super) fn identifier(&self) -> &str {
        &self.identifier
    }

    /// The current UserSig. It is replaced after half of its lifetime, and when the clock was set back to before it was
    /// made.
    pub(super) fn current(&self, now: DateTime<Utc>) -> Usersig {
        let mut state = self.lock();
        match &state.usersig {
            // `to_std` fails for a negative age: the clock was set back since.
            Some(usersig)
                if now.signed_duration_since(usersig.made_at).to_std().is_ok_and(|age| age < self.lifetime / 2) =>
            {
                usersig.clone()
            }
            _ => {
                state.key.read_file(now);
                self.renew(&mut state, now, false)
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, SignerState> {
        // After a panic under the lock, the key or the UserSig is the one before or the one after.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// IM has accepted a call with this UserSig.
    pub(super) fn accepted(&self, usersig: &Usersig) {
        let mut state = self.lock();
        if state.usersig.as_ref().is_some_and(|current| current.serial == usersig.serial) {
            state.key.accept();
        }
    }

    /// Another UserSig than the refused one: of another key, or, where `expired` is the reason, a fresh one of the same
    /// key. `None` when there is no other key, and IM refused a fresh one less than a minute ago.
    pub(super) fn after_refusal(&self, refused: &Usersig, expired: bool, now: DateTime<Utc>) -> Option<Usersig> {
        let mut state = self.lock();
        // A concurrent call has renewed it already.
        if let Some(usersig) = state.usersig.as_ref().filter(|usersig| usersig.serial != refused.serial) {
            return Some(usersig.clone());
        }
        if state.key.replace_refused(now) {
            return Some(self.renew(&mut state, now, false));
        }
        match &state.usersig {
            _ if !expired => None,
            Some(usersig)
                if usersig.made_after_refusal
                    && now
                        .signed_duration_since(usersig.made_at)
                        .to_std()
                        .is_ok_and(|age| age < MIN_RENEWAL_INTERVAL) =>
            {
                None
            }
            _ => Some(self.renew(&mut state, now, true)),
        }
    }

    fn renew(&self, state: &mut SignerState, now: DateTime<Utc>, made_after_refusal: bool) -> Usersig {
        let serial = state.usersig.as_ref().map_or(0, |usersig| usersig.serial) + 1;
        let text = sign_usersig(
            self.sdk_app_id,
            &self.identifier,
            state.key.expose(),
            now.timestamp(),
            self.lifetime.as_secs(),
        );
        let usersig = Usersig { text: Arc::new(text.into()), made_at: now, serial, made_after_refusal };
        state.usersig = Some(usersig.clone());
        usersig
    }
}

#[derive(Serialize)]
struct UsersigDocument<'a> {
    #[serde(rename = "TLS.ver")]
    version: &'static str,
    #[serde(rename = "TLS.identifier")]
    identifier: &'a str,
    #[serde(rename = "TLS.sdkappid")]
    sdk_app_id: u32,
    #[serde(rename = "TLS.expire")]
    expire: u64,
    #[serde(rename = "TLS.time")]
    time: i64,
    #[serde(rename = "TLS.sig")]
    sig: String,
}

/// The text of a UserSig. `time` is in Unix seconds, `expire` in seconds after it. The characters of the key are used as
/// they are: hexadecimal digits are not decoded.
fn sign_usersig(sdk_app_id: u32, identifier: &str, secret_key: &str, time: i64, expire: u64) -> String {
    let text =
        format!("TLS.identifier:{identifier}\nTLS.sdkappid:{sdk_app_id}\nTLS.time:{time}\nTLS.expire:{expire}\n");
    let mut hmac = Hmac::<Sha256>::new_from_slice(secret_key.as_bytes()).expect("HMAC takes keys of any length");
    hmac.update(text.as_bytes());
    let sig = STANDARD.encode(hmac.finalize().into_bytes());
    let document = UsersigDocument { version: "2.0", identifier, sdk_app_id, expire, time, sig };
    let json = serde_json::to_vec(&document).expect("strings and numbers can be written as JSON");
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
    zlib.write_all(&json).expect("writing to memory cannot fail");
    let packed = zlib.finish().expect("writing to memory cannot fail");
    STANDARD.encode(packed).replace('+', "*").replace('/', "-").replace('=', "_")
}

#[cfg(test)]
mod tests;
