//! Mistakes with the column from which imsync learns which rows have changed.

use super::case::{Mistake, Topic};

pub(super) const TOPIC: Topic = Topic {
    file: "watermark.md",
    title: "The watermark column",
    intro: "The column has to move with every change of a row. imsync refuses what cannot work, and warns about what hides changes.",
    mistakes: &[
        Mistake::new("A watermark column that does not exist", "The column is `updated_at`.", "check").keys(&[(
            "source",
            "watermark_column",
            "\"modified_at\"",
        )]),
        Mistake::new("A date", "All changes of a day have the same date.", "check")
            .keys(&[("source", "table", "\"guests\"")])
            .sql("CREATE TABLE guests (id text PRIMARY KEY, city text, plan text, updated_at date NOT NULL);"),
        Mistake::new("A time as text", "The times are in a column of texts.", "check")
            .keys(&[("source", "table", "\"players\"")])
            .sql("CREATE TABLE players (id text PRIMARY KEY, city text, plan text, updated_at text NOT NULL);"),
        Mistake::new("The account column", "Accounts never change.", "check --offline").keys(&[(
            "source",
            "watermark_column",
            "\"id\"",
        )]),
        Mistake::new("No watermark column", "The key was left out.", "check").keys(&[(
            "source",
            "watermark_column",
            "",
        )]),
        Mistake::new("No index", "The table has an index over the account only.", "check")
            .keys(&[("source", "table", "\"readers\"")])
            .sql("CREATE TABLE readers (id text PRIMARY KEY, city text, plan text, updated_at timestamptz NOT NULL);"),
        Mistake::new("A time zone that does not exist", "The name has a slip.", "check")
            .keys(&[("source", "table", "\"pilots\""), ("source", "watermark_timezone", "\"Europe/Berlinn\"")])
            .sql(
                "CREATE TABLE pilots (id text PRIMARY KEY, city text, plan text, updated_at timestamp NOT NULL);
CREATE INDEX ON pilots (updated_at, id);",
            ),
        Mistake::new("The clock of the writers is off by a day", "The newest stamp is in the future.", "check")
            .keys(&[("source", "table", "\"sailors\"")])
            .sql(
                "CREATE TABLE sailors (id text PRIMARY KEY, city text, plan text, updated_at timestamptz NOT NULL);
CREATE INDEX ON sailors (updated_at, id);
INSERT INTO sailors VALUES ('u1', 'Oslo', 'free', now() + interval '25 hours 1 minute');",
            ),
        Mistake::new("Stamps that may be NULL", "Old rows have no stamp.", "check")
            .keys(&[("source", "table", "\"drivers\"")])
            .sql(
                "CREATE TABLE drivers (id text PRIMARY KEY, city text, plan text, updated_at timestamptz);
CREATE INDEX ON drivers (updated_at, id);
INSERT INTO drivers VALUES ('u1', 'Oslo', 'free', NULL);",
            ),
        Mistake::new("A materialized view", "A refresh shows rows long after they were stamped.", "check")
            .keys(&[("source", "table", "\"refreshed_users\"")])
            .sql("CREATE MATERIALIZED VIEW refreshed_users AS SELECT * FROM users;"),
        Mistake::new("A trigger that is disabled", "Updates do not move the stamp any more.", "check")
            .keys(&[("source", "table", "\"nurses\"")])
            .sql(
                "CREATE TABLE nurses (id text PRIMARY KEY, city text, plan text, updated_at timestamptz NOT NULL);
CREATE INDEX ON nurses (updated_at, id);
CREATE FUNCTION stamp_nurse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN NEW.updated_at := now(); RETURN NEW; END $$;
CREATE TRIGGER stamp BEFORE UPDATE ON nurses FOR EACH ROW EXECUTE FUNCTION stamp_nurse();
ALTER TABLE nurses DISABLE TRIGGER stamp;",
            ),
    ],
};
