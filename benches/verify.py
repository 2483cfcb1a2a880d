"""Measures `imsync verify` at the vendor's limit, and what it costs a pass beside it; `make bench-verify` runs it.

Owns: the arithmetic of both. Must not know: how a process is measured.

Environment: USERS (100000), ROUNDS (5), LATENCY (50, in ms), IMSYNC (the binary), WRITE (0 only prints).
"""

import datetime
import os
import statistics
import subprocess
import sys

from contestants import Imsync, copy_database, default_binary, fill
from harness import Cluster, machine, measure
from limit import BATCH, RATE, Simulator, arrivals
from report import write_section

USERS = int(os.environ.get("USERS", 100_000))
ROUNDS = int(os.environ.get("ROUNDS", 5))
LATENCY = int(os.environ.get("LATENCY", 50))


def run(command, log):
    result = measure(command, log)
    if result.code != 0:
        raise SystemExit(f"{command}: exit {result.code}\n{log.read_text()[-2000:]}")
    return result


def alone_times(simulator, imsync):
    """Whole processes, and the share of the limit from the first call to the last."""
    command = [imsync.binary, "-c", imsync.config, "verify", "--all", "--json"]
    walls, shares = [], []
    for _ in range(ROUNDS):
        offset = simulator.clear()
        walls.append(run(command, imsync.log).wall)
        calls = arrivals(simulator, offset)
        read = sum(users for _, users in calls[1:])
        shares.append(read / (calls[-1][0] - calls[0][0]) / (RATE * BATCH))
    return walls, shares


def pass_seconds(imsync, with_verify):
    """A pass that sends everything again, alone or beside verifications one after the other."""
    verify = f'while "{imsync.binary}" -q -c "{imsync.config}" verify --all > /dev/null 2>&1; do :; done'
    beside = subprocess.Popen(["sh", "-c", verify], start_new_session=True) if with_verify else None
    try:
        return run(imsync.command("force"), imsync.log).wall
    finally:
        if beside:
            os.killpg(beside.pid, 9)
            beside.wait()


def main():
    cluster, simulator = Cluster(), Simulator(LATENCY)
    imsync = Imsync("imsync", default_binary(), simulator.base_url, rate=RATE)
    copy_database(cluster, fill(cluster, USERS), "verified")
    imsync.prepare(cluster.url("verified"))
    run(imsync.command("full"), imsync.log)
    walls, shares = alone_times(simulator, imsync)
    alone, beside = [], []
    for number in range(ROUNDS):
        for with_verify, times in [(False, alone), (True, beside)] if number % 2 else [(True, beside), (False, alone)]:
            times.append(pass_seconds(imsync, with_verify))
            print(f"a pass {'beside verify' if with_verify else 'alone'}: {times[-1]:.2f} s", file=sys.stderr)
    limit = USERS / (RATE * BATCH)
    ratios = [one / other for one, other in zip(beside, alone)]
    text = "\n".join([
        f"{USERS:,} accounts, {RATE} calls a second of {BATCH} accounts, {LATENCY} ms latency, {ROUNDS} rounds, medians; "
        f"`make bench-verify`, {datetime.date.today()}, {machine()}.", "",
        "| figure | |", "|---|---:|",
        f"| what the limit allows | {limit:.2f} s |",
        f"| `verify --all`, whole process | {statistics.median(walls):.2f} s ({min(walls):.2f}–{max(walls):.2f}) |",
        f"| share of the limit from its first call to its last | {statistics.median(shares):.4f} |",
        f"| `backfill --force` alone | {statistics.median(alone):.2f} s |",
        f"| `backfill --force` beside `verify --all` | {statistics.median(beside):.2f} s |",
        f"| the second divided by the first, median of pairs | {statistics.median(ratios):.4f} "
        f"({min(ratios):.4f}–{max(ratios):.4f}) |",
    ])
    print(text)
    if os.environ.get("WRITE") != "0":
        write_section("verify", text)


if __name__ == "__main__":
    main()
