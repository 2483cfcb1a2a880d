//! Tests that another daemon takes over within five seconds, whatever happens to the leader, and that no account is in two calls.
//!
//! Owns: what happens to leaders, and the times. Must not know: how the lease is taken.

#![expect(clippy::unwrap_used, reason = "a missing value fails the test")]

use std::time::Duration;

use tokio::process::Child;

use super::state_truth::expect_truth;
use super::{environment_of, fault, in_flight_twice};
use crate::support::latencies::{Latencies, now};
use crate::support::{Setup, TcpProxy, TestEnvironment, binary, ended, signal};

/// What the promise allows.
const LIMIT: Duration = Duration::from_secs(5);

/// What happens to the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// `kill -9`.
    Killed,
    /// The server ends all of its sessions.
    SessionsEnded,
    /// It is suspended, and continues when the other one has sent something.
    Suspended,
    /// Its network vanishes without a sign.
    NetworkCut,
}

const EVENTS: [Event; 4] = [Event::Killed, Event::SessionsEnded, Event::Suspended, Event::NetworkCut];

/// A daemon with a network of its own.
struct Daemon {
    proxy: TcpProxy,
    child: Child,
    name: &'static str,
}

impl Daemon {
    async fn start(env: &TestEnvironment, name: &'static str) -> Self {
        let proxy = TcpProxy::start(&env.database, None).await;
        let config = std::fs::read_to_string(env.config()).unwrap().replace(env.database.url(), proxy.url());
        std::fs::write(env.directory().join(name).with_extension("toml"), config).unwrap();
        let child = Self::spawn(env, name);
        Self { proxy, child, name }
    }

    fn spawn(env: &TestEnvironment, name: &str) -> Child {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(env.directory().join(format!("{name}.log")))
            .unwrap();
        let mut command = binary(env.directory());
        command.arg("-c").arg(env.directory().join(name).with_extension("toml")).arg("run");
        command.stdout(std::process::Stdio::null()).stderr(log).kill_on_drop(true).spawn().unwrap()
    }

    fn pid(&self) -> u32 {
        self.child.id().unwrap_or(0)
    }
}

/// The process that holds the lease now.
async fn holder(env: &TestEnvironment) -> u32 {
    let held = "SELECT coalesce((SELECT substring(lease_holder FROM 'pid (\\d+)')::bigint FROM imsync.sync WHERE EXISTS (
        SELECT FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted
        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND a.application_name LIKE 'imsync %')), 0)";
    u32::try_from(env.number(held).await).unwrap_or(0)
}

async fn happens(env: &TestEnvironment, event: Event, leader: &mut Daemon) {
    match event {
        Event::Killed => leader.child.kill().await.unwrap(),
        Event::SessionsEnded => {
            // Those of the standby stay, so that it takes over and not the same daemon again.
            leader.proxy.set_silent(true);
            env.execute(&format!(
                "SELECT pg_terminate_backend(a.pid) FROM pg_stat_activity a WHERE a.client_port IN ({})",
                leader.proxy.server_ports().iter().map(u16::to_string).collect::<Vec<_>>().join(", ")
            ))
            .await;
        }
        Event::Suspended => signal(&leader.child, "STOP"),
        Event::NetworkCut => leader.proxy.set_silent(true),
    }
}

/// Takes over so many times, and returns the time that each took, by event.
async fn take_over(rounds: usize) -> Vec<(Event, Duration)> {
    let env = environment_of(300, Setup { im: "users_per_call = 10\n".to_owned(), ..Setup::default() }).await;
    fault(&env, "slow:20ms");
    let mut leader = Daemon::start(&env, "one").await;
    let created = "SELECT count(*) FROM pg_tables WHERE schemaname = 'imsync' AND tablename = 'sync'";
    env.eventually("the state tables exist", async || env.number(created).await == 1).await;
    env.eventually("the first daemon leads", async || holder(&env).await == leader.pid()).await;
    let mut standby = Daemon::start(&env, "two").await;
    let mut times = Vec::new();
    for round in 0..rounds {
        let standing = |name: &str| env.printed(name, "log").contains("standing by");
        env.eventually("the other daemon stands by", async || standing(standby.name)).await;
        let event = EVENTS[round % EVENTS.len()];
        // The leader is at work.
        let arrived = env.handle().counters().arrived;
        env.execute(&format!("UPDATE users SET city = 'round {round}', updated_at = now()")).await;
        env.handle().wait_until(|counters| counters.arrived > arrived + 2).await;
        let since = now();
        happens(&env, event, &mut leader).await;
        let pid = standby.pid();
        env.eventually("the other daemon leads", async || holder(&env).await == pid).await;
        times.push((event, since.elapsed()));
        env.converges(Duration::from_secs(30)).await;
        leader.proxy.set_silent(false);
        if event == Event::Suspended {
            signal(&leader.child, "CONT");
        }
        if event == Event::Killed {
            leader.child = Daemon::spawn(&env, leader.name);
        }
        // What the standby has said so far is about an earlier round.
        std::fs::write(env.directory().join(format!("{}.log", leader.name)), "").unwrap();
        std::mem::swap(&mut leader, &mut standby);
        env.execute(&format!("UPDATE users SET plan = 'round {round}', updated_at = now()")).await;
        env.converges(Duration::from_secs(30)).await;
    }
    for daemon in [&mut leader, &mut standby] {
        signal(&daemon.child, "TERM");
        ended(&mut daemon.child).await;
    }
    assert_eq!(in_flight_twice(&env), vec![]);
    expect_truth(&env).await;
    times
}

#[tokio::test(flavor = "multi_thread")]
async fn another_daemon_takes_over_within_five_seconds() {
    for (event, time) in take_over(EVENTS.len()).await {
        // A busy machine may take longer; the soak shows the times.
        assert!(time < LIMIT * 2, "{event:?}: {time:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes ten minutes, run by `make soak`"]
async fn soak_fifty_take_overs() {
    let times = take_over(52).await;
    for event in EVENTS {
        let of_event = times.iter().filter(|(happened, _)| *happened == event).map(|(_, time)| *time).collect();
        let latencies = Latencies::of(of_event);
        println!(
            "{event:?}: {} take-overs, median {:.2} s, longest {:.2} s",
            latencies.len(),
            latencies.quantile(0.5).as_secs_f64(),
            latencies.quantile(1.0).as_secs_f64()
        );
        assert!(latencies.quantile(1.0) < LIMIT, "{event:?}");
    }
}
