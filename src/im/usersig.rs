//! The UserSig (`TLSSigAPIv2`): made once, renewed before it ages and when IM calls it expired.
//!
//! Owns: the secret key and the signature made with it. Must not know: HTTP. Neither is ever shown.
//! Source: the vendor's page "UserSig" and its package `tls-sig-api-v2`.

use std::fmt;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
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

/// For so long after a renewal on refusal no other follows: if the fresh one is refused too, clocks or keys are wrong,
/// and IM stops checking signatures of an app for which too many fail (70050).
const RENEWAL_PAUSE: Duration = Duration::from_mins(1);

/// A signature as it goes into the URL.
#[derive(Clone)]
pub(super) struct Signature {
    text: Arc<SecretString>,
    made_at: DateTime<Utc>,
    /// Tells signatures apart that were made in one second and are equal.
    serial: u64,
    on_refusal: bool,
}

impl Signature {
    pub(super) fn expose(&self) -> &str {
        self.text.expose_secret()
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signature").field("made_at", &self.made_at).finish_non_exhaustive()
    }
}

/// Makes signatures for one identifier of one app.
pub(super) struct Signer {
    sdk_app_id: u32,
    identifier: String,
    secret_key: SecretString,
    lifetime: Duration,
    current: Mutex<Option<Signature>>,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("lifetime", &self.lifetime).finish_non_exhaustive()
    }
}

impl Signer {
    pub(super) fn new(sdk_app_id: u32, identifier: String, secret_key: SecretString, lifetime: Duration) -> Self {
        Self { sdk_app_id, identifier, secret_key, lifetime, current: Mutex::new(None) }
    }

    /// The signature in use; a new one once half of its lifetime is over, or when the clock has gone back behind it.
    pub(super) fn current(&self, now: DateTime<Utc>) -> Signature {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        match &*current {
            // `to_std` fails for a negative age: made under a clock that has been set back since.
            Some(signature)
                if now.signed_duration_since(signature.made_at).to_std().is_ok_and(|age| age < self.lifetime / 2) =>
            {
                signature.clone()
            }
            _ => self.renew(&mut current, now, false),
        }
    }

    /// A fresher signature than the one that IM called expired, or `None` when a fresh one was refused just now.
    pub(super) fn after_refusal(&self, refused: &Signature, now: DateTime<Utc>) -> Option<Signature> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        match &*current {
            // A call beside this one has renewed it already.
            Some(signature) if signature.serial != refused.serial => Some(signature.clone()),
            Some(signature)
                if signature.on_refusal
                    && now.signed_duration_since(signature.made_at).to_std().is_ok_and(|age| age < RENEWAL_PAUSE) =>
            {
                None
            }
            _ => Some(self.renew(&mut current, now, true)),
        }
    }

    fn renew(&self, current: &mut Option<Signature>, now: DateTime<Utc>, on_refusal: bool) -> Signature {
        let serial = current.as_ref().map_or(0, |signature| signature.serial) + 1;
        let text = sign(
            self.sdk_app_id,
            &self.identifier,
            self.secret_key.expose_secret(),
            now.timestamp(),
            self.lifetime.as_secs(),
        );
        let signature = Signature { text: Arc::new(text.into()), made_at: now, serial, on_refusal };
        *current = Some(signature.clone());
        signature
    }
}

#[derive(Serialize)]
struct Document<'a> {
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

/// `time` in Unix seconds, `expire` in seconds after it. The key's own characters are the key: it is not hex-decoded.
fn sign(sdk_app_id: u32, identifier: &str, secret_key: &str, time: i64, expire: u64) -> String {
    let text =
        format!("TLS.identifier:{identifier}\nTLS.sdkappid:{sdk_app_id}\nTLS.time:{time}\nTLS.expire:{expire}\n");
    let mut hmac = Hmac::<Sha256>::new_from_slice(secret_key.as_bytes()).expect("HMAC takes keys of any length");
    hmac.update(text.as_bytes());
    let sig = STANDARD.encode(hmac.finalize().into_bytes());
    let document = Document { version: "2.0", identifier, sdk_app_id, expire, time, sig };
    let json = serde_json::to_vec(&document).expect("strings and numbers can be written as JSON");
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
    zlib.write_all(&json).expect("writing to memory cannot fail");
    let packed = zlib.finish().expect("writing to memory cannot fail");
    STANDARD.encode(packed).replace('+', "*").replace('/', "-").replace('=', "_")
}

#[cfg(test)]
mod tests;
