//! The systemd journal: whether stderr is it, and entries in its own protocol.
//!
//! Owns: `JOURNAL_STREAM`, fields, priorities, the socket. Must not know: what an event means.
//!
//! Sources: systemd.exec(5) for `$JOURNAL_STREAM`, <https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>, sd-daemon(3) for the
//! priority in front of a line. Written here because `journalctl` shows only MESSAGE: an entry of the usual crate hides
//! the fields of an event from everybody who does not ask for them.

use std::ffi::OsString;
use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::registry::LookupSpan;

use super::line::{Escaped, write_event};
use super::terminal;

/// `$JOURNAL_STREAM` names the device and inode of the stream that goes to the journal. It is inherited by children whose
/// stderr was sent elsewhere, so it counts only when stderr is that stream.
pub(super) fn is_stderr() -> bool {
    let stderr = io::stderr();
    let Ok(descriptor) = stderr.as_fd().try_clone_to_owned() else { return false };
    is_journal(std::env::var_os("JOURNAL_STREAM"), &File::from(descriptor))
}

pub(super) fn is_journal(journal_stream: Option<OsString>, file: &File) -> bool {
    let Some(stream) = journal_stream.and_then(|stream| stream.into_string().ok()) else { return false };
    let Some((device, inode)) = stream.split_once(':') else { return false };
    file.metadata().is_ok_and(|found| {
        device.parse().is_ok_and(|device: u64| device == found.dev()) && inode.parse() == Ok(found.ino())
    })
}

/// An event as `KEY=value` lines. MESSAGE is what the text form shows after the level; each field of the event is there
/// a second time by itself (`IMSYNC_ACCOUNT=…`) to search by.
pub(super) struct Entry;

impl<S, N> FormatEvent<S, N> for Entry
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let metadata = event.metadata();
        let priority = match *metadata.level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            Level::DEBUG | Level::TRACE => 7,
        };
        write!(out, "PRIORITY={priority}\nMESSAGE=")?;
        write_event(context, &mut out, event)?;
        write!(out, "\nSYSLOG_IDENTIFIER=imsync\nIMSYNC_TARGET={}\n", metadata.target())?;
        let mut fields = Fields { out, result: Ok(()) };
        event.record(&mut fields);
        fields.result
    }
}

struct Fields<'w> {
    out: Writer<'w>,
    result: fmt::Result,
}

impl Fields<'_> {
    fn line(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        if field.name() == "message" || self.result.is_err() {
            return;
        }
        // The journal takes capitals, digits and underscores, and at most 64 of them.
        let name: String = field
            .name()
            .chars()
            .map(|sign| if sign.is_ascii_alphanumeric() { sign.to_ascii_uppercase() } else { '_' })
            .take(50)
            .collect();
        self.result = write!(self.out, "IMSYNC_{name}=")
            .and_then(|()| Escaped(&mut self.out).write_fmt(value))
            .and_then(|()| self.out.write_char('\n'));
    }
}

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.line(field, format_args!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.line(field, format_args!("{value}"));
    }
}

/// Journald's socket. An entry it does not take (journald is not there, a sandbox, a line too long for a datagram) goes to
/// stderr with its priority in front, which the journal understands there.
pub(super) struct Socket {
    /// `None` where not even a socket can be made.
    socket: Option<UnixDatagram>,
    path: Arc<Path>,
}

impl Socket {
    pub(super) fn system() -> Self {
        Self::at(PathBuf::from("/run/systemd/journal/socket"))
    }

    pub(super) fn at(path: PathBuf) -> Self {
        Self { socket: UnixDatagram::unbound().ok(), path: path.into() }
    }
}

impl<'a> MakeWriter<'a> for Socket {
    type Writer = Sender<'a>;

    fn make_writer(&'a self) -> Sender<'a> {
        Sender(self)
    }
}

pub(super) struct Sender<'a>(&'a Socket);

impl Write for Sender<'_> {
    fn write(&mut self, entry: &[u8]) -> io::Result<usize> {
        // Addressed anew each time: a connected socket would not find a journald that was restarted.
        let sent = self.0.socket.as_ref().is_some_and(|socket| socket.send_to(entry, &self.0.path).is_ok());
        if !sent {
            terminal::stderr().write_all(prefixed(entry).as_bytes())?;
        }
        Ok(entry.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `<6>the message`
pub(super) fn prefixed(entry: &[u8]) -> String {
    let entry = String::from_utf8_lossy(entry);
    let value = |key: &str| entry.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
    format!("<{}>{}\n", value("PRIORITY="), value("MESSAGE="))
}
