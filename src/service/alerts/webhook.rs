//! One POST to the receiver of alerts.
//!
//! Owns: the URL, which is a secret, and why a POST was not accepted, without anything of the URL. Must not know: what is
//! sent, and when it is repeated.

use std::error::Error;
use std::io;
use std::time::Duration;

use reqwest::header::CONTENT_TYPE;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use url::Url;

use crate::config::AlertsConfig;
use crate::http_client;
use crate::secret_file::SecretFile;

/// The limit for one POST, from connecting to the last byte of the answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The limit for its connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The answer of a chat has some hundred bytes. No more of an answer is read.
const MAX_ANSWER_BYTES: usize = 16 * 1024;
/// The error codes of Feishu's bots are larger.
const FEISHU_CODES: i64 = 9000;

/// The receiver of alerts.
#[derive(Clone, Debug)]
pub(super) struct Webhook {
    url: SecretString,
    file: Option<SecretFile>,
}

impl Webhook {
    /// The configured receiver; `None` without one.
    pub(super) fn from_config(config: &AlertsConfig) -> Option<Self> {
        Some(Self { url: config.webhook.clone()?, file: config.webhook_file.clone() })
    }

    /// Reads the file of the URL again. Returns whether it holds another URL than before. A file that holds none is left to
    /// the next attempt.
    pub(super) fn refresh(&mut self) -> bool {
        let Some(Ok(Some(url))) = self.file.as_ref().map(SecretFile::read_again) else { return false };
        if url.expose_secret() == self.url.expose_secret() || parse(&url).is_none() {
            return false;
        }
        self.url = url;
        true
    }

    /// Posts the document.
    ///
    /// # Errors
    /// Why the receiver has not accepted it.
    pub(super) async fn post(&self, document: &Value) -> Result<(), String> {
        let url = parse(&self.url).ok_or_else(|| "the URL is not an http or https URL with a host".to_owned())?;
        let builder = http_client::builder(Some(&url)).connect_timeout(CONNECT_TIMEOUT).timeout(TIMEOUT);
        let client = http_client::build(builder)?;
        let request = client.post(url).header(CONTENT_TYPE, "application/json").body(document.to_string());
        let mut response = request.send().await.map_err(|error| failure(&error))?;
        let status = response.status();
        if !status.is_success() {
            let reason = status.canonical_reason().unwrap_or("(not a standard status)");
            return Err(format!("the receiver answered {} {reason}", status.as_u16()));
        }
        let mut answer = Vec::new();
        // The status says that the alert has arrived. What is missing of the answer changes nothing.
        while let Ok(Some(chunk)) = response.chunk().await {
            answer.extend_from_slice(&chunk);
            if answer.len() > MAX_ANSWER_BYTES {
                break;
            }
        }
        refusal(&answer).map_or(Ok(()), |code| Err(format!("the receiver answered 200 with the error code {code}")))
    }
}

fn parse(url: &SecretString) -> Option<Url> {
    let url = Url::parse(url.expose_secret()).ok()?;
    (matches!(url.scheme(), "http" | "https") && url.has_host()).then_some(url)
}

/// The error code of a chat that answers 200 to everything: `errcode` of `WeCom` and `DingTalk`, `code` of Feishu.
fn refusal(answer: &[u8]) -> Option<i64> {
    let answer: Value = serde_json::from_slice(answer).ok()?;
    let errcode = answer["errcode"].as_i64().filter(|code| *code != 0);
    errcode.or_else(|| answer["code"].as_i64().filter(|code| answer["msg"].is_string() && *code >= FEISHU_CODES))
}

/// Why there was no answer. The text of an error may contain the host, so only its kind is told.
fn failure(error: &reqwest::Error) -> String {
    let mut cause: Option<&dyn Error> = Some(error);
    let (mut system, mut certificate) = (None, false);
    while let Some(error) = cause {
        let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
        system = kind.filter(|kind| *kind != io::ErrorKind::Other).or(system);
        certificate |= error.to_string().contains("invalid peer certificate");
        cause = error.source();
    }
    if error.is_timeout() {
        return format!("the receiver has not answered within {} s", TIMEOUT.as_secs());
    }
    match (error.is_connect(), certificate, system) {
        (_, true, _) => "the TLS certificate of the receiver is not valid for this machine".to_owned(),
        (true, _, Some(kind)) => format!("cannot connect to the receiver or its proxy: {kind}"),
        (true, _, None) => {
            "cannot connect to the receiver or its proxy: its name cannot be resolved, or TLS fails".to_owned()
        }
        (false, _, Some(kind)) => format!("the connection to the receiver broke: {kind}"),
        (false, _, None) => "the connection to the receiver broke".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chat_that_answers_200_can_refuse() {
        for (answer, code) in [
            (r#"{"errcode":93000,"errmsg":"invalid webhook url"}"#, Some(93000)),
            (r#"{"errcode":0,"errmsg":"ok"}"#, None),
            (r#"{"code":19021,"data":{},"msg":"sign match fail"}"#, Some(19021)),
            (r#"{"code":0,"msg":"success","StatusCode":0}"#, None),
            (r#"{"code":200,"msg":"OK"}"#, None),
            ("ok", None),
            ("", None),
        ] {
            assert_eq!(refusal(answer.as_bytes()), code, "{answer}");
        }
    }

    #[tokio::test]
    async fn a_failure_shows_nothing_of_the_url() {
        for url in [
            "http://127.0.0.1:1/secret-path",
            "http://secret-host.invalid/secret-path",
            "http://secret-user:secret-password@127.0.0.1:1/",
        ] {
            let webhook = Webhook { url: url.into(), file: None };
            let error = webhook.post(&Value::Null).await.expect_err("nobody listens");
            assert!(error.starts_with("cannot connect to the receiver or its proxy: "), "{error}");
            assert!(!error.contains("secret") && !error.contains("127.0.0.1"), "{error}");
            assert!(!format!("{webhook:?}").contains("secret-"), "{webhook:?}");
        }
    }
}
