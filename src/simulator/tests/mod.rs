//! Tests of the simulator over real HTTP, with requests built by hand.
//!
//! Owns: starting a simulator and calling it. Must not know: the crate's own IM client.

#![expect(clippy::unwrap_used, reason = "a panic fails the test")]

mod commands;
mod control;
mod fault_rule_text;
mod faults;
mod query;
mod records;
mod usersig;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::clock::VendorClock;
use super::{RunningSimulator, Simulator, SimulatorHandle, SimulatorOptions};

pub(super) const SECRET_KEY: &str = "5bd2850fff3ecb11d7c805251c51ee463a25727bddc2385f3fa8bfee1bb93b5e";
/// Created with the vendor's own package for app 1400000000, "administrator", at 1732233600 for 86400 seconds.
pub(super) const USERSIG: &str = "eJyrVgrxCdYrSy1SslJQMtIzUNJRAItkpqTmlWSmZUIkElNyM-Myi0uKEkvyi2BKilOyEwsKMlOACgxNDKAAKpdaUZBZlAqUsTAzgQuWZOaChAzNjY2MjI3N4OLFmekgSwwqkqq03f3KUgMSswtctbNNcg30Ew0tTZwsgj3SPSycLbWd87ISvZxCHUNtlWoBMyU0RQ__";
pub(super) const SIGNED_AT: i64 = 1_732_233_600;

static RANDOM: AtomicU32 = AtomicU32::new(1);

/// A running simulator, and a client that sends valid calls.
pub(super) struct TestSimulator {
    running: RunningSimulator,
    client: reqwest::Client,
}

/// The answer to a call.
pub(super) struct TestAnswer {
    status: u16,
    pub(super) body: Value,
}

impl TestAnswer {
    pub(super) fn code(&self) -> i64 {
        assert_eq!(self.status, 200, "the vendor answers every code with HTTP 200");
        let code = self.body["ErrorCode"].as_i64().unwrap();
        let status = self.body["ActionStatus"].as_str().unwrap();
        assert_eq!(status, if code == 0 { "OK" } else { "FAIL" });
        assert!(self.body["RequestId"].is_string());
        code
    }
}

/// Options with two attributes, and a wall clock at which the signature is valid.
pub(super) fn options() -> SimulatorOptions {
    SimulatorOptions {
        secret_key: SECRET_KEY.to_owned(),
        attribute_names: vec!["sex".to_owned(), "city".to_owned()],
        clock_offset_seconds: SIGNED_AT + 100 - VendorClock::new(0).unix_seconds(),
        ..SimulatorOptions::default()
    }
}

#[expect(clippy::disallowed_methods, reason = "these calls must not use the crate's own IM client")]
fn client() -> reqwest::Client {
    // Returns an error if another test has installed it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().timeout(Duration::from_mins(1)).build().unwrap()
}

impl TestSimulator {
    pub(super) async fn start() -> Self {
        Self::with(options()).await
    }

    pub(super) async fn with(options: SimulatorOptions) -> Self {
        Self { running: Simulator::start(options).await.unwrap(), client: client() }
    }

    pub(super) fn handle(&self) -> &SimulatorHandle {
        self.running.handle()
    }

    /// A valid URL of a command, with a new `random`.
    pub(super) fn url(&self, path: &str) -> String {
        let random = RANDOM.fetch_add(1, Ordering::Relaxed);
        let base = self.running.base_url();
        format!(
            "{base}/v4/{path}?sdkappid=1400000000&identifier=administrator&usersig={USERSIG}&random={random}\
             &contenttype=json"
        )
    }

    pub(super) fn request(&self, path: &str, body: &Value) -> reqwest::RequestBuilder {
        self.client.post(self.url(path)).body(body.to_string())
    }

    pub(super) async fn call(&self, path: &str, body: &Value) -> TestAnswer {
        self.post(self.url(path), body.to_string()).await
    }

    pub(super) async fn post(&self, url: String, body: impl Into<reqwest::Body>) -> TestAnswer {
        let response = self.client.post(url).body(body).send().await.unwrap();
        let status = response.status().as_u16();
        TestAnswer { status, body: serde_json::from_slice(&response.bytes().await.unwrap()).unwrap() }
    }

    /// Sets "city" of one user through `all_member_push`. Returns the code.
    pub(super) async fn set_city(&self, account: &str, city: &str) -> i64 {
        self.call("all_member_push/im_set_attr", &set(&[(account, json!({"city": city}))])).await.code()
    }

    /// The user's "city" in the simulator.
    pub(super) fn city(&self, account: &str) -> Option<String> {
        self.handle().user(account).remove("city")
    }

    pub(super) fn fault(&self, text: &str) -> super::FaultRuleId {
        self.handle().add_fault(text.parse().unwrap())
    }
}

/// Sends `calls` calls for the accounts `u0`, `u1`, … within one second. If the machine is too busy for that, tries
/// again with another simulator.
pub(super) async fn within_a_second(
    calls: usize,
    mut start: impl AsyncFnMut() -> TestSimulator,
) -> (TestSimulator, Vec<i64>) {
    loop {
        let simulator = start().await;
        let before = super::clock::monotonic();
        let mut codes = Vec::new();
        for number in 0..calls {
            codes.push(simulator.set_city(&format!("u{number}"), "a").await);
        }
        if before.elapsed() < Duration::from_secs(1) {
            return (simulator, codes);
        }
    }
}

/// The body of a call that sets attributes.
pub(super) fn set(users: &[(&str, Value)]) -> Value {
    let users = users.iter().map(|(account, attributes)| json!({"To_Account": account, "Attrs": attributes}));
    json!({ "UserAttrs": users.collect::<Vec<_>>() })
}

/// Waits for a future, but not forever: the test fails after a minute.
pub(super) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_mins(1), future).await.expect("not finished within a minute")
}
