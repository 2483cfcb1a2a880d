//! Answers as HTTP: the right one, and each of the wrong ones.
//!
//! Owns: turning a reply into a response or the end of a connection. Must not know: why a reply is wrong.

use std::io;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use futures_util::{StreamExt, stream};

use super::code;
use super::connection::Door;
use super::faults::Wrong;

/// Time for the first half of a cut answer to leave before its connection ends.
const CUT_AFTER: Duration = Duration::from_millis(30);
static FILLER: [u8; 1 << 16] = [b'a'; 1 << 16];
const HUGE_START: &[u8] = br#"{"ActionStatus":"OK","ErrorCode":0,"ErrorInfo":""#;
const HUGE_END: &[u8] = br#""}"#;
const HTML: &str = "<!DOCTYPE html><html><head><title>Sign in</title></head><body>Please sign in.</body></html>";

/// What is sent to the caller.
pub(super) enum Reply {
    Json {
        code: i64,
        json: Vec<u8>,
    },
    /// Wrong, in place of the right answer `json`.
    Wrong {
        wrong: Wrong,
        json: Vec<u8>,
    },
}

impl Reply {
    pub(super) fn close() -> Self {
        Self::Wrong { wrong: Wrong::Close, json: Vec::new() }
    }

    /// For the record: the code, or what is sent instead of one.
    pub(super) fn summary(&self) -> (Option<i64>, Option<&'static str>) {
        match self {
            Self::Json { code, .. } | Self::Wrong { wrong: Wrong::Code(code), .. } => (Some(*code), None),
            Self::Wrong { wrong: Wrong::Http { .. }, .. } => (None, Some("http")),
            Self::Wrong { wrong: Wrong::Html, .. } => (None, Some("html")),
            Self::Wrong { wrong: Wrong::Cut, .. } => (None, Some("cut")),
            Self::Wrong { wrong: Wrong::Close, .. } => (None, Some("close")),
            Self::Wrong { wrong: Wrong::Garbage, .. } => (None, Some("garbage")),
            Self::Wrong { wrong: Wrong::Huge(_), .. } => (None, Some("huge")),
        }
    }

    pub(super) fn into_response(self, door: &Door, call: u64) -> Response {
        let (wrong, json) = match self {
            Self::Json { json, .. } => return json_response(StatusCode::OK, json),
            Self::Wrong { wrong, json } => (wrong, json),
        };
        match wrong {
            Wrong::Code(code) => json_response(StatusCode::OK, super::wire::Answer::new(code, call).into_json()),
            Wrong::Http { status, retry_after_seconds } => {
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
                let mut response = text_response(status, "text/plain", status.to_string());
                if let Some(seconds) = retry_after_seconds {
                    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
                }
                response
            }
            Wrong::Html => text_response(StatusCode::OK, "text/html", HTML.to_owned()),
            Wrong::Cut => cut(json),
            Wrong::Close => {
                door.shut();
                Response::new(Body::empty())
            }
            Wrong::Garbage => json_response(StatusCode::OK, br#"{"status":"up","items":[1,2,3]}"#.to_vec()),
            Wrong::Huge(bytes) => huge(bytes),
        }
    }
}

pub(super) fn json_response(status: StatusCode, json: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(json));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The vendor's JSON with an error code. Assumed: it comes with HTTP 200 for every code.
pub(super) fn failure(code: i64, call: u64) -> Reply {
    debug_assert_ne!(code, code::OK, "a failure has a code");
    Reply::Json { code, json: super::wire::Answer::new(code, call).into_json() }
}

fn text_response(status: StatusCode, content_type: &'static str, text: String) -> Response {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Announce the whole, send half, end the connection.
fn cut(mut json: Vec<u8>) -> Response {
    let whole = json.len();
    json.truncate(whole / 2);
    let body = stream::unfold(Some(Some(json)), |state| async {
        if let Some(half) = state? {
            return Some((Ok(half), Some(None)));
        }
        tokio::time::sleep(CUT_AFTER).await;
        Some((Err(io::Error::from(io::ErrorKind::ConnectionAborted)), None))
    });
    let mut response = Response::new(Body::from_stream(body));
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(whole));
    response
}

/// The vendor's JSON with an endless text in it, of `bytes` in all, made as it is sent.
fn huge(bytes: u64) -> Response {
    let filler = bytes.saturating_sub((HUGE_START.len() + HUGE_END.len()) as u64);
    let middle = stream::unfold(filler, |left| async move {
        let size = left.min(FILLER.len() as u64);
        let chunk = FILLER.get(..usize::try_from(size).ok()?).filter(|chunk| !chunk.is_empty())?;
        Some((Bytes::from_static(chunk), left - size))
    });
    let start = stream::iter([Bytes::from_static(HUGE_START)]);
    let end = stream::iter([Bytes::from_static(HUGE_END)]);
    Response::new(Body::from_stream(start.chain(middle).chain(end).map(Ok::<_, io::Error>)))
}
