//! Mistakes in the URL of the database and in its server.

use super::case::{Mistake, Topic};

pub(super) const TOPIC: Topic = Topic {
    file: "connection.md",
    title: "The connection to PostgreSQL",
    intro: "`source.url` is what psql takes. Without a `[state] url` the state tables are in the same database, so most of these \
mistakes are reported for both.",
    mistakes: &[
        Mistake::new(
            "The URL of another database system",
            "The users are in MySQL, which imsync does not read.",
            "check --offline",
        )
        .keys(&[("source", "url", "\"mysql://localhost/app\"")]),
        Mistake::new("The URL of a web page", "The address of the provider's console was copied.", "check --offline")
            .keys(&[("source", "url", "\"https://console.example.com/databases/app\"")]),
        Mistake::new("A password with special characters", "The password is `p@ss/word`.", "check --offline")
            .keys(&[("source", "url", "\"postgres://app:p@ss/word@localhost/app\"")]),
        Mistake::new("A parameter with a slip", "The parameter is `sslmode`.", "check --offline").keys(&[(
            "source",
            "url",
            "\"postgres://localhost/app?ssl_mode=require\"",
        )]),
        Mistake::new("A host that does not exist", "A hyphen was pasted before the host name.", "check").keys(&[(
            "source",
            "url",
            "\"postgres://app@-db.example.com/app\"",
        )]),
        Mistake::new("A port where nothing listens", "The server does not run, or listens elsewhere.", "check")
            .keys(&[("source", "url", "\"postgres://app@<unused>/app\"")]),
        Mistake::new("A port where something else listens", "The port is the one of a web server.", "check").keys(&[(
            "source",
            "url",
            "\"postgres://app@<im>/app\"",
        )]),
        Mistake::new(
            "TLS is required, and the server has none",
            "The URL demands what the server does not offer.",
            "check",
        )
        .keys(&[("source", "url", "\"postgres://<reader>:<password>@<server>/<database>?sslmode=require\"")]),
        Mistake::new("The password is wrong", "The password of another server was copied.", "check").keys(&[(
            "source",
            "url",
            "\"postgres://<reader>:another@<server>/<database>\"",
        )]),
        Mistake::new("The password is missing", "The server asks for one.", "check").keys(&[(
            "source",
            "url",
            "\"postgres://<reader>@<server>/<database>\"",
        )]),
        Mistake::new("The role may not log in", "The role is a group.", "check").keys(&[(
            "source",
            "url",
            "\"postgres://<group>:<password>@<server>/<database>\"",
        )]),
        Mistake::new("The database does not exist", "The name of the database has a slip.", "check").keys(&[(
            "source",
            "url",
            "\"postgres://<reader>:<password>@<server>/apps\"",
        )]),
        Mistake::new(
            "A connection pooler in transaction mode",
            "The URL leads to PgBouncer with `pool_mode = transaction`.",
            "check",
        )
        .keys(&[("source", "url", "\"postgres://<reader>:<password>@<pooler>/<database>?sslmode=disable\"")]),
    ],
};
