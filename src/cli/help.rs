//! The texts at the end of `--help`: examples, exit codes, and what a command reads.
//!
//! Owns: these texts. Must not know: how arguments are parsed.
//!
//! The lines have at most 80 columns: clap wraps longer ones on a narrow terminal, and a wrapped table is hard to read.

/// The keys of the report of a pass.
macro_rules! pass_keys {
    () => {
        "\
JSON keys:
  kind         incremental, full or selected
  outcome      ok, rejected, failed, guard or interrupted
  started_at   When it began
  finished_at  When it ended
  rows_read    Rows of the table
  changed      Accounts whose values differed from those that IM acknowledged
  pushed       Accounts for which IM acknowledged a set
  removed      Accounts for which IM acknowledged a removal
  rejected     Accounts that were rejected in this pass
  calls        Calls to IM, retries included
  error        Why the pass failed, or null
  repaired     Accounts with a change that no incremental pass had seen"
    };
}

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

pub(super) const RUN: &str = concat!(
    "\
Examples:
  imsync run -c /etc/imsync/imsync.toml
  imsync run --once             Run one pass, for cron (exit code 3: rejections)

Signals:
  SIGTERM, SIGINT   Finish the calls in flight, record them and exit (up to 25 s)
  SIGHUP            Read the configuration again

Exit codes:
  0  It was stopped, or with --once: the pass is done.
  1  With --once: it could not finish, or another process holds the lease.
  2  The usage or the configuration is wrong. Nothing was touched.
  3  With --once: the pass is done, and accounts are rejected.

",
    pass_keys!()
);

pub(super) const BACKFILL: &str = concat!(
    "\
Examples:
  imsync backfill --dry-run      Print counts, calls and time; send nothing
  imsync backfill                Resume an interrupted full pass, or start one
  imsync backfill --account u42  Push this account only
  imsync backfill --force        Send every attribute again

Exit codes:
  0  The pass is done.
  1  A database, IM or the removal guard prevented it, it was interrupted, or
     another process holds the lease. The same command resumes it.
  2  The usage or the configuration is wrong. Nothing was touched.
  3  The pass is done, and accounts are rejected.

",
    pass_keys!(),
    "

JSON keys with --dry-run:
  dry_run          true
  rows_read        Rows of the table
  changed          Accounts that would change
  set              Accounts of which attributes would be set
  removed          Accounts of which attributes would be removed
  rejected         Accounts with a value that cannot be sent
  without_account  Rows without an account, which are skipped
  calls            Calls that the pass needs
  seconds_at_rate  The time of these calls at im.calls_per_second
  guard            What the removal guard would hold back, or null"
);

pub(super) const CHECK: &str = "\
Examples:
  imsync check                  Check everything
  imsync check --offline        Validate the configuration only; no network

Exit codes:
  0  imsync can run. Warnings say what could be better.
  1  A database, the table, the state or IM has to be corrected first.
  2  The arguments, the configuration or a file that it names is wrong.

JSON keys:
  ok        Whether no finding is an error
  findings  One object each: id (stable, as in source.watermark_index), what,
            verdict (ok, warning or error), message, and remedy or null";

pub(super) const STATUS: &str = "\
Examples:
  imsync status
  imsync status --watch
  imsync status --json | jq .lag_seconds

Exit codes:
  0  The status is shown.
  1  The state database could not be read.
  2  The usage or the configuration is wrong. Nothing was touched.

JSON keys:
  name            The name of the sync
  watermark       Up to where all changes are read, or null
  lag_seconds     Everything committed that long ago is in IM, or null
  held_back_by    The transaction that holds the watermark back, or null: pid or
                  prepared, application, since
  accounts        Accounts that hold an attribute that imsync has set
  rejected        Accounts with a rejection
  in_doubt        Accounts for which the outcome of a call is not known
  guard           What the removal guard holds back, or null
  full_pass       The last full pass, or null: finished_at, repaired, examples
  verification    The last verification that was recorded, or null: finished_at,
                  sample, checked, drifted, repaired, attributes, examples
  alerts          What the webhook was told, or null: standing, undelivered
  schema_version  The version of the state tables, or null
  lease           Who sends, or null: holder, since
  running         The pass under way, or null
  full_pass_due   Why the next pass is a full pass, or null
  last_passes     The last passes, each as run --once --json prints one";

pub(super) const PREVIEW: &str = "\
Examples:
  imsync preview --limit 20     Show the first 20 accounts of the next pass
  imsync preview --full --json  Show all that a backfill would send, as JSON

Exit codes:
  0  The listing is complete, or --limit ended it.
  1  A database could not be read, or the table cannot be used.
  2  The usage or the configuration is wrong. Nothing was touched.

JSON keys of each line:
  account  The IM account
  set      The values that would be set, by attribute
  remove   The attributes that would be removed
  was      What IM acknowledged before, by attribute; null: nothing";

pub(super) const EXPLAIN: &str = "\
Examples:
  imsync explain u42            Why this account has, or lacks, an attribute
  imsync explain u42 --no-im    Without a call to IM
  imsync explain u42 --json | jq -r .verdict

Exit codes:
  0  The account is explained.
  1  Nobody knows the account, or a database or IM could not be read.
  2  The usage or the configuration is wrong. Nothing was touched.

JSON keys:
  account     The IM account
  in_table    Whether the table has a row that is not gone
  row         The texts of its columns, or null
  attributes  One object each: name, column, desired, problem, acknowledged,
              state (current, pending, rejected, in_doubt, kept or absent),
              acknowledged_at, actual (what IM holds), rejection or null
  rejection   The rejection of the whole account, or null
  others      Attributes in IM that the mapping does not name; null: not asked
  verdict     What is the case and what happens next, in one sentence";

pub(super) const VERIFY: &str = "\
Examples:
  imsync verify                 Compare 1000 random rows with IM
  imsync verify --all           Compare the whole table; 9,400 accounts a second
  imsync verify --all --repair  Send what the table says where IM differs
  imsync verify --json | jq '.drifted[]'

Exit codes:
  0  IM holds what the table says, or it was repaired.
  1  The comparison could not finish.
  3  Something differs and was not repaired.

JSON keys:
  checked           Compared
  matching          IM holds what the table says
  drifted           One object for each value that differs: account, attribute,
                    expected (by the table), acknowledged and actual (in IM), or
                    null; the first 10,000
  repaired          They differed, and hold what the table says now
  drifted_accounts  They differ
  attributes        They differ, by attribute
  pending           The next pass sends the change
  in_flight         They changed each time they were read
  in_doubt          A call had no known outcome
  rejected          A value cannot be sent, or IM refused it
  unreadable        IM refuses to read them";

pub(super) const REJECTED: &str = "\
Examples:
  imsync rejected               Group the rejections by reason
  imsync rejected --all         List every rejection
  imsync rejected retry         Retry all of them in the next pass

Exit codes:
  0  The rejections are listed.
  1  The state database could not be read.
  2  The usage or the configuration is wrong. Nothing was touched.

JSON keys of each line:
  account     The IM account
  attribute   The attribute, or null: the whole account
  code        The code of IM, or null: imsync refused the value
  reason      Why, without the value
  first_at    When it was rejected first
  last_at     When it was rejected last
  attempts    How often it was tried
  next_at     When it is tried next";

pub(super) const REJECTED_RETRY: &str = "\
Examples:
  imsync rejected retry
  imsync rejected retry --account u42

Exit codes:
  0  The rejections are due.
  1  The state database could not be written, or the sync has not run yet.
  2  The usage or the configuration is wrong. Nothing was touched.";

pub(super) const ATTRIBUTES: &str = "\
Examples:
  imsync attributes             Show the ten slots of the app
  imsync attributes apply       Set missing names in free slots, after a question
  imsync attributes --json | jq .missing

Exit codes:
  0  The slots are shown, also when names are missing.
  1  IM refused, or could not be reached.
  2  The usage or the configuration is wrong. Nothing was touched.

JSON keys:
  slots    The ten slots, one object each: slot, name or null, mapped
  missing  The names of the mapping that the app does not know";

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
  imsync history --since 2026-11-28T12:00:00Z --json | jq -r .account

Exit codes:
  0  The history was read, also when it is empty.
  1  The state database could not be read.

JSON keys of each line:
  at               When the outcome was recorded
  account          The IM account
  attribute        The name of the attribute
  old              What IM acknowledged before, or null
  new              What was sent; null for a removal
  pass             incremental, full or selected
  pass_started_at  When the pass began
  outcome          acknowledged, rejected or in_doubt";

pub(super) const FORGET: &str = "\
Examples:
  imsync forget u42             After the row of u42 was deleted

Exit codes:
  0  No trace is left.
  1  The table has a row for the account, another imsync holds the lease, or IM
     may still hold a value. Run the command again.";

pub(super) const INIT: &str = "\
Examples:
  imsync init postgres://localhost/app         List the candidates
  imsync init postgres://localhost/app users   Write ./imsync.toml
  imsync init users                            With the URL of IMSYNC_SOURCE_URL
  imsync init users --attributes city,sex=gender

Exit codes:
  0  The file is written, and nothing that check examined is wrong. Lines that
     end with \"# <-\" may be left to fill in.
  1  The database, the table or IM prevented it, or check found an error.
  2  The usage is wrong, or the file exists. Nothing was touched.";

pub(super) const MIGRATE: &str = "\
Examples:
  imsync migrate                Create or upgrade the state tables
  imsync migrate --print        Print the SQL that is missing; change nothing
  imsync migrate --rebind       Bind this sync to another app

Exit codes:
  0  The state tables are up to date, or the SQL is printed.
  1  The state database prevented it, or there is nothing to rebind.
  2  The usage or the configuration is wrong. Nothing was touched.";

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
  curl http://127.0.0.1:8089/_simulator/users

Exit codes:
  0  It was stopped.
  1  It cannot listen at the address.
  2  The usage is wrong.";

pub(super) const DEMO: &str = "\
Examples:
  imsync demo
  imsync demo --users 100000 --seconds 60

Exit codes:
  0  Table and IM are equal at the end.
  1  They differ, or the demo could not run.
  2  The usage is wrong.";
