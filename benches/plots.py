"""Draws time and memory against what could make a knee; `make bench-plots` runs it.

Owns: the series, and the drawings in docs/performance/. Must not know: how a process is measured.

Environment: BIG (1 adds ten million rows), ROWS (200000, of the plots that do not vary the size), PLOTS (names,
separated by commas), DRAW (1 draws the figures of the last run again), PNG (a folder for previews), IMSYNC (the
binary), WRITE (0 leaves docs/ alone and draws into target/bench/plots).
"""

import datetime
import json
import os
import sys

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot
from matplotlib.ticker import FuncFormatter, NullFormatter

from contestants import ATTRIBUTES, Imsync, change, copy_database, default_binary, fill
from harness import ROOT, TARGET, Cluster, Sink, machine, measure_with_server
from report import write_section

ROWS = int(os.environ.get("ROWS", 200_000))
BIG = os.environ.get("BIG") == "1"
SIZES = [10_000, 100_000, 1_000_000] + [10_000_000] * BIG
FIGURES = TARGET / "bench/plots.json"
WRITES = os.environ.get("WRITE") != "0"
FOLDER = ROOT / "docs/performance" if WRITES else TARGET / "bench/plots"
RSS_LIMIT = 64
COLOURS = ["#0b6e99", "#c2571a", "#4d7c0f", "#7c3aed"]


class Bench:
    """Runs single passes and keeps their figures by series."""

    def __init__(self):
        self.cluster, self.figures = Cluster(), {}

    def sync(self, rows, sink, page_size=5000):
        """A new database and state."""
        copy_database(self.cluster, fill(self.cluster, rows), "plots")
        imsync = Imsync("imsync", default_binary(), sink.base_url, page_size=page_size)
        imsync.prepare(self.cluster.url("plots"))
        return imsync

    def run(self, point, imsync, sink, kind, expected=None, codes=(0,)):
        """`point` names the plot, the line and the place on the axis."""
        run = measure_with_server(self.cluster, sink, "plots", imsync.command(kind), imsync.log)
        if run.code not in codes or expected not in (None, run.counts["users"]):
            raise SystemExit(f"{point}: exit {run.code}, {run.counts}\n{imsync.log.read_text()[-2000:]}")
        self.cluster.execute("VACUUM ANALYZE", "plots")
        plot, line, x = point
        calls = run.counts["writes"] + run.counts["refused"]
        self.figures.setdefault(plot, {}).setdefault(line, []).append([x, run.wall, run.rss, calls])
        print(f"{plot}, {line}, {x:,.10g}: {run.wall:.2f} s, {run.rss:.0f} MiB, {calls} calls", file=sys.stderr)
        return run


def names():
    return "--names", ",".join(ATTRIBUTES)


def size(bench):
    sink = Sink(*names())
    for rows in SIZES:
        imsync = bench.sync(rows, sink)
        bench.run(("size", "first sync", rows), imsync, sink, "full", rows)
        bench.run(("size", "full compare", rows), imsync, sink, "full", 0)
        bench.run(("size", "nothing changed", rows), imsync, sink, "incremental", 0)
        change(bench.cluster, "plots", rows, 10_000, salt=0)
        bench.run(("size", "10,000 changed", rows), imsync, sink, "incremental", 10_000)
    sink.stop()


def page_size(bench):
    sink = Sink(*names())
    for rows in [500, 1000, 2000, 5000, 10_000, 20_000, 50_000]:
        imsync = bench.sync(ROWS, sink, page_size=rows)
        bench.run(("page_size", "first sync", rows), imsync, sink, "full", ROWS)
        bench.run(("page_size", "full compare", rows), imsync, sink, "full", 0)
    sink.stop()


def changed(bench):
    sink = Sink(*names())
    imsync = bench.sync(ROWS, sink)
    bench.run(("discarded", "first sync", ROWS), imsync, sink, "full", ROWS)
    for salt, percent in enumerate([0.1, 1, 5, 20, 50, 100]):
        number = int(ROWS * percent / 100)
        change(bench.cluster, "plots", ROWS, number, 2 * salt, moves_stamp=False)
        bench.run(("changed", "full compare", percent), imsync, sink, "full", number)
        change(bench.cluster, "plots", ROWS, number, 2 * salt + 1)
        bench.run(("changed", "run --once", percent), imsync, sink, "incremental", number)
    sink.stop()


def latency(bench):
    for milliseconds in [1, 5, 20, 50, 100, 200, 500]:
        sink = Sink(*names(), "--latency", milliseconds)
        bench.run(("latency", "first sync", milliseconds), bench.sync(ROWS, sink), sink, "full", ROWS)
        sink.stop()


def rejections(bench):
    for share in [100_000, 10_000, 1000, 200, 50, 20]:
        sink = Sink(*names(), "--reject-every", share)
        imsync = bench.sync(ROWS, sink)
        run = bench.run(("rejections", "first sync", ROWS / share), imsync, sink, "full", codes=(0, 3))
        rejected = run.json()["rejected"]
        bench.figures["rejections"]["first sync"][-1][0] = rejected
        bench.run(("rejections", "full compare after it", rejected), imsync, sink, "full", codes=(0, 3))
        sink.stop()


def stall(bench):
    """IM answers nothing for a minute in the middle of a first sync."""
    rows = 5 * ROWS
    sink = Sink(*names(), "--stall-after", rows // 200, "--stall-for", 60)
    imsync = bench.sync(rows, sink)
    bench.run(("stall", "first sync", rows), imsync, sink, "full", codes=(0, 1, 3))
    sink.stop()


# The function, the label of the axis, and the scales of both axes: logarithmic where the range is wide.
PLOTS = {
    "size": (size, "rows of the table", "log", "log"),
    "page_size": (page_size, "source.page_size", "log", "linear"),
    "changed": (changed, "changed rows, %", "linear", "linear"),
    "latency": (latency, "latency of IM, ms", "linear", "linear"),
    "rejections": (rejections, "accounts that IM rejects", "linear", "linear"),
}


def plain(value, _=None):
    for limit, unit in [(1e6, "M"), (1e3, "k")]:
        if value >= limit:
            return f"{value / limit:g}{unit}"
    return f"{value:g}"


def draw(name, lines, label, scales):
    """Two panels: time and memory. `scales` are those of the places and of the time."""
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": name, "font.family": "sans-serif"})
    figure, (time_axis, memory_axis) = pyplot.subplots(1, 2, figsize=(9.6, 3.6), layout="constrained")
    for (line, points), colour in zip(lines.items(), COLOURS):
        xs = [point[0] for point in points]
        time_axis.plot(xs, [point[1] for point in points], marker="o", markersize=4, color=colour, label=line)
        memory_axis.plot(xs, [point[2] for point in points], marker="o", markersize=4, color=colour, label=line)
    memory_axis.axhline(RSS_LIMIT, color="#999999", linestyle="--", linewidth=1)
    memory_axis.set_ylim(0, max(RSS_LIMIT * 1.15, 1.1 * max(point[2] for points in lines.values() for point in points)))
    time_axis.set_yscale(scales[1])
    if scales[1] == "linear":
        time_axis.set_ylim(0, 1.1 * max(point[1] for points in lines.values() for point in points))
    for axis, title in [(time_axis, "whole process, s"), (memory_axis, f"peak RSS, MiB (dashed: {RSS_LIMIT})")]:
        axis.set_xscale(scales[0])
        axis.set_title(title, fontsize=10)
        axis.set_xlabel(label)
        axis.grid(True, color="#e5e5e5", linewidth=0.6)
        axis.set_axisbelow(True)
        axis.xaxis.set_major_formatter(FuncFormatter(plain))
        axis.xaxis.set_minor_formatter(NullFormatter())
    time_axis.yaxis.set_major_formatter(FuncFormatter(plain))
    time_axis.yaxis.set_minor_formatter(NullFormatter())
    time_axis.legend(frameon=False)
    FOLDER.mkdir(exist_ok=True)
    figure.savefig(FOLDER / f"{name}.svg", metadata={"Date": None, "Creator": None})
    if preview := os.environ.get("PNG"):
        figure.savefig(f"{preview}/{name}.png", dpi=80)
    pyplot.close(figure)


def figures_table(figures):
    """What the plots show, as numbers."""
    lines = ["| against | value | pass | s | peak RSS MiB | calls |", "|---|---:|---|---:|---:|---:|"]
    for name, series in figures.items():
        for line, points in series.items() if name != "discarded" else ():
            lines += [f"| {name} | {x:,.10g} | {line} | {wall:.2f} | {rss:.0f} | {calls:,} |"
                      for x, wall, rss, calls in points]
    return "\n".join(lines)


def main():
    chosen = os.environ.get("PLOTS", ",".join([*PLOTS, "stall"])).split(",")
    kept = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    if os.environ.get("DRAW") != "1":
        bench = Bench()
        for name in chosen:
            (stall if name == "stall" else PLOTS[name][0])(bench)
            kept |= bench.figures
            FIGURES.write_text(json.dumps(kept))
    for name, (_, label, *scales) in PLOTS.items():
        if name in kept:
            draw(name, kept[name], label, scales)
    ordered = {name: kept[name] for name in [*PLOTS, "stall"] if name in kept}
    images = "\n\n".join(f"![time and memory against {PLOTS[name][1]}](performance/{name}.svg)"
                         for name in PLOTS if name in kept)
    text = (f"{ROWS:,} rows where the size does not vary; `make bench-plots{' BIG=1' if BIG else ''}`, "
            f"{datetime.date.today()}, {machine()}.\n\n{images}\n\n<details><summary>The figures</summary>\n\n"
            f"{figures_table(ordered)}\n\n</details>")
    if WRITES:
        write_section("plots", text)


if __name__ == "__main__":
    main()
