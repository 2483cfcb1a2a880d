//! The UserSig check, against outputs of the vendor's own package (tls-sig-api-v2 1.1).
//!
//! Owns: the samples. Must not know: HTTP.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{SECRET_KEY, SIGNED_AT, USERSIG};
use crate::simulator::{error_code, usersig};

struct SignedUsersig {
    sdk_app_id: u32,
    secret_key: &'static str,
    identifier: &'static str,
    time: i64,
    expire: i64,
    usersig: &'static str,
}

const SAMPLES: &[SignedUsersig] = &[
    SignedUsersig {
        sdk_app_id: 1_400_000_000,
        secret_key: "5bd2850fff3ecb11d7c805251c51ee463a25727bddc2385f3fa8bfee1bb93b5e",
        identifier: "xiaojun",
        time: 1_700_000_000,
        expire: 15_552_000,
        usersig: "eJyrVgrxCdYrSy1SslJQMtIzUNJRAItkpqTmlWSmZUIkKjIT87NK82CSxSnZiQUFmSlAKUMTAyiAyqVWFGQWpYJkTE1NjRDiJZm5YFFzNPXFmekgG3zKHM1T9D3LzdODi-OKs8vCqpxcAvydnV2SSv2cy03cPcpDnA2SMgu0nUxslWoBHdYzUg__",
    },
    SignedUsersig {
        sdk_app_id: 1_400_000_000,
        secret_key: "5bd2850fff3ecb11d7c805251c51ee463a25727bddc2385f3fa8bfee1bb93b5e",
        identifier: "administrator",
        time: 1_732_233_600,
        expire: 86_400,
        usersig: "eJyrVgrxCdYrSy1SslJQMtIzUNJRAItkpqTmlWSmZUIkElNyM-Myi0uKEkvyi2BKilOyEwsKMlOACgxNDKAAKpdaUZBZlAqUsTAzgQuWZOaChAzNjY2MjI3N4OLFmekgSwwqkqq03f3KUgMSswtctbNNcg30Ew0tTZwsgj3SPSycLbWd87ISvZxCHUNtlWoBMyU0RQ__",
    },
    SignedUsersig {
        sdk_app_id: 1_600_012_345,
        secret_key: "0000000000000000000000000000000000000000000000000000000000000000",
        identifier: "admin",
        time: 1_763_769_600,
        expire: 604_800,
        usersig: "eJw9zMsKgkAUgOFXkdkWcubS2ATtbBG56AbRcmTG4WDqpGJF9O5pWdv-g-9Jjskh7GxNFgFhIZBp8ClobNlihl-QpsDyR43JtfdoeqASACjjYjaavXusbS8SxBxgrC0WQ6OR5JFU8t8bdMO9up4nOlbIc06TzSne6myVPEzK17c0V7u9cgwujhWdqJbk9QYqqzH0",
    },
    SignedUsersig {
        sdk_app_id: 88_888_888,
        secret_key: "e5b39bb1eefb8af3f5832cddb72752a364ee15c152508c7d11bce3fff0582db5",
        identifier: "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        time: 1,
        expire: 60,
        usersig: "eJyrVgrxCdYrSy1SslJQMtIzUNJRAItkpqTmlWSmZUIkEgkAmK7ilOzEgoLMFKAeCyiAyqRWFGQWpQLFzQygIiWZuSC*IUxrZjrIpqyUtJKyCONgD48c8xJjs0r38ijT4AjflEzf3OQ8D3eLMoMybdegsMhi80hbpVoAfLo5tw__",
    },
    SignedUsersig {
        sdk_app_id: 1_400_000_001,
        secret_key: "5bd2850fff3ecb11d7c805251c51ee463a25727bddc2385f3fa8bfee1bb93b5e",
        identifier: "user with space",
        time: 1_763_769_600,
        expire: 3_600,
        usersig: "eJyrVgrxCdYrSy1SslJQMtIzUNJRAItkpqTmlWSmZUIkSotTixTKM0syFIoLEpNTYYqKU7ITCwoyU4BKDE0MIMAQKpdaUZBZlAqUMTYzMICKlWTmgkQMzc2Mzc0sEeLFmekgW7wjQ9P0K7ISs0KzXU0DnMsSvV3dHcuMwpLTzFycnE0svbP8PPKKXXIzXE1slWoBW0Y1Mg__",
    },
    SignedUsersig {
        sdk_app_id: 4_294_967_295,
        secret_key: "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        identifier: "管理员",
        time: 1_763_769_600,
        expire: 86_400,
        usersig: "eJw9jcsKgkAYRl9FZh026lycoEXhUg3SWkSbsRnlJ4zxmhG9e1rW5lucc*B7ojRM7F7XaGUh18ZoYX0IKH1rIYevOHc8k864BLNzRwn1f12jrtIYUGNFXEEE466gs9ODgVqPxmcE4xm2UE7I4czjTLA-b6CYnopOenFMVZyS5ATRcVddlmFZRcFmG-cmuB*GfVZzmeQPvEavN4svNdQ_",
    },
];

#[test]
fn usersigs_of_the_vendors_package_are_valid_until_expiry() {
    for SignedUsersig { sdk_app_id, secret_key, identifier, time, expire, usersig } in SAMPLES {
        let check = |now| usersig::check(usersig, identifier, *sdk_app_id, secret_key, now);
        assert_eq!(check(*time), Ok(()), "{identifier} when signed");
        assert_eq!(check(time + expire), Ok(()), "{identifier} at the end of its lifetime");
        assert_eq!(check(time + expire + 1), Err(error_code::USERSIG_EXPIRED), "{identifier} after its lifetime");
    }
}

#[test]
fn a_usersig_is_valid_for_its_app_account_and_key_only() {
    let check = |identifier, app, key| usersig::check(USERSIG, identifier, app, key, SIGNED_AT);
    assert_eq!(check("administrator", 1_400_000_000, SECRET_KEY), Ok(()));
    assert_eq!(check("Administrator", 1_400_000_000, SECRET_KEY), Err(error_code::IDENTIFIER_DIFFERS));
    assert_eq!(check("administrator", 1_400_000_001, SECRET_KEY), Err(error_code::SDKAPPID_DIFFERS));
    assert_eq!(check("administrator", 1_400_000_000, "another key"), Err(error_code::USERSIG_WRONG));
}

#[test]
fn malformed_usersigs_are_refused() {
    let check = |usersig: &str| usersig::check(usersig, "administrator", 1_400_000_000, SECRET_KEY, SIGNED_AT);
    for text in
        ["", "x", "eJyrVg__", &USERSIG[..100], &USERSIG[..196], &USERSIG.replace('_', "="), &USERSIG.replace('-', "/")]
    {
        assert_eq!(check(text), Err(error_code::USERSIG_UNREADABLE), "{text}");
    }
    assert_eq!(check(&compressed("{}")), Err(error_code::USERSIG_INCOMPLETE));
    let longer_lived = r#"{"TLS.ver":"2.0","TLS.identifier":"administrator","TLS.sdkappid":1400000000,"TLS.expire":86401,
        "TLS.time":1732233600,"TLS.sig":"0xbz+GNvePakpE+k4m0/a194B8SHgH8C9+CnjaJBUAU="}"#;
    assert_eq!(check(&compressed(longer_lived)), Err(error_code::USERSIG_WRONG), "a lifetime that was not signed");
    assert_eq!(check(&compressed(&longer_lived.replace("86401", "86400"))), Ok(()));
}

fn compressed(json: &str) -> String {
    let mut zlib = Vec::new();
    let mut reader = flate2::read::ZlibEncoder::new(json.as_bytes(), flate2::Compression::default());
    std::io::Read::read_to_end(&mut reader, &mut zlib).unwrap();
    STANDARD.encode(zlib).replace('+', "*").replace('/', "-").replace('=', "_")
}
