//! The control interface, used over HTTP.
//!
//! Owns: the tests of `control`. Must not know: the in-process handle.

use serde_json::{Value, json};

use super::{TestSimulator, set, soon};

impl TestSimulator {
    async fn control(&self, method: reqwest::Method, path: &str, body: &str) -> (u16, Value) {
        let url = format!("{}/_simulator/{path}", self.running.base_url());
        let response = self.client.request(method, url).body(body.to_owned()).send().await.unwrap();
        let status = response.status().as_u16();
        (status, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap())
    }
}

#[tokio::test]
async fn users_can_be_read_and_edited_over_http() {
    use reqwest::Method;
    let simulator = TestSimulator::start().await;
    simulator.set_city("u1", "a").await;
    assert_eq!(simulator.control(Method::GET, "users/u1", "").await, (200, json!({"city": "a"})));
    let put = simulator.control(Method::PUT, "users/u%202", r#"{"sex":"f"}"#).await;
    assert_eq!(put, (200, json!({"sex": "f"})));
    let users = json!({"u 2": {"sex": "f"}, "u1": {"city": "a"}});
    assert_eq!(simulator.control(Method::GET, "users", "").await, (200, users));
    let (status, problem) = simulator.control(Method::PUT, "users/u1", r#"{"town":"x"}"#).await;
    assert_eq!((status, problem["error"].as_str()), (400, Some("the app has no attribute named \"town\"")));
    assert_eq!(simulator.control(Method::DELETE, "users/u1", "").await.0, 200);
    assert_eq!(simulator.control(Method::GET, "users/u1", "").await, (200, json!({})));
    assert_eq!(simulator.control(Method::GET, "names", "").await, (200, json!({"0": "sex", "1": "city"})));
}

#[tokio::test]
async fn faults_can_be_added_released_and_removed_over_http() {
    use reqwest::Method;
    let simulator = TestSimulator::start().await;
    let (status, added) = simulator.control(Method::POST, "faults", "hold:account=u1").await;
    assert_eq!(status, 200);
    let id = added["id"].as_u64().unwrap();
    let caller = tokio::spawn(simulator.request("timpush/set_attr", &set(&[("u1", json!({"city": "a"}))])).send());
    soon(async { while simulator.control(Method::GET, "counters", "").await.1["held"] != json!(1) {} }).await;
    assert_eq!(simulator.control(Method::POST, &format!("faults/{id}/release"), "").await.0, 200);
    assert_eq!(soon(caller).await.unwrap().unwrap().status().as_u16(), 200);
    let listed = json!([{"id": id, "fault": "hold:account=u1", "fired": 1}]);
    assert_eq!(simulator.control(Method::GET, "faults", "").await, (200, listed));
    assert_eq!(simulator.control(Method::DELETE, &format!("faults/{id}"), "").await.0, 200);
    assert_eq!(simulator.control(Method::DELETE, &format!("faults/{id}"), "").await.0, 404);
    simulator.control(Method::POST, "faults", "refuse:91000").await;
    assert_eq!(simulator.set_city("u2", "a").await, 91000);
    assert_eq!(simulator.control(Method::DELETE, "faults", "").await.0, 200);
    assert_eq!(simulator.set_city("u2", "a").await, 0);
    let (status, problem) = simulator.control(Method::POST, "faults", "explode").await;
    assert_eq!(status, 400);
    assert!(problem["error"].as_str().unwrap().contains("explode"));
}

#[tokio::test]
async fn records_can_be_read_and_cleared_over_http() {
    use reqwest::Method;
    let simulator = TestSimulator::start().await;
    let url = simulator.url("all_member_push/im_set_attr");
    for city in ["a", "b"] {
        simulator.post(url.clone(), set(&[("u1", json!({ "city": city }))]).to_string()).await;
    }
    let (_, calls) = simulator.control(Method::GET, "calls?last=1", "").await;
    assert_eq!(calls.as_array().unwrap().len(), 1);
    assert_eq!(calls[0]["users"], json!([{"account": "u1", "attributes": [["city", "b"]]}]));
    let (_, violations) = simulator.control(Method::GET, "violations", "").await;
    assert_eq!(violations[0]["kind"], "random_repeated");
    let (_, counters) = simulator.control(Method::GET, "counters", "").await;
    assert_eq!(counters["endpoints"]["all_member_push/im_set_attr"]["applied"], 2);
    assert_eq!((&counters["violations"], &counters["users"]), (&json!(1), &json!(1)));
    simulator.control(Method::DELETE, "records", "").await;
    assert_eq!(simulator.control(Method::GET, "violations", "").await.1, json!([]));
}
