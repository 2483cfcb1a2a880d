//! A system: a table with people, a vendor, imsync as processes; and the hand that carries out a history.
//!
//! Owns: what is under way, what is checked after each step. Must not know: how likely anything is.

use std::collections::VecDeque;
use std::time::Duration;

use imsync::simulator::SimulatorOptions;
use sqlx::{AssertSqlSafe, Executor, PgConnection};

use super::operation::{CommandRun, ConfigVersion, FaultTarget, Operation, ProcessFault};
use super::operation_counts::OperationCounts;
use super::plan::{Settings, TIMEOUT_MILLIS};
use super::process::{Ended, Process, arguments, befall};
use super::state_claims::lies;
use super::writers::Writers;
use super::{faults, table};
use crate::support::{Setup, TestEnvironment};

/// What is told of a divergence beside the history.
const OUTPUTS_KEPT: usize = 4;

/// The configuration of an version, over a table that is there.
fn configuration(settings: &Settings, version: ConfigVersion) -> Setup {
    let Settings { users_per_call, max_in_flight, max_share, calls_per_second, rejected_retry, .. } = settings;
    let word = |keep: bool| if keep { "keep" } else { "remove" };
    Setup {
        source: table::source(settings, version),
        im: format!(
            "service = \"{}\"\nusers_per_call = {users_per_call}\nmax_in_flight = {max_in_flight}\n\
             calls_per_second = {calls_per_second}\ntimeout = \"{TIMEOUT_MILLIS}ms\"\nretry_for = \"1s\"\n",
            if settings.timpush { "timpush" } else { "all_member_push" }
        ),
        attributes: table::attributes(version),
        more: format!(
            "[removal]\ngone = \"{}\"\nunmapped = \"{}\"\nmax_share = {}.{:02}\n[schedule]\n\
             interval = \"100ms\"\nrejected_retry = \"{rejected_retry}s\"\n",
            word(settings.keep_gone),
            word(settings.keep_unmapped),
            max_share / 100,
            max_share % 100
        ),
        ..Setup::default()
    }
}

pub(super) struct System {
    pub(super) settings: Settings,
    pub(super) env: TestEnvironment,
    pub(super) eye: PgConnection,
    pub(super) writers: Writers,
    pub(super) version: ConfigVersion,
    /// At most two: the first holds the lease as a rule, the second stands by.
    daemons: VecDeque<Process>,
    processes: u32,
    pub(super) counts: OperationCounts,
    /// What the last processes printed.
    pub(super) outputs: VecDeque<Ended>,
    secrets: Vec<String>,
}

impl System {
    pub(super) async fn new(settings: Settings) -> Self {
        let known = (0..settings.accounts + 10).filter(|number| number % 3 != 1).map(table::account);
        let setup = Setup {
            sql: table::schema(settings.watermark),
            simulator: SimulatorOptions {
                attribute_names: table::COLUMNS.map(|(_, attribute)| attribute.to_owned()).to_vec(),
                imported_accounts: settings.strangers.then(|| known.collect()),
                logged_calls: 200,
                calls_per_second: settings.calls_per_second * 3 / 2,
                ..SimulatorOptions::default()
            },
            ..configuration(&settings, ConfigVersion::First)
        };
        let secret = setup.simulator.secret_key.clone();
        let env = TestEnvironment::set_up(setup).await;
        let mut eye = env.database.connect().await;
        let people = (0..settings.accounts).map(|number| {
            let value = |place: u64| {
                let place = usize::try_from((number + place) % 4).expect("a place fits");
                table::value(place).map_or("NULL".to_owned(), |text| format!("'{text}'"))
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
        eye.execute(AssertSqlSafe(sql)).await.expect("people can be added");
        let name: String = sqlx::query_scalar("SELECT current_database()").fetch_one(&mut eye).await.expect("a name");
        let password = url::Url::parse(env.database.url()).ok().and_then(|url| url.password().map(str::to_owned));
        let secrets = password.into_iter().filter(|password| password.len() > 6).chain([secret]).collect();
        Self {
            writers: Writers::new(name, settings.watermark),
            settings,
            env,
            eye,
            version: ConfigVersion::First,
            daemons: VecDeque::new(),
            processes: 0,
            counts: OperationCounts::default(),
            outputs: VecDeque::new(),
            secrets,
        }
    }

    /// One operation, and what must hold after it.
    pub(super) async fn step(&mut self, operation: &Operation) -> Result<(), String> {
        self.carry_out(operation).await?;
        self.check().await
    }

    async fn carry_out(&mut self, operation: &Operation) -> Result<(), String> {
        let name = format!("{operation:?}");
        self.counts.count("operations", name.split([' ', '(', '{']).next().unwrap_or_default());
        match operation {
            Operation::Write(writer, action) => {
                self.writers.write(&self.env.database, *writer, action, &mut self.counts).await;
            }
            Operation::Finish { oldest, commit } => self.writers.finish(&mut self.eye, *oldest, *commit).await,
            Operation::CommandRun(pass) => return self.pass(pass).await,
            Operation::Daemon(crash) => {
                if self.daemons.len() < 2 {
                    let daemon = self.spawn(&["run".to_owned()], *crash);
                    self.daemons.push_back(daemon);
                }
            }
            Operation::DaemonTerm => return self.end_daemon(false).await,
            Operation::DaemonKill => return self.end_daemon(true).await,
            Operation::DaemonSleeps(millis) => {
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
            Operation::Cut(whose) => self.cut(*whose).await,
            Operation::Pause(millis) => tokio::time::sleep(Duration::from_millis(*millis)).await,
            Operation::RetryRejected => {
                // Refused before first use, and cut beside a daemon.
                self.command(&["rejected".to_owned(), "retry".to_owned()]).await?;
            }
            Operation::Calm => return Box::pin(self.quiescence()).await,
        }
        Ok(())
    }

    /// The state does not lie, and IM was used as it asks to be.
    async fn check(&mut self) -> Result<(), String> {
        let found = lies(&mut self.eye, self.env.handle()).await.map_err(|error| error.to_string())?;
        if !found.is_empty() {
            return Err(format!("the state lies: {}", found.join("; ")));
        }
        let violations = self.env.handle().violations();
        if violations.is_empty() { Ok(()) } else { Err(format!("the vendor's rules were broken: {violations:?}")) }
    }

    fn spawn(&mut self, arguments: &[String], crash: Option<(&'static str, u64)>) -> Process {
        self.processes += 1;
        Process::start(&self.env, self.processes, arguments, crash)
    }

    /// What a process came to is remembered and examined.
    fn took_place(&mut self, ended: Ended, may_be_killed: bool) -> Result<Ended, String> {
        self.outputs.push_back(ended.clone());
        if self.outputs.len() > OUTPUTS_KEPT {
            self.outputs.pop_front();
        }
        let code = ended.code.map_or_else(|| "killed".to_owned(), |code| format!("exit {code}"));
        self.counts.count("processes", code);
        ended.examine(&self.secrets, may_be_killed)?;
        Ok(ended)
    }

    /// A command without fault, to its end.
    pub(super) async fn command(&mut self, arguments: &[String]) -> Result<Ended, String> {
        let ended = self.spawn(arguments, None).end().await?;
        self.took_place(ended, false)
    }

    async fn pass(&mut self, pass: &CommandRun) -> Result<(), String> {
        let CommandRun { command, fault, beside } = pass;
        let crash = match fault {
            ProcessFault::Crash(point, arrival) => Some((*point, *arrival)),
            ProcessFault::None | ProcessFault::Kill(_) | ProcessFault::Term(_) => None,
        };
        let undisturbed = *fault == ProcessFault::None
            && beside.is_empty()
            && self.daemons.is_empty()
            && self.env.handle().faults().is_empty();
        let process = self.spawn(&arguments(command), crash);
        let id = process.id();
        let others = async {
            for operation in beside {
                Box::pin(self.step(operation)).await?;
            }
            Ok::<_, String>(())
        };
        let ((), others, ended) = tokio::join!(befall(*fault, id), others, process.end());
        others?;
        let ended = self.took_place(ended?, *fault != ProcessFault::None)?;
        let reasons =
            ["removal guard", "IM did not answer", "holds the lease", "IM is unreachable", "has just started"];
        if undisturbed && ended.code == Some(1) && !reasons.iter().any(|reason| ended.stderr.contains(reason)) {
            return Err(format!("a pass that nobody disturbed could not finish: {ended:?}"));
        }
        match (fault, ended.code) {
            (ProcessFault::Crash(point, _), None) => self.counts.count("crashes", *point),
            (ProcessFault::Kill(_), None) => self.counts.count("crashes", "kill -9 at random"),
            _ => {}
        }
        if let Ok(pass) = ended.pass() {
            let word = |key: &str| pass[key].as_str().unwrap_or_default().to_owned();
            self.counts.count("passes", format!("{} {}", word("kind"), word("outcome")));
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
        // A signal before it could listen for one ends it too; it has not said anything by then.
        let unborn = ended.stderr.is_empty();
        let ended = self.took_place(ended, kill || armed || unborn)?;
        match ended.code {
            None if armed => self.counts.count("crashes", "at a crash point, the daemon"),
            None => self.counts.count("crashes", "kill -9 of the daemon"),
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

    async fn cut(&mut self, whose: FaultTarget) {
        let ours = "datname = current_database() AND application_name LIKE 'imsync%'";
        let which = match whose {
            FaultTarget::All => ours.to_owned(),
            FaultTarget::Lease => format!("{ours} AND pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory')"),
            FaultTarget::First => format!("pid = (SELECT min(pid) FROM pg_stat_activity WHERE {ours})"),
            FaultTarget::Last => format!("pid = (SELECT max(pid) FROM pg_stat_activity WHERE {ours})"),
        };
        let sql = format!("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE {which}");
        let cut: i64 =
            sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut self.eye).await.expect("sessions can be ended");
        let name = if whose == FaultTarget::Lease { "the lease's session" } else { "sessions of imsync" };
        self.counts.add("connections cut", name, u64::try_from(cut).unwrap_or_default());
    }
}
