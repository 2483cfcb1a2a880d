//! Measures the state with ten million accounts and a million rejections, made by SQL. `make bench-tests` runs it.
//!
//! Owns: the measured times, and the plans of the statements on the state tables. It asserts nothing about the times,
//! because machines differ. Must not know: imsync's code.

use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, Executor as _, PgConnection};

use crate::commands::free_port;
use crate::support::{ATTRIBUTES, Setup, TestEnvironment, ended, signal};

#[expect(clippy::disallowed_methods, reason = "the benchmark measures wall-clock time")]
fn now() -> Instant {
    Instant::now()
}

fn number(variable: &str, default: u32) -> u32 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn setup(port: u16) -> Setup {
    let more =
        format!("[schedule]\ninterval = \"1s\"\nfull_every = \"never\"\n[http]\nlisten = \"127.0.0.1:{port}\"\n");
    Setup { more, ..Setup::default() }
}

/// Accounts with a row in `account` and none in the table, rejections, removals of a day, and two hundred owed removals.
async fn fill(env: &TestEnvironment, accounts: u32, rejections: u32) {
    let removals = accounts / 100;
    for sql in [
        format!(
            "INSERT INTO imsync.account (digest, acknowledged_at, sync_id, generation, account, acknowledged)
             SELECT g, now(), s.id, s.generation, 'a' || lpad(g::text, 8, '0'), '[\"city\",\"free\",\"male\"]' FROM imsync.sync s, generate_series(1, {accounts}) g"
        ),
        format!(
            "INSERT INTO imsync.rejection (sync_id, account, attribute, code, reason, desired_digest, first_at, last_at, attempts, next_at)
             SELECT s.id, 'r' || lpad(g::text, 8, '0'), '', 70107, 'the account does not exist', 0, now(), now(), 1, now() + interval '1 day'
             FROM imsync.sync s, generate_series(1, {rejections}) g"
        ),
        format!(
            "INSERT INTO imsync.removal (sync_id, account, removed_at)
             SELECT s.id, 'a' || lpad(g::text, 8, '0'), now() - interval '1 hour' FROM imsync.sync s, generate_series(1, {removals}) g"
        ),
        "VACUUM ANALYZE imsync.account".to_owned(),
        "VACUUM ANALYZE imsync.rejection".to_owned(),
        "VACUUM ANALYZE imsync.removal".to_owned(),
        "CHECKPOINT".to_owned(),
    ] {
        let started = now();
        env.execute(&sql).await;
        println!("  {:>7.2} s  {}", started.elapsed().as_secs_f64(), sql.split_whitespace().take(3).collect::<Vec<_>>().join(" "));
    }
}

/// Milliseconds until a condition holds.
async fn until(env: &TestEnvironment, what: &str, condition: impl AsyncFnMut() -> bool) {
    let started = now();
    env.eventually(what, condition).await;
    println!("{what}: {:.0} ms", started.elapsed().as_secs_f64() * 1000.0);
}

async fn last_passes(env: &TestEnvironment) -> i64 {
    env.number("SELECT coalesce(max(id), 0) FROM imsync.pass").await
}

/// The statements of the state that a pass, the guard, `status` and `rejected` execute, with values in place of parameters.
const STATEMENTS: &[(&str, &str)] = &[
    ("numbers of accounts", "SELECT known, in_doubt, rejected, owed_removals FROM account_count WHERE sync_id = 1"),
    (
        "owed removals of a page",
        "SELECT account, why FROM owed_removal WHERE sync_id = 1 AND account = ANY (ARRAY(SELECT 'a' || lpad(g::text, 8, '0') FROM generate_series(1, 5000) g))",
    ),
    (
        "owed removals after an account",
        "SELECT account FROM owed_removal WHERE sync_id = 1 AND account > '' ORDER BY account LIMIT 5000",
    ),
    (
        "recent removals",
        "SELECT count(*) FROM removal WHERE sync_id = 1 AND removed_at > (SELECT greatest(now() - interval '24 hours', removals_counted_from) FROM sync WHERE id = 1)",
    ),
    (
        "recent removals except owed",
        "SELECT count(*) FROM removal WHERE sync_id = 1 AND removed_at > (SELECT greatest(now() - interval '24 hours', removals_counted_from) FROM sync WHERE id = 1) AND NOT EXISTS (SELECT FROM owed_removal owed WHERE owed.sync_id = 1 AND owed.account = removal.account)",
    ),
    (
        "fully removed accounts",
        "SELECT count(*) FROM removal LEFT JOIN account USING (sync_id, account) WHERE sync_id = 1 AND removed_at > (SELECT greatest(now() - interval '24 hours', removals_counted_from) FROM sync WHERE id = 1) AND (acknowledged IS NULL OR (in_doubt_retry_at IS NOT NULL AND acknowledged::text NOT LIKE '%\"%'))",
    ),
    (
        "expired removals",
        "DELETE FROM removal USING (SELECT account FROM removal WHERE sync_id = 1 AND removed_at <= (SELECT greatest(now() - interval '24 hours', removals_counted_from) FROM sync WHERE id = 1) ORDER BY removed_at LIMIT 10000) AS old WHERE removal.sync_id = 1 AND removal.account = old.account",
    ),
    (
        "stored accounts of a page",
        "SELECT a.account, a.generation, a.acknowledged::text FROM unnest(ARRAY(SELECT 'a' || lpad(g::text, 8, '0') FROM generate_series(1, 5000) g)) AS w (account) JOIN account a ON a.sync_id = 1 AND a.account = w.account",
    ),
    (
        "standing rejections of a page",
        "SELECT account, nullif(attribute, ''), code, desired_digest, next_at <= clock_timestamp() FROM rejection WHERE sync_id = 1 AND account = ANY (ARRAY(SELECT 'a' || lpad(g::text, 8, '0') FROM generate_series(1, 5000) g))",
    ),
    (
        "accounts after an account",
        "(SELECT account FROM account WHERE sync_id = 1 AND account > 'a05' ORDER BY account LIMIT 5000) UNION (SELECT account FROM rejection WHERE sync_id = 1 AND account > 'a05' ORDER BY account LIMIT 5000) UNION (SELECT account FROM owed_removal WHERE sync_id = 1 AND account > 'a05' ORDER BY account LIMIT 5000) ORDER BY account LIMIT 5000",
    ),
    (
        "an acknowledged account",
        "SELECT account, acknowledged::text FROM (SELECT account, acknowledged, generation, in_doubt_retry_at FROM account WHERE sync_id = 1 ORDER BY account LIMIT 1000) AS first WHERE generation = 1 AND in_doubt_retry_at IS NULL LIMIT 1",
    ),
    (
        "accounts in doubt",
        "SELECT in_doubt_retry_at, account FROM account WHERE sync_id = 1 AND in_doubt_retry_at <= statement_timestamp() AND (NULL::timestamptz IS NULL OR (in_doubt_retry_at, account) > (NULL, NULL)) ORDER BY in_doubt_retry_at, account LIMIT 5000",
    ),
    (
        "an unknown outcome",
        "SELECT EXISTS (SELECT FROM account WHERE sync_id = 1 AND in_doubt_retry_at < 'infinity' AND acknowledged::jsonb @> '0')",
    ),
    (
        "rejections that are due",
        "SELECT DISTINCT account FROM (SELECT account FROM rejection WHERE sync_id = 1 AND next_at <= statement_timestamp() ORDER BY next_at LIMIT 100) AS due",
    ),
    (
        "a step of rejections",
        "SELECT max(account), count(DISTINCT account) FROM (SELECT account FROM rejection WHERE sync_id = 1 AND account > 'r005' ORDER BY account LIMIT 5000) AS step",
    ),
    (
        "a step becomes due",
        "UPDATE rejection SET next_at = clock_timestamp() WHERE sync_id = 1 AND account > 'r00500000' AND account <= 'r00505000' AND next_at > clock_timestamp()",
    ),
    (
        "a step is deleted",
        "DELETE FROM rejection WHERE sync_id = 1 AND account > 'r00600000' AND account <= 'r00605000'",
    ),
    (
        "a page of `rejected`",
        "SELECT account, nullif(attribute, ''), code, reason, first_at, last_at, attempts, next_at FROM rejection WHERE sync_id = 1 AND (account, attribute) > ('r005', '') ORDER BY account, attribute LIMIT 5000",
    ),
    (
        "a thousand outcomes",
        "UPDATE account SET digest = n.digest, acknowledged_at = clock_timestamp() FROM (SELECT 'a' || lpad(g::text, 8, '0') AS account, g AS digest FROM generate_series(5000001, 5001000) g) AS n WHERE account.sync_id = 1 AND account.account = n.account",
    ),
    (
        "a thousand new accounts",
        "INSERT INTO account (sync_id, generation, account, acknowledged, digest, acknowledged_at) SELECT 1, 1, 'n' || g, '[\"a\",\"b\",\"c\"]'::json, g, clock_timestamp() FROM generate_series(1, 1000) g",
    ),
    (
        "a thousand accounts end",
        "DELETE FROM account WHERE sync_id = 1 AND account = ANY (ARRAY(SELECT 'a' || lpad(g::text, 8, '0') FROM generate_series(7000001, 7001000) g))",
    ),
    (
        "a thousand owed removals",
        "INSERT INTO owed_removal (sync_id, account, since, why) SELECT 1, 'a' || lpad(g::text, 8, '0'), clock_timestamp(), 'gone' FROM generate_series(1, 1000) g ON CONFLICT (sync_id, account) DO UPDATE SET why = excluded.why",
    ),
    ("the last passes", "SELECT kind, outcome FROM pass WHERE sync_id = 1 ORDER BY id DESC LIMIT 10"),
];

/// Prints the plan of each statement, and rolls it back.
async fn print_plans(connection: &mut PgConnection) {
    connection.execute("SET search_path = imsync; SET jit = off").await.expect("the settings are valid");
    for (what, sql) in STATEMENTS {
        connection.execute("BEGIN").await.expect("a transaction begins");
        let explain = AssertSqlSafe(format!("EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, SUMMARY ON) {sql}"));
        let plan: Vec<String> =
            sqlx::query_scalar(explain).fetch_all(&mut *connection).await.expect("the statement is valid");
        connection.execute("ROLLBACK").await.expect("a transaction ends");
        let seq_scans =
            plan.iter().any(|line| line.contains("Seq Scan on account") || line.contains("Seq Scan on rejection"));
        println!("-- {what}{}", if seq_scans { " (reads a whole table)" } else { "" });
        for line in plan {
            println!("     {line}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "makes ten million accounts, run by `make bench-tests`"]
async fn bench_ten_million_accounts_and_a_million_rejections() {
    let port = free_port();
    let env = TestEnvironment::set_up(setup(port)).await;
    env.execute("INSERT INTO users (id, city, plan, gender) SELECT 'u' || g, 'city', 'free', 'm' FROM generate_series(1, 1000) g").await;
    env.imsync(&["backfill"]).await.expect_code(0);
    env.run_until_no_full_pass_is_due().await;
    let (accounts, rejections) =
        (number("IMSYNC_BENCH_ACCOUNTS", 10_000_000), number("IMSYNC_BENCH_REJECTIONS", 1_000_000));
    println!("{accounts} accounts, {rejections} rejections:");
    fill(&env, accounts, rejections).await;

    let status = async || {
        let started = now();
        let answer = env.imsync(&["status", "--json"]).await.expect_code(0).json();
        (started.elapsed(), answer)
    };
    let (took, shown) = status().await;
    println!(
        "imsync status: {:.0} ms ({} accounts, {} rejected)",
        took.as_secs_f64() * 1000.0,
        shown["accounts"],
        shown["rejected"]
    );
    for round in 0..3 {
        let started = now();
        env.imsync(&["run", "--once", "--json"]).await;
        println!("run --once {round}, start included: {:.0} ms", started.elapsed().as_secs_f64() * 1000.0);
    }

    let mut daemon = env.start("run", &["run", "-v"]);
    env.execute("UPDATE users SET city = 'first', updated_at = now() WHERE id = 'u1'").await;
    until(&env, "start to the first change in IM", async || env.handle().user("u1")["city"] == "first").await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let log = env.printed("run", "err");
    let idle: Vec<&str> = log.lines().filter(|line| line.contains("pass ended") && line.contains("calls=0")).collect();
    println!(
        "idle passes: {}",
        idle.iter()
            .rev()
            .take(3)
            .filter_map(|line| line.split_whitespace().find(|word| word.starts_with("seconds=")))
            .collect::<Vec<_>>()
            .join(" ")
    );
    for _ in 0..3 {
        let started = now();
        let answer = crate::commands::ask(port, "/status").await.map(|(code, _)| code);
        println!("/status: {:.1} ms, {answer:?}", started.elapsed().as_secs_f64() * 1000.0);
        tokio::time::sleep(Duration::from_millis(1_200)).await;
    }
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));

    env.configure(&Setup { attributes: ATTRIBUTES.replace("\"male\"", "\"man\""), ..setup(port) });
    let mut daemon = env.start("run", &["run", "-v"]);
    until(&env, "edited mapping: start to its first change in IM", async || env.handle().user("u1")["sex"] == "man")
        .await;
    let before = last_passes(&env).await;
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
    println!("passes stored so far: {before}");

    // While no rejection is due: a scan must end where the due ones end.
    print_plans(&mut env.database.connect().await).await;

    let started = now();
    let retry = env.imsync(&["rejected", "retry"]).await.expect_code(0);
    println!("rejected retry: {:.1} s, {}", started.elapsed().as_secs_f64(), retry.stdout.trim());
}
