"""Workloads that write down what they asked and what they were answered, for skerry-check to judge (tests/check).

Each worker is a client that does one operation at a time, of a random kind on a random key. Every value it writes is
unlike every other, so that a read tells which write it saw. Every write has an id: sent again under it, it takes
effect once or not at all, whatever happened to the first.

A history has one line for each operation, in the form that tests/check/history_file.h describes. What was in flight when
the workload ended is written down as unknown, so that a history is complete however it ended."""

import json
import random
import secrets
import subprocess
import threading
import time

import pynng

from harness import BINARIES, Client

# Kinds of keys, and how often each operation comes on them. Texts under "any" may be numbers, lists or neither.
MIXES = {
    "register": {"get": 6, "set": 3, "cas": 4, "del": 1},
    "counter": {"get": 3, "incr": 6},
    "list": {"get": 4, "append": 6, "del": 1},
    "any": {"get": 6, "set": 2, "cas": 3, "incr": 2, "append": 2, "del": 2},
}

NOT_DONE = {"UNAVAILABLE", "OVERLOADED", "DISKFULL"}  # surely not; the same may succeed later
REFUSED = {"BADVALUE", "WRONGTYPE", "TOOLARGE"}  # surely not, and never will
PAUSE_S = 0.005  # before the same is asked again


def microseconds():
    return time.monotonic_ns() // 1000


class Recorder:
    """Writes a history. Any thread. Every operation that begins is in the file after close()."""

    def __init__(self, path):
        self.file = open(path, "w", encoding="utf-8")
        self.lock = threading.Lock()
        self.in_flight = {}  # the operation of each client
        self.done = 0  # operations with a known outcome
        self.unknown = 0

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
            else:
                operation["outcome"] = outcome
            self.write(operation)

    def write(self, operation):
        self.file.write(json.dumps(operation) + "\n")
        if operation.get("outcome") == "unknown":
            self.unknown += 1
        elif "outcome" not in operation:
            self.done += 1

    def close(self):
        with self.lock:
            for operation in self.in_flight.values():
                self.write({**operation, "outcome": "unknown"})
            self.in_flight = {}
            self.file.close()


def text_of(result):
    """A value as the history has it: each byte a character."""
    return result.decode("latin-1") if isinstance(result, bytes) else result


class Worker(threading.Thread):
    def __init__(self, number, make_client, recorder, keys, seed, timeout_ms):
        super().__init__(daemon=True)
        self.number = number
        self.make_client = make_client
        self.client = make_client()
        self.recorder = recorder
        self.keys = keys  # [(key, kind)]
        self.chance = random.Random(seed)
        self.timeout_ms = timeout_ms
        self.name_of_run = secrets.token_hex(4)  # ids of other runs are other ids
        self.count = 0
        self.last_seen = {}  # of each key
        self.stopping = threading.Event()
        self.failure = None

    def run(self):
        try:
            while not self.stopping.is_set():
                self.do_something()
        except BaseException as failure:  # told by the thread that waits
            self.failure = failure
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
        self.recorder.begin(self.number, key, op, **arguments)
        outcome, result = self.ask(command, None if op == "get" else f"{self.name_of_run}-{self.number}-{self.count}")
        if outcome == "done" and op == "get":
            result = self.last_seen[key] = text_of(result)
        if outcome == "done" and op == "set":
            result = None
        self.recorder.end(self.number, outcome, result)

    def ask(self, command, name):
        """Until there is an answer: the id makes a repeat harmless, and reads are harmless anyway."""
        options = {"timeout_ms": self.timeout_ms} if name is None else {"timeout_ms": self.timeout_ms, "id": name}
        may_have_happened = False
        while True:
            error, result = self.ask_once(command, options)
            if error is None:
                return "done", result
            if error in REFUSED:
                return "failed", None
            if error == "LOST":
                may_have_happened = True
            elif error not in NOT_DONE:  # TIMEOUT, FORGOTTEN, INTERNAL, DONE
                return "unknown", None
            if self.stopping.wait(PAUSE_S):
                return ("unknown" if may_have_happened else "failed"), None

    def ask_once(self, command, options):
        """The error's code and the result. "LOST": no answer came, as when the gateway has died."""
        try:
            error, result = self.client.ask(*command, **options)
        except pynng.exceptions.NNGException:
            self.client.close()
            self.client = self.make_client()
            return "LOST", None
        if error is None:
            return None, result
        assert error[0] != "BADREQUEST", (command, error)
        return error[0], None


class Workload:
    """Workers against a gateway, and their history in `path`. Between start and stop the test does its worst."""

    def __init__(self, address, path, workers=8, keys_of_each_kind=2, seed=None, timeout_ms=2000):
        self.path = path
        self.seed = random.SystemRandom().randrange(1 << 32) if seed is None else seed
        print("workload seed", self.seed)
        self.recorder = Recorder(path)
        # A history begins with keys that are not there, so no other run may have had them.
        prefix = secrets.token_hex(4)
        keys = [(f"{prefix}:{kind}:{i}", kind) for kind in MIXES for i in range(keys_of_each_kind)]
        self.workers = [Worker(i, lambda: Client(address, timeout_ms=timeout_ms + 3000), self.recorder, keys,
                               self.seed * 1000 + i, timeout_ms) for i in range(workers)]

    def start(self):
        for worker in self.workers:
            worker.start()
        return self

    def operations(self):
        """How many have had a known outcome so far; for waiting until some more have. A worker that failed fails here."""
        for worker in self.workers:
            if worker.failure is not None:
                raise worker.failure
        return self.recorder.done

    def run_for(self, seconds):
        """Lets them work, and ends early if one fails."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.operations()
            time.sleep(0.05)

    def stop(self):
        for worker in self.workers:
            worker.stopping.set()
        for worker in self.workers:
            worker.join(worker.timeout_ms / 1000 + 60)
        self.recorder.close()
        self.operations()

    def judge(self):
        return judge(self.path)


def judge(path, budget=None):
    """skerry-check's summary of a good history; anything else fails the test and says why."""
    command = [BINARIES["skerry-check"], *(["--budget", str(budget)] if budget else []), path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"the history {path} is not accepted:\n{done.stdout}{done.stderr}"
    return done.stdout.splitlines()[-1]
