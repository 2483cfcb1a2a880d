"""Measures a daemon that finds nothing to do; `make bench-idle` runs it.

Owns: the daemon's life and what is counted in a minute. Must not know: how a server is started, how a table is written.

Environment: ROWS (1000000), IDLE_SECONDS (60), INTERVALS (1s,100ms, of the polls), IMSYNC (the binary), WRITE (0 only prints).

On some virtual machines, what a process does after a second of sleep costs many times what it costs a moment later. So a
process that only wakes up once a second for four `SELECT 1` is measured too, and the least time that the database took for
each statement of a poll.
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
INTERVALS = os.environ.get("INTERVALS", "1s,100ms").split(",")
DATABASE = "idle"
# The statements of the daemon only. A savepoint or a commit is a statement too.
STATEMENTS = """
SELECT coalesce(sum(calls), 0)::float8, coalesce(sum(total_exec_time + total_plan_time), 0)::float8,
    coalesce(sum(min_exec_time) FILTER (WHERE calls > 5 AND query NOT LIKE '%advisory%'), 0)::float8
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
    calls, milliseconds, least = row(cluster, STATEMENTS, "postgres")
    show_statements(cluster)
    time.sleep(2)
    pages, writes = (after - first for after, first in zip(row(cluster, COUNTS, DATABASE), before))
    current, peak = resident(process.pid)
    return {"own": own / spent, "server": server / spent, "rss": current, "peak": peak, "calls": calls / spent,
            "milliseconds": milliseconds / spent, "least": least, "pages": pages, "writes": writes * 60 / spent}


def show_statements(cluster):
    with cluster.connect("postgres") as connection:
        found = connection.execute(
            "SELECT calls, total_exec_time, regexp_replace(query, '\\s+', ' ', 'g') FROM pg_stat_statements "
            "WHERE dbid = (SELECT oid FROM pg_database WHERE datname = 'idle') ORDER BY calls DESC LIMIT 25").fetchall()
    for calls, spent, query in found:
        print(f"{calls:6} {spent:8.1f} ms  {query[:150]}", file=sys.stderr)


WAKE = """
import sys, time, psycopg
with psycopg.connect(sys.argv[1], autocommit=True, prepare_threshold=0) as connection:
    while True:
        for _ in range(4):
            connection.execute("SELECT 1")
        time.sleep(1)
"""


def watch_daemon(cluster, imsync, interval):
    settings = re.sub(r"\ninterval = .*", "", imsync.config.read_text())
    imsync.config.write_text(settings.replace("[schedule]", f'[schedule]\ninterval = "{interval}"'))
    return watch_process(cluster, [imsync.binary, "-c", imsync.config, "run"], imsync.log)


def watch_process(cluster, command, log):
    with open(log, "wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    atexit.register(process.kill)
    # The first passes read the rows of the grace again, and the allocator settles.
    time.sleep(15)
    found = watch(cluster, process)
    process.terminate()
    process.wait()
    return found


def line(title, form, found, name):
    return f"| {title} | " + " | ".join(form.format(one[name]) for one in found) + " |"


def main():
    cluster = Cluster({"shared_preload_libraries": "pg_stat_statements", "pg_stat_statements.track_planning": "on"})
    cluster.execute("CREATE EXTENSION pg_stat_statements")
    sink = Sink("--names", ",".join(ATTRIBUTES))
    imsync = Imsync("imsync", default_binary(), sink.base_url)
    copy_database(cluster, fill(cluster, ROWS), DATABASE)
    imsync.prepare(cluster.url(DATABASE))
    first = measure(imsync.command("full"), imsync.log)
    if first.code != 0:
        raise SystemExit(imsync.log.read_text()[-2000:])
    cluster.execute("VACUUM ANALYZE", DATABASE)
    found = [watch_daemon(cluster, imsync, interval) for interval in INTERVALS]
    found.append(watch_process(cluster, [sys.executable, "-c", WAKE, cluster.url(DATABASE)], imsync.log))
    columns = [f'`interval = "{interval}"`' for interval in INTERVALS] + ["four `SELECT 1` a second"]
    text = "\n".join([
        f"An idle daemon, {ROWS:,} users, {SECONDS} s each, `make bench-idle`, {datetime.date.today()}, {machine()}.", "",
        "| figure | " + " | ".join(columns) + " |",
        "|---|" + "---:|" * len(columns),
        line("share of a core", "{:.2%}", found, "own"),
        line("of the server", "{:.2%}", found, "server"),
        line("RSS, MiB", "{:.0f}", found, "rss"),
        line("statements a second", "{:.1f}", found, "calls"),
        line("time of the database a second, planning included, ms", "{:.2f}", found, "milliseconds"),
        line("least time of the statements of a poll together, ms", "{:.2f}", found, "least"),
        line("pages of the table touched", "{:.0f}", found, "pages"),
        line("rows of the state written a minute", "{:.1f}", found, "writes"),
    ])
    print(text)
    if os.environ.get("WRITE") != "0":
        write_section("idle", text)


if __name__ == "__main__":
    main()
