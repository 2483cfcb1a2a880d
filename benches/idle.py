"""Measures a daemon that finds nothing to do; `make bench-idle` runs it.

Owns: the daemon's life and what is counted in a minute. Must not know: how a server is started, how a table is written.

Environment: ROWS (1000000), IDLE_SECONDS (60), INTERVAL (1s, of the polls), IMSYNC (the binary), WRITE (0 only prints).
"""

import atexit
import datetime
import os
import pathlib
import re
import subprocess
import sys
import time

from contestants import ATTRIBUTES, Imsync, copy_database, default_binary, fill
from harness import TICKS, Cluster, Sink, machine, measure, stat
from report import write_section

ROWS = int(os.environ.get("ROWS", 1_000_000))
SECONDS = int(os.environ.get("IDLE_SECONDS", 60))
INTERVAL = os.environ.get("INTERVAL", "1s")
DATABASE = "idle"
# The statements of the daemon only. A savepoint or a commit is a statement too.
STATEMENTS = """
SELECT coalesce(sum(calls), 0)::float8, coalesce(sum(total_exec_time + total_plan_time), 0)::float8
FROM pg_stat_statements WHERE dbid = (SELECT oid FROM pg_database WHERE datname = 'idle')
"""
COUNTS = """
SELECT (SELECT sum(heap_blks_read + heap_blks_hit) FROM pg_statio_user_tables WHERE relname = 'users')::float8,
    (SELECT sum(n_tup_ins + n_tup_upd + n_tup_del) FROM pg_stat_user_tables WHERE schemaname = 'imsync')::float8
"""


def row(cluster, statement, database):
    with cluster.connect(database) as connection:
        return connection.execute(statement).fetchone()


def cpu(pid):
    return sum(stat(pid)[11:13]) / TICKS


def resident(pid):
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return [int(re.search(rf"{name}:\s+(\d+)", text)[1]) / 1024 for name in ("VmRSS", "VmHWM")]


def watch(cluster, process):
    """What the daemon and the server do in the time. The statistics of the server arrive a second late at most, so both
    readings wait for them."""
    before = row(cluster, COUNTS, DATABASE)
    cluster.execute("SELECT pg_stat_statements_reset()")
    own, server, began = cpu(process.pid), cluster.cpu(), time.monotonic()
    time.sleep(SECONDS)
    spent, own, server = time.monotonic() - began, cpu(process.pid) - own, cluster.cpu() - server
    calls, milliseconds = row(cluster, STATEMENTS, "postgres")
    show_statements(cluster)
    time.sleep(2)
    pages, writes = (after - first for after, first in zip(row(cluster, COUNTS, DATABASE), before))
    current, peak = resident(process.pid)
    return {"own": own / spent, "server": server / spent, "rss": current, "peak": peak, "calls": calls / spent,
            "milliseconds": milliseconds / spent, "pages": pages, "writes": writes * 60 / spent}


def show_statements(cluster):
    with cluster.connect("postgres") as connection:
        found = connection.execute(
            "SELECT calls, total_exec_time, regexp_replace(query, '\\s+', ' ', 'g') FROM pg_stat_statements "
            "WHERE dbid = (SELECT oid FROM pg_database WHERE datname = 'idle') ORDER BY calls DESC LIMIT 25").fetchall()
    for calls, spent, query in found:
        print(f"{calls:6} {spent:8.1f} ms  {query[:150]}", file=sys.stderr)


def main():
    cluster = Cluster({"shared_preload_libraries": "pg_stat_statements", "pg_stat_statements.track_planning": "on"})
    cluster.execute("CREATE EXTENSION pg_stat_statements")
    sink = Sink("--names", ",".join(ATTRIBUTES))
    imsync = Imsync("imsync", default_binary(), sink.base_url)
    copy_database(cluster, fill(cluster, ROWS), DATABASE)
    imsync.prepare(cluster.url(DATABASE))
    imsync.config.write_text(imsync.config.read_text().replace("[schedule]", f'[schedule]\ninterval = "{INTERVAL}"'))
    first = measure(imsync.command("full"), imsync.log)
    if first.code != 0:
        raise SystemExit(imsync.log.read_text()[-2000:])
    cluster.execute("VACUUM ANALYZE", DATABASE)
    with open(imsync.log, "wb") as log:
        process = subprocess.Popen([imsync.binary, "-c", imsync.config, "run"], stdout=log, stderr=log)
    atexit.register(process.kill)
    # The first passes read the rows of the grace again, and the allocator settles.
    time.sleep(15)
    found = watch(cluster, process)
    process.terminate()
    process.wait()
    text = (f"An idle daemon, {ROWS:,} users, `interval = \"{INTERVAL}\"`, {SECONDS} s, `make bench-idle`, "
            f"{datetime.date.today()}, {machine()}.\n\n| figure | |\n|---|---:|\n"
            f"| share of a core | {found['own']:.2%} |\n| of the server | {found['server']:.2%} |\n"
            f"| RSS / peak, MiB | {found['rss']:.0f} / {found['peak']:.0f} |\n"
            f"| statements a second | {found['calls']:.1f} |\n"
            f"| time of the database a second, planning included, ms | {found['milliseconds']:.2f} |\n"
            f"| pages of the table touched | {found['pages']:.0f} |\n"
            f"| rows of the state written a minute | {found['writes']:.1f} |")
    print(text)
    if os.environ.get("WRITE") != "0":
        write_section("idle", text)


if __name__ == "__main__":
    main()
