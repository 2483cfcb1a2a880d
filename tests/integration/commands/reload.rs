//! Tests that a new configuration replaces the running one only when databases and app accept it.
//!
//! Owns: configurations that only a database or IM can refuse, in every phase of the daemon. Must not know: how a
//! configuration is proved.

use std::time::Duration;

use imsync::clock::monotonic;
use tokio::process::Child;

use super::{Role, ask, free_port, metric, people};
use crate::support::{Setup, TestEnvironment, USERS, ended, signal};

const RELOADED: &str = "imsync_config_last_reload_successful";
const REFUSED: &str = "the configuration was not reloaded, the old one stays in force";

/// A daemon whose configuration is edited while it runs.
struct ReloadingDaemon<'a> {
    env: &'a TestEnvironment,
    process: Child,
    name: &'static str,
    port: u16,
}

fn setup(port: u16) -> Setup {
    Setup {
        sql: format!("{USERS} ALTER TABLE users ADD COLUMN wrote timestamp, ADD COLUMN secret text"),
        im: "timeout = \"1s\"\nretry_for = \"20s\"\n".to_owned(),
        more: format!(
            "[schedule]\ninterval = \"200ms\"\n[state]\nschema = \"imsync\"\n[log]\nlevel = \"info\"\n[http]\nlisten = \"127.0.0.1:{port}\"\n"
        ),
        ..Setup::default()
    }
}

impl<'a> ReloadingDaemon<'a> {
    fn start(env: &'a TestEnvironment, name: &'static str, port: u16) -> Self {
        Self { env, process: env.start(name, &["run"]), name, port }
    }

    fn log(&self) -> String {
        self.env.printed(self.name, "err")
    }

    /// The lines of this kind in the log so far.
    fn logged(&self, line: &str) -> usize {
        self.log().matches(line).count()
    }

    /// Replaces `old` by `new` in the configuration, sends SIGHUP, and waits until that is refused. The reason must
    /// contain `reason`. The configuration is restored afterwards.
    async fn refuses(&self, old: &str, new: &str, reason: &str) {
        let before = (self.logged(REFUSED), self.logged("configuration reloaded"));
        self.env.edit(old, new);
        signal(&self.process, "HUP");
        self.env.eventually(&format!("{new:?} is refused"), async || self.logged(REFUSED) > before.0).await;
        self.env.edit(new, old);
        let log = self.log();
        let last = log.rsplit(REFUSED).next().unwrap();
        assert!(last.contains(reason), "no {reason:?} for {new:?} in {last}");
        assert_eq!(metric(self.port, RELOADED).await, Some(0.0), "{new:?}");
        assert_eq!(self.logged("configuration reloaded"), before.1, "{new:?}");
    }

    /// The same for an edit that is accepted, and stays.
    async fn accepts(&self, old: &str, new: &str) {
        let before = self.logged("configuration reloaded");
        self.env.edit(old, new);
        signal(&self.process, "HUP");
        self.env
            .eventually(&format!("{new:?} is accepted"), async || self.logged("configuration reloaded") > before)
            .await;
        assert_eq!(metric(self.port, RELOADED).await, Some(1.0), "{new:?}");
    }

    /// Rows still arrive.
    async fn still_syncs(&self, value: &str) {
        let sql = format!("UPDATE users SET city = '{value}', updated_at = now() WHERE id = 'u0001'");
        self.env.execute(&sql).await;
        self.env.converges(Duration::from_secs(10)).await;
    }

    async fn stop(mut self) {
        signal(&self.process, "TERM");
        assert_eq!(ended(&mut self.process).await, Some(0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_database_or_the_app_refuses_is_not_put_in_force() {
    let port = free_port();
    let env = TestEnvironment::set_up(setup(port)).await;
    env.execute(&people(20)).await;
    let daemon = ReloadingDaemon::start(&env, "run", port);
    env.converges(Duration::from_secs(20)).await;

    let deleted = "deleted_column = \"deleted_at\"";
    let city = "city = \"city\"";
    for (old, new, reason) in [
        (deleted, "deleted_column = \"gone_at\"", "gone_at"),
        (deleted, "deleted_column = \"deleted_at\"\nfilter = \"nosuch = 1\"", "nosuch"),
        (deleted, "deleted_column = \"deleted_at\"\nfilter = \"kind = 7\"", "source.filter"),
        (deleted, "deleted_column = \"deleted_at\"\nfilter = \"count(*) > 1\"", "source.filter"),
        (city, "city = \"town\"", "town"),
        (city, "city = \"city\"\nhobby = \"city\"", "\"hobby\""),
        ("watermark_column = \"updated_at\"", "watermark_column = \"city\"", "source.watermark_column"),
        (
            "watermark_column = \"updated_at\"",
            "watermark_timezone = \"Mars/Olympus\"\nwatermark_column = \"wrote\"",
            "source.watermark_timezone",
        ),
        ("identifier = \"administrator\"", "identifier = \"nobody\"", "im.identifier"),
        ("secret_key_file = \"secret_key\"", "secret_key = \"another-key\"", "key"),
    ] {
        daemon.refuses(old, new, reason).await;
        daemon.still_syncs(new.split('"').nth(1).unwrap()).await;
    }
    daemon.accepts(deleted, "deleted_column = \"deleted_at\"\nfilter = \"kind IS DISTINCT FROM 'bot'\"").await;
    daemon.accepts("interval = \"200ms\"", "interval = \"100ms\"").await;
    daemon.accepts("level = \"info\"", "level = \"debug\"").await;
    env.eventually("the log has the new level", async || daemon.log().contains("DEBUG")).await;
    daemon.still_syncs("after").await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_open_resources_are_fixed_in_every_spelling() {
    let port = free_port();
    let env = TestEnvironment::set_up(setup(port)).await;
    env.execute(&people(5)).await;
    env.execute("CREATE TABLE people AS TABLE users; CREATE UNIQUE INDEX ON people (id)").await;
    let daemon = ReloadingDaemon::start(&env, "run", port);
    env.converges(Duration::from_secs(20)).await;
    let url = env.database.url().to_owned();
    let database = url::Url::parse(&url).unwrap().path().to_owned();
    let other_database = url.replace(&database, "/postgres");
    let other_server = url.replace("127.0.0.1", "127.0.0.2");
    for (old, new, key) in [
        ("name = \"users\"", "name = \"others\"", "name"),
        ("table = \"public.users\"", "table = \"people\"", "source.table"),
        ("account_column = \"id\"", "account_column = \"city\"", "source.account_column"),
        ("account_column = \"id\"", "account_column = \"id\"\naccount_prefix = \"x\"", "source.account_prefix"),
        ("schema = \"imsync\"", "schema = \"imsync2\"", "state.schema"),
        ("schema = \"imsync\"", "migrate = false\nschema = \"imsync\"", "state.migrate"),
        ("schema = \"imsync\"", &format!("schema = \"imsync\"\nurl = \"{other_database}\""), "state.url"),
        (&format!("127.0.0.1:{port}"), &format!("127.0.0.1:{}", free_port()), "http.listen"),
        ("1400000000", "1400000001", "im.sdk_app_id"),
        ("[im]\n", "[im]\nservice = \"timpush\"\n", "im.service"),
    ] {
        daemon.refuses(old, new, key).await;
    }
    for other in [&other_database, &other_server] {
        let refused = daemon.logged(REFUSED);
        env.edit(&url, other);
        signal(&daemon.process, "HUP");
        env.eventually("another server is refused", async || daemon.logged(REFUSED) > refused).await;
        env.edit(other, &url);
    }
    for (old, new) in [
        ("table = \"public.users\"", "table = \"users\""),
        ("table = \"users\"", "table = \"\\\"public\\\".\\\"users\\\"\""),
        ("schema = \"imsync\"", &format!("schema = \"imsync\"\nurl = \"{url}\"")),
        ("url = \"postgres://", "url = \"postgresql://"),
    ] {
        daemon.accepts(old, new).await;
    }
    // Another name of the host leads to the same server, which the server tells.
    if url.contains("127.0.0.1") {
        daemon.accepts("@127.0.0.1", "@localhost").await;
    }
    daemon.still_syncs("after").await;
    daemon.stop().await;
}

/// The source is read by a role of its own, which the tests take privileges from.
async fn daemon_of_role(env: &TestEnvironment) -> Role {
    let role = Role::create(env).await;
    let database = url::Url::parse(env.database.url()).unwrap().path().trim_start_matches('/').to_owned();
    env.execute(&format!(
        "GRANT CREATE ON DATABASE \"{database}\" TO {0};
         GRANT SELECT (id, city, plan, gender, kind, updated_at, deleted_at) ON users TO {0}",
        role.name
    ))
    .await;
    role.configure(env);
    role
}

#[tokio::test(flavor = "multi_thread")]
async fn privileges_and_passwords_are_proved_and_a_rotated_password_is_accepted() {
    let port = free_port();
    let env = TestEnvironment::set_up(setup(port)).await;
    env.execute(&people(5)).await;
    let role = daemon_of_role(&env).await;
    let daemon = ReloadingDaemon::start(&env, "run", port);
    env.converges(Duration::from_secs(20)).await;

    let deleted = "deleted_column = \"deleted_at\"";
    // Only the filter uses this column. Its syntax is right.
    daemon.refuses(deleted, "deleted_column = \"deleted_at\"\nfilter = \"secret IS NULL\"", "privilege").await;
    daemon.refuses("city = \"city\"", "city = \"secret\"", "GRANT SELECT").await;
    daemon.refuses(Role::PASSWORD, "wrong", "login").await;
    assert!(!daemon.log().contains("wrong@") && !daemon.log().contains(Role::PASSWORD));
    daemon.still_syncs("old password").await;

    // The password is rotated, and the sessions are cut.
    env.execute(&format!(
        "ALTER ROLE {0} PASSWORD 'rotated'; SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{0}'",
        role.name
    ))
    .await;
    env.eventually("the old password is refused", async || {
        ask(port, "/readyz").await.is_some_and(|(code, body)| code == 503 && body.contains("login"))
    })
    .await;
    daemon.accepts(Role::PASSWORD, "rotated").await;
    daemon.still_syncs("new password").await;

    env.execute(&format!("REVOKE INSERT ON imsync.account FROM {0}", role.name)).await;
    daemon.refuses("interval = \"200ms\"", "interval = \"300ms\"", "account").await;
    env.execute(&format!("GRANT INSERT ON imsync.account TO {0}", role.name)).await;
    daemon.accepts("interval = \"200ms\"", "interval = \"300ms\"").await;
    daemon.stop().await;
    role.drop(&env).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn passes_and_a_stop_do_not_wait_for_the_proof() {
    let port = free_port();
    let env = TestEnvironment::set_up(setup(port)).await;
    env.execute(&people(5)).await;
    let daemon = ReloadingDaemon::start(&env, "run", port);
    env.converges(Duration::from_secs(20)).await;

    // IM does not tell the names: an edited mapping is refused with the reason, and an edited interval needs no names.
    env.handle().add_fault("hold:command=get_attr_name".parse().unwrap());
    let refused = daemon.logged(REFUSED);
    env.edit("city = \"city\"", "city = \"plan\"");
    for _ in 0..5 {
        signal(&daemon.process, "HUP");
    }
    env.handle().wait_until(|counters| counters.held > 0).await;
    daemon.still_syncs("during the proof").await;
    env.eventually("the mapping is refused", async || daemon.logged(REFUSED) > refused).await;
    let log = daemon.log();
    assert!(log.rsplit(REFUSED).next().unwrap().contains("get_attr_name"), "{log}");
    env.edit("city = \"plan\"", "city = \"city\"");
    daemon.accepts("interval = \"200ms\"", "interval = \"300ms\"").await;

    // The same edit is accepted once IM answers.
    env.handle().clear_faults();
    daemon.accepts("city = \"city\"", "city = \"plan\"").await;
    env.eventually("IM holds the values of the new mapping", async || {
        env.handle().users().values().all(|user| user.get("city") == user.get("plan"))
    })
    .await;

    env.handle().add_fault("hold:command=get_attr_name".parse().unwrap());
    env.edit("city = \"plan\"", "city = \"city\"");
    signal(&daemon.process, "HUP");
    env.handle().wait_until(|counters| counters.held > 0).await;
    let started = monotonic();
    daemon.stop().await;
    assert!(started.elapsed() < Duration::from_secs(10), "the stop waited {:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_and_a_daemon_that_cannot_connect_prove_it_too() {
    let port = free_port();
    let env = TestEnvironment::set_up(setup(port)).await;
    env.execute(&people(5)).await;
    // It cannot connect: the mapping names a column that does not exist.
    env.edit("city = \"city\"", "city = \"town\"");
    let daemon = ReloadingDaemon::start(&env, "run", port);
    env.eventually("the daemon says why it is not ready", async || {
        ask(port, "/readyz").await.is_some_and(|(code, body)| code == 503 && body.contains("town"))
    })
    .await;
    daemon.refuses("city = \"town\"", "city = \"village\"", "village").await;
    daemon.accepts("city = \"town\"", "city = \"city\"").await;
    env.converges(Duration::from_secs(20)).await;

    let standby_port = free_port();
    env.edit(&format!("127.0.0.1:{port}"), &format!("127.0.0.1:{standby_port}"));
    let standby = ReloadingDaemon::start(&env, "standby", standby_port);
    let stands_by = async || ask(standby_port, "/readyz").await.is_some_and(|(_, body)| body.contains("standby"));
    env.eventually("the second daemon stands by", stands_by).await;
    standby.refuses("city = \"city\"", "city = \"town\"", "town").await;
    assert!(stands_by().await, "it still stands by");
    standby.accepts("city = \"city\"", "city = \"plan\"").await;
    env.eventually("it stands by again", stands_by).await;
    daemon.stop().await;
    env.eventually("the standby leads with the new mapping", async || {
        env.handle().users().values().all(|user| user.get("city") == user.get("plan"))
    })
    .await;
    standby.stop().await;
}
