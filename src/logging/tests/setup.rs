//! Tests of the level filter, and that no secret reaches a log through another crate.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tracing::{debug, error, info, trace, warn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Registry, reload};

use super::capture::{LogCapture, text_lines, without_time};
use crate::logging::format::text_layer;
use crate::logging::setup::{Verbosity, level_filter};
use crate::model::LogLevel;

#[test]
fn flags_take_precedence_over_the_configured_level() {
    let shown = |level, verbosity| {
        text_lines(level, verbosity, || {
            error!("E");
            warn!("W");
            info!("I");
            debug!("D");
            trace!("T");
        })
        .len()
    };
    for (level, verbosity, expected) in [
        (LogLevel::Error, Verbosity::AsConfigured, 1),
        (LogLevel::Warn, Verbosity::AsConfigured, 2),
        (LogLevel::Info, Verbosity::AsConfigured, 3),
        (LogLevel::Debug, Verbosity::AsConfigured, 4),
        (LogLevel::Trace, Verbosity::AsConfigured, 5),
        (LogLevel::Trace, Verbosity::Quiet, 2),
        (LogLevel::Error, Verbosity::Quiet, 1),
        (LogLevel::Error, Verbosity::Debug, 4),
        (LogLevel::Trace, Verbosity::Debug, 4),
        (LogLevel::Error, Verbosity::Trace, 5),
    ] {
        assert_eq!(shown(level, verbosity), expected, "{level:?} {verbosity:?}");
    }
}

#[test]
fn a_changed_level_takes_effect_immediately() {
    let capture = LogCapture::default();
    let (filter, handle) = reload::Layer::new(level_filter(LogLevel::Info, Verbosity::AsConfigured));
    let subscriber = Registry::default().with(filter).with(text_layer(capture.writer(), false));
    tracing::subscriber::with_default(subscriber, || {
        let log = || debug!("details");
        log();
        handle.reload(level_filter(LogLevel::Debug, Verbosity::AsConfigured)).unwrap();
        log();
        handle.reload(level_filter(LogLevel::Warn, Verbosity::AsConfigured)).unwrap();
        log();
    });
    assert_eq!(capture.lines().len(), 1);
}

#[test]
fn other_crates_log_only_warnings() {
    macro_rules! log_below_warning {
        ($($target:literal),*) => {$(
            trace!(target: $target, "usersig=SECRET");
            debug!(target: $target, "usersig=SECRET");
            info!(target: $target, "usersig=SECRET");
        )*};
    }
    let lines = text_lines(LogLevel::Trace, Verbosity::Trace, || {
        log_below_warning!(
            "sqlx::query",
            "sqlx::postgres::notice",
            "hyper::proto",
            "hyper_util::client::legacy::pool",
            "reqwest::connect",
            "h2::client",
            "rustls::client::hs",
            "axum::rejection",
            "any_other_crate"
        );
        warn!(target: "sqlx::query", statement = "SELECT SECRET", "slow statement");
        warn!(target: "hyper_util::client", "a warning");
        trace!(target: "imsync::push", "logged");
    });
    assert_eq!(
        lines.iter().map(|line| without_time(line)).collect::<Vec<_>>(),
        [" WARN a warning", "TRACE imsync::push: logged"]
    );
}

/// Runs a real HTTP client on a real connection, with everything that they log, at the highest verbosity.
#[tokio::test]
async fn a_usersig_in_a_url_reaches_no_log() {
    const SECRET: &str = "eJyrVgrxCdYrSy1SslIyNLO0MAADHQBZagSu";
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 4096];
        let read = stream.read(&mut request).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}").await.unwrap();
        String::from_utf8_lossy(&request[..read]).into_owned()
    };

    // Without a filter, to see that the client does log something; then with the filter of imsync.
    let (all, filtered_log) = (LogCapture::default(), LogCapture::default());
    let received = {
        let everything = Registry::default().with(text_layer(all.writer(), false));
        let _guard = tracing::subscriber::set_default(everything);
        let _ = rustls::crypto::ring::default_provider().install_default();
        trace!("control");
        request(address, SECRET, server).await
    };
    assert!(received.contains(SECRET), "the server received the secret");
    assert!(all.text().contains("hyper_util"), "the connection logs: {}", all.text());

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = async {
        let (stream, _) = listener.accept().await.unwrap();
        drop(stream); // This time the client fails, and its error contains the URL.
        String::new()
    };
    let filtered = Registry::default()
        .with(level_filter(LogLevel::Trace, Verbosity::Trace))
        .with(text_layer(filtered_log.writer(), false));
    let _guard = tracing::subscriber::set_default(filtered);
    trace!("control");
    request(address, SECRET, server).await;
    assert!(filtered_log.text().contains("control"));
    assert!(!filtered_log.text().contains(SECRET), "{}", filtered_log.text());
    assert_eq!(filtered_log.lines().len(), 1, "{}", filtered_log.text());
}

#[expect(clippy::disallowed_methods, reason = "the test is about what any HTTP client logs")]
async fn request(address: std::net::SocketAddr, secret: &str, server: impl Future<Output = String>) -> String {
    let client = reqwest::Client::builder().connection_verbose(true).build().unwrap();
    let (_, received) = tokio::join!(client.post(format!("http://{address}/v4/x?usersig={secret}")).send(), server);
    received
}
