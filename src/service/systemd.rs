//! Notifications to systemd: READY, STATUS, RELOADING, WATCHDOG, STOPPING. Without systemd they do nothing.
//!
//! Owns: the notification socket, and that a notification never waits. Must not know: when a state
//! changes.
//!
//! Source: systemd manual, `sd_notify(3)`, `sd_watchdog_enabled(3)`. A datagram to a socket whose reader is behind would block the thread that runs
//! the passes, so it is dropped; the next one replaces it.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The longest status line in bytes. systemd shows one line.
const MAX_STATUS_BYTES: usize = 500;

/// The process is up and recovers from errors without a restart. It does not mean that it can sync.
pub fn ready() {
    notify("READY=1");
}

/// The status line of `systemctl status`.
pub fn status(line: &str) {
    notify(&format!("STATUS={}", one_line(line)));
}

/// A reload has begun. It ends with [`ready`]. With `Type=notify-reload` (systemd 253) `systemctl reload` waits for that, and
/// the time tells systemd which signal is answered.
pub fn reloading() {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
    notify(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
}

/// The service is alive. systemd restarts it if that is not heard for `WatchdogSec`.
pub fn alive() {
    notify("WATCHDOG=1");
}

/// `WatchdogSec` of the unit; `None` without one, or if it is for another process.
pub fn watchdog_limit() -> Option<Duration> {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let is_ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
    number("WATCHDOG_USEC").filter(|micros| is_ours && *micros > 0).map(Duration::from_micros)
}

/// A graceful shutdown has begun.
pub fn stopping() {
    notify("STOPPING=1");
}

fn notify(assignment: &str) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(error) = send(socket.as_bytes(), assignment) {
        tracing::debug!(%error, "cannot notify systemd");
    }
}

/// `socket`: a path, or a name of the abstract namespace after `@`.
fn send(socket: &[u8], assignment: &str) -> io::Result<()> {
    let address = match socket.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(socket))?,
    };
    let datagram = UnixDatagram::unbound()?;
    datagram.set_nonblocking(true)?;
    datagram.send_to_addr(assignment.as_bytes(), &address)?;
    Ok(())
}

/// The text on one line, since each further line would be an assignment of its own.
fn one_line(text: &str) -> String {
    let mut line: String = text.chars().map(|sign| if sign.is_control() { ' ' } else { sign }).collect();
    if line.len() > MAX_STATUS_BYTES {
        line.truncate(line.floor_char_boundary(MAX_STATUS_BYTES));
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    use super::{MAX_STATUS_BYTES, one_line, send};

    #[test]
    fn a_text_of_several_lines_is_one_line() {
        assert_eq!(one_line("a\nREADY=1\r\u{85}\tb"), "a READY=1   b");
        let long = one_line(&"é".repeat(MAX_STATUS_BYTES));
        assert!(long.len() <= MAX_STATUS_BYTES + 3 && long.ends_with('…'));
    }

    #[test]
    fn a_full_socket_never_blocks() {
        let name = format!("imsync-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("the name is short");
        let _reader = UnixDatagram::bind_addr(&address).expect("the name is free");
        let socket = format!("@{name}");
        let refused = (0..100_000).find_map(|_| send(socket.as_bytes(), "STATUS=x").err());
        assert_eq!(refused.map(|error| error.kind()), Some(ErrorKind::WouldBlock));
    }
}
