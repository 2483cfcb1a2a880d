//! Mistakes on the command line, and in the choice of the configuration file.

use super::case::{Mistake, Topic};

pub(super) const TOPIC: Topic = Topic {
    file: "command-line.md",
    title: "The command line and the configuration file",
    intro: "Nothing is read or touched before the arguments are right, and no database is asked before the configuration is.",
    mistakes: &[
        Mistake::new("A command that does not exist", "A letter is missing.", "backfil"),
        Mistake::new("A flag that does not exist", "The flag is `--dry-run`.", "backfill --dryrun"),
        Mistake::new(
            "A flag of another mode",
            "The daemon prints no report, so `--json` belongs to `run --once`.",
            "run --json",
        ),
        Mistake::new("An argument is missing", "`explain` needs the account.", "explain"),
        Mistake::new("A number that is none", "The limit is written in words.", "preview --limit many"),
        Mistake::new("No configuration at all", "The command runs in a folder without `imsync.toml`.", "check")
            .without_configuration(),
        Mistake::new("-c names a file that does not exist", "The path has a slip.", "check -c nowhere.toml"),
        Mistake::new(
            "IMSYNC_CONFIG names a file that does not exist",
            "The variable is left over from another machine.",
            "check",
        )
        .variables(&[("IMSYNC_CONFIG", "<directory>/old.toml")]),
        Mistake::new("-c names a folder", "The name of the file is missing.", "check -c ."),
        Mistake::new("The file is not TOML", "A closing quote is missing.", "check --offline")
            .tail("[log]\nlevel = \"debug\n"),
        Mistake::new("The file is another program's", "`-c` names a file of YAML.", "check --offline -c app.yaml")
            .files(&[("app.yaml", "database:\n  url: postgres://localhost/app\n")]),
    ],
};
