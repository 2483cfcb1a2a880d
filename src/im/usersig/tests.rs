//! The outputs of the vendor's own package, and when a UserSig is renewed.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::io::Read;

use chrono::TimeDelta;
use flate2::read::ZlibDecoder;
use serde::Deserialize;
use serde_json::Value;

use super::*;

#[derive(Deserialize)]
struct UsersigVectors {
    vectors: Vec<UsersigVector>,
}

#[derive(Deserialize)]
struct UsersigVector {
    sdk_app_id: u32,
    secret_key: String,
    identifier: String,
    time: i64,
    expire: u64,
    usersig: String,
    decoded: Value,
}

fn decode(usersig: &str) -> Value {
    let packed = STANDARD.decode(usersig.replace('*', "+").replace('-', "/").replace('_', "=")).unwrap();
    let mut json = String::new();
    ZlibDecoder::new(packed.as_slice()).read_to_string(&mut json).unwrap();
    serde_json::from_str(&json).unwrap()
}

#[test]
fn usersigs_equal_those_of_the_vendors_package() {
    let vectors: UsersigVectors =
        serde_json::from_str(include_str!("../../../tests/data/usersig-vectors.json")).unwrap();
    assert!(vectors.vectors.len() >= 6);
    for vector in vectors.vectors {
        let made = sign_usersig(vector.sdk_app_id, &vector.identifier, &vector.secret_key, vector.time, vector.expire);
        let decoded = decode(&made);
        assert_eq!(decoded["TLS.sig"], vector.decoded["TLS.sig"], "{}", vector.identifier);
        assert_eq!(decoded, vector.decoded);
        assert_eq!(decoded, decode(&vector.usersig));
        assert!(
            made.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"*-_".contains(&byte)),
            "no character needs escaping in a URL"
        );
    }
}

fn signer() -> UsersigSigner {
    UsersigSigner::new(
        1_400_000_000,
        "administrator".to_owned(),
        SigningKey::new("key".into(), None),
        Duration::from_hours(24),
    )
}

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000 + seconds, 0).unwrap()
}

const HALF_A_DAY: i64 = 12 * 3600;

#[test]
fn a_usersig_is_used_for_half_of_its_lifetime() {
    let signer = signer();
    let first = signer.current(at(0));
    assert_eq!(signer.current(at(HALF_A_DAY - 1)).expose(), first.expose());
    let second = signer.current(at(HALF_A_DAY));
    assert_eq!(decode(second.expose())["TLS.time"], at(HALF_A_DAY).timestamp());
    assert_eq!(signer.current(at(HALF_A_DAY + 1)).expose(), second.expose());
}

#[test]
fn a_clock_set_back_makes_a_new_usersig() {
    let signer = signer();
    signer.current(at(0));
    let earlier = at(0) - TimeDelta::days(400);
    assert_eq!(decode(signer.current(earlier).expose())["TLS.time"], earlier.timestamp());
}

#[test]
fn concurrent_refusals_share_one_renewal() {
    let signer = signer();
    let old = signer.current(at(0));
    let fresh = signer.after_refusal(&old, true, at(10)).unwrap();
    assert_ne!(fresh.expose(), old.expose());
    let shared = signer.after_refusal(&old, true, at(11)).unwrap();
    assert_eq!(shared.expose(), fresh.expose(), "the concurrent call uses the fresh one");
    assert!(signer.after_refusal(&fresh, true, at(12)).is_none(), "the fresh one is refused too");
    assert!(signer.after_refusal(&fresh, true, at(10 + 60)).is_some(), "a minute later another one is made");
}

#[test]
fn debug_output_shows_neither_key_nor_usersig() {
    let signer = UsersigSigner::new(
        1,
        "administrator".to_owned(),
        SigningKey::new("very-secret-key".into(), None),
        Duration::from_hours(1),
    );
    let usersig = signer.current(at(0));
    let debug = format!("{signer:?} {usersig:?}");
    assert!(!debug.contains("very-secret-key") && !debug.contains(usersig.expose()), "{debug}");
}
