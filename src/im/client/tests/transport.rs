//! Wrong data on the socket: too large, too slow, compressed, for another call, or not HTTP.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;

/// A valid answer of exactly this number of bytes.
fn padded(bytes: usize) -> String {
    format!("{OK}{}", " ".repeat(bytes - OK.len()))
}

fn chunked(body: &str) -> ScriptedReply {
    let mut bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    // Not a divisor of the limit, so that no chunk ends at it.
    for piece in body.as_bytes().chunks(1_000_003) {
        bytes.extend(format!("{:x}\r\n", piece.len()).bytes());
        bytes.extend(piece);
        bytes.extend(b"\r\n");
    }
    bytes.extend(b"0\r\n\r\n");
    ScriptedReply::Bytes(bytes)
}

fn raw(bytes: &str) -> ScriptedReply {
    ScriptedReply::Partial(bytes.as_bytes().to_vec())
}

fn client_with(server: &ScriptedServer, timeout: Duration) -> Client {
    let settings = ClientSettings { timeout, ..settings(Service::AllMemberPush) };
    Client::with_hosts(settings, ApiHosts::new(server.host(), None), ticking_clock).unwrap()
}

/// Only the size differs.
#[tokio::test]
async fn an_answer_of_more_than_eight_mebibytes_is_refused() {
    let (fits, over) = (padded(MAX_ANSWER_BYTES), padded(MAX_ANSWER_BYTES + 1));
    let until_the_end = |body: &str| raw(&format!("HTTP/1.1 200 OK\r\n\r\n{body}"));
    let replies =
        vec![json(&fits), chunked(&fits), until_the_end(&fits), json(&over), chunked(&over), until_the_end(&over)];
    let server = ScriptedServer::start(replies).await;
    let client = server.client();
    for number in 0..3 {
        set(&client).await.unwrap_or_else(|error| panic!("reply {number}: {error}"));
    }
    for number in 3..6 {
        let error = set(&client).await.unwrap_err();
        assert_eq!((error.code.label(), error.maybe_applied), ("malformed", true), "reply {number}: {error}");
        assert_eq!(error.info, "the answer is larger than 8 MiB", "reply {number}");
    }
}

/// The client reads no more from the socket than the limit and what the buffers hold.
#[tokio::test]
async fn an_endless_answer_is_read_up_to_the_limit() {
    let piece = vec![b' '; 64 * 1024];
    let chunk = [b"10000\r\n", piece.as_slice(), b"\r\n"].concat();
    let replies = vec![
        ScriptedReply::Endless(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(),
            chunk,
            Duration::ZERO,
        ),
        ScriptedReply::Endless(b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), piece, Duration::ZERO),
        // The bodies of errors are not read.
        ScriptedReply::Endless(b"HTTP/1.1 502 Bad Gateway\r\n\r\n".to_vec(), vec![b'x'; 64 * 1024], Duration::ZERO),
        ScriptedReply::Endless(b"HTTP/1.1 200 OK\r\n".to_vec(), b"X-More: and more\r\n".repeat(1000), Duration::ZERO),
        ScriptedReply::Endless(b"HTTP/1.1 200 OK\r\nX-Long: ".to_vec(), vec![b'x'; 64 * 1024], Duration::ZERO),
    ];
    let count = replies.len();
    let server = ScriptedServer::start(replies).await;
    let client = server.client();
    let mut ends = Vec::new();
    for _ in 0..count {
        let error = set(&client).await.unwrap_err();
        assert!(error.maybe_applied, "{error}");
        ends.push(error.code);
    }
    assert_eq!(ends, [Code::Malformed, Code::Malformed, Code::Http(502), Code::Connect, Code::Connect]);
    while server.bytes_sent.lock().unwrap().len() < count {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let bytes_sent = server.bytes_sent.lock().unwrap().clone();
    // Sockets on one machine buffer a few MiB on each side.
    assert!(bytes_sent.iter().all(|bytes| *bytes < 4 * MAX_ANSWER_BYTES), "{bytes_sent:?}");
}

/// The timeout applies to the whole call, even while data arrives.
#[tokio::test]
async fn a_slow_answer_ends_at_the_timeout() {
    let delay = Duration::from_millis(10);
    let server = ScriptedServer::start(vec![
        ScriptedReply::Endless(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n".to_vec(), b" ".to_vec(), delay),
        ScriptedReply::Endless(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(),
            b"1\r\n \r\n".to_vec(),
            delay,
        ),
        ScriptedReply::Endless(b"HTTP/1.1 200 OK\r\nX-Slow: ".to_vec(), b"x".to_vec(), delay),
        ScriptedReply::Endless(Vec::new(), b"HTTP/1.1 100 Continue\r\n\r\n".to_vec(), delay),
    ])
    .await;
    let client = client_with(&server, Duration::from_millis(300));
    for number in 0..4 {
        let error = set(&client).await.unwrap_err();
        assert_eq!((error.code, error.maybe_applied), (Code::Timeout, true), "reply {number}: {error}");
    }
}

/// Answers are not decompressed, so a small answer cannot become large. IM does not compress its answers.
#[tokio::test]
async fn a_compressed_answer_is_not_decompressed() {
    let compressed = |body: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    };
    let reply = |encoding: &str, body: &[u8]| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Encoding: {encoding}\r\nContent-Length: {}\r\n\r\n", body.len());
        ScriptedReply::Bytes([head.as_bytes(), body].concat())
    };
    let bomb = compressed(padded(64 * 1024 * 1024).as_bytes());
    assert!(bomb.len() < 1024 * 1024);
    let server = ScriptedServer::start(vec![
        reply("gzip", &compressed(OK.as_bytes())),
        reply("gzip", &bomb),
        reply("deflate", &compressed(OK.as_bytes())),
        reply("br", b"\x0b\x02\x80"),
    ])
    .await;
    let client = server.client();
    for number in 0..4 {
        let error = set(&client).await.unwrap_err();
        assert_eq!((error.code.label(), error.maybe_applied), ("malformed", true), "reply {number}: {error}");
    }
    let asked = server.received()[0].head.to_ascii_lowercase();
    assert!(!asked.contains("accept-encoding"), "{asked}");
}

#[tokio::test]
async fn wrong_content_lengths_are_detected() {
    let length = |length: &str, body: &str| raw(&format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}"));
    let chunks = |chunks: &str| raw(&format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"));
    let sized = |size: usize| format!("{size:x}\r\n{OK}\r\n");
    let replies = vec![
        (length("10", OK), Code::Malformed),
        (length("0", OK), Code::Malformed),
        (length(&(OK.len() + 1).to_string(), OK), Code::Connect),
        (length("-1", OK), Code::Connect),
        (length("18446744073709551615", OK), Code::Connect),
        (length("99999999999999999999999", OK), Code::Connect),
        (length(&format!("{}\r\nContent-Length: 7", OK.len()), OK), Code::Connect),
        // The end is missing, or in another place than announced.
        (chunks(&sized(OK.len())), Code::Connect),
        (chunks(&format!("{}0\r\n\r\n", sized(OK.len() - 1))), Code::Connect),
        (chunks(&format!("{}0\r\n\r\n", sized(usize::MAX))), Code::Connect),
        (chunks(&format!("fffffffffffffffffff\r\n{OK}\r\n0\r\n\r\n")), Code::Connect),
        (chunks("-1\r\n"), Code::Connect),
        (chunks("0\r\n\r\n"), Code::Malformed),
    ];
    let (replies, codes): (Vec<ScriptedReply>, Vec<Code>) = replies.into_iter().unzip();
    let server = ScriptedServer::start(replies).await;
    let client = server.client();
    for (number, code) in codes.into_iter().enumerate() {
        let error = set(&client).await.unwrap_err();
        // Where the HTTP parser accepts a length above the limit, the announced length is refused.
        let refused_as_announced = error.info.contains("larger than 8 MiB");
        assert!(error.code == code || refused_as_announced, "reply {number}: {error}");
        assert!(error.maybe_applied, "reply {number}: {error}");
    }
}

/// A surplus answer must not count as the answer of the next call.
#[tokio::test]
async fn a_surplus_answer_answers_no_other_call() {
    let once = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{OK}", OK.len());
    let server =
        ScriptedServer::start(vec![ScriptedReply::Bytes(once.repeat(2).into_bytes()), fail(90033, "bad name")]).await;
    let client = server.client();
    set(&client).await.unwrap();
    let error = set(&client).await.unwrap_err();
    assert_eq!(error.code, Code::Vendor(90033), "{error}");
    let received = server.received();
    assert_eq!(received.len(), 2);
    assert_ne!(received[0].connection, received[1].connection, "the connection is not used again");
}

#[tokio::test]
async fn data_that_is_not_http_is_a_broken_connection() {
    let replies = [
        "",
        "\r\n\r\n",
        "\0\0\0\0",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "220 mail ESMTP\r\n",
        "{\"ActionStatus\":\"OK\",\"ErrorCode\":0}",
        "HTTP/0.9 200 OK\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 abc OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nNo colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\n: nameless\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01",
    ];
    let server = ScriptedServer::start(replies.iter().map(|bytes| raw(bytes)).collect()).await;
    let client = server.client();
    for bytes in replies {
        let error = set(&client).await.unwrap_err();
        assert_eq!((error.code, error.maybe_applied), (Code::Connect, true), "{bytes:?}: {error}");
        assert!(!error.to_string().contains(char::is_control), "{error:?}");
    }
}

/// With another status than 200, no body makes the call count as done.
#[tokio::test]
async fn only_status_200_is_read_and_no_redirect_is_followed() {
    let elsewhere = ScriptedServer::start(vec![json(OK)]).await;
    let statuses = [
        201, 202, 203, 204, 205, 206, 207, 226, 299, 300, 301, 302, 303, 304, 305, 307, 308, 399, 400, 401, 403, 404,
        405, 407, 408, 409, 411, 413, 415, 418, 421, 425, 426, 428, 429, 431, 451, 499, 500, 501, 502, 503, 504, 511,
        520, 599, 600, 999,
    ];
    let reply = |status: u16| {
        let body = if matches!(status, 204 | 304) { "" } else { OK };
        let location = format!("Location: http://{}/\r\nRefresh: 0; url=http://{0}/", elsewhere.address);
        http(&format!("{status} Whatever\r\nRetry-After: nonsense\r\n{location}"), body)
    };
    let server = ScriptedServer::start(statuses.iter().map(|status| reply(*status)).collect()).await;
    let client = server.client();
    for status in statuses {
        let error = set(&client).await.unwrap_err();
        assert_eq!(error.code, Code::Http(status), "{error}");
        // The call was certainly not applied only where a server before IM refused it.
        assert_eq!(error.maybe_applied, !(300..500).contains(&status) || matches!(status, 408 | 425 | 429), "{status}");
    }
    assert!(elsewhere.received().is_empty(), "no other host gets the UserSig");
    assert_eq!(server.received().len(), statuses.len());
}

/// Interim answers are skipped, and the answer after them is read. A change of protocol is not followed.
#[tokio::test]
async fn interim_answers_are_skipped() {
    let good = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{OK}", OK.len());
    let interim = format!("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n{good}");
    let upgrade = format!("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n{good}");
    let server = ScriptedServer::start(vec![ScriptedReply::Bytes(interim.into_bytes()), raw(&upgrade)]).await;
    let client = server.client();
    set(&client).await.unwrap();
    let error = set(&client).await.unwrap_err();
    assert!(error.maybe_applied, "{error}");
}
