//! A system of a table, an IM and imsync, in which imsync runs several times and aborts at the end of each run.
//!
//! Owns: running a case, and what must be true after its abort and after the next start. Must not know: the list of
//! cases.

use std::collections::BTreeSet;
use std::time::Duration;

use imsync::clock::monotonic;
use sqlx::{AssertSqlSafe, Executor, PgConnection};
use tokio::sync::Mutex;

use super::scenarios::{self, CrashCase, PEOPLE, REFUSED, Scenario, TOO_LONG};
use super::sent_calls;
use crate::promises::state_truth::{HISTORY_CONTRADICTIONS, expect_truth, false_claims};
use crate::support::{Setup, TestEnvironment, ended, signal};

/// The message of a one-shot pass that leaves attributes in doubt.
pub(super) const UNKNOWN_OUTCOMES_MESSAGE: &str = "did not answer for some accounts";
/// The limit of every wait, long enough for a loaded machine.
pub(super) const TIMEOUT: Duration = Duration::from_mins(1);

/// A run that aborted at its point.
#[derive(Debug)]
pub(super) struct CrashRun {
    pub(super) case: CrashCase,
    /// The accounts of calls without a recorded outcome at the abort. At most these may be sent again needlessly.
    pub(super) in_flight: usize,
    /// The accounts for which the next start made a call that changed nothing at IM.
    pub(super) needless: usize,
}

pub(super) struct CrashSystem {
    pub(super) env: TestEnvironment,
    /// Used for all queries and changes of the test. Opening a session for each would cost more than the statement.
    connection: Mutex<PgConnection>,
    round: u32,
    /// The current case, for failure messages.
    pub(super) current_case: String,
    other_mapping: bool,
}

const VALUES: [&str; 2] =
    ["values = { m = \"male\", f = \"female\" }", "values = { m = \"male\", f = \"female\", x = \"other\" }"];

impl CrashSystem {
    pub(super) async fn create() -> Self {
        let setup = Setup::default();
        let setup = Setup {
            source: format!("{}page_size = 25\n", setup.source),
            im: "timeout = \"2s\"\nretry_for = \"3s\"\nusers_per_call = 10\nunknown_accounts = \"import\"\n".to_owned(),
            more: "[schedule]\ninterval = \"200ms\"\n[removal]\nmax_share = 1.0\n[history]\nkeep = \"30d\"\n"
                .to_owned(),
            ..setup
        };
        let env = TestEnvironment::set_up(setup).await;
        let connection = Mutex::new(env.database.connect().await);
        let system = Self { env, connection, round: 0, current_case: String::new(), other_mapping: false };
        system.reset_faults();
        system
    }

    /// Runs one case and the start after it. `None`: the process did not arrive at the point and ended well.
    pub(super) async fn run_case(&mut self, case: CrashCase) -> Option<CrashRun> {
        self.round += 1;
        self.current_case = format!("{} aborts at \"{}\", arrival {}", case.scenario.name(), case.point, case.arrival);
        self.prepare(case.scenario).await;
        case.scenario.fault().into_iter().flat_map(str::split_whitespace).for_each(|fault| self.fault(fault));
        if !self.run_until_abort(case).await {
            self.reset_faults();
            return None;
        }
        self.wait_until_inactive().await;
        self.expect_no_false_claim().await;
        let in_flight = self.in_flight(case.scenario, "true").await;
        // Provisional outcomes are verified once no late write can arrive for them any more.
        let due = self.in_flight(case.scenario, "in_doubt_retry_at <= clock_timestamp()").await;
        let (held, calls) = (self.env.handle().users(), self.arrived());
        self.reset_faults();
        self.execute(&scenarios::changes_after_abort(self.round)).await;

        self.start_again(case, &due).await;
        self.expect_settled(&due).await;
        let calls = self.env.handle().last_calls(self.arrived() - calls);
        let needless = sent_calls::sent_needlessly(held, &calls);
        // A call that timed out on a busy machine is repeated, as it should be.
        let timed_out = calls.iter().filter(|call| call.given_up).flat_map(|call| &call.users);
        let timed_out: BTreeSet<&String> = timed_out.map(|user| &user.account).collect();
        let unexplained: Vec<_> =
            needless.difference(&in_flight).filter(|account| !timed_out.contains(account)).collect();
        assert!(
            unexplained.is_empty(),
            "{}: sent needlessly although nothing was in flight for {unexplained:?}",
            self.current_case
        );
        Some(CrashRun { case, in_flight: in_flight.len(), needless: needless.len() })
    }

    /// Removes every obstacle. IM must then equal the table, and imsync must have no more work.
    pub(super) async fn expect_final_convergence(&self) {
        self.env.handle().clear_faults();
        let repaired = format!(
            "UPDATE users SET city = 'repaired', updated_at = now() WHERE id IN ('{TOO_LONG}', '{}')",
            REFUSED.join("', '")
        );
        self.execute(&repaired).await;
        if self.state_exists().await {
            self.execute("UPDATE imsync.rejection SET next_at = clock_timestamp()").await;
        }
        self.settle_completely().await;
        assert_eq!(self.env.handle().users(), self.env.wanted_of_users().await);
        expect_truth(&self.env).await;
        let idle = self.env.imsync(&["backfill", "--json"]).await.expect_code(0).json();
        assert_eq!(idle["calls"], 0, "{idle}");
        assert_eq!(self.env.handle().violations(), vec![]);
    }

    /// Runs a full pass, and further passes until no outcome is unknown.
    async fn settle_completely(&self) {
        let mut output = self.env.imsync(&["backfill"]).await;
        let began = monotonic();
        while (output.code == Some(1) || !self.accounts_in_doubt().await.is_empty()) && began.elapsed() < TIMEOUT {
            output = self.env.imsync(&["run", "--once"]).await;
        }
        assert_eq!(
            output.code,
            Some(0),
            "after {}: {output:#?}\nin doubt: {:#?}",
            self.current_case,
            self.accounts_in_doubt().await
        );
    }

    fn fault(&self, rule: &str) {
        self.env.handle().add_fault(rule.parse().expect("the fault rule is valid"));
    }

    /// Leaves only the refusals that are part of every scenario.
    fn reset_faults(&self) {
        self.env.handle().clear_faults();
        self.fault(&format!("refuse:70402:per-account:account={}", REFUSED.join(",")));
    }

    fn arrived(&self) -> usize {
        usize::try_from(self.env.handle().counters().arrived).expect("the count fits in memory")
    }

    pub(super) async fn execute(&self, statements: &str) {
        let statements = sqlx::raw_sql(AssertSqlSafe(statements.to_owned()));
        self.connection.lock().await.execute(statements).await.expect("the statements are valid");
    }

    pub(super) async fn number(&self, sql: &str) -> i64 {
        let sql = AssertSqlSafe(sql.to_owned());
        sqlx::query_scalar(sql).fetch_one(&mut *self.connection.lock().await).await.expect("a plain query")
    }

    async fn state_exists(&self) -> bool {
        self.number("SELECT count(*) FROM pg_class WHERE oid = to_regclass('imsync.sync')").await == 1
    }

    /// The earliest timestamp, as SQL, that a transaction can have which no transaction list has shown.
    async fn earliest_timestamp(&self) -> &'static str {
        if self.state_exists().await {
            "(SELECT CASE WHEN watermark LIKE '2%' THEN watermark::timestamptz + interval '1 ms' ELSE now() END FROM imsync.sync)"
        } else {
            "now()"
        }
    }

    async fn prepare(&mut self, scenario: Scenario) {
        if matches!(scenario, Scenario::First | Scenario::SlowFirst) {
            self.execute("DROP SCHEMA IF EXISTS imsync CASCADE").await;
            let handle = self.env.handle();
            handle.users().keys().for_each(|account| handle.remove_user(account));
        } else {
            self.complete_due_full_passes().await;
        }
        let timestamp = self.earliest_timestamp().await;
        self.execute(&scenarios::people(timestamp)).await;
        self.execute("DROP TABLE IF EXISTS before; CREATE TABLE before AS SELECT * FROM users").await;
        self.execute(&scenarios::changes(scenario, self.round, timestamp)).await;
        match scenario {
            Scenario::Recovery => {
                let first = CrashCase { scenario: Scenario::Incremental, point: "call: answered", arrival: 2 };
                assert!(self.run_until_abort(first).await, "{}: the first abort", self.current_case);
                self.wait_until_inactive().await;
                self.expect_no_false_claim().await;
                self.execute(&scenarios::changes_after_abort(self.round)).await;
            }
            Scenario::ForeignState => self.execute("UPDATE imsync.sync SET state_server = 'another:00000001'").await,
            Scenario::OtherTable => {
                self.execute(
                    "UPDATE imsync.sync SET source_fingerprint = source_fingerprint || '{\"table\": \"1 r\"}'",
                )
                .await;
            }
            Scenario::Mapping => {
                let (old, new) = (usize::from(self.other_mapping), usize::from(!self.other_mapping));
                self.env.edit(VALUES[old], VALUES[new]);
                self.other_mapping = !self.other_mapping;
            }
            Scenario::RefusedAttribute => {
                // Changes of the last run are sent first, so that the case sends only the one attribute.
                self.run_and_expect_rejections(&["run", "--once"]).await;
                let timestamp = self.earliest_timestamp().await;
                self.execute(&scenarios::one_attribute(self.round, timestamp)).await;
            }
            Scenario::First
            | Scenario::SlowFirst
            | Scenario::Incremental
            | Scenario::Full
            | Scenario::Daemon
            | Scenario::UnknownAccount => {}
            Scenario::SilentAccount => {
                // An account that is in doubt already is sent alone.
                let began = monotonic();
                while !self.accounts_in_doubt().await.is_empty() && began.elapsed() < TIMEOUT {
                    self.run_and_expect_rejections(&["run", "--once"]).await;
                }
                let timestamp = self.earliest_timestamp().await;
                self.execute(&scenarios::one_attribute(self.round, timestamp)).await;
                self.execute(&scenarios::change_of_silent_account(self.round)).await;
            }
        }
        if self.state_exists().await {
            // The rejection of the row that never changes is due, so that a pass retries it.
            let due =
                format!("UPDATE imsync.rejection SET next_at = clock_timestamp() WHERE account = '{}'", REFUSED[2]);
            self.execute(&due).await;
        }
    }

    /// Completes a first pass and every full pass that is due. Sessions that were open at the first transaction list
    /// make one due.
    async fn complete_due_full_passes(&self) {
        if !self.state_exists().await {
            self.execute(&scenarios::people("now()")).await;
            self.run_and_expect_rejections(&["backfill"]).await;
        }
        while self.number("SELECT count(*) FROM imsync.sync WHERE full_pass_due IS NOT NULL").await > 0 {
            self.run_and_expect_rejections(&["run", "--once"]).await;
        }
    }

    /// Runs a command that must end with rejections, since every scenario has some.
    async fn run_and_expect_rejections(&self, command: &[&str]) -> String {
        let output = self.env.imsync(command).await;
        // A call of the aborted process may still be applied, so its attributes may stay in doubt for a while. The
        // content of IM is checked instead.
        let outcomes_unknown = output.code == Some(1) && output.stderr.contains(UNKNOWN_OUTCOMES_MESSAGE);
        let expected = output.code == Some(3) || outcomes_unknown;
        assert!(
            expected,
            "{}: {command:?}: {output:#?}\nin doubt: {:#?}",
            self.current_case,
            self.accounts_in_doubt().await
        );
        output.stderr
    }

    /// Accounts in doubt that will be verified, for a failure message.
    async fn accounts_in_doubt(&self) -> Vec<String> {
        sqlx::query_scalar(
            "SELECT concat_ws(' ', a.account, acknowledged, in_doubt_retry_at, r.attribute, r.code, r.next_at, to_jsonb(u)) \
             FROM imsync.account a LEFT JOIN imsync.rejection r USING (account) LEFT JOIN users u ON u.id = a.account \
             WHERE in_doubt_retry_at < 'infinity' ORDER BY 1",
        )
        .fetch_all(&mut *self.connection.lock().await)
        .await
        .unwrap_or_default()
    }

    pub(super) async fn until(&self, what: &str, condition: impl AsyncFn() -> bool) {
        let reached = tokio::time::timeout(TIMEOUT, async {
            while !condition().await {
                tokio::time::sleep(Duration::from_millis(25)).await;
            }
        });
        let reached = reached.await;
        assert!(
            reached.is_ok(),
            "{}: timed out waiting until {what}\n{}",
            self.current_case,
            self.env.printed("run", "err")
        );
    }

    async fn expect_no_false_claim(&self) {
        if self.state_exists().await {
            let mut connection = self.connection.lock().await;
            let claims = false_claims(&mut connection, self.env.handle()).await.expect("the state tables can be read");
            assert_eq!(claims, Vec::<String>::new(), "{}", self.current_case);
            let contradictions: i64 = sqlx::query_scalar(HISTORY_CONTRADICTIONS)
                .fetch_one(&mut *connection)
                .await
                .expect("the query succeeds");
            assert_eq!(contradictions, 0, "{}", self.current_case);
        }
    }

    /// Accounts for which something was sent, or was about to be sent, without a recorded outcome, or with an unknown
    /// one.
    async fn in_flight(&self, scenario: Scenario, condition: &str) -> BTreeSet<String> {
        if scenario == Scenario::ForeignState {
            return (1..=PEOPLE).map(|number| format!("u{number:05}")).collect();
        }
        if !self.state_exists().await {
            return BTreeSet::new();
        }
        let accounts: Vec<String> = sqlx::query_scalar(AssertSqlSafe(format!(
            "SELECT unnest(accounts) FROM imsync.intent \
             UNION SELECT account FROM imsync.account WHERE in_doubt_retry_at < 'infinity' AND {condition}"
        )))
        .fetch_all(&mut *self.connection.lock().await)
        .await
        .expect("the state tables can be read");
        accounts.into_iter().collect()
    }

    /// The next start. If it continues a full pass, another pass follows over what has changed since.
    async fn start_again(&self, case: CrashCase, in_flight: &BTreeSet<String>) {
        if matches!(case.scenario, Scenario::Daemon | Scenario::SilentAccount) {
            let mut daemon = self.env.start("run", &["run"]);
            self.until("IM equals the table again", async || self.differences(in_flight).await.is_empty()).await;
            signal(&daemon, "TERM");
            assert_eq!(ended(&mut daemon).await, Some(0), "{}", self.current_case);
            return;
        }
        let log = self.run_and_expect_rejections(&[case.scenario.command(), &["-v"]].concat()).await;
        let resumed = log.contains("resuming the interrupted full pass");
        if resumed {
            // The next pass sends what changed behind its position.
            self.run_and_expect_rejections(&["run", "--once"]).await;
        }
        assert!(resumed || case.point != "full: the position is stored", "{}: {log}", self.current_case);
    }

    /// The accounts for which IM and the table differ, except refused ones, and except changes without a timestamp for
    /// which nothing was in flight.
    pub(super) async fn differences(&self, in_flight: &BTreeSet<String>) -> Vec<String> {
        let (im, table) = (self.env.handle().users(), self.env.wanted_of_users().await);
        let accounts: BTreeSet<&String> = im.keys().chain(table.keys()).collect();
        let counts = |account: &str| {
            account != TOO_LONG
                && !REFUSED.contains(&account)
                && (!scenarios::changes_without_timestamp(account) || in_flight.contains(account))
        };
        let differ = accounts.into_iter().filter(|account| counts(account) && im.get(*account) != table.get(*account));
        differ
            .map(|account| format!("{account}: expected {:?}, IM holds {:?}", table.get(account), im.get(account)))
            .collect()
    }

    /// Checks that no change is lost, no intent is left, no claim is false, and every refused account is listed.
    async fn expect_settled(&self, in_flight: &BTreeSet<String>) {
        let differences = self.differences(in_flight).await;
        assert!(differences.is_empty(), "{}: {differences:#?}\n{}", self.current_case, self.env.printed("run", "err"));
        self.expect_no_false_claim().await;
        assert_eq!(
            self.number("SELECT count(*) FROM imsync.intent").await,
            0,
            "{}: an intent remains",
            self.current_case
        );
        let listed = format!(
            "SELECT count(DISTINCT account) FROM imsync.rejection WHERE account IN ('{TOO_LONG}', '{}')",
            REFUSED.join("', '")
        );
        assert_eq!(self.number(&listed).await, 4, "{}: a rejection was lost", self.current_case);
    }
}
