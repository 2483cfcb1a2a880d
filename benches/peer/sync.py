"""The script that a careful engineer writes in two days instead of using imsync: the yardstick of `make bench`.

It does what it can without giving up speed: it sends only differences, reads and writes by COPY, keeps 64 calls in
flight, retries, splits refused batches, reads the last five seconds again, and records only what IM acknowledged.
It lacks most of what imsync promises: a transaction that commits later than the overlap is lost, a lost answer leaves a
wrong state, two instances disturb each other, and nothing guards against an empty table.
"""

import argparse
import asyncio
import base64
import hashlib
import hmac
import random
import sys
import time
import zlib

import aiohttp
import orjson
import psycopg

ATTRIBUTES = ["name", "city", "plan", "language", "level", "member_since"]
COLUMNS = ", ".join(["id", *ATTRIBUTES, "updated_at"])
PAGE = 10_000
BATCH = 100
IN_FLIGHT = 64
RECORD_EVERY = 20_000
OVERLAP = "5 seconds"
APP, ADMIN = 1400000000, "administrator"
RETRIED = {91000, 60008, 60013, 60014, 60007, 60011, 60018, 60019}
SCHEMA = """
CREATE TABLE IF NOT EXISTS peer_state (account text PRIMARY KEY, acknowledged text NOT NULL);
CREATE TABLE IF NOT EXISTS peer_progress (one bool PRIMARY KEY DEFAULT true, read_from timestamptz NOT NULL);
"""
MERGE = """
INSERT INTO peer_state SELECT account, acknowledged FROM acknowledged_now
ON CONFLICT (account) DO UPDATE SET acknowledged = excluded.acknowledged
WHERE peer_state.acknowledged <> excluded.acknowledged
"""


class Pace:
    """Hands out starts of calls, `rate` a second."""

    def __init__(self, rate):
        self.gap, self.next = 1 / rate, 0.0

    async def turn(self):
        now = time.monotonic()
        self.next = max(self.next, now - 0.05) + self.gap
        if self.next > now:
            await asyncio.sleep(self.next - now)


class Im:
    """The calls to IM."""

    def __init__(self, base_url, key, rate):
        self.base_url, self.key = base_url, key
        self.pace, self.places = Pace(rate), asyncio.Semaphore(IN_FLIGHT)
        self.session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=IN_FLIGHT),
                                             timeout=aiohttp.ClientTimeout(total=10))
        self.usersig, self.calls = self.sign(), 0

    def sign(self):
        now, lifetime = int(time.time()), 86_400
        text = f"TLS.identifier:{ADMIN}\nTLS.sdkappid:{APP}\nTLS.time:{now}\nTLS.expire:{lifetime}\n"
        sig = base64.b64encode(hmac.digest(self.key.encode(), text.encode(), hashlib.sha256)).decode()
        document = {"TLS.ver": "2.0", "TLS.identifier": ADMIN, "TLS.sdkappid": APP, "TLS.expire": lifetime,
                    "TLS.time": now, "TLS.sig": sig}
        packed = base64.b64encode(zlib.compress(orjson.dumps(document))).decode()
        return packed.translate(str.maketrans("+/=", "*-_"))

    async def call(self, command, users):
        """Makes the call until its outcome is known. Returns the code."""
        body = orjson.dumps({"UserAttrs": users})
        code = None
        for attempt in range(6):
            await self.pace.turn()
            url = (f"{self.base_url}/v4/all_member_push/{command}?sdkappid={APP}&identifier={ADMIN}"
                   f"&usersig={self.usersig}&random={random.getrandbits(32)}&contenttype=json")
            self.calls += 1
            try:
                async with self.session.post(url, data=body, headers={"Content-Type": "application/json"}) as answer:
                    code = orjson.loads(await answer.read())["ErrorCode"]
            except (aiohttp.ClientError, asyncio.TimeoutError, ValueError, KeyError):
                code = 91000
            if code not in RETRIED:
                return code
            await asyncio.sleep(0.2 * 2**attempt * (0.5 + random.random()))
        raise SystemExit(f"IM refuses calls with {code}")

    async def send(self, command, users):
        """Sends a batch and returns the accounts that IM accepted."""
        code = await self.call(command, users)
        if code == 0:
            return {user["To_Account"] for user in users}
        if len(users) == 1:
            print(f"{users[0]['To_Account']} is refused with {code}", file=sys.stderr)
            return set()
        middle = len(users) // 2
        return await self.send(command, users[:middle]) | await self.send(command, users[middle:])


class Sync:
    """Compares rows with the state, sends the differences, records what IM acknowledged."""

    def __init__(self, im, recorder, force, tasks):
        self.im, self.recorder, self.force, self.tasks = im, recorder, force, tasks
        self.batch, self.deliveries, self.acknowledged, self.recording = [], set(), [], None
        self.rows = self.pushed = 0

    def compare(self, row, before):
        account, *values, _ = row
        self.rows += 1
        desired = orjson.dumps([value or None for value in values]).decode()
        if desired == before and not self.force:
            return
        if len(account.encode()) > 32 or any(value and len(value.encode()) > 50 for value in values):
            print(f"{account} is rejected: a text is too long", file=sys.stderr)
            return
        self.batch.append((account, values, desired, before))

    def difference(self, values, before):
        """What to set, and which attributes to remove."""
        old = orjson.loads(before) if before else [None] * len(values)
        wanted = [value or None for value in values]
        changed = [(name, new, was) for name, new, was in zip(ATTRIBUTES, wanted, old) if self.force or new != was]
        return ({name: new for name, new, _ in changed if new is not None},
                [name for name, new, was in changed if new is None and was is not None])

    async def flush(self):
        """Starts a task for each full batch, and records beside them."""
        while len(self.batch) >= BATCH:
            await self.start_delivery()
        if len(self.acknowledged) >= RECORD_EVERY and (self.recording is None or self.recording.done()):
            self.recording = self.tasks.create_task(self.record())

    async def finish(self):
        await self.flush()
        if self.batch:
            await self.start_delivery()
        await asyncio.gather(*self.deliveries)
        if self.recording:
            await self.recording
        await self.record()

    async def start_delivery(self):
        batch, self.batch = self.batch[:BATCH], self.batch[BATCH:]
        await self.im.places.acquire()
        task = self.tasks.create_task(self.deliver(batch))
        self.deliveries.add(task)
        task.add_done_callback(self.deliveries.discard)

    async def deliver(self, batch):
        try:
            sets, removals = [], []
            for account, values, _, before in batch:
                to_set, to_remove = self.difference(values, before)
                if to_set:
                    sets.append({"To_Account": account, "Attrs": to_set})
                if to_remove:
                    removals.append({"To_Account": account, "Attrs": to_remove})
            failed = set()
            for command, users in [("im_set_attr", sets), ("im_remove_attr", removals)]:
                if users:
                    failed |= {user["To_Account"] for user in users} - await self.im.send(command, users)
            done = [(account, desired) for account, _, desired, _ in batch if account not in failed]
            self.pushed += len(done)
            self.acknowledged += done
        finally:
            self.im.places.release()

    async def record(self):
        done, self.acknowledged = self.acknowledged, []
        if not done:
            return
        async with self.recorder.transaction(), self.recorder.cursor() as cursor:
            async with cursor.copy("COPY acknowledged_now FROM STDIN") as copy:
                for row in done:
                    await copy.write_row(row)
            await cursor.execute(MERGE)
            await cursor.execute("TRUNCATE acknowledged_now")

    async def gone(self, accounts):
        """Removes everything of accounts that have left the table."""
        for start in range(0, len(accounts), BATCH):
            users = [{"To_Account": account, "Attrs": ATTRIBUTES} for account in accounts[start:start + BATCH]]
            removed = await self.im.send("im_remove_attr", users)
            await self.recorder.execute("DELETE FROM peer_state WHERE account = ANY(%s)", [list(removed)])


async def copy_rows(connection, statement, arguments):
    async with connection.cursor() as cursor, cursor.copy(f"COPY ({statement}) TO STDOUT", arguments) as copy:
        return [row async for row in copy.rows()]


async def read_range(source, state, after):
    """A page of the table in the order of the accounts, and the same range of the state."""
    rows = await copy_rows(source, f'SELECT {COLUMNS} FROM users WHERE id > %s '
                                   f'ORDER BY id LIMIT {PAGE}', [after])
    end = rows[-1][0] if len(rows) == PAGE else None
    known = await copy_rows(state, "SELECT account, acknowledged FROM peer_state WHERE account > %s "
                                   "AND (%s::text IS NULL OR account <= %s)", [after, end, end])
    return rows, dict(known), end


async def full(sync, source, state):
    """The whole table. The next page is read while the one before is compared and sent."""
    reading = sync.tasks.create_task(read_range(source, state, ""))
    while reading:
        rows, known, end = await reading
        reading = sync.tasks.create_task(read_range(source, state, end)) if end is not None else None
        for row in rows:
            sync.compare(row, known.pop(row[0], None))
        if known:
            await sync.gone(list(known))
        await sync.flush()


async def incremental(sync, source, state):
    """The rows that have changed since the last pass, and those of the overlap again."""
    found = await (await state.execute("SELECT read_from::text FROM peer_progress")).fetchone()
    if found is None:
        raise SystemExit("run with --full first")
    at, account = found[0], ""
    while rows := await copy_rows(source, f"SELECT {COLUMNS} FROM users WHERE (updated_at, id) > "
                                          f"(%s::timestamptz, %s) ORDER BY updated_at, id LIMIT {PAGE}", [at, account]):
        cursor = await state.execute("SELECT account, acknowledged FROM peer_state WHERE account = ANY(%s)",
                                     [[row[0] for row in rows]])
        known = dict(await cursor.fetchall())
        for row in rows:
            sync.compare(row, known.get(row[0]))
        await sync.flush()
        at, account = rows[-1][-1], rows[-1][0]


async def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True)
    parser.add_argument("--base-url", required=True)
    parser.add_argument("--key", default="simulator-secret-key")
    parser.add_argument("--rate", type=float, default=95)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--force", action="store_true")
    options = parser.parse_args()

    connections = [await psycopg.AsyncConnection.connect(options.url, autocommit=True) for _ in range(3)]
    source, state, recorder = connections
    await state.execute(SCHEMA)
    await recorder.execute('CREATE TEMP TABLE acknowledged_now (account text, acknowledged text)')
    began = (await (await source.execute("SELECT now()::text")).fetchone())[0]
    im = Im(options.base_url, options.key, options.rate)
    async with asyncio.TaskGroup() as tasks:
        sync = Sync(im, recorder, options.force, tasks)
        await (full if options.full or options.force else incremental)(sync, source, state)
        await sync.finish()
    await state.execute("INSERT INTO peer_progress (read_from) VALUES (%s::timestamptz - %s::interval) "
                        "ON CONFLICT (one) DO UPDATE SET read_from = excluded.read_from", [began, OVERLAP])
    await im.session.close()
    for connection in connections:
        await connection.close()
    sys.stdout.buffer.write(orjson.dumps({"rows": sync.rows, "pushed": sync.pushed, "calls": im.calls}) + b"\n")


asyncio.run(main())
