//! Tests that a changed row arrives after the database clock was set back before the time of the last transaction list, and
//! that clocks that differ are named.
//!
//! Owns: a clock that the test can set. Must not know: how imsync reads the clock.

use std::time::Duration;

use crate::support::{Setup, ended, signal};

use super::environment_of;
use super::state_truth::expect_truth;

/// A clock that the test can set. It precedes the clock of the server in the search path of this database. The sessions
/// of the state set their own search path, and so use the clock of the server.
const CLOCK: &str = "CREATE SCHEMA wrong; CREATE TABLE wrong.by (seconds float8 NOT NULL); INSERT INTO wrong.by VALUES (0);
    CREATE FUNCTION wrong.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS
        'SELECT pg_catalog.clock_timestamp() + make_interval(secs => seconds) FROM wrong.by';
    DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = wrong, pg_catalog, public', current_database()); END $$;";

#[tokio::test(flavor = "multi_thread")]
async fn a_row_stamped_by_a_clock_set_back_arrives() {
    let mut setup =
        Setup { more: "[schedule]\ninterval = \"6s\"\nfull_every = \"never\"\n".to_owned(), ..Setup::default() };
    setup.sql.push_str(CLOCK);
    let env = environment_of(10, setup).await;
    env.execute("UPDATE users SET updated_at = '2020-01-01'").await;
    let mut daemon = env.start("run", &["run"]);
    // The transaction list of the first full pass has been read, and the next one follows 6 s later.
    env.converges(Duration::from_secs(20)).await;
    env.execute(
        "UPDATE wrong.by SET seconds = -5.5;
             UPDATE users SET city = 'set back', updated_at = wrong.clock_timestamp() WHERE id = 'u00001'",
    )
    .await;
    env.converges(Duration::from_secs(30)).await;
    env.eventually("the log reports the clock", async || {
        env.printed("run", "err").contains("the database clock went back")
    })
    .await;
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
    let log = env.printed("run", "err");
    assert_eq!(log.matches("the database clock went back").count(), 1, "{log}");
    expect_truth(&env).await;
}

/// `check` compares the clocks of the database and of IM with this machine's.
#[tokio::test(flavor = "multi_thread")]
async fn check_names_clocks_that_differ() {
    let mut setup = Setup::default();
    setup.sql.push_str(CLOCK);
    let env = environment_of(10, setup).await;
    let check = env.imsync(&["check"]).await.expect_code(0);
    check.expect_all(&["ok    clock.database: ", "ok    clock.im: "]);

    env.execute("UPDATE wrong.by SET seconds = 90").await;
    env.handle().set_clock_offset(-1_000);
    let check = env.imsync(&["check"]).await;
    check.expect_all(&[
        "warn  clock.database: the clock of the database is 90 s ahead of this machine's",
        "warn  clock.im: the clock of IM is 16 min ",
        "s behind this machine's",
        "NTP",
    ]);

    // IM refuses what is signed after its own time is over, and its answer tells the time.
    env.handle().set_clock_offset(366 * 86_400);
    let check = env.imsync(&["check"]).await.expect_code(1);
    check.expect_all(&[
        "FAIL  credentials.accepted: ",
        "warn  clock.im: the clock of IM is 36",
        "ahead of this machine's",
    ]);
}
