//! The database clock steps back, and has passed the last fence again by the time of the next one.

use std::time::Duration;

use crate::support::{Setup, ended, signal};

use super::stage_of;
use super::state_truth::expect_truth;

/// A clock that can be set: it stands before the server's own in the search path of this database. The state's sessions
/// have a search path of their own, and so keep the server's.
const CLOCK: &str = "CREATE SCHEMA wrong; CREATE TABLE wrong.by (seconds float8 NOT NULL); INSERT INTO wrong.by VALUES (0);
    CREATE FUNCTION wrong.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS
        'SELECT pg_catalog.clock_timestamp() + make_interval(secs => seconds) FROM wrong.by';
    DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = wrong, pg_catalog, public', current_database()); END $$;";

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_stamped_before_the_last_fence_by_a_clock_set_back_arrives() {
    let mut setup =
        Setup { more: "[schedule]\ninterval = \"6s\"\nfull_every = \"never\"\n".to_owned(), ..Setup::default() };
    setup.sql.push_str(CLOCK);
    let env = stage_of(10, setup).await;
    env.execute("UPDATE users SET updated_at = '2020-01-01'").await;
    let mut daemon = env.start("run", &["run"]);
    // The fence of the first full pass is behind us, and the next one comes 6 s after it.
    env.converges(Duration::from_secs(20)).await;
    env.execute(
        "UPDATE wrong.by SET seconds = -5.5;
             UPDATE users SET city = 'set back', updated_at = wrong.clock_timestamp() WHERE id = 'u00001'",
    )
    .await;
    env.converges(Duration::from_secs(30)).await;
    env.eventually("the log tells of it", async || env.printed("run", "err").contains("the database clock went back"))
        .await;
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
    let log = env.printed("run", "err");
    assert_eq!(log.matches("the database clock went back").count(), 1, "{log}");
    expect_truth(&env).await;
}
