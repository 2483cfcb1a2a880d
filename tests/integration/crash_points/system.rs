//! A system: a table, an IM and imsync, which runs several runs in it and dies at the end of each.
//!
//! Owns: playing a run, and what must be so after its death and after the next start. Must not know: the list of runs.

use std::collections::BTreeSet;
use std::time::Duration;

use imsync::clock::monotonic;
use sqlx::{AssertSqlSafe, Executor, PgConnection};
use tokio::sync::Mutex;

use super::scenarios::{self, CrashCase, PEOPLE, REFUSED, Scenario, TOO_LONG};
use super::sent_calls;
use crate::promises::state_truth::{expect_truth, lies};
use crate::support::{Setup, TestEnvironment, ended, signal};

/// What a one-shot pass says that leaves something in doubt.
pub(super) const DOUBTS: &str = "did not answer for some accounts";
/// For whatever is waited for; a loaded machine takes its time.
pub(super) const PATIENCE: Duration = Duration::from_mins(1);

/// A run that ended at its point.
#[derive(Debug)]
pub(super) struct CrashRun {
    pub(super) case: CrashCase,
    /// Accounts of calls whose outcome was not recorded at the death: so many may be sent again.
    pub(super) in_flight: usize,
    /// Accounts for which the next start made a call that changed nothing at IM.
    pub(super) needless: usize,
}

pub(super) struct CrashSystem {
    pub(super) env: TestEnvironment,
    /// For all looks and changes of the test: a session for each would cost more than what it does.
    connection: Mutex<PgConnection>,
    round: u32,
    /// What is going on, for the message of whatever fails.
    pub(super) now: String,
    other_mapping: bool,
}

const VALUES: [&str; 2] =
    ["values = { m = \"male\", f = \"female\" }", "values = { m = \"male\", f = \"female\", x = \"other\" }"];

impl CrashSystem {
    pub(super) async fn create() -> Self {
        let setup = Setup::default();
        let setup = Setup {
            source: format!("{}page_size = 25\n", setup.source),
            im: "timeout = \"2s\"\nretry_for = \"3s\"\nusers_per_call = 10\n".to_owned(),
            more: "[schedule]\ninterval = \"200ms\"\n[removal]\nmax_share = 1.0\n".to_owned(),
            ..setup
        };
        let env = TestEnvironment::set_up(setup).await;
        let connection = Mutex::new(env.database.connect().await);
        let system = Self { env, connection, round: 0, now: String::new(), other_mapping: false };
        system.forgive();
        system
    }

    /// One run and the start after it. `None`: it did not arrive at the point and ended well.
    pub(super) async fn live(&mut self, case: CrashCase) -> Option<CrashRun> {
        self.round += 1;
        self.now = format!("{} dies at \"{}\", arrival {}", case.scenario.name(), case.point, case.arrival);
        self.prepare(case.scenario).await;
        if let Some(fault) = case.scenario.fault() {
            self.fault(fault);
        }
        if !self.run_until_death(case).await {
            self.forgive();
            return None;
        }
        self.come_to_rest().await;
        self.expect_no_lie().await;
        let in_flight = self.in_flight(case.scenario, "true").await;
        // Those of which something is provisional are looked up when no ghost of theirs can land any more.
        let due = self.in_flight(case.scenario, "in_doubt_retry_at <= clock_timestamp()").await;
        let (held, calls) = (self.env.handle().users(), self.arrived());
        self.forgive();
        self.execute(&scenarios::meanwhile(self.round)).await;

        self.start_again(case, &due).await;
        self.expect_settled(&due).await;
        let calls = self.env.handle().last_calls(self.arrived() - calls);
        let needless = sent_calls::needlessly(held, &calls);
        // A call that timed out on a busy machine is repeated, as it should be.
        let timed_out = calls.iter().filter(|call| call.given_up).flat_map(|call| &call.users);
        let timed_out: BTreeSet<&String> = timed_out.map(|user| &user.account).collect();
        let beyond: Vec<_> = needless.difference(&in_flight).filter(|account| !timed_out.contains(account)).collect();
        assert!(beyond.is_empty(), "{}: sent needlessly, nothing of theirs was in flight: {beyond:?}", self.now);
        Some(CrashRun { case, in_flight: in_flight.len(), needless: needless.len() })
    }

    /// Everything that stood in the way is mended: IM ends as the table is, and imsync has nothing more to do.
    pub(super) async fn heal(&self) {
        self.env.handle().clear_faults();
        let mended = format!(
            "UPDATE users SET city = 'mended', updated_at = now() WHERE id IN ('{TOO_LONG}', '{}')",
            REFUSED.join("', '")
        );
        self.execute(&mended).await;
        if self.state_exists().await {
            self.execute("UPDATE imsync.rejection SET next_at = clock_timestamp()").await;
        }
        self.settled_for_good().await;
        assert_eq!(self.env.handle().users(), self.env.wanted_of_users().await);
        expect_truth(&self.env).await;
        let idle = self.env.imsync(&["backfill", "--json"]).await.expect_code(0).json();
        assert_eq!(idle["calls"], 0, "{idle}");
        assert_eq!(self.env.handle().violations(), vec![]);
    }

    /// A full pass, and as many others as it takes until no doubt is left.
    async fn settled_for_good(&self) {
        let mut ran = self.env.imsync(&["backfill"]).await;
        let began = monotonic();
        while (ran.code == Some(1) || !self.in_doubt().await.is_empty()) && began.elapsed() < PATIENCE {
            ran = self.env.imsync(&["run", "--once"]).await;
        }
        assert_eq!(ran.code, Some(0), "after {}: {ran:#?}\nin doubt: {:#?}", self.now, self.in_doubt().await);
    }

    fn fault(&self, rule: &str) {
        self.env.handle().add_fault(rule.parse().expect("a form that the simulator knows"));
    }

    /// Only the refusals that belong to every scenario are left.
    fn forgive(&self) {
        self.env.handle().clear_faults();
        self.fault(&format!("refuse:70402:per-account:account={}", REFUSED.join(",")));
    }

    fn arrived(&self) -> usize {
        usize::try_from(self.env.handle().counters().arrived).expect("so many fit in the log")
    }

    async fn execute(&self, statements: &str) {
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

    /// The earliest stamp that a transaction can have which no fence has seen, as SQL.
    async fn earliest(&self) -> &'static str {
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
            self.settle().await;
        }
        let stamp = self.earliest().await;
        self.execute(&scenarios::people(stamp)).await;
        self.execute("DROP TABLE IF EXISTS before; CREATE TABLE before AS SELECT * FROM users").await;
        self.execute(&scenarios::changes(scenario, self.round, stamp)).await;
        match scenario {
            Scenario::Recovery => {
                let first = CrashCase { scenario: Scenario::Incremental, point: "call: answered", arrival: 2 };
                assert!(self.run_until_death(first).await, "{}: the first death", self.now);
                self.come_to_rest().await;
                self.expect_no_lie().await;
                self.execute(&scenarios::meanwhile(self.round)).await;
            }
            Scenario::Distrust => self.execute("UPDATE imsync.sync SET state_server = 'another:00000001'").await,
            Scenario::Mapping => {
                let (old, new) = (usize::from(self.other_mapping), usize::from(!self.other_mapping));
                self.env.edit(VALUES[old], VALUES[new]);
                self.other_mapping = !self.other_mapping;
            }
            Scenario::Suspicion => {
                // What the last run left behind goes first, so that nothing but the one attribute is sent.
                self.settled_by(&["run", "--once"]).await;
                let stamp = self.earliest().await;
                self.execute(&scenarios::one_attribute(self.round, stamp)).await;
            }
            Scenario::First | Scenario::SlowFirst | Scenario::Incremental | Scenario::Full | Scenario::Daemon => {}
        }
        if self.state_exists().await {
            // The refusal whose row never changes is due, so that a pass tries it again.
            let due =
                format!("UPDATE imsync.rejection SET next_at = clock_timestamp() WHERE account = '{}'", REFUSED[2]);
            self.execute(&due).await;
        }
    }

    /// A first pass has gone through, and no full one is due (sessions that were open at the first fence ask for one).
    async fn settle(&self) {
        if !self.state_exists().await {
            self.execute(&scenarios::people("now()")).await;
            self.settled_by(&["backfill"]).await;
        }
        while self.number("SELECT count(*) FROM imsync.sync WHERE full_pass_due IS NOT NULL").await > 0 {
            self.settled_by(&["run", "--once"]).await;
        }
    }

    /// Rejections stand in every scenario.
    async fn settled_by(&self, command: &[&str]) -> String {
        let ran = self.env.imsync(command).await;
        // A call of a dead process may still land, so what it carried may stay in doubt for a while: what IM holds decides.
        let doubts = ran.code == Some(1) && ran.stderr.contains(DOUBTS);
        let fair = ran.code == Some(3) || doubts;
        assert!(fair, "{}: {command:?}: {ran:#?}\nin doubt: {:#?}", self.now, self.in_doubt().await);
        ran.stderr
    }

    /// Accounts with something in doubt that will be looked into, for a message.
    async fn in_doubt(&self) -> Vec<String> {
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
        let came = tokio::time::timeout(PATIENCE, async {
            while !condition().await {
                tokio::time::sleep(Duration::from_millis(25)).await;
            }
        });
        let came = came.await;
        assert!(came.is_ok(), "{}: never came: {what}\n{}", self.now, self.env.printed("run", "err"));
    }

    async fn expect_no_lie(&self) {
        if self.state_exists().await {
            let mut connection = self.connection.lock().await;
            let lies = lies(&mut connection, self.env.handle()).await.expect("the state tables can be read");
            assert_eq!(lies, Vec::<String>::new(), "{}", self.now);
        }
    }

    /// Accounts of which something was sent, or was about to be, without an outcome on record, or with one in doubt.
    async fn in_flight(&self, scenario: Scenario, doubts: &str) -> BTreeSet<String> {
        if scenario == Scenario::Distrust {
            return (1..=PEOPLE).map(|number| format!("u{number:05}")).collect();
        }
        if !self.state_exists().await {
            return BTreeSet::new();
        }
        let accounts: Vec<String> = sqlx::query_scalar(AssertSqlSafe(format!(
            "SELECT unnest(accounts) FROM imsync.intent \
             UNION SELECT account FROM imsync.account WHERE in_doubt_retry_at < 'infinity' AND {doubts}"
        )))
        .fetch_all(&mut *self.connection.lock().await)
        .await
        .expect("the state tables can be read");
        accounts.into_iter().collect()
    }

    /// The next start, and one pass over what has changed since where that was a full pass that went on.
    async fn start_again(&self, case: CrashCase, in_flight: &BTreeSet<String>) {
        if case.scenario == Scenario::Daemon {
            let mut daemon = self.env.start("run", &["run"]);
            self.until("IM is as the table again", async || self.differences(in_flight).await.is_empty()).await;
            signal(&daemon, "TERM");
            assert_eq!(ended(&mut daemon).await, Some(0), "{}", self.now);
            return;
        }
        let log = self.settled_by(&[case.scenario.command(), &["-v"]].concat()).await;
        let goes_on = log.contains("going on with the full pass");
        if goes_on {
            // What changed behind its position is for the next pass.
            self.settled_by(&["run", "--once"]).await;
        }
        assert!(goes_on || case.point != "full: the position is stored", "{}: {log}", self.now);
    }

    /// Accounts that IM and the table differ in, but for refused ones and for those that no stamp tells of and nothing was
    /// in flight for.
    pub(super) async fn differences(&self, in_flight: &BTreeSet<String>) -> Vec<String> {
        let (im, table) = (self.env.handle().users(), self.env.wanted_of_users().await);
        let accounts: BTreeSet<&String> = im.keys().chain(table.keys()).collect();
        let counts = |account: &str| {
            account != TOO_LONG
                && !REFUSED.contains(&account)
                && (!scenarios::untold(account) || in_flight.contains(account))
        };
        let differ = accounts.into_iter().filter(|account| counts(account) && im.get(*account) != table.get(*account));
        differ
            .map(|account| {
                format!("{account}: the table wants {:?}, IM holds {:?}", table.get(account), im.get(account))
            })
            .collect()
    }

    /// No change is lost, nothing is left in doubt, no claim is false, and who is refused stands in the list.
    async fn expect_settled(&self, in_flight: &BTreeSet<String>) {
        let differences = self.differences(in_flight).await;
        assert!(differences.is_empty(), "{}: {differences:#?}\n{}", self.now, self.env.printed("run", "err"));
        self.expect_no_lie().await;
        assert_eq!(self.number("SELECT count(*) FROM imsync.intent").await, 0, "{}: an intent is left", self.now);
        let listed = format!(
            "SELECT count(DISTINCT account) FROM imsync.rejection WHERE account IN ('{TOO_LONG}', '{}')",
            REFUSED.join("', '")
        );
        assert_eq!(self.number(&listed).await, 4, "{}: a rejection was lost", self.now);
    }
}
