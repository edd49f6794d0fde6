"""Workloads that write down what they asked and what they were answered, for skerry-check to judge (tests/check).

Each worker is a client that does one operation at a time, of a random kind on a random key. Every value it writes is
unlike every other, so that a read tells which write it saw. Every write has an id: sent again under it, it takes
effect once or not at all, whatever happened to the first.

A history has one line for each operation, in the form that tests/check/history_file.h describes. What was in flight when
the workload ended is written down as unknown, so that a history is complete however it ended."""

import collections
import itertools
import json
import math
import random
import secrets
import subprocess
import threading
import time

from asking import Asker
from harness import BINARIES, Client

# Kinds of keys, and how often each operation comes on them. Texts under "any" may be numbers, lists or neither.
MIXES = {
    "register": {"get": 6, "set": 3, "cas": 4, "del": 1},
    "counter": {"get": 3, "incr": 6},
    "list": {"get": 4, "append": 6, "del": 1},
    "expiring": {"get": 8, "expire": 3, "set": 1, "del": 1},
    "any": {"get": 6, "set": 2, "cas": 3, "incr": 2, "append": 2, "del": 2},
}

LIVES_MS = (1, 10_000)  # of what expires

OLD_WRITES = 200  # of each worker; one of them is asked for again
REPEAT_ONE_IN = 20  # operations


def microseconds():
    return time.monotonic_ns() // 1000


class Recorder:
    """Writes a history. Any thread. Every operation that begins is in the file after close()."""

    def __init__(self, path):
        self.file = open(path, "w", encoding="utf-8")
        self.lock = threading.Lock()
        self.in_flight = {}  # the operation of each client
        self.expiring = []  # operations that are written at the end
        self.done = 0  # operations with a known outcome
        self.unknown = 0
        self.written_us = None  # when the last write was acknowledged
        self.longest_gap_us = 0  # between two of these

    def begin(self, client, key, op, **arguments):
        operation = {"client": client, "key": key, "op": op, **arguments, "begin": microseconds()}
        with self.lock:
            assert client not in self.in_flight
            self.in_flight[client] = operation

    def end(self, client, outcome, result=None):
        """outcome: "done", "unknown" or "failed" (surely not done)."""
        end = microseconds()
        with self.lock:
            operation = self.in_flight.pop(client)
            if outcome == "done":
                operation["end"] = end
                operation["result"] = result
                if operation["op"] != "get":
                    self.note_write(end)
            else:
                operation["outcome"] = outcome
            self.write(operation)

    def note_write(self, now_us):
        if self.written_us is not None:
            self.longest_gap_us = max(self.longest_gap_us, now_us - self.written_us)
        self.written_us = now_us

    def write(self, operation):
        if "life_us" in operation:
            self.expiring.append(operation)
        else:
            self.file.write(json.dumps(operation) + "\n")
        if operation.get("outcome") == "unknown":
            self.unknown += 1
        elif "outcome" not in operation:
            self.done += 1

    def close(self, early_us=lambda key, begin_us, end_us, due_us: 0):
        """`early_us` of a key and three times: by how much a value of it that was written between the first two, and is due
        at the third by a clock, may be gone too early, since the cluster's time may have run ahead; microseconds."""
        with self.lock:
            for operation in self.in_flight.values():
                self.write({**operation, "outcome": "unknown"})
            self.in_flight = {}
            for operation in self.expiring:
                self.file.write(json.dumps(operation | {"expires": expiry_of(operation, early_us)}) + "\n")
            self.file.close()


def expiry_of(operation, early_us):
    """At the earliest. The cluster counts from when it executes the command, which is not before it was asked."""
    begin, due = operation["begin"], operation["begin"] + operation["life_us"]
    return max(begin, due - early_us(operation["key"], begin, operation.get("end", due), due))


def text_of(result):
    """A value as the history has it: each byte a character."""
    return result.decode("latin-1") if isinstance(result, bytes) else result


class Worker(Asker):
    """resolves: also, now and then it asks for an old write again, which must get the old answer. Not named: its writes have
    no ids, so that one without an answer is left unknown, and what its gateway asks for again is told from new by the
    gateway's own names."""

    def __init__(self, number, make_client, recorder, keys, seed, timeout_ms, resolves=False, named=True):
        super().__init__(make_client, timeout_ms, resolves)
        self.number = number
        self.recorder = recorder
        self.keys = keys  # [(key, kind)]
        self.chance = random.Random(seed)
        self.named = named
        self.old_writes = collections.deque(maxlen=OLD_WRITES)  # [(command, name, result)]
        self.name_of_run = secrets.token_hex(4)  # ids of other runs are other ids
        self.count = 0
        self.last_seen = {}  # of each key

    def work(self):
        try:
            while not self.stopping.is_set():
                self.do_something()
                if self.resolves and self.old_writes and self.chance.randrange(REPEAT_ONE_IN) == 0:
                    self.repeat(*self.chance.choice(self.old_writes))
        finally:
            self.client.close()

    def do_something(self):
        key, kind = self.chance.choice(self.keys)
        mix = MIXES[kind]
        op = self.chance.choices(list(mix), list(mix.values()))[0]
        self.count += 1
        value = f"{self.number}-{self.count};"
        if op == "get":
            self.perform(key, op, ["GET", key])
        elif op == "set":
            self.perform(key, op, ["SET", key, value], value=value)
        elif op == "expire":
            life_ms = int(math.exp(self.chance.uniform(*map(math.log, LIVES_MS))))
            self.perform(key, "set", ["SET", key, value, "PX", life_ms], value=value, life_us=life_ms * 1000)
        elif op == "del":
            self.perform(key, op, ["DEL", key])
        elif op == "incr":
            amount = self.chance.randint(1, 3)
            self.perform(key, op, ["INCRBY", key, amount], amount=amount)
        elif op == "append":
            self.perform(key, op, ["APPEND", key, value], value=value)
        else:
            expected = self.last_seen.get(key)
            new = None if self.chance.randrange(8) == 0 else value
            self.perform(key, op, ["CAS", key, expected, new], expected=expected, value=new)

    def perform(self, key, op, command, **arguments):
        named = self.named and op != "get"
        name = f"{self.name_of_run}-{self.number}-{self.count}" if named else None
        self.recorder.begin(self.number, key, op, **arguments)
        outcome, result = self.ask(command, name, repeatable=named or op == "get")
        if outcome == "refused":
            outcome, result = "failed", None
        if outcome == "done" and named:
            self.old_writes.append((command, name, result))
        if outcome == "done" and op == "get":
            result = self.last_seen[key] = text_of(result)
        if outcome == "done" and op == "set":
            result = None
        self.recorder.end(self.number, outcome, result)


class Workload:
    """Workers against gateways, and their history in `path`. A worker whose gateway does not answer asks the next one.
    Between start and stop the test does its worst."""

    def __init__(self, addresses, path, workers=8, keys_of_each_kind=2, seed=None, timeout_ms=2000,
                 resolves=lambda number: False, named=lambda number: True):
        self.path = path
        self.addresses = [addresses] if isinstance(addresses, str) else addresses
        self.patience_ms = timeout_ms + 3000
        self.seed = random.SystemRandom().randrange(1 << 32) if seed is None else seed
        print("workload seed", self.seed)
        self.recorder = Recorder(path)
        # A history begins with keys that are not there, so no other run may have had them.
        prefix = secrets.token_hex(4)
        self.keys = [(f"{prefix}:{kind}:{i}", kind) for kind in MIXES for i in range(keys_of_each_kind)]
        self.workers = [self.make_worker(i, timeout_ms, resolves=resolves(i), named=named(i)) for i in range(workers)]

    def make_worker(self, number, timeout_ms, **manners):
        turns = itertools.islice(itertools.cycle(self.addresses), number % len(self.addresses), None)

        def make_client():
            return Client(next(turns), timeout_ms=self.patience_ms)
        return Worker(number, make_client, self.recorder, self.keys, self.seed * 1000 + number, timeout_ms,
                      **manners)

    def start(self):
        for worker in self.workers:
            worker.start()
        return self

    def operations(self):
        """How many have had a known outcome so far; for waiting until some more have. A worker that failed fails here."""
        for worker in self.workers:
            worker.check()
        return self.recorder.done

    def run_for(self, seconds):
        """Lets them work, and ends early if one fails."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.operations()
            time.sleep(0.05)

    def rest(self):
        """Nobody asks any more; the history stays open."""
        for worker in self.workers:
            worker.stopping.set()
        for worker in self.workers:
            worker.join(worker.timeout_ms / 1000 + 60)
        self.operations()

    def read_back(self):
        """Reads every key, for the history, after rest()."""
        reader = self.make_worker(len(self.workers), 60000)
        for key, _ in self.keys:
            reader.perform(key, "get", ["GET", key])
        reader.client.close()

    def stop(self, *early_us):
        self.rest()
        self.recorder.close(*early_us)

    def give_up(self):
        """The test has failed: nobody needs to ask any more."""
        for worker in self.workers:
            worker.stopping.set()

    def errors(self):
        """How often which code was answered."""
        return sum((worker.errors for worker in self.workers), collections.Counter())

    def judge(self):
        return judge(self.path)


def judge(path, budget=None):
    """skerry-check's summary of a good history; anything else fails the test and says why."""
    command = [BINARIES["skerry-check"], *(["--budget", str(budget)] if budget else []), path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"the history {path} is not accepted:\n{done.stdout}{done.stderr}"
    return done.stdout.splitlines()[-1]
