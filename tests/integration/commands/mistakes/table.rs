//! Mistakes with the table: its name, columns, types, privileges, keys and filter.

use super::case::{Mistake, Topic};

pub(super) const TOPIC: Topic = Topic {
    file: "table.md",
    title: "The table and its columns",
    intro: "A remedy that begins with `run:` is SQL for the owner of the table, ready to be pasted into psql.",
    mistakes: &[
        Mistake::new("The table does not exist", "The name has a slip.", "check")
            .keys(&[("source", "table", "\"public.user\"")])
            .own_database(),
        Mistake::new("The table is in another schema", "The schema is `crm`.", "check")
            .keys(&[("source", "table", "\"customers\"")])
            .own_database()
            .sql("CREATE SCHEMA crm;\nALTER TABLE users SET SCHEMA crm;\nALTER TABLE crm.users RENAME TO customers;"),
        Mistake::new("The table is in another database", "The database of the URL is empty.", "check")
            .own_database()
            .sql("DROP TABLE users;"),
        Mistake::new("A table name with capital letters", "SQL folds a name without quotes to lower case.", "check")
            .keys(&[("source", "table", "\"Members\"")])
            .own_database()
            .sql("ALTER TABLE users RENAME TO \"Members\";"),
        Mistake::new("A column that does not exist", "The column of an attribute has a slip.", "check")
            .keys(&[("attributes", "city", "\"town\"")]),
        Mistake::new("A column name with capital letters", "An ORM has created the column as `\"homeCity\"`.", "check")
            .keys(&[("source", "table", "\"people\""), ("attributes", "city", "\"homecity\"")])
            .sql(
                "CREATE TABLE people (id text PRIMARY KEY, \"homeCity\" text, plan text, updated_at timestamptz NOT NULL);
CREATE INDEX ON people (updated_at, id);",
            ),
        Mistake::new("An account column that does not exist", "The column is `id`.", "check")
            .keys(&[("source", "account_column", "\"user_id\"")]),
        Mistake::new("No privilege on the table", "The role may log in, and no more.", "check")
            .keys(&[("source", "url", "\"postgres://<reader>:<password>@<server>/<database>\"")]),
        Mistake::new("No privilege on one column", "The column was added after the GRANT.", "check")
            .keys(&[
                ("source", "url", "\"postgres://<reader>:<password>@<server>/<database>\""),
                ("source", "table", "\"clients\""),
            ])
            .sql(
                "CREATE TABLE clients (id text PRIMARY KEY, city text, plan text, updated_at timestamptz NOT NULL);
CREATE INDEX ON clients (updated_at, id);
GRANT SELECT (id, city, updated_at) ON clients TO <reader>;",
            ),
        Mistake::new("No privilege on the schema", "The role may read the table, and not use its schema.", "check")
            .keys(&[
                ("source", "url", "\"postgres://<reader>:<password>@<server>/<database>\""),
                ("source", "table", "\"sales.buyers\""),
            ])
            .sql(
                "CREATE SCHEMA sales;
CREATE TABLE sales.buyers (id text PRIMARY KEY, city text, plan text, updated_at timestamptz NOT NULL);
CREATE INDEX ON sales.buyers (updated_at, id);
GRANT SELECT ON sales.buyers TO <reader>;",
            ),
        Mistake::new("Row-level security hides rows", "A policy shows the role nothing.", "check")
            .keys(&[
                ("source", "url", "\"postgres://<reader>:<password>@<server>/<database>\""),
                ("source", "table", "\"tenants\""),
            ])
            .sql(
                "CREATE TABLE tenants (id text PRIMARY KEY, city text, plan text, updated_at timestamptz NOT NULL);
CREATE INDEX ON tenants (updated_at, id);
ALTER TABLE tenants ENABLE ROW LEVEL SECURITY;
GRANT SELECT ON tenants TO <reader>;",
            ),
        Mistake::new("The account column is not unique", "The table has a row for each device of a user.", "check")
            .keys(&[("source", "table", "\"devices\"")])
            .sql(
                "CREATE TABLE devices (id text NOT NULL, city text, plan text, updated_at timestamptz NOT NULL);
CREATE INDEX ON devices (updated_at, id);
INSERT INTO devices SELECT 'u1', city, plan, updated_at FROM users LIMIT 2;",
            ),
        Mistake::new("A view whose accounts are not unique", "The join multiplies rows.", "check")
            .keys(&[("source", "table", "\"orders_of_users\"")])
            .sql("CREATE VIEW orders_of_users AS SELECT u.* FROM users AS u, generate_series(1, 2);"),
        Mistake::new("Rows without an account", "The column may be NULL.", "check")
            .keys(&[("source", "table", "\"visitors\"")])
            .sql(
                "CREATE TABLE visitors (id text UNIQUE, city text, plan text, updated_at timestamptz NOT NULL);
CREATE INDEX ON visitors (updated_at, id);
INSERT INTO visitors VALUES (NULL, 'Oslo', 'free', now());",
            ),
        Mistake::new("Accounts that are too long for IM", "The accounts are e-mail addresses.", "check")
            .keys(&[("source", "table", "\"contacts\"")])
            .sql(
                "CREATE TABLE contacts (id text PRIMARY KEY, city text, plan text, updated_at timestamptz NOT NULL);
CREATE INDEX ON contacts (updated_at, id);
INSERT INTO contacts VALUES ('someone.with.a.long.name@example.com', 'Oslo', 'free', now());",
            ),
        Mistake::new("An account column of a type that is not allowed", "The table is keyed by a number with decimals.", "check")
            .keys(&[("source", "table", "\"parties\"")])
            .sql(
                "CREATE TABLE parties (id numeric PRIMARY KEY, city text, plan text, updated_at timestamptz NOT NULL);
CREATE INDEX ON parties (updated_at, id);",
            ),
        Mistake::new("A uuid is too long for IM", "A uuid with its hyphens has 36 bytes, and IM accepts 32.", "check")
            .keys(&[("source", "table", "\"accounts\"")])
            .sql(
                "CREATE TABLE accounts (id uuid PRIMARY KEY, city text, plan text, updated_at timestamptz NOT NULL);
CREATE INDEX ON accounts (updated_at, id);",
            ),
        Mistake::new("A filter with a syntax error", "A quote is missing.", "check")
            .keys(&[("source", "filter", "\"plan = 'pro\"")]),
        Mistake::new("A filter that compares different types", "`id` is a text.", "check")
            .keys(&[("source", "filter", "\"id > 7\"")]),
        Mistake::new("A filter with an aggregate", "A condition is about one row.", "check")
            .keys(&[("source", "filter", "\"count(*) > 1\"")]),
        Mistake::new("A filter that names a column that does not exist", "The column is `plan`.", "check")
            .keys(&[("source", "filter", "\"tariff = 'pro'\"")]),
        Mistake::new("A filter with a parameter", "The condition was copied from a program.", "check")
            .keys(&[("source", "filter", "\"plan = $1\"")]),
        Mistake::new("A filter that excludes everybody", "The value is `pro`, in lower case.", "check")
            .keys(&[("source", "filter", "\"plan = 'PRO'\"")]),
    ],
};
