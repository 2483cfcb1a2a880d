"""What every benchmark needs: a private PostgreSQL, the sink, and processes whose costs are measured.

Owns: starting, stopping and measuring. Must not know: which cases are measured, and how results are shown.
"""

import atexit
import json
import os
import pathlib
import platform
import pwd
import re
import resource
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from dataclasses import dataclass, field

import psycopg

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
TICKS = os.sysconf("SC_CLK_TCK")
# PostgreSQL's defaults apart from these. Autovacuum is off because it would charge its work to whoever happens to run;
# the benchmarks do its work between the cases.
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "shared_buffers": "256MB",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "30min",
    "jit": "off",
    "autovacuum": "off",
    "timezone": "UTC",
    "max_prepared_transactions": "10",
}


(TARGET / "bench").mkdir(parents=True, exist_ok=True)
# A benchmark that is told to end stops its server and removes its files, as at its own end.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))


def binaries():
    """The folder of the server programs: on PATH, else the newest of Debian's."""
    found = shutil.which("initdb")
    if found and shutil.which("postgres", path=os.path.dirname(found)):
        return pathlib.Path(found).parent
    installed = [folder / "bin" for folder in pathlib.Path("/usr/lib/postgresql").glob("*") if folder.name.isdigit()]
    usable = sorted(filter(lambda folder: (folder / "initdb").exists(), installed), key=lambda f: int(f.parent.name))
    if not usable:
        raise SystemExit("PostgreSQL's server programs are missing: run scripts/ensure-tools postgres")
    return usable[-1]


def unprivileged():
    """Arguments of Popen that drop root, because PostgreSQL refuses it."""
    if os.getuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            user = pwd.getpwnam(name)
            return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        except KeyError:
            pass
    raise SystemExit("PostgreSQL refuses to run as root, and there is no user postgres or nobody")


class Cluster:
    """A private PostgreSQL server. It is stopped and removed when the benchmark ends."""

    def __init__(self, settings=None):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="imsync-bench-", dir=os.environ.get("BENCH_DIR")))
        atexit.register(self.stop)
        self.drop = unprivileged()
        if self.drop:
            os.chown(self.folder, self.drop["user"], self.drop["group"])
        self.password = secrets.token_hex(16)
        (self.folder / "password").write_text(self.password)
        bin_folder, data = binaries(), self.folder / "data"
        subprocess.run([bin_folder / "initdb", "-D", data, "-U", "imsync", "--auth=scram-sha-256", "--encoding=UTF8",
                        "--locale=C.UTF-8", f"--pwfile={self.folder / 'password'}"],
                       check=True, stdout=subprocess.DEVNULL, cwd=self.folder, **self.drop)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        chosen = SETTINGS | {"port": str(self.port), "unix_socket_directories": str(self.folder)} | (settings or {})
        with open(data / "postgresql.conf", "a") as conf:
            conf.writelines(f"{name} = '{value}'\n" for name, value in chosen.items())
        self.process = subprocess.Popen([bin_folder / "postgres", "-D", data], cwd=self.folder, **self.drop,
                                        stdout=open(self.folder / "log", "w"), stderr=subprocess.STDOUT)
        self.wait_until_ready()
        self.version = self.value("SHOW server_version").split()[0]

    def wait_until_ready(self):
        for _ in range(600):
            try:
                return self.connect("postgres").close()
            except psycopg.OperationalError:
                if self.process.poll() is not None:
                    raise SystemExit((self.folder / "log").read_text())
                time.sleep(0.1)
        raise SystemExit("PostgreSQL did not start within a minute")

    def url(self, database):
        return f"postgres://imsync:{self.password}@127.0.0.1:{self.port}/{database}?sslmode=disable"

    def connect(self, database):
        return psycopg.connect(self.url(database), autocommit=True)

    def execute(self, statement, database="postgres"):
        with self.connect(database) as connection:
            connection.execute(statement)

    def value(self, statement, database="postgres"):
        with self.connect(database) as connection:
            row = connection.execute(statement).fetchone()
            return row[0] if row else None

    def cpu(self):
        """Seconds of CPU of the server, of its processes, and of those that have ended."""
        own = stat(self.process.pid)
        total = sum(own[11:15])
        for child in pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split():
            try:
                total += sum(stat(child)[11:13])
            except (FileNotFoundError, ProcessLookupError):
                pass  # It ended in between, and its time has gone to the postmaster.
        return total / TICKS

    def stop(self):
        if getattr(self, "process", None) and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(2)
            except subprocess.TimeoutExpired:
                self.process.send_signal(2)
                self.process.wait(60)
        shutil.rmtree(self.folder, ignore_errors=True)


def stat(pid):
    """The fields of /proc/PID/stat after the name, as numbers where they are."""
    text = pathlib.Path(f"/proc/{pid}/stat").read_text()
    return [int(word) if word.lstrip("-").isdigit() else word for word in text[text.rindex(")") + 2:].split()]


class Sink:
    """The IM that answers everything at once; see sink.rs."""

    def __init__(self, *arguments):
        self.process = subprocess.Popen([self.program(), *map(str, arguments)], stdout=subprocess.PIPE, text=True)
        atexit.register(self.stop)
        self.base_url = "http://" + self.process.stdout.readline().strip()

    @staticmethod
    def program():
        source, program = ROOT / "benches/sink.rs", TARGET / "bench/sink"
        if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
            subprocess.run(["rustc", "-O", "--edition", "2024", source, "-o", program], check=True)
        return program

    def counts(self, reset=False):
        path = "/reset" if reset else "/counts"
        with urllib.request.urlopen(self.base_url + path, timeout=120) as answer:
            return json.load(answer)

    def stop(self):
        self.process.kill()
        self.process.wait()


@dataclass
class Run:
    """The costs of one process, from its start to its end."""

    wall: float
    cpu: float
    rss: float
    """MiB at the peak."""
    code: int
    output: str
    started: float
    """Seconds since 1970."""
    server_cpu: float = 0.0
    wal: float = 0.0
    """MiB."""
    counts: dict = field(default_factory=dict)

    def json(self):
        return json.loads(self.output.strip().splitlines()[-1])


def measure(command, log, environment=None):
    """Runs a command to its end."""
    own_peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tempfile.TemporaryFile() as output, open(log, "wb") as errors:
        started, begin = time.time(), time.monotonic()
        process = subprocess.Popen(list(map(str, command)), stdout=output, stderr=errors, env=environment)
        peaks, ended = [0], threading.Event()
        watcher = threading.Thread(target=watch_peak, args=(process.pid, peaks, ended))
        watcher.start()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - begin
        ended.set()
        watcher.join()
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read().decode()
    # The kernel's figure includes the memory of this process between fork and exec, so it counts only above that.
    peak = max(peaks[0], usage.ru_maxrss if usage.ru_maxrss > own_peak else 0)
    return Run(wall, usage.ru_utime + usage.ru_stime, peak / 1024, process.returncode, text, started)


def watch_peak(pid, peaks, ended):
    """Follows the high-water mark of the resident memory, which cannot be read after the end."""
    while not ended.wait(0.02):
        try:
            found = re.search(r"VmHWM:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())
        except (FileNotFoundError, ProcessLookupError):
            return
        if found:
            peaks[0] = max(peaks[0], int(found[1]))


def measure_with_server(cluster, sink, database, command, log):
    """Runs a command; measures also the CPU and the write-ahead log of the server, and what the sink received."""
    cluster.execute("CHECKPOINT")
    sink.counts(reset=True)
    lsn, cpu = cluster.value("SELECT pg_current_wal_insert_lsn()::text"), cluster.cpu()
    run = measure(command, log)
    run.server_cpu = cluster.cpu() - cpu
    run.wal = float(cluster.value(f"SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '{lsn}')", database)) / 2**20
    run.counts = sink.counts()
    return run


def machine():
    """One line about this machine."""
    cpu = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    memory = int(re.search(r"MemTotal:\s+(\d+)", pathlib.Path("/proc/meminfo").read_text())[1]) // 2**20
    return f"{os.cpu_count()} × {cpu[1] if cpu else platform.machine()}, {memory + 1} GiB, Linux {platform.release()}"
