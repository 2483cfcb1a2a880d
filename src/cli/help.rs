//! The texts at the end of `--help`: examples, exit codes, and what a command reads.
//!
//! Owns: these texts. Must not know: how arguments are parsed.
//!
//! The lines have at most 80 columns: clap wraps longer ones on a narrow terminal, and a wrapped table is hard to read.

pub(super) const IMSYNC: &str = "\
Examples:
  imsync demo                   See imsync work; needs no configuration
  imsync check -c imsync.toml   Check the configuration, the databases and the app
  imsync backfill --dry-run     Show what the first full pass would send
  imsync backfill               Push every difference of the whole table
  imsync run                    Run the daemon, which keeps IM equal to the table
  imsync status                 Show the lag, rejections and the last passes

Exit codes:
  0  The command is done.
  1  It could not finish: a database, IM or the removal guard prevented it.
  2  The usage or the configuration is wrong. Nothing was touched.
  3  It finished, and some accounts are rejected.

Configuration file:
  -c FILE, else $IMSYNC_CONFIG, else ./imsync.toml, else /etc/imsync/imsync.toml";

pub(super) const RUN: &str = "\
Examples:
  imsync run -c /etc/imsync/imsync.toml
  imsync run --once             Run one pass, for cron (exit code 3: rejections)

Signals:
  SIGTERM, SIGINT   Finish the calls in flight, record them and exit (up to 25 s)
  SIGHUP            Read the configuration again";

pub(super) const BACKFILL: &str = "\
Examples:
  imsync backfill --dry-run      Print counts, calls and time; send nothing
  imsync backfill                Resume an interrupted full pass, or start one
  imsync backfill --account u42  Push this account only
  imsync backfill --force        Send every attribute again";

pub(super) const CHECK: &str = "\
Examples:
  imsync check                  Check everything
  imsync check --offline        Validate the configuration only; no network";

pub(super) const STATUS: &str = "\
Examples:
  imsync status
  imsync status --watch
  imsync status --json | jq .lag_seconds";

pub(super) const PREVIEW: &str = "\
Examples:
  imsync preview --limit 20     Show the first 20 accounts of the next pass
  imsync preview --full --json  Show all that a backfill would send, as JSON";

pub(super) const EXPLAIN: &str = "\
Examples:
  imsync explain u42            Why this account has, or lacks, an attribute
  imsync explain u42 --no-im    Without a call to IM
  imsync explain u42 --json | jq -r .verdict";

pub(super) const VERIFY: &str = "\
Examples:
  imsync verify                 Compare 1000 random rows with IM
  imsync verify --all           Compare the whole table; 9,400 accounts a second
  imsync verify --all --repair  Send what the table says where IM differs
  imsync verify --json | jq '.drifted[]'

Exit codes:
  0  IM holds what the table says, or it was repaired.
  1  The comparison could not finish.
  3  Something differs and was not repaired.";

pub(super) const REJECTED: &str = "\
Examples:
  imsync rejected               Group the rejections by reason
  imsync rejected --all         List every rejection
  imsync rejected retry         Retry all of them in the next pass";

pub(super) const REJECTED_RETRY: &str = "\
Examples:
  imsync rejected retry
  imsync rejected retry --account u42";

pub(super) const ATTRIBUTES: &str = "\
Examples:
  imsync attributes             Show the ten slots of the app
  imsync attributes apply       Set missing names in free slots, after a question
  imsync attributes --json | jq .missing";

pub(super) const ATTRIBUTES_APPLY: &str = "\
Examples:
  imsync attributes apply
  imsync attributes apply --yes   Without a question, for scripts

Exit codes:
  0  The app knows every mapped name.
  1  No slot is free, IM refused, or the names changed in the meantime.
  2  Nobody can be asked and --yes is missing, or the configuration is wrong.";

pub(super) const HISTORY: &str = "\
Examples:
  imsync history                             The newest 1,000 rows
  imsync history --account u42 --since 1d    What was sent for u42 since yesterday
  imsync history --since 2026-11-28T12:00:00Z --json | jq -r .account";

pub(super) const FORGET: &str = "\
Examples:
  imsync forget u42             After the row of u42 was deleted

Exit codes:
  0  No trace is left.
  1  The table has a row for the account, another imsync holds the lease, or IM
     may still hold a value. Run the command again.";

pub(super) const MIGRATE: &str = "\
Examples:
  imsync migrate                Create or upgrade the state tables
  imsync migrate --print        Print the SQL that is missing; change nothing
  imsync migrate --rebind       Bind this sync to another app";

pub(super) const SIMULATE: &str = "\
Examples:
  imsync simulate --attributes sex,city,plan
  imsync simulate --latency 50ms --rate 100
  imsync simulate --fault refuse:70107:account=u17
  imsync simulate --help-faults

With the default flags, imsync.toml needs:
  [im]
  base_url = \"http://127.0.0.1:8089\"
  sdk_app_id = 1400000000
  identifier = \"administrator\"
  secret_key = \"simulator-secret-key\"

To print the attributes that the simulator holds:
  curl http://127.0.0.1:8089/_simulator/users";

pub(super) const DEMO: &str = "\
Examples:
  imsync demo
  imsync demo --users 100000 --seconds 60";
