//! Notifications to systemd: status, reload and watchdog, and a reader that is behind delays no pass.
//!
//! Owns: a notification socket that is read, or not. Must not know: when the daemon notifies.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use crate::support::{Setup, TestEnvironment, ended, signal};

/// The error names two columns, each on a line of its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_status_of_several_lines_is_one_assignment() {
    let env = TestEnvironment::set_up(Setup::default()).await;
    env.edit("plan = \"plan\"", "plan = \"nothing\"");
    env.edit("city = \"city\"", "city = \"STOPPING=1\"");
    let path = env.directory().join("notify");
    let socket = UnixDatagram::bind(&path).expect("the socket can be bound");
    socket.set_read_timeout(Some(Duration::from_mins(1))).expect("the timeout is valid");
    let mut daemon = env.command(&["run"]).env("NOTIFY_SOCKET", &path).spawn().expect("the binary can be executed");
    let mut received = Vec::new();
    while !received.iter().any(|text: &String| text.contains("no column")) {
        let mut buffer = [0; 4096];
        let length = socket.recv(&mut buffer).expect("the daemon notifies");
        received.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
    }
    assert!(received.iter().all(|text| text.trim_end().lines().count() == 1), "{received:?}");
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unread_notification_delays_no_pass() {
    let env = TestEnvironment::set_up(Setup::default()).await;
    let path = env.directory().join("notify");
    let _unread = UnixDatagram::bind(&path).expect("the socket can be bound");
    let filler = UnixDatagram::unbound().expect("a socket can be made");
    filler.set_nonblocking(true).expect("the socket can be set");
    while filler.send_to(b"STATUS=x", &path).is_ok() {}
    let mut daemon = env.command(&["run"]).env("NOTIFY_SOCKET", &path).spawn().expect("the binary can be executed");
    for round in 0..3 {
        env.execute(&format!("INSERT INTO users (id, city) VALUES ('u{round}', 'x')")).await;
        env.converges(Duration::from_secs(20)).await;
    }
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
}

/// What a daemon has sent to systemd since it was started.
struct Heard {
    socket: UnixDatagram,
    all: Vec<String>,
}

impl Heard {
    fn bind(env: &TestEnvironment) -> (Self, std::path::PathBuf) {
        let path = env.directory().join("notify");
        let socket = UnixDatagram::bind(&path).expect("the socket can be bound");
        socket.set_nonblocking(true).expect("the socket can be set");
        (Self { socket, all: Vec::new() }, path)
    }

    /// All messages so far.
    fn all(&mut self) -> &[String] {
        let mut buffer = [0; 4096];
        while let Ok(length) = self.socket.recv(&mut buffer) {
            self.all.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
        &self.all
    }

    fn has(&mut self, text: &str) -> bool {
        self.all().iter().any(|message| message.contains(text))
    }

    fn count(&mut self, text: &str) -> usize {
        self.all().iter().filter(|message| message.contains(text)).count()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_is_announced_and_its_end_too() {
    let env = TestEnvironment::set_up(Setup::default()).await;
    env.execute("INSERT INTO users (id, city) VALUES ('u1', 'x')").await;
    let (mut heard, path) = Heard::bind(&env);
    let mut daemon = env.command(&["run"]).env("NOTIFY_SOCKET", &path).spawn().expect("the binary can be executed");
    env.eventually("the status has the numbers", async || heard.has("1 accounts in IM, 0 rejected; last pass: ")).await;
    assert!(heard.has("STATUS=leading; lag "), "{:?}", heard.all());
    let ready = heard.count("READY=1");
    for (round, edit) in
        [("interval = \"200ms\"", "interval = \"300ms\""), ("interval = \"300ms\"", "interval = \"no\"")]
            .into_iter()
            .enumerate()
    {
        env.edit(edit.0, edit.1);
        signal(&daemon, "HUP");
        env.eventually("the reload has ended", async || heard.count("READY=1") > ready + round).await;
        let announced: Vec<String> =
            heard.all().iter().filter(|text| text.starts_with("RELOADING=1")).cloned().collect();
        assert_eq!(announced.len(), round + 1);
        let micros =
            announced[round].split_once("MONOTONIC_USEC=").and_then(|(_, number)| number.trim().parse::<u64>().ok());
        assert!(micros.is_some_and(|micros| micros > 0), "{announced:?}");
    }
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
    assert!(heard.has("STOPPING=1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_watchdog_is_fed_unless_a_pass_makes_no_progress() {
    let env = TestEnvironment::set_up(Setup { im: "timeout = \"60s\"\n".to_owned(), ..Setup::default() }).await;
    env.execute("INSERT INTO users (id, city) VALUES ('u1', 'x')").await;
    let proxy = crate::support::TcpProxy::start(&env.database, None).await;
    env.edit(env.database.url(), proxy.url());
    let (mut heard, path) = Heard::bind(&env);
    let mut command = env.command(&["run"]);
    let mut daemon = command
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "2000000")
        .spawn()
        .expect("the binary can be executed");
    env.converges(Duration::from_secs(20)).await;
    // The databases are away for longer than the limit.
    proxy.set_silent(true);
    let fed = heard.count("WATCHDOG=1");
    env.eventually("the watchdog is fed meanwhile", async || heard.count("WATCHDOG=1") > fed + 12).await;
    proxy.set_silent(false);
    env.execute("UPDATE users SET city = 'y', updated_at = now()").await;
    env.converges(Duration::from_mins(1)).await;
    // A pass that waits for a lock.
    let mut blocker = env.database.connect().await;
    sqlx::raw_sql("BEGIN; LOCK TABLE imsync.account").execute(&mut blocker).await.expect("the table can be locked");
    env.execute("UPDATE users SET city = 'z', updated_at = now()").await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let fed = heard.count("WATCHDOG=1");
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(heard.count("WATCHDOG=1"), fed, "a pass that hangs is not fed");
    // It goes on, if systemd lets it.
    sqlx::raw_sql("ROLLBACK").execute(&mut blocker).await.expect("the lock can be released");
    env.converges(Duration::from_secs(30)).await;
    env.eventually("the watchdog is fed again", async || heard.count("WATCHDOG=1") > fed).await;
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
}
