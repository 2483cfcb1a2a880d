//! Tests what imsync says when it cannot connect: each cause has its sentence and its remedy, and only a server that is
//! away counts as away.
//!
//! Owns: the answers of servers and poolers, and the connection strings that work. Must not know: how they are told apart.

use sqlx::{AssertSqlSafe, Executor as _, PgConnection};

use super::{Role, ask, free_port};
use crate::support::{FakeServer, Setup, TestEnvironment, TlsServer, ended, run, signal};

const PASSWORD: &str = "pw-Zebra-4711";

/// SQLSTATE and text of a server or a pooler, and what `check` says about it.
const ANSWERS: [(&str, &str, &[&str]); 30] = [
    ("28P01", "password authentication failed for user \"me\"", &["rejects the login", "correct user and password"]),
    ("08P01", "SASL authentication failed", &["rejects the login"]),
    (
        "08P01",
        "server login has been failing, cached error: password authentication failed for user \"me\" (server_login_retry)",
        &["rejects the login", "correct user and password"],
    ),
    (
        "08P01",
        "server login has been failing, cached error: database \"app\" does not exist (server_login_retry)",
        &["the database does not exist", "CREATE DATABASE"],
    ),
    (
        "08P01",
        "server login has been failing, cached error: role \"me\" does not exist (server_login_retry)",
        &["does not let this user in", "CREATE ROLE"],
    ),
    ("XX000", "database \"app\" does not exist", &["the database does not exist"]),
    ("28000", "PAM authentication failed for user \"me\"", &["rejects the login", "token that expires"]),
    (
        "28P01",
        "This RDS proxy has no credentials for the role me. Check the credentials for this role and try again.",
        &["rejects the login"],
    ),
    ("XX000", "Tenant or user not found", &["does not know this project or user", "postgres.abcdef"]),
    ("08P01", "no such user: me", &["does not know this project or user"]),
    ("08P01", "no such database: app", &["does not know the database", "correct the database name"]),
    ("3D000", "database \"app\" does not exist", &["the database does not exist", "CREATE DATABASE"]),
    (
        "XX000",
        "MaxClientsInSessionMode: max clients reached - in Session mode max clients are limited to pool_size",
        &["no free connection", "pool size"],
    ),
    ("XX000", "Max client connections reached", &["no free connection"]),
    ("08P01", "no more connections allowed (max_client_conn)", &["no free connection", "max_client_conn"]),
    ("53300", "sorry, too many clients already", &["no free connection", "max_connections"]),
    (
        "53300",
        "remaining connection slots are reserved for roles with the SUPERUSER attribute",
        &["no free connection"],
    ),
    ("53300", "too many connections for role \"me\"", &["no free connection", "CONNECTION LIMIT"]),
    ("08P01", "query_wait_timeout", &["no free connection"]),
    (
        "08P01",
        "unsupported startup parameter: extra_float_digits",
        &["start-up parameter", "ignore_startup_parameters"],
    ),
    ("08P01", "unsupported startup parameter in options: search_path", &["start-up parameter", "leave `options` out"]),
    (
        "28000",
        "no pg_hba.conf entry for host \"10.0.0.9\", user \"me\", database \"app\", no encryption",
        &["without encryption", "sslmode=require"],
    ),
    (
        "28000",
        "no pg_hba.conf entry for host \"10.0.0.9\", user \"me\", database \"app\", SSL encryption",
        &["from this machine", "add the address"],
    ),
    (
        "28000",
        "connection is insecure (try using `sslmode=require`)",
        &["demands an encrypted connection", "sslmode=require"],
    ),
    ("08P01", "SSL required", &["demands an encrypted connection"]),
    ("28000", "role \"me\" does not exist", &["does not let this user in", "CREATE ROLE"]),
    ("28000", "role \"me\" is not permitted to log in", &["the role may not log in", "ALTER ROLE"]),
    ("42501", "permission denied for database \"app\"", &["lacks a privilege", "GRANT CONNECT"]),
    (
        "55000",
        "database \"app\" is not currently accepting connections",
        &["takes no connections", "ALLOW_CONNECTIONS"],
    ),
    (
        "XX000",
        "something pw-Zebra-4711 new\nin two lines",
        &["refuses the connection: \"something … new in two lines\""],
    ),
];

/// The same for a server that is away: it is tried again.
const AWAY: [(&str, &str, &str); 6] = [
    ("57P03", "the database system is starting up", "starting up, shutting down or in recovery"),
    ("57P03", "the database system is not yet accepting connections", "starting up, shutting down or in recovery"),
    ("57P01", "terminating connection due to administrator command", "starting up, shutting down or in recovery"),
    ("08P01", "server login has been failing, try again later (server_login_retry)", "cannot reach its server"),
    (
        "08P01",
        "server login has been failing, cached error: the database system is starting up (server_login_retry)",
        "cannot reach its server",
    ),
    ("53200", "out of memory", "cannot take a connection now"),
];

async fn check(env: &TestEnvironment, url: &str) -> String {
    let mut command = env.command(&["check"]);
    command.env("IMSYNC_SOURCE_URL", url).env_remove("IMSYNC_STATE_URL");
    let output = run(command).await;
    assert!(!format!("{output:?}").contains(PASSWORD), "the password is shown: {output:?}");
    output.stdout
}

#[tokio::test(flavor = "multi_thread")]
async fn each_refused_login_has_its_sentence_and_remedy() {
    let env = TestEnvironment::set_up(Setup::default()).await;
    let server = FakeServer::start().await;
    let url = format!("postgres://me:{PASSWORD}@127.0.0.1:{}/app", server.port());
    for (code, text, expected) in ANSWERS {
        server.refuse_with(code, text);
        let printed = check(&env, &url).await;
        for part in ["source", "state"] {
            let lines: String = printed.lines().filter(|line| line.contains(&format!("FAIL  {part}"))).collect();
            for expected in expected {
                assert!(lines.contains(expected), "{text}: no {expected:?} for {part} in {printed}");
            }
        }
        assert!(!printed.contains("unreachable"), "{text} is no server that is away: {printed}");
    }
    for (code, text, expected) in AWAY {
        server.refuse_with(code, text);
        let printed = check(&env, &url).await;
        for part in ["the source database is unreachable", "the state database is unreachable", expected] {
            assert!(printed.contains(part), "{text}: {printed}");
        }
    }
    server.refuse_with("28P01", "password authentication failed for user \"me\"");
    let printed = check(&env, &url.replace(&format!(":{PASSWORD}"), "")).await;
    assert!(printed.contains("asks for a password, and there is none"), "{printed}");
    let options = format!("{url}?options=-c%20nonsense%3D1");
    server.refuse_with("42704", "unrecognized configuration parameter \"nonsense\"");
    let printed = check(&env, &options).await;
    assert!(printed.contains("does not accept `options`"), "{printed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_has_its_reason() {
    let env = TestEnvironment::set_up(Setup::default()).await;
    let port = free_port();
    let printed = check(&env, &format!("postgres://me@127.0.0.1:{port}/app")).await;
    assert!(printed.contains("unreachable: connection refused: nothing listens at 127.0.0.1:"), "{printed}");
    let printed = check(&env, &format!("postgres://me@[::1]:{port}/app")).await;
    assert!(printed.contains("nothing listens at [::1]:") || printed.contains("has only IPv6 addresses"), "{printed}");
    let printed = check(&env, "postgres://me@nobody.invalid/app").await;
    assert!(printed.contains("the host name nobody.invalid is not known") || printed.contains("cannot be looked up"));
    let printed = check(&env, "postgres://me@%2Fno%2Ffolder:6432/app").await;
    assert!(printed.contains("no server listens at the socket /no/folder/.s.PGSQL.6432"), "{printed}");
    // Documentation addresses have no route on any machine.
    let printed = check(&env, "postgres://me@[2001:db8::1]:5432/app?connect_timeout=2").await;
    let has_route = printed.contains("does not answer");
    assert!(has_route || printed.contains("IPv4 address of the provider"), "{printed}");
    let printed = check(&env, &format!("postgres://me@127.0.0.1:{port},nobody.invalid/app")).await;
    assert!(printed.contains("none of 2 servers can be used"), "{printed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_daemon_stays_up_and_says_what_to_do() {
    let port = free_port();
    let more = format!("[http]\nlisten = \"127.0.0.1:{port}\"\n[schedule]\ninterval = \"200ms\"\n");
    let env = TestEnvironment::set_up(Setup { more, ..Setup::default() }).await;
    let server = FakeServer::start().await;
    server.refuse_with("XX000", "Tenant or user not found");
    let good = env.database.url().to_owned();
    env.edit(&good, &format!("postgres://me:{PASSWORD}@127.0.0.1:{}/app", server.port()));
    let mut daemon = env.start("daemon", &["run"]);
    for (code, text, expected) in [
        ("XX000", "Tenant or user not found", "does not know this project or user"),
        ("53300", "sorry, too many clients already", "no free connection"),
        ("28P01", "password authentication failed", "rejects the login"),
    ] {
        server.refuse_with(code, text);
        env.eventually(expected, async || {
            let body = ask(port, "/readyz").await;
            body.is_some_and(|(code, body)| code == 503 && body.contains(expected) && !body.contains(PASSWORD))
        })
        .await;
    }
    assert!(daemon.try_wait().unwrap().is_none(), "the daemon is up");
    assert!(!env.printed("daemon", "err").contains(PASSWORD));
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_does_not_fit_has_its_remedy() {
    let server = TlsServer::start().await;
    let plain = TestEnvironment::set_up(Setup::default()).await;
    let url = |host: &str, parameters: &str| server.url(host, parameters);
    let root = format!("sslrootcert={}", server.authority().display());
    let other = format!("sslrootcert={}", server.other_authority().display());
    for (url, expected) in [
        (url("localhost", "sslmode=verify-full"), "an authority that this machine does not know; set sslrootcert"),
        (url("localhost", "sslrootcert=system"), "an authority that this machine does not know; set sslrootcert"),
        (url("localhost", &format!("sslmode=verify-ca&{other}")), "was not issued by the authority in"),
        // As in psql, a root certificate makes `require` verify.
        (url("localhost", &format!("sslmode=require&{other}")), "was not issued by the authority in"),
        (url("127.0.0.1", &format!("sslmode=verify-full&{root}")), "is not for this host name but for"),
        (
            plain.database.url().replace("sslmode=disable", "sslmode=require"),
            "does not support TLS, which sslmode demands",
        ),
    ] {
        let printed = check(&plain, &url).await;
        assert!(printed.contains(expected) && !printed.contains("unreachable"), "{url}: {printed}");
    }
    let env = TestEnvironment::set_up_on(
        crate::support::Database::on_own_server(server.database.url().to_owned()),
        Setup::default(),
    )
    .await;
    for parameters in [
        "sslmode=require&channel_binding=require".to_owned(),
        format!("sslmode=verify-full&{root}&channel_binding=prefer&gssencmode=disable&keepalives=1&connect_timeout=5"),
        "sslmode=require&sslnegotiation=direct&options=-c%20geqo%3Doff".to_owned(),
        "sslmode=allow".to_owned(),
        "target_session_attrs=read-write&application_name=x".to_owned(),
    ] {
        let printed = check(&env, &url("localhost", &parameters)).await;
        assert!(!printed.contains("FAIL"), "{parameters}: {printed}");
    }
    let printed = check(&env, &url("localhost", "sslmode=require&channel_binding=require")).await;
    assert!(printed.contains("channel_binding=require has no effect"), "{printed}");
    // A rule of pg_hba.conf that only takes encrypted connections, and one that only takes the others.
    let mut open = env.database.connect().await;
    for (rule, refused) in [("hostssl", "disable"), ("hostnossl", "require")] {
        allow_only(&mut open, rule).await;
        let expected = if rule == "hostssl" { "without encryption" } else { "from this machine" };
        env.eventually("the rule is in force", async || {
            check(&env, &url("localhost", &format!("sslmode={refused}"))).await.contains(expected)
        })
        .await;
        for mode in ["allow", "prefer"] {
            let printed = check(&env, &url("localhost", &format!("sslmode={mode}"))).await;
            assert!(!printed.contains("FAIL"), "{rule} {mode}: {printed}");
        }
    }
}

/// Replaces the rules for TCP connections. A session that is open stays.
async fn allow_only(open: &mut PgConnection, rule: &str) {
    let copy = format!(
        "COPY (SELECT '{rule} all all all scram-sha-256' UNION ALL SELECT 'local all all trust') TO PROGRAM 'cat > pg_hba.conf'"
    );
    open.execute(AssertSqlSafe(copy)).await.unwrap();
    open.execute("SELECT pg_reload_conf()").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn several_hosts_are_tried_in_order() {
    let env = TestEnvironment::set_up(Setup::default()).await;
    let url = url::Url::parse(env.database.url()).unwrap();
    let (host, port) = (url.host_str().unwrap(), url.port().unwrap());
    let closed = free_port();
    let several = |list: &str, more: &str| {
        format!("postgres://{}:{}@{list}{}?{more}", url.username(), url.password().unwrap_or_default(), url.path())
    };
    let list = format!("127.0.0.1:{closed},{host}:{port}");
    for (list, more) in [
        (&*list, "x"),
        (&*list, "target_session_attrs=read-write"),
        (&*list, "target_session_attrs=prefer-standby"),
        (&*list, "target_session_attrs=primary&load_balance_hosts=random"),
    ] {
        let printed = check(&env, &several(list, if more == "x" { "connect_timeout=5" } else { more })).await;
        assert!(!printed.contains("FAIL"), "{more}: {printed}");
    }
    for wanted in ["standby", "read-only"] {
        let printed = check(&env, &several(&list, &format!("target_session_attrs={wanted}"))).await;
        assert!(printed.contains(&format!("target_session_attrs={wanted} asks")), "{printed}");
    }
    let role = Role::create(&env).await;
    env.execute(&format!(
        "ALTER ROLE {} SET default_transaction_read_only = on; GRANT SELECT ON users TO {0}",
        role.name
    ))
    .await;
    let wrong = role.url.replace(Role::PASSWORD, "wrong");
    let (head, tail) = wrong.split_once('@').unwrap();
    let printed = check(&env, &format!("{head}@{},{tail}", tail.split('/').next().unwrap())).await;
    assert!(
        printed.contains("rejects the login") && !printed.contains("none of 2"),
        "a refusal ends the search: {printed}"
    );
    let printed = check(&env, &format!("{}?target_session_attrs=read-only", role.url)).await;
    assert!(!printed.contains("FAIL  source"), "{printed}");
    role.drop(&env).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn variables_and_the_password_file_apply_as_in_psql() {
    let env = TestEnvironment::set_up(Setup::default()).await;
    let role = Role::create(&env).await;
    let url = url::Url::parse(&role.url).unwrap();
    let database = url.path().trim_start_matches('/');
    env.execute(&format!("GRANT SELECT ON users TO {0}; GRANT CREATE ON DATABASE {database} TO {0}", role.name)).await;
    let file = env.directory().join(".pgpass");
    std::fs::write(&file, format!("*:*:*:{}:{}\n", role.name, Role::PASSWORD)).unwrap();
    let with = async |mode: u32, list: &str| {
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        let mut command = env.command(&["check"]);
        command.env("IMSYNC_SOURCE_URL", list).env("HOME", env.directory());
        command.env("PGUSER", &role.name).env("PGPORT", url.port().unwrap().to_string()).env("PGHOST", "127.0.0.1");
        command.env("PGDATABASE", database);
        let output = run(command).await;
        assert!(!format!("{output:?}").contains(Role::PASSWORD), "{output:?}");
        output.stdout
    };
    for text in ["postgres://", "postgresql:///?sslmode=prefer", "host=127.0.0.1"] {
        let printed = with(0o600, text).await;
        assert!(!printed.contains("FAIL"), "{text}: {printed}");
        assert!(printed.contains(&format!("PGUSER={}", role.name)), "the variables are shown: {printed}");
    }
    let printed = with(0o644, "postgres://").await;
    assert!(printed.contains("is ignored, because others may read it"), "{printed}");
    role.drop(&env).await;
}

/// Documented in docs/operating.md, "Connections".
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_opens_at_most_ten_connections() {
    let port = free_port();
    let more = format!("[http]\nlisten = \"127.0.0.1:{port}\"\n[schedule]\ninterval = \"100ms\"\n");
    let env = TestEnvironment::set_up(Setup { more, ..Setup::default() }).await;
    env.execute(&super::people(3000)).await;
    let mut daemon = env.start("daemon", &["run"]);
    let mut most = 0;
    let count =
        "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'imsync%' AND datname = current_database()";
    env.eventually("the first full pass ends", async || {
        for _ in 0..4 {
            let _ = ask(port, "/status").await;
        }
        most = most.max(env.number(count).await);
        env.handle().users().len() == 3000
    })
    .await;
    env.execute("UPDATE users SET city = 'x', updated_at = now()").await;
    env.eventually("the changes arrive", async || {
        let _ = tokio::join!(ask(port, "/status"), ask(port, "/status"), ask(port, "/status"));
        most = most.max(env.number(count).await);
        env.handle().users().values().all(|user| user.get("city").is_some_and(|city| city == "x"))
    })
    .await;
    assert!((2..=10).contains(&most), "{most} connections");
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
}
