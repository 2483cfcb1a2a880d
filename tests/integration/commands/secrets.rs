//! Tests that no key, password, signature or webhook URL is ever printed, logged or stored.
//!
//! Owns: every output of every command, in good order and with faults. Must not know: where imsync reads secrets from.

use super::{Role, ask, free_port, people, state_tables};
use crate::support::{Setup, TestEnvironment, ended, signal};

const KEY: &str = "key-Okapi-0815-distinctive";

const EVERY_COMMAND: [&[&str]; 19] = [
    &["check", "--offline"],
    &["check"],
    &["migrate", "--print"],
    &["migrate"],
    &["backfill", "--dry-run"],
    &["backfill"],
    &["run", "--once"],
    &["status"],
    &["status", "--json"],
    &["preview", "--full"],
    &["explain", "u0001"],
    &["verify"],
    &["attributes"],
    &["attributes", "apply", "--yes"],
    &["forget", "nobody"],
    &["history"],
    &["rejected"],
    &["rejected", "retry"],
    &["migrate", "--rebind"],
];

const COMMANDS_THAT_CALL_IM: [&[&str]; 6] =
    [&["check"], &["backfill"], &["run", "--once"], &["explain", "u0001"], &["verify"], &["attributes"]];

/// Everything that imsync has printed, logged, served or stored: a description and the text.
type Outputs = Vec<(String, String)>;

async fn set_up(port: u16) -> (TestEnvironment, Role) {
    let mut setup = Setup {
        im: "timeout = \"10s\"\nretry_for = \"1s\"\n".to_owned(),
        more: format!(
            "[schedule]\ninterval = \"200ms\"\n[http]\nlisten = \"127.0.0.1:{port}\"\n[alerts]\nwebhook = \"https://hook.example/Secret-Path\"\n"
        ),
        ..Setup::default()
    };
    KEY.clone_into(&mut setup.simulator.secret_key);
    let env = TestEnvironment::set_up(setup).await;
    env.execute(&people(20)).await;
    let role = Role::create(&env).await;
    env.execute(&format!(
        "GRANT CREATE ON DATABASE \"{}\" TO {}; GRANT ALL ON users TO {1}",
        database_of(&env),
        role.name
    ))
    .await;
    role.configure(&env);
    (env, role)
}

fn database_of(env: &TestEnvironment) -> String {
    let url = url::Url::parse(env.database.url()).unwrap();
    url.path().trim_start_matches('/').to_owned()
}

/// Runs commands with the most detailed log and adds what they print to the outputs.
async fn run_all(env: &TestEnvironment, outputs: &mut Outputs, commands: &[&[&str]], when: &str) {
    for arguments in commands {
        let mut arguments = arguments.to_vec();
        arguments.push("-vv");
        let ran = env.imsync(&arguments).await;
        outputs.push((format!("{arguments:?} {when}"), format!("{}{}", ran.stdout, ran.stderr)));
    }
}

/// Runs the commands without a fault, and with each fault that a message could describe with a secret.
async fn run_with_faults(env: &TestEnvironment, outputs: &mut Outputs) {
    run_all(env, outputs, &EVERY_COMMAND, "without a fault").await;
    assert_eq!(env.handle().users().len(), 20, "the key and the password are valid");
    env.handle().add_fault("http:502".parse().unwrap());
    env.execute("UPDATE users SET city = 'moved', updated_at = now()").await;
    run_all(env, outputs, &COMMANDS_THAT_CALL_IM, "with errors of IM").await;
    env.handle().clear_faults();
    env.edit(&env.im.base_url(), &format!("http://127.0.0.1:{}", free_port()));
    run_all(env, outputs, &COMMANDS_THAT_CALL_IM, "with an unreachable IM").await;
    let password = format!(":{}@", Role::PASSWORD);
    env.edit(&password, &format!(":{}-wrong@", Role::PASSWORD));
    run_all(env, outputs, &EVERY_COMMAND, "with a wrong password").await;
    env.edit(&format!(":{}-wrong@", Role::PASSWORD), &password);

    let path = env.directory().join("imsync.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(
        &path,
        text.replace("postgres://", "postgress://")
            .replace("secret_key_file = \"secret_key\"", &format!("secret_key = \"{KEY}\"\nsecret_keys = \"{KEY}\"")),
    )
    .unwrap();
    run_all(env, outputs, &EVERY_COMMAND, "with an invalid configuration").await;
    std::fs::write(
        &path,
        text.replace(&format!("127.0.0.1:{}", env.im.base_url().rsplit(':').next().unwrap()), "127.0.0.1:1"),
    )
    .unwrap();
}

/// Runs a daemon whose passes fail, and adds its pages, its log and the state tables to the outputs.
async fn run_failing_daemon(env: &TestEnvironment, port: u16, outputs: &mut Outputs) {
    let mut daemon = env.start("run", &["run", "-vv", "--log-format", "json"]);
    env.eventually("a pass has failed", async || {
        ask(port, "/readyz").await.is_some_and(|(code, body)| code == 503 && body.contains("the last pass failed"))
    })
    .await;
    for path in ["/readyz", "/metrics", "/status"] {
        outputs.push((path.to_owned(), ask(port, path).await.unwrap().1));
    }
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
    outputs.push(("the daemon".to_owned(), env.printed("run", "out") + &env.printed("run", "err")));
    for (table, rows) in state_tables(&env.database).await {
        outputs.push((format!("table {table}"), rows.join("\n")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_command_shows_a_key_a_password_or_a_signature() {
    let port = free_port();
    let (env, role) = set_up(port).await;
    let mut outputs = Outputs::new();
    run_with_faults(&env, &mut outputs).await;
    run_failing_daemon(&env, port, &mut outputs).await;
    for (what, text) in &outputs {
        for secret in [KEY, Role::PASSWORD, "Secret-Path", "usersig="] {
            assert!(!text.contains(secret), "{what} shows {secret}:\n{text}");
        }
    }
    let detailed = outputs.iter().any(|(_, text)| text.contains("TRACE") || text.contains("DEBUG"));
    assert!(detailed, "-vv logs more details");
    env.edit(&role.url, env.database.url());
    role.drop(&env).await;
}
