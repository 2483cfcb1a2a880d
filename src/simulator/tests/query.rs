//! The checks of a call's URL.
//!
//! Owns: the tests of the query parameters. Must not know: bodies, users.

use serde_json::json;

use super::{TestSimulator, USERSIG};
use crate::simulator::error_code;

#[tokio::test]
async fn each_defect_of_the_url_has_its_code() {
    let simulator = TestSimulator::start().await;
    let good = simulator.url("timpush/get_attr_name");
    assert_eq!(simulator.post(good.clone(), "{}").await.code(), 0);
    for (part, instead, code) in [
        ("/v4/timpush", "/v4/TimPush", error_code::WRONG_URL),
        ("/v4/timpush", "/v3/timpush", error_code::WRONG_URL),
        ("timpush/get_attr_name", "timpush/im_get_attr_name", error_code::WRONG_URL),
        ("timpush/get_attr_name", "all_member_push/get_attr_name", error_code::WRONG_URL),
        ("timpush/get_attr_name", "timpush/get_attr_name/", error_code::WRONG_URL),
        ("sdkappid=1400000000&", "", error_code::SDKAPPID_MISSING),
        ("sdkappid=", "SdkAppId=", error_code::SDKAPPID_MISSING),
        ("sdkappid=1400000000", "sdkappid=4294967296", error_code::SDKAPPID_NOT_VALID),
        ("sdkappid=1400000000", "sdkappid=%2B1400000000", error_code::SDKAPPID_NOT_VALID),
        ("sdkappid=1400000000", "sdkappid=1400000001", error_code::NO_SUCH_APP),
        ("identifier=administrator&", "", error_code::IDENTIFIER_MISSING),
        ("identifier=administrator", "identifier=ADMINISTRATOR", error_code::IDENTIFIER_DIFFERS),
        ("usersig=eJ", "sig=eJ", error_code::USERSIG_MISSING),
        ("usersig=eJ", "usersig=", error_code::USERSIG_UNREADABLE),
        ("random=", "random=x", error_code::WRONG_URL),
        ("random=", "random=-", error_code::WRONG_URL),
        ("random=", "random=42949672960", error_code::WRONG_URL),
        ("random=", "rnd=", error_code::WRONG_URL),
        ("contenttype=json", "contenttype=JSON", error_code::WRONG_URL),
        ("&contenttype=json", "", error_code::WRONG_URL),
    ] {
        assert!(good.contains(part), "{part}");
        assert_eq!(simulator.post(good.replace(part, instead), "{}").await.code(), code, "{part} → {instead}");
    }
    let get = simulator.client.get(simulator.url("timpush/get_attr_name")).send().await.unwrap();
    assert!(get.text().await.unwrap().contains(&error_code::WRONG_URL.to_string()), "GET");
}

#[tokio::test]
async fn a_usersig_expires_by_the_vendors_clock() {
    let simulator = TestSimulator::start().await;
    let offset_now = super::options().clock_offset_seconds;
    simulator.handle().set_clock_offset(offset_now + 86_400);
    let answer = simulator.call("timpush/get_attr_name", &json!({})).await;
    assert_eq!(answer.code(), error_code::USERSIG_EXPIRED);
    assert!(!answer.body.to_string().contains(USERSIG), "an answer never contains the UserSig");
    simulator.handle().set_clock_offset(offset_now);
    assert_eq!(simulator.call("timpush/get_attr_name", &json!({})).await.code(), 0);
}

#[tokio::test]
async fn a_valid_usersig_of_another_account_than_the_admin_is_refused() {
    let mut options = super::options();
    options.identifier = "boss".to_owned();
    let simulator = TestSimulator::with(options).await;
    assert_eq!(simulator.call("timpush/get_attr_name", &json!({})).await.code(), error_code::NOT_ADMIN);
}
