"""Measures imsync at the vendor's limit, and the size of its state; `make bench-limit` runs it.

Owns: the latencies, the arithmetic of the share, the rounds of changes. Must not know: how a process is measured.

Environment: USERS (200000), SIZE_USERS (200000), PARTS (limit,size), IMSYNC (the binary), WRITE (0 only prints).
"""

import atexit
import datetime
import json
import os
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request

from contestants import ATTRIBUTES, KEY, Imsync, change, copy_database, default_binary, fill
from harness import Cluster, machine, measure
from report import write_section

USERS = int(os.environ.get("USERS", 200_000))
SIZE_USERS = int(os.environ.get("SIZE_USERS", 200_000))
LATENCIES = [0, 50, 200, 500]
RATE, BATCH, ROUNDS, STARTS = 95, 100, 10, 7
# The vendor's limit is what the simulator enforces; imsync is configured to stay below it.
ENFORCED = 100


class Simulator:
    """`imsync simulate`, which enforces the limit and records when calls arrive."""

    def __init__(self, latency):
        command = [default_binary(), "simulate", "--listen", "127.0.0.1:0", "--attributes", ",".join(ATTRIBUTES),
                   "--rate", str(ENFORCED), "--latency", f"{latency}ms", "--key", KEY]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        atexit.register(self.process.kill)
        self.base_url = self.read_address()

    def read_address(self):
        for line in self.process.stdout:
            found = [word for word in line.split() if word.startswith("http://127.0.0.1:")]
            if found:
                return found[0].rstrip(".,;/")
        raise SystemExit("the simulator did not start")

    def get(self, path):
        with urllib.request.urlopen(f"{self.base_url}/_simulator/{path}", timeout=60) as answer:
            return json.load(answer)

    def clear(self):
        """Forgets all calls. Returns by how much the clock of this process is ahead of the simulator's, in seconds."""
        urllib.request.urlopen(urllib.request.Request(f"{self.base_url}/_simulator/records", method="DELETE")).close()
        now = time.time()
        urllib.request.urlopen(f"{self.base_url}/v4/timpush/get_attr_name", data=b"{}").close()
        return now - self.get("calls?last=1")[0]["at_millis"] / 1000


def arrivals(simulator, offset):
    """When the calls of imsync arrived, and how many users each carried. The first call is the one of `clear`."""
    calls = simulator.get("calls?last=10000")[1:]
    return [(call["at_millis"] / 1000 + offset, len(call["users"])) for call in calls]


def share_of_limit(calls):
    """Users a second from the first to the last call, divided by what the limit allows. The users of the first call
    arrive when the time begins, so they do not count."""
    first, last = calls[0][0], calls[-1][0]
    return sum(users for _, users in calls[1:]) / (last - first) / (RATE * BATCH)


def measure_latency(cluster, template, latency):
    """A first sync on a new state, and a second pass when nobody has called for two seconds."""
    simulator = Simulator(latency)
    try:
        imsync = Imsync("imsync", default_binary(), simulator.base_url, rate=RATE)
        copy_database(cluster, template, "at_limit")
        imsync.prepare(cluster.url("at_limit"))
        offset = simulator.clear()
        run = measure(imsync.command("full"), imsync.log)
        every, counters = arrivals(simulator, offset), simulator.get("counters")
        calls = [call for call in every if call[1]]
        sent = sum(users for _, users in calls)
        if run.code != 0 or sent < USERS:
            raise SystemExit(f"{latency} ms: exit {run.code}, {sent} users sent\n{imsync.log.read_text()[-2000:]}")
        # Enough changes on the first page for full calls; a few changes wait for the end of the scan, to share calls.
        cluster.execute("UPDATE users SET city = 'Again', updated_at = now() WHERE id <= 'u000002000'", "at_limit")
        time.sleep(2)
        offset = simulator.clear()
        second = measure(imsync.command("full"), imsync.log)
        later = arrivals(simulator, offset)
        return {"latency": latency, "share": share_of_limit(calls), "refusals": counters["violations"],
                "wall": run.wall, "first": every[0][0] - run.started, "tail": run.started + run.wall - calls[-1][0],
                "second": later[0][0] - second.started,
                "most": max(endpoint["max_in_one_second"] for endpoint in counters["endpoints"].values())}
    finally:
        simulator.process.kill()
        simulator.process.wait()


def start_table(cluster):
    """The time from the start of the process to its first call, with a small table, several times."""
    template, simulator, new, later = fill(cluster, 1000), Simulator(0), [], []
    imsync = Imsync("imsync", default_binary(), simulator.base_url, rate=RATE)
    for salt in range(STARTS):
        copy_database(cluster, template, "at_limit")
        imsync.prepare(cluster.url("at_limit"))
        for times in (new, later):
            offset = simulator.clear()
            run = measure(imsync.command("full"), imsync.log)
            times.append((arrivals(simulator, offset)[0][0] - run.started) * 1000)
            change(cluster, "at_limit", 1000, 1000, salt)
            # Nobody calls within the last second before the next start.
            time.sleep(1.5)
    lines = ["| `backfill`, from its start to its first call | lowest | median | highest |", "|---|---:|---:|---:|"]
    for title, times in [("on a new state", new), ("when nobody has called for 1.5 s", later)]:
        lines.append(f"| {title} | {min(times):.0f} ms | {statistics.median(times):.0f} ms | {max(times):.0f} ms |")
    return "\n".join(lines)


def limit_table(cluster):
    template = fill(cluster, USERS)
    lines = ["| latency | share of the limit | most calls in a second | refusals | start to first call, new state "
             "| start to first call, later pass | last call to exit | whole process |",
             "|---:|---:|---:|---:|---:|---:|---:|---:|"]
    for latency in LATENCIES:
        found = measure_latency(cluster, template, latency)
        print(found, file=sys.stderr)
        lines.append(f"| {latency} ms | {found['share']:.4f} | {found['most']} | {found['refusals']} "
                     f"| {found['first'] * 1000:.0f} ms | {found['second'] * 1000:.0f} ms "
                     f"| {found['tail'] * 1000:.0f} ms | {found['wall']:.2f} s |")
    return (f"{USERS:,} users, 1 is {RATE} × {BATCH} users a second from the first call to the last, {ENFORCED} "
            f"calls a second enforced.\n\n" + "\n".join(lines) + "\n\n" + start_table(cluster))


def size_table():
    """Bytes of state an account: after a first sync, and after each of ten rounds in which every account changed once.
    At the vendor's pace and with autovacuum as it is by default."""
    cluster = Cluster({"autovacuum": "on"})
    simulator = Simulator(0)
    imsync = Imsync("imsync", default_binary(), simulator.base_url, rate=RATE)
    copy_database(cluster, fill(cluster, SIZE_USERS), "size")
    imsync.prepare(cluster.url("size"))
    sizes = []
    for number in range(ROUNDS + 1):
        if number:
            change(cluster, "size", SIZE_USERS, SIZE_USERS, number)
        run = measure(imsync.command("incremental" if number else "full"), imsync.log)
        if run.code != 0:
            raise SystemExit(f"exit {run.code}\n{imsync.log.read_text()[-2000:]}")
        heap, total = (cluster.value(f"SELECT {function}('imsync.account')::float8 / {SIZE_USERS}", "size")
                       for function in ("pg_table_size", "pg_total_relation_size"))
        hot = cluster.value("SELECT n_tup_hot_upd::float8 / greatest(n_tup_upd, 1) FROM pg_stat_user_tables "
                            "WHERE relid = 'imsync.account'::regclass", "size")
        sizes.append((number, heap, total - heap, total, hot))
        print(f"round {number}: {total:.0f} bytes, HOT updates {hot:.0%}", file=sys.stderr)
    lines = ["| rounds | table | indexes | bytes an account | of the first sync | HOT updates so far |",
             "|---:|---:|---:|---:|---:|---:|"]
    for number, heap, index, total, hot in sizes:
        if number in (0, 1, 2, 5, ROUNDS):
            lines.append(f"| {number} | {heap:.0f} | {index:.0f} | {total:.0f} | {total / sizes[0][3]:.2f} "
                         f"| {f'{hot:.0%}' if number else ''} |")
    return (f"{SIZE_USERS:,} accounts with six attributes, {RATE} calls a second, autovacuum with its defaults. In a "
            f"round every account changes once.\n\n" + "\n".join(lines))


def main():
    stamp = f"\n\n`make bench-limit`, {datetime.date.today()}, {machine()}."
    parts = os.environ.get("PARTS", "limit,size").split(",")
    for name, made in [("limit", lambda: limit_table(Cluster())), ("size", size_table)]:
        if name in parts:
            text = made() + stamp
            print(text + "\n")
            if os.environ.get("WRITE") != "0":
                write_section(name, text)


if __name__ == "__main__":
    main()
