//! Mistakes with the state tables: privileges, versions, and what they are bound to.

use super::case::{Mistake, Topic};

pub(super) const TOPIC: Topic = Topic {
    file: "state.md",
    title: "The state tables",
    intro: "imsync stores its progress in a few tables of the schema `imsync`. They are bound to one table and one app by the \
`name` of the sync.",
    mistakes: &[
        Mistake::new("The schema cannot be created", "The role may read the table, and create nothing.", "check")
            .keys(&[("state", "url", "\"postgres://<guest>:<password>@<server>/<database>\"")]),
        Mistake::new("A backfill that cannot create the schema", "`check` was not run.", "backfill").keys(&[(
            "state",
            "url",
            "\"postgres://<guest>:<password>@<server>/<database>\"",
        )]),
        Mistake::new("A migration without privileges", "The role may create nothing.", "migrate").keys(&[(
            "state",
            "url",
            "\"postgres://<guest>:<password>@<server>/<database>\"",
        )]),
        Mistake::new("The state tables cannot be written", "The tables belong to another role.", "check")
            .after(&["migrate"])
            .sql("GRANT USAGE ON SCHEMA imsync TO <guest>;\nGRANT SELECT ON ALL TABLES IN SCHEMA imsync TO <guest>;")
            .keys(&[("state", "url", "\"postgres://<guest>:<password>@<server>/<database>\"")]),
        Mistake::new("The state database is unreachable", "The server does not run, or listens elsewhere.", "check")
            .keys(&[("state", "url", "\"postgres://app@<unused>/imsync\"")]),
        Mistake::new(
            "A listing without the state database",
            "The server does not run, or listens elsewhere.",
            "status",
        )
        .keys(&[("state", "url", "\"postgres://app@<unused>/imsync\"")]),
        Mistake::new("The state tables are of a newer release", "An old program is started again.", "check")
            .after(&["migrate"])
            .sql("INSERT INTO imsync.migration (version, name) VALUES (1000, 'later');"),
        Mistake::new(
            "The state tables are missing, and may not be created",
            "`imsync migrate` was not run.",
            "run --once",
        )
        .own_database()
        .keys(&[("state", "migrate", "false")]),
        Mistake::new(
            "Two syncs with one name",
            "The configuration was copied for another table, and the name was not changed.",
            "check",
        )
        .after(&["backfill -q"])
        .sql(
            "CREATE TABLE public.people AS TABLE users;
ALTER TABLE public.people ADD PRIMARY KEY (id), ALTER updated_at SET NOT NULL;
CREATE INDEX ON public.people (updated_at, id);",
        )
        .keys(&[("source", "table", "\"public.people\"")]),
        Mistake::new(
            "Another app under the same name",
            "The configuration of the test app was changed to the real one.",
            "preview",
        )
        .after(&["backfill -q"])
        .keys(&[("im", "sdk_app_id", "1400000999")]),
        Mistake::new(
            "Two syncs that write the same attribute",
            "The second one has a name of its own, and the same app and attributes.",
            "check",
        )
        .after(&["backfill -q"])
        .keys(&[("", "name", "\"other-users\"")]),
        Mistake::new("Nothing to rebind", "The sync is bound to this app already.", "migrate --rebind")
            .after(&["backfill -q"]),
    ],
};
