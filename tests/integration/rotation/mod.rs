//! Tests that secrets rotate under a running daemon: without a restart, a signal or a lost change.
//!
//! Owns: what these tests share: roles whose passwords change, the files of the secrets, and ways to replace a file.
//! Must not know: how imsync notices a new secret.

#![expect(clippy::unwrap_used, reason = "a missing value fails the test")]

mod certificates;
mod files;
mod keys;
mod under_load;

use std::path::{Path, PathBuf};

use tokio::process::Child;

use crate::support::{TestEnvironment, ended, signal};

/// The line of a rotated secret.
const IN_USE: &str = "a rotated secret is in use";

/// Inserts `count` users from `u0001` on.
fn users(count: u32) -> String {
    format!(
        "INSERT INTO users (id, city) SELECT 'u' || lpad(g::text, 4, '0'), 'city' FROM generate_series(1, {count}) g"
    )
}

/// A role with a password and the file of its URL.
struct RotatingRole {
    name: String,
    url: url::Url,
    file: PathBuf,
}

impl RotatingRole {
    /// Creates the role with every privilege that source and state need, and writes its URL to a file.
    async fn create(env: &TestEnvironment, suffix: &str, file: &str) -> Self {
        let mut url = url::Url::parse(env.database.url()).unwrap();
        let database = url.path().trim_start_matches('/').to_owned();
        let name = format!("{suffix}_of_{database}");
        env.execute(&format!(
            "CREATE ROLE {name} LOGIN PASSWORD 'first'; GRANT CREATE ON DATABASE \"{database}\" TO {name};
             GRANT SELECT ON users TO {name}"
        ))
        .await;
        url.set_username(&name).unwrap();
        let role = Self { name, url, file: env.directory().join(file) };
        replace(&role.file, &role.url_with("first"));
        role
    }

    fn url_with(&self, password: &str) -> String {
        let mut url = self.url.clone();
        url.set_password(Some(password)).unwrap();
        url.to_string()
    }

    async fn set_password(&self, env: &TestEnvironment, password: &str) {
        env.execute(&format!("ALTER ROLE {} PASSWORD '{password}'", self.name)).await;
    }

    /// Ends every session of the role.
    async fn terminate_sessions(&self, env: &TestEnvironment) {
        let sql = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{}'", self.name);
        env.execute(&sql).await;
    }

    /// Ends every session of the role every ten seconds until the condition holds: a session that is just being opened with
    /// the secret from before is not listed yet.
    async fn terminate_sessions_until(&self, env: &TestEnvironment, what: &str, condition: impl Fn() -> bool) {
        let mut looks = 0;
        env.eventually(what, async || {
            // It looks 40 times a second. What the secret is tried with must have time to end.
            if looks % 400 == 0 {
                self.terminate_sessions(env).await;
            }
            looks += 1;
            condition()
        })
        .await;
    }

    async fn drop(self, env: &TestEnvironment) {
        self.terminate_sessions(env).await;
        env.execute(&format!("DROP OWNED BY {0} CASCADE; DROP ROLE {0}", self.name)).await;
    }
}

/// Replaces a file by renaming another one.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&new, private).unwrap();
    std::fs::rename(new, path).unwrap();
}

/// Changes a row and waits until IM has it.
async fn syncs(env: &TestEnvironment, city: &str) {
    env.execute(&format!("UPDATE users SET city = '{city}', updated_at = now() WHERE id = 'u0001'")).await;
    env.eventually(&format!("IM holds {city}"), async || {
        env.handle().user("u0001").get("city").is_some_and(|held| held == city)
    })
    .await;
}

/// How often a line is in the log of the daemon.
fn logged(env: &TestEnvironment, line: &str) -> usize {
    env.printed("run", "err").matches(line).count()
}

async fn stop(mut daemon: Child) {
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
}
