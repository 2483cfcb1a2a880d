"""Who takes part in a benchmark, and the table that they keep equal to IM.

Owns: the users, the configuration of imsync, and the command line of each contestant for each kind of pass. Must not
know: how costs are measured, and how results are shown.
"""

import os
import pathlib
import subprocess
import sys
import tempfile

from harness import ROOT, TARGET

ATTRIBUTES = ["name", "city", "plan", "language", "level", "member_since"]
# Six columns are mapped, one of them an integer and one a date; the e-mail address is not.
TABLE = """
CREATE TABLE users (id text PRIMARY KEY, name text NOT NULL, city text, plan text, language text, level int,
    member_since date, email text, updated_at timestamptz NOT NULL DEFAULT now());
INSERT INTO users SELECT 'u' || lpad(n::text, 9, '0'),
    (array['Ana','Wei','Omar','Ines','Yuki','Luiza','Noor','Jan'])[1 + n % 8] || ' ' || substr(md5(n::text), 1, 7),
    (array['Lima','Oslo','Kyoto','Quito','São Paulo','大阪','Nairobi','Gdańsk','Toronto'])[1 + n % 9],
    (array['free','plus','team'])[1 + n % 3], (array['es','no','ja','pt','en'])[1 + n % 5], n % 97,
    date '2015-01-01' + n % 3650, 'user' || n || '@example.com', timestamptz '2025-01-01 UTC' + n * interval '1 second'
    FROM generate_series(1, {rows}) n;
CREATE INDEX ON users (updated_at, id);
"""
CONFIG = """
name = "bench"
[source]
url = "{url}"
table = "public.users"
account_column = "id"
watermark_column = "updated_at"
page_size = {page_size}
[im]
base_url = "{base_url}"
sdk_app_id = 1400000000
identifier = "administrator"
secret_key_file = "secret_key"
calls_per_second = {rate}
[schedule]
full_every = "never"
[attributes]
{attributes}
"""
KEY = "simulator-secret-key"


def fill(cluster, rows):
    """Makes the table once, in a database that serves as the template of all others. Returns its name."""
    name = f"users_{rows}"
    if not cluster.value(f"SELECT 1 FROM pg_database WHERE datname = '{name}'"):
        cluster.execute(f"CREATE DATABASE {name}")
        for statement in TABLE.format(rows=rows).strip().rstrip(";").split(";"):
            cluster.execute(statement, name)
        cluster.execute("VACUUM (FREEZE, ANALYZE) users", name)
    return name


def copy_database(cluster, template, name):
    """A database of its own for each contestant, with the table in the cache of the system."""
    cluster.execute(f"DROP DATABASE IF EXISTS {name}")
    strategy = "STRATEGY = FILE_COPY" if int(cluster.version.split(".")[0]) >= 15 else ""
    cluster.execute(f"CREATE DATABASE {name} TEMPLATE {template} {strategy}")
    cluster.value("SELECT count(*) FROM users WHERE email <> ''", name)


def change(cluster, database, rows, number, salt, moves_stamp=True):
    """Changes a column of `number` users spread over the table."""
    stamp = ", updated_at = now()" if moves_stamp else ""
    step = rows // number
    cluster.execute(
        f"UPDATE users SET city = 'City {salt}'{stamp} WHERE id IN (SELECT 'u' || lpad(n::text, 9, '0') "
        f"FROM generate_series(1 + {salt} % {step}, {rows}, {step}) n LIMIT {number})", database)


class Imsync:
    """A binary of imsync."""

    account_table = "imsync.account"

    def __init__(self, label, binary, base_url, rate=100_000, page_size=5000):
        self.label, self.binary, self.base_url, self.rate, self.page_size = label, binary, base_url, rate, page_size
        self.folder = tempfile.TemporaryDirectory(prefix="imsync-bench-config-")
        self.config = pathlib.Path(self.folder.name, "imsync.toml")
        self.log = TARGET / f"bench/{label}.log"

    def prepare(self, url):
        key = self.config.with_name("secret_key")
        key.write_text(KEY)
        key.chmod(0o600)
        attributes = "\n".join(f'{name} = "{name}"' for name in ATTRIBUTES)
        self.config.write_text(CONFIG.format(url=url, page_size=self.page_size, base_url=self.base_url, rate=self.rate,
                                             attributes=attributes))
        self.config.chmod(0o600)
        subprocess.run([self.binary, "-q", "-c", self.config, "migrate"], check=True, stdout=subprocess.DEVNULL)

    def command(self, kind):
        arguments = {"full": ["backfill"], "force": ["backfill", "--force"], "incremental": ["run", "--once"]}[kind]
        return [self.binary, "-c", self.config, *arguments, "--json"]


class Peer:
    """The careful script."""

    label, account_table = "script", "peer_state"

    def __init__(self, base_url, rate=100_000):
        self.base_url, self.rate = base_url, rate
        self.log = TARGET / "bench/peer.log"

    def prepare(self, url):
        self.url = url

    def command(self, kind):
        arguments = {"full": ["--full"], "force": ["--force"], "incremental": []}[kind]
        return [sys.executable, ROOT / "benches/peer/sync.py", "--url", self.url, "--base-url", self.base_url, "--rate",
                self.rate, *arguments]


class CopyOut:
    """`COPY` of the columns that a sync needs, to nowhere: the floor of reading."""

    label = "COPY"

    def prepare(self, url):
        self.url = url

    def command(self, kind):
        columns = ", ".join(["id", *ATTRIBUTES, "updated_at"])
        statement = f"COPY (SELECT {columns} FROM users ORDER BY id) TO STDOUT"
        script = ("import psycopg, sys\n"
                  "with psycopg.connect(sys.argv[1]) as connection:\n"
                  f"    with connection.cursor().copy('{statement}') as copy:\n"
                  "        for _ in copy: pass\n")
        return [sys.executable, "-c", script, self.url]


def default_binary():
    """The release build, or the binary that the environment names."""
    return os.environ.get("IMSYNC", str(TARGET / "release/imsync"))
