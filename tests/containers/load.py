"""Clients in a container beside the cluster: they count under load, and try again whatever a client may try again.

usage: load.py ADDRESS NAME        increments until SIGTERM, reads every counter back, and prints them as JSON
       load.py ADDRESS --check     reads such JSON, and whether the counters are still there

Each increment has an id and is sent until it is answered; so a counter that is not what its client has counted is a
write lost or done twice. Exit code 0: nothing is missing, and no request failed for good."""

import itertools
import json
import signal
import sys
import threading
import time

import msgpack
import pynng

CLIENTS = 4
KEYS = 24  # of each client; they lie in as many shards
PATIENCE_S = 60  # what has not been answered by then has failed
AGAIN = ("UNAVAILABLE", "TIMEOUT", "OVERLOADED")


class Client:
    def __init__(self, address):
        self.address = address
        self.numbers = itertools.count(1)
        self.socket = None
        self.retries = 0
        self.longest_s = 0.0

    def once(self, method, params, options):
        """The reply's [error, result]; LOST when the connection broke, whatever has become of the request."""
        try:
            if self.socket is None:
                self.socket = pynng.Req0(resend_time=-1, send_timeout=2000, recv_timeout=7000)
                self.socket.dial(self.address, block=True)
            self.socket.send(msgpack.packb([0, next(self.numbers) & 0xffffffff, method, params, options]))
            return msgpack.unpackb(self.socket.recv())[2:]
        except pynng.NNGException as failure:
            self.close()
            return ["LOST", str(failure)], None

    def ask(self, method, *params, **options):
        begin = time.monotonic()
        while True:
            error, result = self.once(method, params, options)
            took_s = time.monotonic() - begin
            if error is None:
                self.longest_s = max(self.longest_s, took_s)
                return result
            if error[0] not in ("LOST", *AGAIN) or took_s > PATIENCE_S:
                raise RuntimeError(f"{method} {params}: {error} after {took_s:.1f} s")
            self.retries += 1
            time.sleep(0.02)

    def close(self):
        if self.socket is not None:
            self.socket.close()
        self.socket = None


class Counter(threading.Thread):
    def __init__(self, address, name, stopping):
        super().__init__()
        self.client = Client(address)
        self.stopping = stopping
        self.counts = {f"{name}:{i}": 0 for i in range(KEYS)}
        self.rounds = 0
        self.failure = None

    def count(self, key):
        result = self.client.ask("INCR", key, id=f"{key}:{self.counts[key]}")
        self.counts[key] += 1
        if result != self.counts[key]:
            raise RuntimeError(f"{key} is {result} after {self.counts[key]} increments")

    def run(self):
        try:
            while not self.stopping.is_set():
                for key in self.counts:
                    self.count(key)
                self.rounds += 1
            check(self.client, self.counts)
        except Exception as failure:
            self.failure = failure
            self.stopping.set()


def check(client, counts):
    for key, count in counts.items():
        value = client.ask("GET", key)
        if value != str(count).encode():
            raise RuntimeError(f"{key} is {value}, acknowledged were {count}")


def load(address, name):
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    counters = [Counter(address, f"{name}{i}", stopping) for i in range(CLIENTS)]
    for counter in counters:
        counter.start()
    told = None
    while any(counter.is_alive() for counter in counters):
        rounds = min(counter.rounds for counter in counters)
        if rounds != told:
            print(f"rounds {rounds}", flush=True)
        told = rounds
        time.sleep(0.05)
    failures = [str(counter.failure) for counter in counters if counter.failure]
    counts = {key: count for counter in counters for key, count in counter.counts.items()}
    print(json.dumps({
        "failures": failures,
        "increments": sum(counts.values()),
        "retries": sum(counter.client.retries for counter in counters),
        "longest_s": round(max(counter.client.longest_s for counter in counters), 2),
        "counts": counts,
    }), flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    if sys.argv[2] == "--check":
        check(Client(sys.argv[1]), json.load(sys.stdin))
    else:
        sys.exit(load(sys.argv[1], sys.argv[2]))
