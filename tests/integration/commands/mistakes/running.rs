//! Mistakes in daily use: ports, leases, accounts that nobody knows, the removal guard.

use super::case::{Mistake, Topic};

pub(super) const TOPIC: Topic = Topic {
    file: "running.md",
    title: "Running imsync",
    intro: "The configuration is right here. These are mistakes in daily use.",
    mistakes: &[
        Mistake::new("The port of the daemon is taken", "Another program listens at `http.listen`.", "run")
            .keys(&[("http", "listen", "\"<taken>\"")])
            .until("cannot listen on"),
        Mistake::new("The port of the simulator is taken", "A simulator runs already.", "simulate --listen <taken>")
            .without_configuration(),
        Mistake::new("A pass beside a daemon", "Only the holder of the lease sends.", "run --once").beside_daemon(),
        Mistake::new("A backfill beside a daemon", "Only the holder of the lease sends.", "backfill").beside_daemon(),
        Mistake::new("The table was emptied", "Somebody deleted all rows, and the full pass finds nobody.", "backfill")
            .after(&["backfill -q"])
            .sql("DELETE FROM users;"),
        Mistake::new("An account that nobody knows", "The ID has a slip.", "explain u99"),
        Mistake::new("A preview of an account that nobody knows", "The ID has a slip.", "preview --account u99"),
        Mistake::new("A backfill of an account that nobody knows", "The ID has a slip.", "backfill --account u99")
            .own_database(),
        Mistake::new("A retry of an account without a rejection", "The ID has a slip.", "rejected retry --account u99")
            .after(&["backfill -q"]),
        Mistake::new("Forgetting an account that has a row", "The row was not deleted yet.", "forget u1")
            .after(&["backfill -q"]),
        Mistake::new("Forgetting an account that nobody knows", "The ID has a slip.", "forget u99")
            .after(&["backfill -q"]),
        Mistake::new(
            "A pass with values that cannot be sent",
            "`values` does not list the plan of most users.",
            "run --once",
        )
        .own_database()
        .keys(&[
            ("attributes", "plan", ""),
            ("attributes.plan", "column", "\"plan\""),
            ("attributes.plan", "values", "{ pro = \"yes\" }"),
        ]),
    ],
};
