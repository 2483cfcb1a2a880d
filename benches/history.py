"""Measures what the history costs, and shows the plans of its statements on many rows; `make bench-history` runs it.

Owns: the pairs of runs with and without a history, the generated rows, the plans. Must not know: how a process is measured.

Environment: ROWS (1000000 users), ROUNDS (3), HISTORY_ROWS (10000000, 0 leaves the plans out), IMSYNC (the binary), WRITE (0
only prints). The plans need PostgreSQL's contrib modules.
"""

import datetime
import os
import re
import statistics
import time

from contestants import ATTRIBUTES, Imsync, change, copy_database, default_binary, fill
from harness import Cluster, Sink, machine, measure, measure_with_server
from report import write_section

ROWS = int(os.environ.get("ROWS", 1_000_000))
ROUNDS = int(os.environ.get("ROUNDS", 3))
HISTORY_ROWS = int(os.environ.get("HISTORY_ROWS", 10_000_000))
CHANGED = min(10_000, ROWS)
LIMITED_ROWS = min(200_000, ROWS)
# One day of the history: every account once, one attribute, in records of a thousand accounts, as a delivery writes them.
DAY = """
INSERT INTO imsync.history (at, pass_started_at, sync_id, account, attribute, old_value, new_value, pass_kind, outcome)
SELECT date_trunc('day', now()) - interval '{ago} days' + n / 1000 * interval '1 s', date_trunc('day', now()) - interval '{ago} days',
    1, 'u' || lpad((1 + n::bigint * {stride} % {rows})::text, 9, '0'), 'city', 'City {ago}', 'City {ago} later', 'incremental', 'acknowledged'
FROM generate_series(0, {count}) n
"""
EXPLAIN = """
ALTER DATABASE {name} SET session_preload_libraries = 'auto_explain';
ALTER DATABASE {name} SET auto_explain.log_min_duration = 0;
ALTER DATABASE {name} SET auto_explain.log_analyze = on;
ALTER DATABASE {name} SET auto_explain.log_buffers = on
"""


def with_history(imsync, keep):
    text = re.sub(r"\[history\]\nkeep = .*\n", "", imsync.config.read_text())
    imsync.config.write_text(f'{text}[history]\nkeep = "{keep}"\n')


def measured(cluster, sink, imsync, name, kind, expected):
    run = measure_with_server(cluster, sink, name, imsync.command(kind), imsync.log)
    if run.code != 0 or run.counts["users"] != expected:
        raise SystemExit(f"{name}: exit {run.code}, {run.counts}\n{imsync.log.read_text()[-2000:]}")
    cluster.execute("VACUUM ANALYZE", name)
    return run


def run_round(cluster, sink, contestants, number):
    """Measures both cases of each contestant, on databases of their own that begin empty."""
    found = {}
    for name, imsync, keep in contestants if number % 2 else reversed(contestants):
        copy_database(cluster, fill(cluster, ROWS), name)
        imsync.prepare(cluster.url(name))
        with_history(imsync, keep)
        found[name, "first"] = measured(cluster, sink, imsync, name, "full", ROWS)
        change(cluster, name, ROWS, CHANGED, number)
        found[name, "changed"] = measured(cluster, sink, imsync, name, "incremental", CHANGED)
    return found


def costs(rounds):
    lines = ["| case | figure | without | with | ratio |", "|---|---|---:|---:|---:|"]
    cases = [("first", f"first sync of {ROWS:,}, {ROWS * len(ATTRIBUTES):,} rows"), ("changed", f"{CHANGED:,} changed")]
    for case, title in cases:
        for figure, unit, form in [("wall", "s", "{:.2f}"), ("cpu", "own CPU, s", "{:.2f}"),
                                   ("server_cpu", "PostgreSQL's CPU, s", "{:.2f}"), ("wal", "write-ahead log, MiB", "{:.0f}")]:
            without, kept = (statistics.median(getattr(found[name, case], figure) for found in rounds)
                             for name in ("without", "kept"))
            shown = " | ".join(form.format(value) for value in (without, kept))
            lines.append(f"| {title} | {unit} | {shown} | {kept / without if without else 0:.2f} |")
    return lines


def at_the_limit(cluster, sink):
    """A first sync at the vendor's limit, once with and once without."""
    walls = []
    for name, keep in (("without", "never"), ("kept", "30d")):
        imsync = Imsync(name, default_binary(), sink.base_url, rate=95)
        database = f"limited_{name}"
        copy_database(cluster, fill(cluster, LIMITED_ROWS), database)
        imsync.prepare(cluster.url(database))
        with_history(imsync, keep)
        walls.append(measured(cluster, sink, imsync, database, "full", LIMITED_ROWS))
    without, kept = walls
    return (f"At the vendor's limit, 95 calls a second, a first sync of {LIMITED_ROWS:,} takes {without.wall:.1f} s without and "
            f"{kept.wall:.1f} s with a history; PostgreSQL uses {without.server_cpu / without.wall:.0%} and "
            f"{kept.server_cpu / kept.wall:.0%} of a core.")


def sizes(cluster, name):
    size = lambda relation: cluster.value(f"SELECT pg_relation_size('imsync.{relation}')::float8", name)
    count = cluster.value("SELECT count(*)::float8 FROM imsync.history", name)
    table, of_time, of_account = map(size, ("history", "history_of_time", "history_of_account"))
    return (f"{count:,.0f} rows: {table / count:.0f} bytes a row in the table, {of_time / count:.0f} in the index of times, "
            f"{of_account / count:.0f} in the index of accounts; {(table + of_time + of_account) / 2**30:.2f} GiB together.")


def fill_history(cluster, name):
    """Ten rows for each account and attribute, a day apart, on top of what the passes have written."""
    cluster.execute("TRUNCATE imsync.history", name)
    per_day, days = ROWS, max(1, HISTORY_ROWS // ROWS)
    for ago in range(days, 0, -1):
        cluster.execute(DAY.format(ago=ago, rows=ROWS, count=per_day - 1, stride=7919), name)
    cluster.execute("VACUUM ANALYZE imsync.history", name)
    for statement in EXPLAIN.format(name=name).split(";"):
        cluster.execute(statement)


def plans_since(cluster, position):
    """The plans of statements on the history that the server has logged since then: milliseconds and text."""
    time.sleep(0.5)
    text = (cluster.folder / "log").read_text()[position:]
    for block in text.split("LOG:  duration: ")[1:]:
        lines = block.splitlines()
        body = [line[1:] for line in lines[1:] if line.startswith("\t")]
        if "FROM history" in "\n".join(body):
            begin = next(index for index, line in enumerate(body) if "cost=" in line)
            yield lines[0].split(" ms")[0], "\n".join(body[begin:])


def explained(cluster, imsync, title, arguments, slowest=False):
    position = len((cluster.folder / "log").read_text())
    run = measure([imsync.binary, "-c", imsync.config, *arguments], imsync.log)
    if run.code != 0:
        raise SystemExit(imsync.log.read_text()[-2000:])
    found = list(plans_since(cluster, position))
    milliseconds, plan = max(found, key=lambda one: float(one[0])) if slowest else found[0]
    rows = run.output.count("\n")
    print(f"{title}: {run.wall:.3f} s, {len(found)} statements", flush=True)
    listed = f", {rows:,} rows listed" if arguments[0] == "history" else ""
    return [f"`{title}`: {1000 * run.wall:.0f} ms for the whole process{listed}. Its {'slowest' if slowest else 'first'} statement, "
            f"{float(milliseconds):.1f} ms:", "", "```", plan, "```", ""]


def plans(cluster, imsync, name):
    fill_history(cluster, name)
    account = f"u{ROWS // 2:09}"
    text = [sizes(cluster, name), ""]
    text += explained(cluster, imsync, f"imsync history --account {account} --json", ["history", "--account", account, "--json"])
    day = ["history", "--account", account, "--since", "3d", "--json"]
    text += explained(cluster, imsync, f"imsync history --account {account} --since 3d --json", day)
    # The last rows of the newest day, 40,000 of a million.
    midnight = datetime.datetime.now(datetime.timezone.utc).replace(hour=0, minute=0, second=0)
    seconds = ROWS // 1000 - max(1, ROWS // 25_000)
    since = (midnight + datetime.timedelta(days=-1, seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
    text += explained(cluster, imsync, f"imsync history --since {since} --json", ["history", "--since", since, "--json"])
    text += explained(cluster, imsync, "imsync history", ["history"])
    with_history(imsync, f"{max(1, HISTORY_ROWS // ROWS // 2)}d")
    text += explained(cluster, imsync, "imsync run --once", ["run", "--once"], slowest=True)
    position = len((cluster.folder / "log").read_text())
    began = time.monotonic()
    before = cluster.value("SELECT count(*) FROM imsync.history", name)
    for _ in range(10):
        measure(imsync.command("incremental"), imsync.log)
    spent, after = time.monotonic() - began, cluster.value("SELECT count(*) FROM imsync.history", name)
    steps = [float(milliseconds) for milliseconds, _ in plans_since(cluster, position)]
    text.append(f"Ten further passes delete {before - after:,} rows in {len(steps)} steps, "
                f"{statistics.median(steps):.0f} ms each (at most {max(steps):.0f} ms), {spent / 10:.2f} s a process.")
    return text


def main():
    cluster = Cluster()
    sink = Sink("--names", ",".join(ATTRIBUTES))
    contestants = [(name, Imsync(name, default_binary(), sink.base_url), keep)
                   for name, keep in (("without", "never"), ("kept", "30d"))]
    rounds = []
    for number in range(ROUNDS):
        rounds.append(run_round(cluster, sink, contestants, number))
        print(*(f"{name} {case} {run.wall:.2f} s" for (name, case), run in rounds[-1].items()), sep=", ", flush=True)
    text = [f"Medians of {ROUNDS} rounds, {ROWS:,} users with {len(ATTRIBUTES)} attributes, PostgreSQL {cluster.version}, "
            f"`make bench-history`, {datetime.date.today()}, {machine()}.", "", *costs(rounds), "",
            at_the_limit(cluster, sink), "", "After both cases: " + sizes(cluster, "kept")]
    if HISTORY_ROWS:
        text += ["", "**Plans.** Generated rows: every day a pass sends one attribute of every account, in another order than that of the "
                 "accounts. " + "\n".join(plans(cluster, contestants[1][1], "kept"))]
    text = "\n".join(text)
    print(text)
    if os.environ.get("WRITE") != "0":
        write_section("history", text)


if __name__ == "__main__":
    main()
