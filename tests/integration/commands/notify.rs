//! Notifications to systemd: one assignment in each, and a reader that is behind delays no pass.
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
