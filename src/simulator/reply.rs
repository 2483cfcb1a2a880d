//! Answers as HTTP responses: the right one, and every faulty one.
//!
//! Owns: turning a reply into a response or into the end of the connection. Must not know: why a reply is faulty.

use std::io;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use futures_util::{StreamExt, stream};

use super::answer::VendorAnswer;
use super::connection::ConnectionCloser;
use super::error_code;
use super::faults::FaultyAnswer;

/// Time between the first half of a cut answer and the end of its connection, so that the half is sent.
const CUT_DELAY: Duration = Duration::from_millis(30);
static FILLER: [u8; 1 << 16] = [b'a'; 1 << 16];
const HUGE_START: &[u8] = br#"{"ActionStatus":"OK","ErrorCode":0,"ErrorInfo":""#;
const HUGE_END: &[u8] = br#""}"#;
const HTML: &str = "<!DOCTYPE html><html><head><title>Sign in</title></head><body>Please sign in.</body></html>";

/// The reply to a call.
pub(super) enum SimulatedReply {
    /// The right answer.
    Json { code: i64, json: Vec<u8> },
    /// `answer` replaces the right answer `json`.
    Faulty { answer: FaultyAnswer, json: Vec<u8> },
}

impl SimulatedReply {
    /// Closes the connection without an answer.
    pub(super) fn close() -> Self {
        Self::Faulty { answer: FaultyAnswer::Close, json: Vec::new() }
    }

    /// For the recorder: the code, or the kind of an answer without one.
    pub(super) fn summary(&self) -> (Option<i64>, Option<&'static str>) {
        match self {
            Self::Json { code, .. } | Self::Faulty { answer: FaultyAnswer::Code(code), .. } => (Some(*code), None),
            Self::Faulty { answer: FaultyAnswer::Http { .. }, .. } => (None, Some("http")),
            Self::Faulty { answer: FaultyAnswer::Html, .. } => (None, Some("html")),
            Self::Faulty { answer: FaultyAnswer::Cut, .. } => (None, Some("cut")),
            Self::Faulty { answer: FaultyAnswer::Close, .. } => (None, Some("close")),
            Self::Faulty { answer: FaultyAnswer::Garbage, .. } => (None, Some("garbage")),
            Self::Faulty { answer: FaultyAnswer::Huge(_), .. } => (None, Some("huge")),
        }
    }

    /// The HTTP response. `call` is the number of the call, for the answer's `RequestId`.
    pub(super) fn into_response(self, connection: &ConnectionCloser, call: u64) -> Response {
        let (answer, json) = match self {
            Self::Json { json, .. } => return json_response(StatusCode::OK, json),
            Self::Faulty { answer, json } => (answer, json),
        };
        match answer {
            FaultyAnswer::Code(code) => json_response(StatusCode::OK, VendorAnswer::new(code, call).into_json()),
            FaultyAnswer::Http { status, retry_after_seconds } => {
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
                let mut response = text_response(status, "text/plain", status.to_string());
                if let Some(seconds) = retry_after_seconds {
                    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
                }
                response
            }
            FaultyAnswer::Html => text_response(StatusCode::OK, "text/html", HTML.to_owned()),
            FaultyAnswer::Cut => cut(json),
            FaultyAnswer::Close => {
                connection.close();
                Response::new(Body::empty())
            }
            FaultyAnswer::Garbage => json_response(StatusCode::OK, br#"{"status":"up","items":[1,2,3]}"#.to_vec()),
            FaultyAnswer::Huge(bytes) => huge(bytes),
        }
    }
}

pub(super) fn json_response(status: StatusCode, json: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(json));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The vendor's JSON with an error code. Assumed: every code comes with HTTP 200.
pub(super) fn failure(code: i64, call: u64) -> SimulatedReply {
    debug_assert_ne!(code, error_code::OK, "a failure has an error code");
    SimulatedReply::Json { code, json: VendorAnswer::new(code, call).into_json() }
}

fn text_response(status: StatusCode, content_type: &'static str, text: String) -> Response {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Announces the length of the whole answer, sends the first half, and ends the connection.
fn cut(mut json: Vec<u8>) -> Response {
    let whole = json.len();
    json.truncate(whole / 2);
    let body = stream::unfold(Some(Some(json)), |state| async {
        if let Some(half) = state? {
            return Some((Ok(half), Some(None)));
        }
        tokio::time::sleep(CUT_DELAY).await;
        Some((Err(io::Error::from(io::ErrorKind::ConnectionAborted)), None))
    });
    let mut response = Response::new(Body::from_stream(body));
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(whole));
    response
}

/// The vendor's JSON with a long text in it, `bytes` long in total. It is generated while it is sent.
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
