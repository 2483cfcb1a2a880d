//! Nothing that opens a door is ever printed, logged or stored.

use super::{Role, ask, free_port, people, state_tables};
use crate::support::{Setup, TestEnvironment, ended, signal};

const KEY: &str = "key-Okapi-0815-distinctive";

#[tokio::test(flavor = "multi_thread")]
async fn no_command_shows_a_key_a_password_or_a_signature() {
    let port = free_port();
    let mut setup = Setup {
        im: "timeout = \"10s\"\nretry_for = \"1s\"\n".to_owned(),
        more: format!(
            "[schedule]\ninterval = \"200ms\"\n[http]\nlisten = \"127.0.0.1:{port}\"\n[alerts]\nwebhook = \"https://hook.example/Secret-Path\"\n"
        ),
        ..Setup::default()
    };
    setup.simulator.secret_key = KEY.to_owned();
    let env = TestEnvironment::set_up(setup).await;
    env.execute(&people(20)).await;
    let role = Role::make(&env).await;
    env.execute(&format!(
        "GRANT CREATE ON DATABASE \"{}\" TO {}; GRANT ALL ON users TO {1}",
        database_of(&env),
        role.name
    ))
    .await;
    role.put_into(&env);
    let mut everything: Vec<(String, String)> = Vec::new();
    let every: [&[&str]; 13] = [
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
        &["rejected"],
        &["rejected", "retry"],
        &["migrate", "--rebind"],
    ];
    let calling: [&[&str]; 3] = [&["check"], &["backfill"], &["run", "--once"]];
    let mut run_all = async |commands: &[&[&str]], when: &str| {
        for arguments in commands {
            let mut arguments = arguments.to_vec();
            arguments.push("-vv");
            let ran = env.imsync(&arguments).await;
            everything.push((format!("{arguments:?} {when}"), format!("{}{}", ran.stdout, ran.stderr)));
        }
    };
    run_all(&every, "when all is well").await;
    assert_eq!(env.handle().users().len(), 20, "the key and the password are the right ones");
    env.handle().add_fault("http:502".parse().unwrap());
    env.execute("UPDATE users SET city = 'moved', updated_at = now()").await;
    run_all(&calling, "with IM ill").await;
    env.handle().clear_faults();
    env.edit(&env.im.base_url(), &format!("http://127.0.0.1:{}", free_port()));
    run_all(&calling, "with IM away").await;
    let password = format!(":{}@", Role::PASSWORD);
    env.edit(&password, &format!(":{}-wrong@", Role::PASSWORD));
    run_all(&every, "with a wrong password").await;
    env.edit(&format!(":{}-wrong@", Role::PASSWORD), &password);
    let path = env.directory().join("imsync.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(
        &path,
        text.replace("postgres://", "postgress://")
            .replace("secret_key_file = \"secret_key\"", &format!("secret_key = \"{KEY}\"\nsecret_keys = \"{KEY}\"")),
    )
    .unwrap();
    run_all(&every, "with a wrong file").await;
    std::fs::write(
        &path,
        text.replace(&format!("127.0.0.1:{}", env.im.base_url().rsplit(':').next().unwrap()), "127.0.0.1:1"),
    )
    .unwrap();

    let mut daemon = env.start("run", &["run", "-vv", "--log-format", "json"]);
    env.eventually("a pass that fails", async || {
        ask(port, "/readyz").await.is_some_and(|(code, body)| code == 503 && body.contains("the last pass failed"))
    })
    .await;
    for path in ["/readyz", "/metrics", "/status"] {
        everything.push((path.to_owned(), ask(port, path).await.unwrap().1));
    }
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
    everything.push(("the daemon".to_owned(), env.printed("run", "out") + &env.printed("run", "err")));
    for (table, rows) in state_tables(&env.database).await {
        everything.push((format!("table {table}"), rows.join("\n")));
    }
    for (what, text) in &everything {
        for secret in [KEY, Role::PASSWORD, "Secret-Path", "usersig="] {
            assert!(!text.contains(secret), "{what} shows {secret}:\n{text}");
        }
    }
    assert!(everything.iter().any(|(_, text)| text.contains("TRACE") || text.contains("DEBUG")), "-vv says more");
    env.edit(&role.url, env.database.url());
    role.drop(&env).await;
}

fn database_of(env: &TestEnvironment) -> String {
    let url = url::Url::parse(env.database.url()).unwrap();
    url.path().trim_start_matches('/').to_owned()
}
