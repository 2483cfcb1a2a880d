//! Tests of the simulator over real HTTP, with requests built by hand.
//!
//! Owns: starting a simulator and calling it. Must not know: the crate's own client.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod calls;
mod control;
mod fault_text;
mod misbehaviour;
mod records;
mod urls;
mod usersig;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::clock::Clock;
use super::{Handle, Options, Running, Simulator};

pub(super) const SECRET_KEY: &str = "5bd2850fff3ecb11d7c805251c51ee463a25727bddc2385f3fa8bfee1bb93b5e";
/// Made by the vendor's own package for app 1400000000, "administrator", at 1732233600 for 86400 seconds.
pub(super) const USERSIG: &str = "eJyrVgrxCdYrSy1SslJQMtIzUNJRAItkpqTmlWSmZUIkElNyM-Myi0uKEkvyi2BKilOyEwsKMlOACgxNDKAAKpdaUZBZlAqUsTAzgQuWZOaChAzNjY2MjI3N4OLFmekgSwwqkqq03f3KUgMSswtctbNNcg30Ew0tTZwsgj3SPSycLbWd87ISvZxCHUNtlWoBMyU0RQ__";
pub(super) const SIGNED_AT: i64 = 1_732_233_600;

static RANDOM: AtomicU32 = AtomicU32::new(1);

/// A simulator with a caller that does everything right.
pub(super) struct World {
    running: Running,
    client: reqwest::Client,
}

/// An answer as it came.
pub(super) struct Answered {
    status: u16,
    body: Value,
}

impl Answered {
    pub(super) fn code(&self) -> i64 {
        assert_eq!(self.status, 200, "the vendor answers with HTTP 200, whatever the code");
        let code = self.body["ErrorCode"].as_i64().unwrap();
        let status = self.body["ActionStatus"].as_str().unwrap();
        assert_eq!(status, if code == 0 { "OK" } else { "FAIL" });
        assert!(self.body["RequestId"].is_string());
        code
    }
}

/// Options with two attributes, and the wall clock set to when the signature was valid.
pub(super) fn options() -> Options {
    Options {
        secret_key: SECRET_KEY.to_owned(),
        attribute_names: vec!["sex".to_owned(), "city".to_owned()],
        clock_offset_seconds: SIGNED_AT + 100 - Clock::new(0).unix_seconds(),
        ..Options::default()
    }
}

#[expect(clippy::disallowed_methods, reason = "these calls must not go through the crate's own client")]
fn client() -> reqwest::Client {
    // Fails when another test has installed it already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().timeout(Duration::from_mins(1)).build().unwrap()
}

impl World {
    pub(super) async fn start() -> Self {
        Self::with(options()).await
    }

    pub(super) async fn with(options: Options) -> Self {
        Self { running: Simulator::start(options).await.unwrap(), client: client() }
    }

    pub(super) fn handle(&self) -> &Handle {
        self.running.handle()
    }

    /// The URL of a command with everything right, and a fresh `random`.
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

    pub(super) async fn call(&self, path: &str, body: &Value) -> Answered {
        self.post(self.url(path), body.to_string()).await
    }

    pub(super) async fn post(&self, url: String, body: impl Into<reqwest::Body>) -> Answered {
        let response = self.client.post(url).body(body).send().await.unwrap();
        let status = response.status().as_u16();
        Answered { status, body: serde_json::from_slice(&response.bytes().await.unwrap()).unwrap() }
    }

    /// Set "city" of one user, with the older service.
    pub(super) async fn set_city(&self, account: &str, city: &str) -> i64 {
        self.call("all_member_push/im_set_attr", &set(&[(account, json!({"city": city}))])).await.code()
    }

    /// A user's "city" as the simulator has it.
    pub(super) fn city(&self, account: &str) -> Option<String> {
        self.handle().user(account).remove("city")
    }

    pub(super) fn fault(&self, text: &str) -> super::RuleId {
        self.handle().add_fault(text.parse().unwrap())
    }
}

/// So many calls of accounts `u0` and on, within one second: on a machine that is too busy for that, another attempt in
/// another world.
pub(super) async fn within_a_second(calls: usize, mut start: impl AsyncFnMut() -> World) -> (World, Vec<i64>) {
    loop {
        let world = start().await;
        let before = super::clock::monotonic();
        let mut codes = Vec::new();
        for number in 0..calls {
            codes.push(world.set_city(&format!("u{number}"), "a").await);
        }
        if before.elapsed() < Duration::from_secs(1) {
            return (world, codes);
        }
    }
}

/// A body that sets attributes.
pub(super) fn set(users: &[(&str, Value)]) -> Value {
    let users = users.iter().map(|(account, attributes)| json!({"To_Account": account, "Attrs": attributes}));
    json!({ "UserAttrs": users.collect::<Vec<_>>() })
}

/// Fail the test instead of waiting for ever.
pub(super) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_mins(1), future).await.expect("it should have happened by now")
}
