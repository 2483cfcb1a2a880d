//! The check of a UserSig (TLSSigAPIv2), written from the description of the format only.
//!
//! Owns: decoding a UserSig, and the error code for an invalid one. Must not know: HTTP, the crate's own signer, the
//! clock.

use std::io::Read;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::read::ZlibDecoder;
use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use sha2::Sha256;

use super::error_code;

/// Upper limit for decompression. The JSON of a UserSig has about 250 bytes.
const MAX_JSON_BYTES: u64 = 4096;

#[derive(Deserialize)]
struct UsersigFields {
    #[serde(rename = "TLS.ver")]
    version: String,
    #[serde(rename = "TLS.identifier")]
    identifier: String,
    #[serde(rename = "TLS.sdkappid")]
    sdk_app_id: u32,
    #[serde(rename = "TLS.time")]
    time: i64,
    #[serde(rename = "TLS.expire")]
    expire: i64,
    #[serde(rename = "TLS.sig")]
    signature: String,
}

/// Checks `usersig`, percent-decoded, at `now` in Unix seconds. The error is the vendor's code.
///
/// Assumed: the order of the checks; which of 70003, 70005 and 70009 ("UserSig not valid") belongs to which defect; a
/// `TLS.time` in the future is valid; the last second of the lifetime is valid.
pub(super) fn check(usersig: &str, identifier: &str, sdk_app_id: u32, secret_key: &str, now: i64) -> Result<(), i64> {
    let json = decode(usersig).ok_or(error_code::USERSIG_UNREADABLE)?;
    let fields: UsersigFields = serde_json::from_slice(&json).map_err(|_| error_code::USERSIG_INCOMPLETE)?;
    if fields.version != "2.0" {
        return Err(error_code::USERSIG_INCOMPLETE);
    }
    if fields.sdk_app_id != sdk_app_id {
        return Err(error_code::SDKAPPID_DIFFERS);
    }
    if fields.identifier != identifier {
        return Err(error_code::IDENTIFIER_DIFFERS);
    }
    let signature = STANDARD.decode(&fields.signature).map_err(|_| error_code::USERSIG_WRONG)?;
    let signed = format!(
        "TLS.identifier:{}\nTLS.sdkappid:{}\nTLS.time:{}\nTLS.expire:{}\n",
        fields.identifier, fields.sdk_app_id, fields.time, fields.expire
    );
    let mut mac = Hmac::<Sha256>::new_from_slice(secret_key.as_bytes()).map_err(|_| error_code::USERSIG_WRONG)?;
    mac.update(signed.as_bytes());
    mac.verify_slice(&signature).map_err(|_| error_code::USERSIG_WRONG)?;
    if now > fields.time.saturating_add(fields.expire) {
        return Err(error_code::USERSIG_EXPIRED);
    }
    Ok(())
}

/// Decodes the JSON: the vendor's base64 alphabet, base64, zlib.
fn decode(usersig: &str) -> Option<Vec<u8>> {
    if usersig.contains(['+', '/', '=']) {
        return None;
    }
    let base64 = usersig.replace('*', "+").replace('-', "/").replace('_', "=");
    let compressed = STANDARD.decode(base64).ok()?;
    let mut json = Vec::new();
    ZlibDecoder::new(compressed.as_slice()).take(MAX_JSON_BYTES).read_to_end(&mut json).ok()?;
    Some(json)
}
