"""Measures imsync beside a careful script and beside COPY, interleaved; `make bench` runs it.

Owns: the cases and the table of results. Must not know: how a process is measured, how a contestant is called.

Environment: ROWS (1000000), ROUNDS (3), CASES (names, separated by commas), IMSYNC (the binary, else
target/release/imsync), BASELINE (a second binary), WRITE (1 writes docs/performance.md whatever the size of the run),
PROFILE (1 prints the statements that took most of the server's time; needs PostgreSQL's contrib modules).
"""

import datetime
import json
import os
import statistics
import sys

from contestants import ATTRIBUTES, CopyOut, Imsync, Peer, change, copy_database, default_binary, fill
from harness import TARGET, Cluster, Sink, machine, measure_with_server
from report import write_section

ROWS = int(os.environ.get("ROWS", 1_000_000))
ROUNDS = int(os.environ.get("ROUNDS", 3))
PROFILE = os.environ.get("PROFILE") == "1"


class Case:
    """A pass of one kind: what is changed before it, and how many users have to arrive."""

    def __init__(self, name, title, kind, changed=0, expected=None, moves_stamp=True, with_copy=False):
        self.name, self.title, self.kind, self.changed = name, title, kind, changed
        self.expected = changed if expected is None else expected
        self.moves_stamp, self.with_copy = moves_stamp, with_copy


CASES = [
    Case("first", f"first sync of {ROWS:,}", "full", expected=ROWS, with_copy=True),
    Case("idle", "nothing changed", "incremental"),
    Case("changed-100", "100 changed", "incremental", changed=min(100, ROWS)),
    Case("changed-10000", "10,000 changed", "incremental", changed=min(10_000, ROWS)),
    Case("full", "full compare, nothing changed", "full", with_copy=True),
    Case("full-1pct", "full compare, 1 % changed", "full", changed=ROWS // 100, moves_stamp=False, with_copy=True),
    Case("force", "everything again (`--force`)", "force", expected=ROWS, with_copy=True),
]


def database_of(contestant):
    return "bench_" + "".join(filter(str.isalnum, contestant.label.lower()))


def run_case(cluster, sink, contestant, case, salt):
    """Prepares and measures one case of one contestant, and checks that what had to arrive did."""
    database = database_of(contestant)
    if case.changed:
        change(cluster, database, ROWS, case.changed, salt, case.moves_stamp)
    log = getattr(contestant, "log", TARGET / "bench/copy.log")
    if PROFILE:
        cluster.execute("SELECT pg_stat_statements_reset()")
    run = measure_with_server(cluster, sink, database, contestant.command(case.kind), log)
    if run.code != 0:
        raise SystemExit(f"{contestant.label}, {case.title}: exit {run.code}\n{log.read_text()[-2000:]}")
    if PROFILE:
        print_statements(cluster, f"{contestant.label}, {case.title}")
    if not isinstance(contestant, CopyOut):
        received = run.counts["users"]
        if received != case.expected:
            raise SystemExit(f"{contestant.label}, {case.title}: {received} users arrived instead of {case.expected}")
        accounts = contestant.account_table
        size = cluster.value(
            f"SELECT pg_total_relation_size('{accounts}')::float8 / count(*) FROM {accounts}", database)
    else:
        size = None
    # The work of autovacuum, which is off.
    cluster.execute("VACUUM ANALYZE", database)
    return {"wall": run.wall, "cpu": run.cpu, "server_cpu": run.server_cpu, "wal": run.wal, "rss": run.rss,
            "size": size, "pass_ms": pass_milliseconds(run, contestant), "calls": run.counts["writes"]}


def print_statements(cluster, title):
    """The statements of a run with a millisecond or more, the longest first."""
    with cluster.connect("postgres") as connection:
        found = connection.execute(
            "SELECT total_exec_time, calls, rows, regexp_replace(query, '\\s+', ' ', 'g') FROM pg_stat_statements "
            "WHERE total_exec_time >= 1 AND query !~ '^(CHECKPOINT|SELECT pg_stat)' "
            "ORDER BY 1 DESC LIMIT 20").fetchall()
    print(f"\n{title}: ms, calls, rows, statement")
    for spent, calls, rows, query in found:
        print(f"{spent:10.1f} {calls:7} {rows:9}  {query[:200]}")


def pass_milliseconds(run, contestant):
    if not isinstance(contestant, Imsync):
        return None
    times = [datetime.datetime.fromisoformat(run.json()[key]) for key in ("started_at", "finished_at")]
    return (times[1] - times[0]).total_seconds() * 1000


def measure_all(cluster, sink, contestants, cases):
    """All rounds: the contestants take turns within each case, and the order rotates."""
    results = {}
    template = fill(cluster, ROWS)
    for number in range(ROUNDS):
        for contestant in contestants:
            copy_database(cluster, template, database_of(contestant))
            contestant.prepare(cluster.url(database_of(contestant)))
        turn = contestants[number % len(contestants):] + contestants[:number % len(contestants)]
        for position, case in enumerate(cases):
            for contestant in turn:
                if isinstance(contestant, CopyOut) and not case.with_copy:
                    continue
                figures = run_case(cluster, sink, contestant, case, 10 * number + position)
                results.setdefault((case.name, contestant.label), []).append(figures)
                print(f"round {number + 1}, {case.title}, {contestant.label}: {figures['wall']:.2f} s, "
                      f"CPU {figures['cpu']:.2f} s, PostgreSQL {figures['server_cpu']:.2f} s, {figures['rss']:.0f} MiB",
                      file=sys.stderr)
    return results


def median(figures, name):
    values = [figure[name] for figure in figures if figure[name] is not None]
    return statistics.median(values) if values else None


def shown(value, digits):
    return "" if value is None else f"{value:,.{digits}f}"


def table(results, cases, contestants):
    """The medians as a Markdown table."""
    lines = ["| case | who | wall s | of the script's | rows/s | own CPU s | PostgreSQL's CPU s | WAL MiB "
             "| state bytes an account | peak RSS MiB | pass ms |",
             "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|"]
    for case in cases:
        script = results.get((case.name, "script"))
        for contestant in contestants:
            figures = results.get((case.name, contestant.label))
            if not figures:
                continue
            wall = median(figures, "wall")
            share = wall / median(script, "wall") if script and contestant.label != "script" else None
            rows = ROWS / wall if case.kind != "incremental" else case.changed / wall or None
            cells = [case.title, contestant.label, shown(wall, 2), shown(share, 2), shown(rows, 0),
                     shown(median(figures, "cpu"), 2), shown(median(figures, "server_cpu"), 2),
                     shown(median(figures, "wal"), 1), shown(median(figures, "size"), 0),
                     shown(median(figures, "rss"), 0), shown(median(figures, "pass_ms"), 0)]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def ratios(results, contestants):
    """The figures in short, one column for each binary of imsync."""
    binaries = [contestant.label for contestant in contestants if isinstance(contestant, Imsync)]

    def cell(case, measure):
        if (case, "script") not in results:
            return ["" for _ in binaries]
        script = results[case, "script"]
        return [measure(results[case, binary], script) for binary in binaries]

    def wall(figures):
        return median(figures, "wall")

    def times_as_fast(own, script):
        return shown(wall(script) / wall(own), 2)

    million = ROWS / 1e6
    peak = [shown(max(median(figures, "rss") for (_, who), figures in results.items() if who == binary), 0)
            for binary in binaries]
    rows = [
        ("first sync, times as fast as the script", cell("first", times_as_fast)),
        ("first sync, own CPU / PostgreSQL's CPU, s a million", cell("first", lambda own, _: " / ".join(
            shown(median(own, name) / million, 1) for name in ("cpu", "server_cpu")))),
        ("full compare, rows/s", cell("full", lambda own, _: shown(ROWS / wall(own), 0))),
        ("full compare, times as fast as the script", cell("full", times_as_fast)),
        ("10,000 changed, share of the script's time",
         cell("changed-10000", lambda own, script: shown(wall(own) / wall(script), 2))),
        ("100 changed, pass, ms", cell("changed-100", lambda own, _: shown(median(own, "pass_ms"), 0))),
        ("state after the first sync, bytes an account", cell("first", lambda own, _: shown(median(own, "size"), 0))),
        ("largest peak RSS of all cases, MiB", peak),
    ]
    lines = [f"| in short | {' | '.join(binaries)} |", "|---|" + "---:|" * len(binaries)]
    return "\n".join(lines + [f"| {title} | {' | '.join(cells)} |" for title, cells in rows])


def main():
    chosen = os.environ.get("CASES", ",".join(case.name for case in CASES)).split(",")
    unknown = set(chosen) - {case.name for case in CASES}
    if unknown:
        raise SystemExit(f"CASES names {', '.join(sorted(unknown))}; there are {', '.join(c.name for c in CASES)}")
    # Each case builds on the first sync.
    cases = [case for case in CASES if case.name in chosen or case.name == "first"]
    sink = Sink("--names", ",".join(ATTRIBUTES))
    contestants = [Imsync("imsync", default_binary(), sink.base_url), Peer(sink.base_url), CopyOut()]
    if baseline := os.environ.get("BASELINE"):
        contestants.insert(1, Imsync("baseline", baseline, sink.base_url))
    cluster = Cluster({"shared_preload_libraries": "pg_stat_statements"} if PROFILE else {})
    if PROFILE:
        cluster.execute("CREATE EXTENSION pg_stat_statements")
    results = measure_all(cluster, sink, contestants, cases)
    kept = [{"case": case, "who": who, "rounds": figures} for (case, who), figures in results.items()]
    (TARGET / "bench/results.json").write_text(json.dumps(kept, indent=1))
    command = "make bench" + "".join(
        f" {name}={os.environ[name]}" for name in ("ROWS", "ROUNDS", "CASES") if name in os.environ)
    text = (f"Medians of {ROUNDS} rounds, {ROWS:,} users, PostgreSQL {cluster.version}, `{command}`, "
            f"{datetime.date.today()}, {machine()}.\n\n{ratios(results, contestants)}\n\n"
            f"{table(results, cases, contestants)}")
    print(text)
    if os.environ.get("WRITE") == "1" or (ROWS >= 1_000_000 and ROUNDS >= 3 and len(cases) == len(CASES)):
        write_section("cases", text)


if __name__ == "__main__":
    main()
