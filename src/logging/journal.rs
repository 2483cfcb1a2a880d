//! The systemd journal: detecting that stderr is connected to it, and entries in its native protocol.
//!
//! Owns: `$JOURNAL_STREAM`, the fields and priority of an entry, the socket. Must not know: what an event means.
//!
//! Sources: systemd.exec(5) for `$JOURNAL_STREAM`, <https://systemd.io/JOURNAL_NATIVE_PROTOCOL/> for entries,
//! sd-daemon(3) for the priority in front of a line. The crate `tracing-journald` is not used: it stores the fields of
//! an event in journal fields only, and `journalctl` shows only MESSAGE by default.

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

use super::terminal;
use super::text::{EscapingWriter, write_event};

/// True when stderr is connected to the journal.
///
/// `$JOURNAL_STREAM` names the device and inode of the stream that goes to the journal. A child process inherits the
/// variable even when its stderr is redirected, so the device and inode of stderr are compared with it.
pub(super) fn stderr_is_journal() -> bool {
    let stderr = io::stderr();
    let Ok(descriptor) = stderr.as_fd().try_clone_to_owned() else { return false };
    is_journal_stream(std::env::var_os("JOURNAL_STREAM"), &File::from(descriptor))
}

/// True when `journal_stream`, the value of `$JOURNAL_STREAM`, names this file.
pub(super) fn is_journal_stream(journal_stream: Option<OsString>, file: &File) -> bool {
    let Some(stream) = journal_stream.and_then(|stream| stream.into_string().ok()) else { return false };
    let Some((device, inode)) = stream.split_once(':') else { return false };
    file.metadata().is_ok_and(|found| {
        device.parse().is_ok_and(|device: u64| device == found.dev()) && inode.parse() == Ok(found.ino())
    })
}

/// Formats an event as the `KEY=value` lines of a journal entry.
///
/// MESSAGE is what the text format shows after the level. Each field of the event is also a journal field of its own
/// (`IMSYNC_ACCOUNT=…`), so that `journalctl` can search by it.
pub(super) struct JournalFormatter;

impl<S, N> FormatEvent<S, N> for JournalFormatter
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
        let mut fields = JournalFieldVisitor { out, result: Ok(()) };
        event.record(&mut fields);
        fields.result
    }
}

/// Writes every field of an event except the message as a journal field.
struct JournalFieldVisitor<'w> {
    out: Writer<'w>,
    result: fmt::Result,
}

impl JournalFieldVisitor<'_> {
    fn write_field(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        if field.name() == "message" || self.result.is_err() {
            return;
        }
        // A journal field name has at most 64 characters: capitals, digits and underscores. The prefix takes 7 of them.
        let name: String = field
            .name()
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' })
            .take(50)
            .collect();
        self.result = write!(self.out, "IMSYNC_{name}=")
            .and_then(|()| EscapingWriter(&mut self.out).write_fmt(value))
            .and_then(|()| self.out.write_char('\n'));
    }
}

impl Visit for JournalFieldVisitor<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.write_field(field, format_args!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.write_field(field, format_args!("{value}"));
    }
}

/// The socket of journald.
///
/// When journald does not accept an entry (it is not running, a sandbox hides the socket, the entry is too long for a
/// datagram), the message goes to stderr, with its priority in front as the journal expects it there.
pub(super) struct JournalSocket {
    /// `None` when no socket could be created.
    socket: Option<UnixDatagram>,
    path: Arc<Path>,
}

impl JournalSocket {
    /// The socket of the system journal.
    pub(super) fn system() -> Self {
        Self::at(PathBuf::from("/run/systemd/journal/socket"))
    }

    /// A socket at another path, for tests.
    pub(super) fn at(path: PathBuf) -> Self {
        Self { socket: UnixDatagram::unbound().ok(), path: path.into() }
    }
}

impl<'a> MakeWriter<'a> for JournalSocket {
    type Writer = JournalWriter<'a>;

    fn make_writer(&'a self) -> JournalWriter<'a> {
        JournalWriter(self)
    }
}

/// Sends one entry to journald.
pub(super) struct JournalWriter<'a>(&'a JournalSocket);

impl Write for JournalWriter<'_> {
    fn write(&mut self, entry: &[u8]) -> io::Result<usize> {
        // The address is given with each entry, because a connected socket does not survive a restart of journald.
        let sent = self.0.socket.as_ref().is_some_and(|socket| socket.send_to(entry, &self.0.path).is_ok());
        if !sent {
            terminal::stderr().write_all(with_priority_prefix(entry).as_bytes())?;
        }
        Ok(entry.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The message of an entry as a line with its priority in front, such as `<6>pass finished`.
pub(super) fn with_priority_prefix(entry: &[u8]) -> String {
    let entry = String::from_utf8_lossy(entry);
    let value = |key: &str| entry.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
    format!("<{}>{}\n", value("PRIORITY="), value("MESSAGE="))
}
