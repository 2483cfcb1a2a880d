//! An IM that answers everything at once: the other end of the benchmarks of `make bench`.
//!
//! Owns: the answers, and the counters of calls, users and bytes. Must not know: the vendor's rules, which the simulator
//! checks, and the crate. It uses only the standard library, so `benches/bench.py` compiles it in two seconds with
//! `rustc`, and it costs the measured machine as little as possible: one thread a connection, no copy of a body.
//!
//! `GET /counts` returns the counters as JSON; `POST /reset` returns them and sets them to 0.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const USAGE: &str = "usage: sink [--listen ADDRESS] [--names A,B] [--latency MS] [--stall-after CALLS --stall-for SECONDS] \
                     [--reject-every USERS]";
const OK: &str = r#"{"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0"#;
/// The row class: the caller has to find the account by splitting the batch.
const REFUSED: &str = r#"{"ActionStatus":"FAIL","ErrorInfo":"bad parameter","ErrorCode":70402}"#;
const ACCOUNT_KEY: &[u8] = br#""To_Account":"#;

/// The arguments, with their defaults.
struct Settings {
    listen: String,
    names: Vec<String>,
    latency: Duration,
    stall_after: u64,
    stall_for: Duration,
    /// One account in so many is refused, always the same ones; 0 refuses none.
    reject_every: u64,
}

#[derive(Default)]
struct Counters {
    /// Calls of any command.
    calls: AtomicU64,
    /// Calls that set or remove attributes and were accepted.
    writes: AtomicU64,
    refused: AtomicU64,
    /// Users of the accepted writes.
    users: AtomicU64,
    /// Bytes of all bodies.
    bytes: AtomicU64,
    in_flight: AtomicU64,
    max_in_flight: AtomicU64,
    /// Microseconds since 1970, of calls that set or remove attributes; 0 before the first one.
    first_write: AtomicU64,
    last_write: AtomicU64,
}

struct Sink {
    settings: Settings,
    counters: Counters,
    /// Microseconds since 1970 until which nothing is answered.
    stalled_until: AtomicU64,
    has_stalled: AtomicBool,
}

#[expect(clippy::disallowed_methods, reason = "the sink is no part of the crate and reports when calls arrive")]
fn now_micros() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_micros()).unwrap_or(u64::MAX)
}

impl Settings {
    fn from_arguments(mut arguments: impl Iterator<Item = String>) -> Option<Self> {
        let mut settings = Self {
            listen: "127.0.0.1:0".to_owned(),
            names: Vec::new(),
            latency: Duration::ZERO,
            stall_after: 0,
            stall_for: Duration::ZERO,
            reject_every: 0,
        };
        while let Some(name) = arguments.next() {
            let value = arguments.next()?;
            match name.as_str() {
                "--listen" => settings.listen = value,
                "--names" => settings.names = value.split(',').map(str::to_owned).collect(),
                "--latency" => settings.latency = Duration::from_millis(value.parse().ok()?),
                "--stall-after" => settings.stall_after = value.parse().ok()?,
                "--stall-for" => settings.stall_for = Duration::from_secs(value.parse().ok()?),
                "--reject-every" => settings.reject_every = value.parse().ok()?,
                _ => return None,
            }
        }
        Some(settings)
    }
}

impl Counters {
    fn json(&self) -> String {
        let fields = [
            ("calls", &self.calls),
            ("writes", &self.writes),
            ("refused", &self.refused),
            ("users", &self.users),
            ("bytes", &self.bytes),
            ("max_in_flight", &self.max_in_flight),
            ("first_write", &self.first_write),
            ("last_write", &self.last_write),
        ];
        let shown: Vec<String> =
            fields.iter().map(|(name, value)| format!("\"{name}\":{}", value.load(Relaxed))).collect();
        format!("{{{}}}", shown.join(","))
    }

    fn reset(&self) {
        let all = [&self.calls, &self.writes, &self.refused, &self.users, &self.bytes, &self.max_in_flight];
        for counter in all.into_iter().chain([&self.first_write, &self.last_write]) {
            counter.store(0, Relaxed);
        }
    }
}

impl Sink {
    /// The JSON document for a request.
    fn answer(&self, path: &str, body: &[u8]) -> String {
        match path.split('?').next().unwrap_or_default() {
            "/counts" => return self.counters.json(),
            "/reset" => {
                let counts = self.counters.json();
                self.counters.reset();
                self.has_stalled.store(false, Relaxed);
                return counts;
            }
            _ => {}
        }
        let in_flight = self.counters.in_flight.fetch_add(1, Relaxed) + 1;
        self.counters.max_in_flight.fetch_max(in_flight, Relaxed);
        self.counters.bytes.fetch_add(body.len() as u64, Relaxed);
        let calls = self.counters.calls.fetch_add(1, Relaxed) + 1;
        let document = self.command(path.split('?').next().unwrap_or_default(), body);
        self.wait(calls);
        self.counters.in_flight.fetch_sub(1, Relaxed);
        document
    }

    fn command(&self, path: &str, body: &[u8]) -> String {
        let command = path.rsplit('/').next().unwrap_or_default();
        match command.strip_prefix("im_").unwrap_or(command) {
            "set_attr" | "remove_attr" => self.write(body),
            "get_attr_name" => {
                let name = |(number, name)| format!("\"{number}\":\"{name}\"");
                let names: Vec<String> = self.settings.names.iter().enumerate().map(name).collect();
                format!("{OK},\"AttrNames\":{{{}}}}}", names.join(","))
            }
            "get_attr" => list("UserAttrs", body, |account| format!("{{\"To_Account\":{account},\"Attrs\":{{}}}}")),
            "account_check" => list("ResultItem", body, |account| {
                format!("{{\"UserID\":{account},\"ResultCode\":0,\"ResultInfo\":\"\",\"AccountStatus\":\"Imported\"}}")
            }),
            _ => format!("{OK}}}"),
        }
    }

    fn write(&self, body: &[u8]) -> String {
        let now = now_micros();
        let _ = self.counters.first_write.compare_exchange(0, now, Relaxed, Relaxed);
        self.counters.last_write.fetch_max(now, Relaxed);
        let (mut users, mut rest, mut refused) = (0, body, false);
        while let Some(at) = find(rest, ACCOUNT_KEY) {
            rest = &rest[at + ACCOUNT_KEY.len()..];
            users += 1;
            refused |= hash_of_text(rest).is_multiple_of(self.settings.reject_every);
        }
        if refused {
            self.counters.refused.fetch_add(1, Relaxed);
            return REFUSED.to_owned();
        }
        self.counters.users.fetch_add(users, Relaxed);
        self.counters.writes.fetch_add(1, Relaxed);
        format!("{OK}}}")
    }

    /// The latency, and a stall that begins with this call or has begun before.
    fn wait(&self, calls: u64) {
        let Settings { latency, stall_after, stall_for, .. } = self.settings;
        if stall_after > 0 && calls > stall_after && !self.has_stalled.swap(true, Relaxed) {
            let micros = u64::try_from(stall_for.as_micros()).unwrap_or(u64::MAX);
            self.stalled_until.store(now_micros() + micros, Relaxed);
        }
        let stalled = self.stalled_until.load(Relaxed).saturating_sub(now_micros());
        let wait = latency.max(Duration::from_micros(stalled));
        if !wait.is_zero() {
            thread::sleep(wait);
        }
    }

    /// Serves one connection until the caller closes it.
    fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        let mut buffer = vec![0; 64 * 1024];
        let (mut filled, mut response) = (0, String::new());
        loop {
            let Some(head) = find(&buffer[..filled], b"\r\n\r\n") else {
                filled += read_more(&mut stream, &mut buffer, filled)?;
                continue;
            };
            let headers = String::from_utf8_lossy(&buffer[..head]).into_owned();
            let end = head + 4 + content_length(&headers);
            while filled < end {
                filled += read_more(&mut stream, &mut buffer, filled)?;
            }
            let path = headers.split(' ').nth(1).unwrap_or_default();
            let document = self.answer(path, &buffer[head + 4..end]);
            response.clear();
            let _ = write!(
                response,
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{document}",
                document.len()
            );
            stream.write_all(response.as_bytes())?;
            buffer.copy_within(end..filled, 0);
            filled -= end;
        }
    }
}

fn read_more(stream: &mut TcpStream, buffer: &mut Vec<u8>, filled: usize) -> std::io::Result<usize> {
    if filled == buffer.len() {
        buffer.resize(2 * filled, 0);
    }
    match stream.read(&mut buffer[filled..])? {
        0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
        bytes => Ok(bytes),
    }
}

fn content_length(headers: &str) -> usize {
    let named =
        |line: &str| line.split_once(':').map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()));
    let found = headers.lines().filter_map(named).find(|(name, _)| name == "content-length");
    found.and_then(|(_, value)| value.parse().ok()).unwrap_or(0)
}

/// Horspool's search: it looks at every twelfth byte or so, where a plain search looks at all of them.
fn find(text: &[u8], pattern: &[u8]) -> Option<usize> {
    let last = pattern.len() - 1;
    let mut at = 0;
    while at + last < text.len() {
        let end = text[at + last];
        if end == pattern[last] && &text[at..=at + last] == pattern {
            return Some(at);
        }
        at += pattern[..last].iter().rev().position(|byte| *byte == end).map_or(pattern.len(), |back| back + 1);
    }
    None
}

/// FNV-1a of the JSON string that begins here.
fn hash_of_text(text: &[u8]) -> u64 {
    let content = text.iter().skip_while(|byte| **byte != b'"').skip(1).take_while(|byte| **byte != b'"');
    content.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// An answer with one object for each account of a request for up to 100 of them.
fn list(key: &str, body: &[u8], shown: impl Fn(&str) -> String) -> String {
    let text = String::from_utf8_lossy(body);
    let accounts = text.split_once('[').and_then(|(_, rest)| rest.rsplit_once(']')).map_or("", |(inner, _)| inner);
    let account = |item: &str| item.trim_start_matches("{\"UserID\":").trim_end_matches('}').to_owned();
    let items: Vec<String> =
        accounts.split(',').filter(|item| !item.is_empty()).map(|item| shown(&account(item))).collect();
    format!("{OK},\"{key}\":[{}]}}", items.join(","))
}

fn main() {
    let Some(settings) = Settings::from_arguments(std::env::args().skip(1).filter(|argument| argument != "--bench"))
    else {
        eprintln!("{USAGE}");
        std::process::exit(2);
    };
    let listener = TcpListener::bind(&settings.listen).unwrap_or_else(|error| {
        eprintln!("sink: cannot listen on {}: {error}", settings.listen);
        std::process::exit(1);
    });
    // The first line tells the port to the benchmark that has started this.
    println!("{}", listener.local_addr().map_or_else(|error| error.to_string(), |address| address.to_string()));
    let sink: &'static Sink = Box::leak(Box::new(Sink {
        settings,
        counters: Counters::default(),
        stalled_until: AtomicU64::new(0),
        has_stalled: AtomicBool::new(false),
    }));
    for stream in listener.incoming().flatten() {
        // An error is the end of the connection.
        thread::spawn(move || sink.serve(stream));
    }
}
