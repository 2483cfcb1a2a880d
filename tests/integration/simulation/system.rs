//! A system: a table of accounts, a vendor, and imsync as processes; executes a history.
//!
//! Owns: what is running, and the checks after each step. Must not know: how likely an operation is.

use std::collections::VecDeque;
use std::time::Duration;

use imsync::simulator::SimulatorOptions;
use sqlx::{AssertSqlSafe, Executor, PgConnection};

use super::guard_claims::GuardClaims;
use super::operation::{CommandRun, ConfigVersion, FaultTarget, Operation, ProcessFault};
use super::operation_counts::OperationCounts;
use super::process::{Ended, Process, arguments, inject_timed_fault};
use super::settings::Settings;
use super::state_claims::false_claims;
use super::writers::Writers;
use super::{faults, table};
use crate::support::{Setup, TestEnvironment};

/// The number of process outputs that a divergence report shows.
const MAX_OUTPUTS: usize = 4;

/// The configuration of this version, for the existing table.
fn configuration(settings: &Settings, version: ConfigVersion) -> Setup {
    let Settings {
        users_per_call,
        max_in_flight,
        max_share,
        timeout,
        calls_per_second,
        rejected_retry,
        full_every,
        ..
    } = settings;
    let policy = |keep: bool| if keep { "keep" } else { "remove" };
    Setup {
        source: table::source(settings, version),
        im: format!(
            "service = \"{}\"\nusers_per_call = {users_per_call}\nmax_in_flight = {max_in_flight}\n\
             calls_per_second = {calls_per_second}\ntimeout = \"{timeout}ms\"\nretry_for = \"1s\"\n",
            if settings.timpush { "timpush" } else { "all_member_push" }
        ),
        attributes: table::attributes(version),
        more: format!(
            "[removal]\ngone = \"{}\"\nunmapped = \"{}\"\nmax_share = {}.{:02}\n[schedule]\n\
             interval = \"100ms\"\nfull_every = \"{full_every}s\"\nrejected_retry = \"{rejected_retry}s\"\n\
             [history]\nkeep = \"30d\"\n",
            policy(settings.keep_gone),
            policy(settings.keep_unmapped),
            max_share / 100,
            max_share % 100
        ),
        ..Setup::default()
    }
}

pub(super) struct System {
    pub(super) settings: Settings,
    pub(super) env: TestEnvironment,
    pub(super) observer: PgConnection,
    pub(super) writers: Writers,
    pub(super) version: ConfigVersion,
    /// At most two. Normally the first holds the lease and the second stands by.
    pub(super) daemons: VecDeque<Process>,
    pub(super) guard: GuardClaims,
    processes: u32,
    pub(super) counts: OperationCounts,
    /// The outputs of the last processes.
    pub(super) outputs: VecDeque<Ended>,
    secrets: Vec<String>,
}

impl System {
    pub(super) async fn new(settings: Settings) -> Self {
        let known = (0..settings.accounts + 10).filter(|number| number % 3 != 1).map(table::account);
        let setup = Setup {
            sql: table::schema(&settings),
            simulator: SimulatorOptions {
                attribute_names: table::COLUMNS.map(|(_, attribute)| attribute.to_owned()).to_vec(),
                imported_accounts: settings.unimported.then(|| known.collect()),
                logged_calls: 200,
                calls_per_second: settings.calls_per_second * 3 / 2,
                ..SimulatorOptions::default()
            },
            ..configuration(&settings, ConfigVersion::First)
        };
        let secret = setup.simulator.secret_key.clone();
        let env = TestEnvironment::set_up(setup).await;
        let mut observer = env.database.connect().await;
        let people = (0..settings.accounts).map(|number| {
            let value = |index: u64| {
                let index = usize::try_from((number + index) % 4).expect("an index fits");
                table::value(index).map_or("NULL".to_owned(), |text| format!("'{text}'"))
            };
            let id = table::account(number).replace('\'', "''");
            format!(
                "('{id}', {number}, {}, {}, {}, {}, {}, {})",
                value(2),
                value(3),
                value(0),
                value(1),
                value(0),
                value(1)
            )
        });
        let sql = format!(
            "INSERT INTO users (id, number, city, note, plan, gender, tier, lang) VALUES {}",
            people.collect::<Vec<_>>().join(", ")
        );
        observer.execute(AssertSqlSafe(sql)).await.expect("the accounts can be inserted");
        let name: String =
            sqlx::query_scalar("SELECT current_database()").fetch_one(&mut observer).await.expect("a name");
        let password = url::Url::parse(env.database.url()).ok().and_then(|url| url.password().map(str::to_owned));
        let secrets = password.into_iter().filter(|password| password.len() > 6).chain([secret]).collect();
        Self {
            writers: Writers::new(name, settings.watermark),
            settings,
            env,
            observer,
            version: ConfigVersion::First,
            daemons: VecDeque::new(),
            guard: GuardClaims::default(),
            processes: 0,
            counts: OperationCounts::default(),
            outputs: VecDeque::new(),
            secrets,
        }
    }

    /// Executes one operation and checks what must hold after it.
    pub(super) async fn step(&mut self, operation: &Operation) -> Result<(), String> {
        self.execute(operation).await?;
        self.check().await
    }

    async fn execute(&mut self, operation: &Operation) -> Result<(), String> {
        let name = format!("{operation:?}");
        self.counts.count("operations", name.split([' ', '(', '{']).next().unwrap_or_default());
        match operation {
            Operation::Write(writer, action) => {
                self.writers.write(&self.env.database, *writer, action, &mut self.counts).await;
            }
            Operation::Finish { oldest, commit } => self.writers.finish(&mut self.observer, *oldest, *commit).await,
            Operation::CommandRun(pass) => return self.pass(pass).await,
            Operation::Daemon(crash) => {
                if self.daemons.len() < 2 {
                    let daemon = self.spawn(&["run".to_owned()], *crash);
                    self.daemons.push_back(daemon);
                }
            }
            Operation::DaemonTerm => return self.end_daemon(false).await,
            Operation::DaemonKill => return self.end_daemon(true).await,
            Operation::DaemonSuspend(millis) => {
                if let Some(daemon) = self.daemons.front_mut() {
                    daemon.signal("STOP");
                    tokio::time::sleep(Duration::from_millis(*millis)).await;
                    daemon.signal("CONT");
                }
            }
            Operation::Edit(version) => {
                self.version = *version;
                self.env.configure(&configuration(&self.settings, *version));
            }
            Operation::Import(account) => self.env.handle().set_imported(&table::account(*account), true),
            Operation::Fault(fault) => {
                self.env.handle().add_fault(fault.rule());
            }
            Operation::ClearFaults => self.clear_faults(),
            Operation::Cut(target) => self.cut(*target).await,
            Operation::Pause(millis) => tokio::time::sleep(Duration::from_millis(*millis)).await,
            Operation::RetryRejected => {
                // The command is refused before imsync's first start, and may be interrupted next to a daemon.
                self.command(&["rejected".to_owned(), "retry".to_owned()]).await?;
            }
            Operation::Alter(alteration) => return self.alter(*alteration).await,
            Operation::Quiesce => return Box::pin(self.quiescence()).await,
        }
        Ok(())
    }

    /// Checks that the state makes no false claim, and that imsync kept the vendor's rules.
    async fn check(&mut self) -> Result<(), String> {
        let found = false_claims(&mut self.observer, self.env.handle()).await.map_err(|error| error.to_string())?;
        if !found.is_empty() {
            return Err(format!("the state makes false claims: {}", found.join("; ")));
        }
        self.check_guard().await?;
        let violations = self.env.handle().violations();
        if violations.is_empty() { Ok(()) } else { Err(format!("the vendor's rules were broken: {violations:?}")) }
    }

    fn spawn(&mut self, arguments: &[String], crash: Option<(&'static str, u64)>) -> Process {
        self.processes += 1;
        self.guard.note_started(arguments);
        Process::start(&self.env, self.processes, arguments, crash)
    }

    /// Records and checks the result of a process.
    fn record_end(&mut self, ended: Ended, may_be_killed: bool) -> Result<Ended, String> {
        self.guard.note_ended(&ended.name);
        self.outputs.push_back(ended.clone());
        if self.outputs.len() > MAX_OUTPUTS {
            self.outputs.pop_front();
        }
        let code = ended.code.map_or_else(|| "killed".to_owned(), |code| format!("exit {code}"));
        self.counts.count("processes", code);
        ended.check(&self.secrets, may_be_killed)?;
        Ok(ended)
    }

    /// Runs a command without a fault to its end.
    pub(super) async fn command(&mut self, arguments: &[String]) -> Result<Ended, String> {
        let ended = self.spawn(arguments, None).end().await?;
        self.record_end(ended, false)
    }

    async fn pass(&mut self, pass: &CommandRun) -> Result<(), String> {
        let CommandRun { command, fault, concurrent } = pass;
        let crash = match fault {
            ProcessFault::Crash(point, arrival) => Some((*point, *arrival)),
            ProcessFault::None | ProcessFault::Kill(_) | ProcessFault::Term(_) => None,
        };
        let undisturbed = *fault == ProcessFault::None
            && concurrent.is_empty()
            && self.daemons.is_empty()
            && self.env.handle().faults().is_empty();
        let process = self.spawn(&arguments(command), crash);
        let id = process.id();
        let others = async {
            for operation in concurrent {
                Box::pin(self.step(operation)).await?;
            }
            Ok::<_, String>(())
        };
        let ((), others, ended) = tokio::join!(inject_timed_fault(*fault, id), others, process.end());
        others?;
        let ended = self.record_end(ended?, *fault != ProcessFault::None)?;
        let reasons =
            ["removal guard", "IM did not answer", "holds the lease", "IM is unreachable", "has just started"];
        if undisturbed && ended.code == Some(1) && !reasons.iter().any(|reason| ended.stderr.contains(reason)) {
            return Err(format!("an undisturbed pass could not finish: {ended:?}"));
        }
        match (fault, ended.code) {
            (ProcessFault::Crash(point, _), None) => self.counts.count("crashes", *point),
            (ProcessFault::Kill(_), None) => self.counts.count("crashes", "SIGKILL at a random time"),
            _ => {}
        }
        if let Ok(pass) = ended.pass() {
            let text = |key: &str| pass[key].as_str().unwrap_or_default().to_owned();
            self.counts.count("passes", format!("{} {}", text("kind"), text("outcome")));
        }
        Ok(())
    }

    pub(super) async fn end_daemons(&mut self) -> Result<(), String> {
        while !self.daemons.is_empty() {
            self.end_daemon(false).await?;
        }
        Ok(())
    }

    async fn end_daemon(&mut self, kill: bool) -> Result<(), String> {
        let Some(mut daemon) = self.daemons.pop_front() else { return Ok(()) };
        let armed = daemon.armed;
        daemon.signal(if kill { "KILL" } else { "TERM" });
        let ended = daemon.end().await?;
        let passes = ended.stderr.lines().filter(|line| line.contains("pass ended")).count();
        self.counts.add("passes", "of daemons", u64::try_from(passes).unwrap_or_default());
        // A signal that arrives before the signal handlers are installed also ends the process. It has not printed
        // anything by then.
        let without_handlers = ended.stderr.is_empty();
        let ended = self.record_end(ended, kill || armed || without_handlers)?;
        match ended.code {
            None if armed => self.counts.count("crashes", "daemon at a crash point"),
            None => self.counts.count("crashes", "SIGKILL of the daemon"),
            Some(0) => {}
            Some(code) => return Err(format!("the daemon ended with {code}: {ended:?}")),
        }
        Ok(())
    }

    pub(super) fn import_all(&self) {
        for number in 0..self.settings.accounts + 10 {
            self.env.handle().set_imported(&table::account(number), true);
        }
    }

    pub(super) fn clear_faults(&mut self) {
        for (_, rule, fired) in self.env.handle().faults() {
            if fired > 0 {
                self.counts.add("faults", faults::name(&rule), fired);
            }
        }
        self.env.handle().clear_faults();
    }

    async fn cut(&mut self, target: FaultTarget) {
        let sessions = "datname = current_database() AND application_name LIKE 'imsync%'";
        let selection = match target {
            FaultTarget::All => sessions.to_owned(),
            FaultTarget::Lease => {
                format!("{sessions} AND pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory')")
            }
            FaultTarget::First => format!("pid = (SELECT min(pid) FROM pg_stat_activity WHERE {sessions})"),
            FaultTarget::Last => format!("pid = (SELECT max(pid) FROM pg_stat_activity WHERE {sessions})"),
        };
        let sql = format!("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE {selection}");
        let cut: i64 =
            sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut self.observer).await.expect("sessions can be ended");
        let name = if target == FaultTarget::Lease { "the lease's session" } else { "sessions of imsync" };
        self.counts.add("connections cut", name, u64::try_from(cut).unwrap_or_default());
    }
}
