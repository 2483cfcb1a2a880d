//! What a call's URL must carry.

use serde_json::json;

use super::{USERSIG, World};
use crate::simulator::code;

#[tokio::test]
async fn each_defect_of_the_url_has_its_code() {
    let world = World::start().await;
    let good = world.url("timpush/get_attr_name");
    assert_eq!(world.post(good.clone(), "{}").await.code(), 0);
    for (part, instead, code) in [
        ("/v4/timpush", "/v4/TimPush", code::WRONG_URL),
        ("/v4/timpush", "/v3/timpush", code::WRONG_URL),
        ("timpush/get_attr_name", "timpush/im_get_attr_name", code::WRONG_URL),
        ("timpush/get_attr_name", "all_member_push/get_attr_name", code::WRONG_URL),
        ("timpush/get_attr_name", "timpush/get_attr_name/", code::WRONG_URL),
        ("sdkappid=1400000000&", "", code::SDKAPPID_MISSING),
        ("sdkappid=", "SdkAppId=", code::SDKAPPID_MISSING),
        ("sdkappid=1400000000", "sdkappid=4294967296", code::SDKAPPID_NOT_VALID),
        ("sdkappid=1400000000", "sdkappid=%2B1400000000", code::SDKAPPID_NOT_VALID),
        ("sdkappid=1400000000", "sdkappid=1400000001", code::NO_SUCH_APP),
        ("identifier=administrator&", "", code::IDENTIFIER_MISSING),
        ("identifier=administrator", "identifier=ADMINISTRATOR", code::IDENTIFIER_DIFFERS),
        ("usersig=eJ", "sig=eJ", code::USERSIG_MISSING),
        ("usersig=eJ", "usersig=", code::USERSIG_UNREADABLE),
        ("random=", "random=x", code::WRONG_URL),
        ("random=", "random=-", code::WRONG_URL),
        ("random=", "random=42949672960", code::WRONG_URL),
        ("random=", "rnd=", code::WRONG_URL),
        ("contenttype=json", "contenttype=JSON", code::WRONG_URL),
        ("&contenttype=json", "", code::WRONG_URL),
    ] {
        assert!(good.contains(part), "{part}");
        assert_eq!(world.post(good.replace(part, instead), "{}").await.code(), code, "{part} → {instead}");
    }
    let get = world.client.get(world.url("timpush/get_attr_name")).send().await.unwrap();
    assert!(get.text().await.unwrap().contains(&code::WRONG_URL.to_string()), "GET");
}

#[tokio::test]
async fn a_signature_expires_by_the_vendors_clock() {
    let world = World::start().await;
    let offset_now = super::options().clock_offset_seconds;
    world.handle().set_clock_offset(offset_now + 86_400);
    let answer = world.call("timpush/get_attr_name", &json!({})).await;
    assert_eq!(answer.code(), code::USERSIG_EXPIRED);
    assert!(!answer.body.to_string().contains(USERSIG), "a signature is never repeated");
    world.handle().set_clock_offset(offset_now);
    assert_eq!(world.call("timpush/get_attr_name", &json!({})).await.code(), 0);
}

#[tokio::test]
async fn somebody_properly_signed_who_is_not_the_admin_may_not_call() {
    let mut options = super::options();
    options.identifier = "boss".to_owned();
    let world = World::with(options).await;
    assert_eq!(world.call("timpush/get_attr_name", &json!({})).await.code(), code::NOT_ADMIN);
}
