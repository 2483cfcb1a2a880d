//! What is written, what never is, and how it looks.
#![expect(clippy::unwrap_used, reason = "a test ends where its ground is missing")]

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::sync::{Arc, Mutex};

use chrono::DateTime;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, TermLike};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tracing::{debug, error, info, info_span, trace, warn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Registry, reload};

use super::journal::{Socket, is_journal, prefixed};
use super::{Format, Verbosity, journald, json, resolved, targets, terminal, text};
use crate::model::{LogFormat, LogLevel};

/// What a subscriber has written.
#[derive(Clone, Debug, Default)]
struct Capture(Arc<Mutex<Vec<u8>>>);

impl Capture {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    fn lines(&self) -> Vec<String> {
        self.text().lines().map(str::to_owned).collect()
    }

    fn writer(&self) -> impl Fn() -> Self + use<> {
        let capture = self.clone();
        move || capture.clone()
    }
}

impl Write for Capture {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The text lines of what happens at this level and verbosity.
fn text_lines(level: LogLevel, verbosity: Verbosity, happen: impl FnOnce()) -> Vec<String> {
    let capture = Capture::default();
    let subscriber = Registry::default().with(targets(level, verbosity)).with(text(capture.writer(), false));
    tracing::subscriber::with_default(subscriber, happen);
    capture.lines()
}

/// A line without its time, after the time has been found to be one.
fn timeless(line: &str) -> &str {
    let (time, rest) = line.split_once(' ').unwrap();
    assert!(time.ends_with('Z') && time.len() == "2026-01-31T08:15:00.250Z".len(), "{time}");
    DateTime::parse_from_rfc3339(time).unwrap();
    rest
}

#[test]
fn a_text_line_reads_time_level_message_and_fields() {
    let lines = text_lines(LogLevel::Info, Verbosity::AsConfigured, || {
        info!(kind = "incremental", pushed = 12, "pass finished");
        warn!(reason = "the database is away", empty = "", account = ?"u 1", "trying again");
        error!("no fields");
        info!(message = %"message first or last", ok = true);
    });
    assert_eq!(
        lines.iter().map(|line| timeless(line)).collect::<Vec<_>>(),
        [
            " INFO pass finished kind=incremental pushed=12",
            r#" WARN trying again reason="the database is away" empty="" account="u 1""#,
            "ERROR no fields",
            " INFO message first or last ok=true",
        ]
    );
}

#[test]
fn a_debug_line_says_which_module_speaks_and_spans_add_their_fields() {
    let lines = text_lines(LogLevel::Debug, Verbosity::AsConfigured, || {
        let _pass = info_span!("pass", pass = 7).entered();
        let _page = info_span!("page", from = "a b").entered();
        debug!(rows = 5, "page read");
    });
    assert_eq!(
        lines.iter().map(|line| timeless(line)).collect::<Vec<_>>(),
        [r#"DEBUG imsync::logging::tests: page read rows=5 pass=7 from="a b""#]
    );
}

#[test]
fn an_event_is_one_line_and_cannot_steer_a_terminal() {
    let lines = text_lines(LogLevel::Info, Verbosity::AsConfigured, || {
        let text = "one\ntwo\x1b[2J\r\u{9b}";
        info!(plain = text, shown = %"x\ny", debugged = ?text, "{text}");
    });
    assert_eq!(lines.len(), 1);
    assert!(!lines[0].contains(char::is_control), "{:?}", lines[0]);
    assert!(lines[0].contains(r"one\ntwo\u{1b}[2J\r\u{9b}"), "{}", lines[0]);
}

#[test]
fn colours_only_where_they_are_asked_for() {
    let capture = Capture::default();
    let subscriber = Registry::default().with(text(capture.writer(), true));
    tracing::subscriber::with_default(subscriber, || warn!(rows = 5, "slow"));
    let plain = text_lines(LogLevel::Info, Verbosity::AsConfigured, || warn!(rows = 5, "slow"));
    assert!(capture.text().contains("\x1b[33m WARN\x1b[0m slow rows=5"), "{:?}", capture.text());
    assert!(!plain[0].contains('\x1b'));
}

#[test]
fn flags_go_before_the_level_of_the_file() {
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
fn a_changed_level_takes_effect_at_once() {
    let capture = Capture::default();
    let (filter, handle) = reload::Layer::new(targets(LogLevel::Info, Verbosity::AsConfigured));
    let subscriber = Registry::default().with(filter).with(text(capture.writer(), false));
    tracing::subscriber::with_default(subscriber, || {
        let speak = || debug!("details");
        speak();
        handle.reload(targets(LogLevel::Debug, Verbosity::AsConfigured)).unwrap();
        speak();
        handle.reload(targets(LogLevel::Warn, Verbosity::AsConfigured)).unwrap();
        speak();
    });
    assert_eq!(capture.lines().len(), 1);
}

#[test]
fn other_crates_are_heard_only_when_they_warn() {
    macro_rules! chatter {
        ($($target:literal),*) => {$(
            trace!(target: $target, "usersig=SECRET");
            debug!(target: $target, "usersig=SECRET");
            info!(target: $target, "usersig=SECRET");
        )*};
    }
    let lines = text_lines(LogLevel::Trace, Verbosity::Trace, || {
        chatter!(
            "sqlx::query",
            "sqlx::postgres::notice",
            "hyper::proto",
            "hyper_util::client::legacy::pool",
            "reqwest::connect",
            "h2::client",
            "rustls::client::hs",
            "axum::rejection",
            "never_heard_of"
        );
        warn!(target: "sqlx::query", statement = "SELECT SECRET", "slow statement");
        warn!(target: "hyper_util::client", "a warning");
        trace!(target: "imsync::push", "ours");
    });
    assert_eq!(
        lines.iter().map(|line| timeless(line)).collect::<Vec<_>>(),
        [" WARN a warning", "TRACE imsync::push: ours"]
    );
}

/// The real client, its real connection and everything they print, at the highest verbosity.
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

    // Everything, to see that there is something to be silent about; and what we let through.
    let (all, ours) = (Capture::default(), Capture::default());
    let heard = {
        let everything = Registry::default().with(text(all.writer(), false));
        let _guard = tracing::subscriber::set_default(everything);
        let _ = rustls::crypto::ring::default_provider().install_default();
        trace!("control");
        request(address, SECRET, server).await
    };
    assert!(heard.contains(SECRET), "the server was sent it");
    assert!(all.text().contains("hyper_util"), "the connection talks: {}", all.text());

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = async {
        let (stream, _) = listener.accept().await.unwrap();
        drop(stream); // An error with its URL, this time.
        String::new()
    };
    let filtered =
        Registry::default().with(targets(LogLevel::Trace, Verbosity::Trace)).with(text(ours.writer(), false));
    let _guard = tracing::subscriber::set_default(filtered);
    trace!("control");
    request(address, SECRET, server).await;
    assert!(ours.text().contains("control"));
    assert!(!ours.text().contains(SECRET), "{}", ours.text());
    assert_eq!(ours.lines().len(), 1, "{}", ours.text());
}

#[expect(clippy::disallowed_methods, reason = "what any client of this kind prints is the question")]
async fn request(address: std::net::SocketAddr, secret: &str, server: impl Future<Output = String>) -> String {
    let client = reqwest::Client::builder().connection_verbose(true).build().unwrap();
    let (_, heard) = tokio::join!(client.post(format!("http://{address}/v4/x?usersig={secret}")).send(), server);
    heard
}

#[test]
fn json_is_an_object_a_line_with_flat_fields() {
    let capture = Capture::default();
    let subscriber = Registry::default().with(json(capture.writer()));
    tracing::subscriber::with_default(subscriber, || info!(kind = "full", pushed = 12, "pass\nfinished"));
    let lines = capture.lines();
    assert_eq!(lines.len(), 1);
    let line: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!(line["level"], "INFO");
    assert_eq!(line["message"], "pass\nfinished");
    assert_eq!(line["kind"], "full");
    assert_eq!(line["pushed"], 12);
    assert_eq!(line["target"], "imsync::logging::tests");
    DateTime::parse_from_rfc3339(line["timestamp"].as_str().unwrap()).unwrap();
    assert!(line["timestamp"].as_str().unwrap().ends_with('Z'));
}

#[test]
fn the_journal_gets_a_readable_message_and_fields_to_search_by() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let journal = UnixDatagram::bind(&path).unwrap();
    let subscriber = Registry::default().with(journald(Socket::at(path)));
    tracing::subscriber::with_default(subscriber, || {
        warn!(account = "u1", db.code = 5, "refused\nPRIORITY=0");
    });
    let mut entry = [0; 4096];
    let read = journal.recv(&mut entry).unwrap();
    assert_eq!(
        std::str::from_utf8(&entry[..read]).unwrap(),
        "PRIORITY=4\n\
         MESSAGE=refused\\nPRIORITY=0 account=u1 db.code=5\n\
         SYSLOG_IDENTIFIER=imsync\n\
         IMSYNC_TARGET=imsync::logging::tests\n\
         IMSYNC_ACCOUNT=u1\n\
         IMSYNC_DB_CODE=5\n"
    );
    assert_eq!(prefixed(&entry[..read]), "<4>refused\\nPRIORITY=0 account=u1 db.code=5\n");
}

#[test]
fn auto_means_journald_exactly_when_stderr_is_the_journal() {
    assert_eq!(resolved(LogFormat::Auto, || true), Format::Journald);
    assert_eq!(resolved(LogFormat::Auto, || false), Format::Text);
    assert_eq!(resolved(LogFormat::Text, || true), Format::Text);
    assert_eq!(resolved(LogFormat::Json, || true), Format::Json);
    assert_eq!(resolved(LogFormat::Journald, || false), Format::Journald);

    let file = tempfile::tempfile().unwrap();
    let found = file.metadata().unwrap();
    let stream = |text: String| Some(OsString::from(text));
    assert!(is_journal(stream(format!("{}:{}", found.dev(), found.ino())), &file));
    assert!(!is_journal(None, &file));
    assert!(!is_journal(stream(format!("{}:{}", found.dev(), found.ino() + 1)), &file));
    assert!(!is_journal(stream(format!("{}:{}", found.dev() + 1, found.ino())), &file));
    for broken in ["", ":", "8", "8:", "a:b", "8:1:2"] {
        assert!(!is_journal(stream(broken.into()), &file), "{broken:?}");
    }
    // Inherited by a child whose stderr was sent elsewhere.
    let elsewhere = File::open("/dev/null").unwrap();
    assert!(!is_journal(stream(format!("{}:{}", found.dev(), found.ino())), &elsewhere));
}

/// A terminal that writes down what is asked of it.
#[derive(Clone, Debug, Default)]
struct Paper(Arc<Mutex<Vec<String>>>);

impl Paper {
    fn note(&self, what: &str) {
        self.0.lock().unwrap().push(what.to_owned());
    }
}

impl TermLike for Paper {
    fn width(&self) -> u16 {
        80
    }
    fn move_cursor_up(&self, _: usize) -> io::Result<()> {
        Ok(())
    }
    fn move_cursor_down(&self, _: usize) -> io::Result<()> {
        Ok(())
    }
    fn move_cursor_right(&self, _: usize) -> io::Result<()> {
        Ok(())
    }
    fn move_cursor_left(&self, _: usize) -> io::Result<()> {
        Ok(())
    }
    fn write_line(&self, text: &str) -> io::Result<()> {
        self.note(text);
        Ok(())
    }
    fn write_str(&self, text: &str) -> io::Result<()> {
        self.note(text);
        Ok(())
    }
    fn clear_line(&self) -> io::Result<()> {
        self.note("<cleared>");
        Ok(())
    }
    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_log_line_goes_above_the_progress_bar() {
    let paper = Paper::default();
    let bars = MultiProgress::with_draw_target(ProgressDrawTarget::term_like(Box::new(paper.clone())));
    let bar = bars.add(ProgressBar::new(10));
    bar.set_position(3);
    bar.tick();
    let drawn = paper.0.lock().unwrap().len();
    assert!(drawn > 0, "the bar is on the screen");

    let write = || {
        paper.note("the log line");
        Ok(())
    };
    terminal::above(Some(&bars), write).unwrap();

    let notes = paper.0.lock().unwrap().split_off(drawn);
    let line = notes.iter().position(|note| note == "the log line").unwrap();
    assert!(notes[..line].iter().any(|note| note == "<cleared>"), "{notes:?}");
    assert!(notes[line + 1..].iter().any(|note| note.contains("3/10")), "{notes:?}");
}
