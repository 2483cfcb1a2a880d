//! Makes a mistake: writes the configuration, prepares the database, runs imsync and returns what it printed.
//!
//! Owns: what all mistakes share: a database, roles, simulators, addresses. Must not know: single mistakes.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use imsync::simulator::{RunningSimulator, Simulator, SimulatorOptions};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::case::{Mistake, Place, RIGHT_SECRET_KEY, RIGHT_TABLE, configuration};
use super::page::Observed;
use super::placeholders::{PASSWORD, Placeholders};
use crate::commands::free_port;
use crate::support::{CommandOutput, Database, TransactionPooler, binary, ended, run, signal};

const DAY: i64 = 24 * 3600;

/// The roles that mistakes log in as: placeholder, name without the database, attributes.
const ROLES: [(&str, &str, &str); 3] =
    [("<reader>", "reader", "LOGIN"), ("<guest>", "guest", "LOGIN"), ("<group>", "group", "NOLOGIN")];

/// What all mistakes share.
pub(super) struct Stage {
    database: Database,
    /// The databases of single mistakes.
    own_databases: Mutex<Vec<Arc<Database>>>,
    roles: Vec<String>,
    placeholders: Placeholders,
    _simulators: Vec<RunningSimulator>,
    _pooler: TransactionPooler,
    _taken: TcpListener,
}

impl Stage {
    pub(super) async fn set_up() -> Self {
        let database = Database::fresh().await;
        database.execute(RIGHT_TABLE).await;
        let mut placeholders = Placeholders::default();
        let name = database_name(&database);
        let mut roles = Vec::new();
        for (placeholder, role, attributes) in ROLES {
            let role = format!("{role}_of_{name}");
            database.execute(&format!("CREATE ROLE {role} {attributes} PASSWORD '{PASSWORD}'")).await;
            placeholders.add(placeholder, role.clone());
            roles.push(role);
        }
        database.execute(&format!("GRANT CREATE ON DATABASE {name} TO {}", roles[0])).await;
        let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        placeholders.add("<taken>", taken.local_addr().unwrap().to_string());
        placeholders.add("<unused>", format!("127.0.0.1:{}", free_port()));
        let pooler = TransactionPooler::start(&database).await;
        placeholders.add("<pooler>", authority(pooler.url()));
        let mut simulators = Vec::new();
        for (placeholder, options) in simulator_options() {
            let simulator = Simulator::start(options).await.unwrap();
            placeholders.add(placeholder, authority(&simulator.base_url()));
            simulators.push(simulator);
        }
        placeholders.add("<password>", PASSWORD);
        let own_databases = Mutex::default();
        Self { database, own_databases, roles, placeholders, _simulators: simulators, _pooler: pooler, _taken: taken }
    }

    /// Roles belong to the server, which may be an existing one that the tests must leave unchanged.
    pub(super) async fn tear_down(self) {
        let roles = self.roles.join(", ");
        for database in self.own_databases.into_inner().unwrap() {
            database.execute(&format!("DROP OWNED BY {roles} CASCADE")).await;
        }
        self.database.execute(&format!("DROP OWNED BY {roles} CASCADE; DROP ROLE {roles}")).await;
    }

    /// Makes a mistake.
    pub(super) async fn make(&self, mistake: &Mistake) -> Observed {
        let own = match mistake.place {
            Place::Shared => None,
            Place::Own => {
                let own = Arc::new(Database::fresh().await);
                own.execute(RIGHT_TABLE).await;
                self.own_databases.lock().unwrap().push(own.clone());
                Some(own)
            }
        };
        let database = own.as_deref().unwrap_or(&self.database);
        let directory = tempfile::tempdir().unwrap();
        let mut placeholders = self.placeholders.clone();
        placeholders.add("<url>", database.url());
        placeholders.add("<server>", authority(database.url()));
        placeholders.add("<database>", database_name(database));
        placeholders.add("<directory>", directory.path().display().to_string());

        write(&directory, "secret_key", RIGHT_SECRET_KEY);
        write(&directory, "imsync.toml", &placeholders.fill(&configuration(&[])));
        for arguments in mistake.before {
            let before = run(imsync(directory.path(), arguments)).await;
            assert_eq!(before.code, Some(0), "{}: imsync {arguments}: {before:?}", mistake.title);
        }
        let mut daemon = None;
        if mistake.beside_daemon {
            daemon = Some(daemon_with_lease(&directory).await);
        }
        if !mistake.sql.is_empty() {
            database.execute(&placeholders.fill(mistake.sql)).await;
        }
        write_mistake(&directory, mistake, &placeholders);
        let mut command = imsync(directory.path(), &placeholders.fill(mistake.command));
        command.envs(mistake.variables.iter().map(|(name, value)| (name, placeholders.fill(value))));
        let observed = match mistake.until {
            None => observe(mistake, run(command).await, &placeholders),
            Some(text) => observe_daemon(command, &directory, text, &placeholders).await,
        };
        if let Some(daemon) = &mut daemon {
            signal(daemon, "TERM");
            ended(daemon).await;
        }
        observed
    }
}

fn simulator_options() -> [(&'static str, SimulatorOptions); 4] {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let knows = |known: &[&str]| SimulatorOptions {
        attribute_names: names(known),
        calls_per_second: 200,
        ..SimulatorOptions::default()
    };
    let right = || knows(&["city", "plan"]);
    let ten: Vec<String> = (0..10).map(|number| format!("name{number}")).collect();
    [
        ("<im>", right()),
        ("<im a day ahead>", SimulatorOptions { clock_offset_seconds: DAY + 5400, ..right() }),
        ("<im of another region>", SimulatorOptions { faults: vec!["refuse:70020".parse().unwrap()], ..right() }),
        ("<im without free slot>", SimulatorOptions { attribute_names: ten, ..right() }),
    ]
}

/// Host and port of a URL.
fn authority(url: &str) -> String {
    let url = url::Url::parse(url).unwrap();
    format!("{}:{}", url.host_str().unwrap(), url.port().unwrap_or(5432))
}

fn database_name(database: &Database) -> String {
    url::Url::parse(database.url()).unwrap().path().trim_start_matches('/').to_owned()
}

fn imsync(directory: &Path, arguments: &str) -> Command {
    let mut command = binary(directory);
    // The home directory may have a password file.
    command.args(arguments.split_whitespace()).env("HOME", directory).env("COLUMNS", "120");
    command
}

fn write(directory: &TempDir, name: &str, text: &str) {
    let path = directory.path().join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

fn write_mistake(directory: &TempDir, mistake: &Mistake, placeholders: &Placeholders) {
    if mistake.without_configuration {
        std::fs::remove_file(directory.path().join("imsync.toml")).unwrap();
    } else {
        let text = configuration(mistake.keys) + mistake.tail;
        write(directory, "imsync.toml", &placeholders.fill(&text));
    }
    for (name, content) in mistake.files {
        match name.strip_suffix('/') {
            Some(folder) => std::fs::create_dir(directory.path().join(folder)).unwrap(),
            None => write(directory, name, &placeholders.fill(content)),
        }
    }
}

/// Starts a daemon and waits until it holds the lease.
async fn daemon_with_lease(directory: &TempDir) -> Child {
    let log = std::fs::File::create(directory.path().join("beside.err")).unwrap();
    let daemon = imsync(directory.path(), "run").stderr(log).spawn().unwrap();
    loop {
        let status = run(imsync(directory.path(), "status --json")).await;
        if !status.json()["lease"].is_null() {
            return daemon;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What a command printed. Of `check`, only the findings that a person has to act on.
fn observe(mistake: &Mistake, output: CommandOutput, placeholders: &Placeholders) -> Observed {
    let CommandOutput { code, stdout, stderr } = output;
    assert!(!format!("{stdout}{stderr}").contains(PASSWORD), "{}: the password is shown", mistake.title);
    let is_check = mistake.command.starts_with("check") && !stdout.is_empty();
    let text = if is_check {
        // A call that fails is also logged.
        for line in stderr.lines().filter(|line| !line.contains(" WARN ")) {
            let problem = line.trim_start_matches("imsync: ");
            assert!(stdout.contains(problem), "{}: this is not a finding: {line}", mistake.title);
        }
        let findings =
            stdout.lines().filter(|line| !line.starts_with("ok ") && !line.contains(": not checked, because "));
        findings.collect::<Vec<_>>().join("\n")
    } else {
        stdout + &stderr
    };
    Observed { code, lines: placeholders.name(&text).lines().map(str::to_owned).collect() }
}

/// Runs a daemon until it has logged a text, and returns its warnings and errors.
async fn observe_daemon(
    mut command: Command,
    directory: &TempDir,
    text: &str,
    placeholders: &Placeholders,
) -> Observed {
    let path = directory.path().join("daemon.err");
    let mut daemon = command.stderr(std::fs::File::create(&path).unwrap()).spawn().unwrap();
    let logged = || std::fs::read_to_string(&path).unwrap_or_default();
    let has_logged = async {
        while !logged().contains(text) {
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    };
    let result = tokio::time::timeout(Duration::from_mins(2), has_logged).await;
    assert!(result.is_ok(), "imsync does not log {text:?}: {}", logged());
    signal(&daemon, "TERM");
    ended(&mut daemon).await;
    let warnings = logged()
        .lines()
        .filter(|line| line.contains(" WARN ") || line.contains("ERROR "))
        .collect::<Vec<_>>()
        .join("\n");
    Observed { code: None, lines: placeholders.name(&warnings).lines().map(str::to_owned).collect() }
}
