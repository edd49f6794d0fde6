#!/usr/bin/env python3
"""What clients notice while a cluster of three nodes becomes one of five and three again. Measures; asserts nothing.

First some data is written. Then clients write and read batches of small commands over all shards all the time, each try
again what surely did not happen, and count everything else as an error. For each phase: how long it took until every
member had its share and nothing moved, the commands answered a second, the least in half a second (the dip, as a share
of what was answered before anything moved), and the longest time without any answer. `after` is the same without
anything that moves.

usage: tests/bench/membership.py [--keys N] [--value-size BYTES] [--clients N] [--batch N] [--moves-max N] [--seconds N]
"""

import argparse
import collections
import pathlib
import random
import shutil
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "cluster"))

from harness import Client, Cluster, wait_for  # noqa: E402
from test_membership import Members  # noqa: E402

SHARDS = 64
WINDOW_S = 0.5


class Worker(threading.Thread):
    """Batches of SET and GET of keys at random."""

    def __init__(self, address, options):
        super().__init__(daemon=True)
        self.client = Client(address)
        self.options = options
        self.answered = []  # (monotonic seconds, commands)
        self.errors = collections.Counter()
        self.stopping = False

    def run(self):
        chance = random.Random()
        value = "v" * self.options.value_size
        while not self.stopping:
            left = []
            for _ in range(self.options.batch):
                key = f"key:{chance.randrange(self.options.keys)}"
                left.append(["GET", [key]] if chance.random() < 0.5 else ["SET", [key, value]])
            while left and not self.stopping:
                answers = self.client("batch", *left)
                self.errors.update(error[0] for error, _ in answers if error is not None)
                refused = [command for command, (error, _) in zip(left, answers) if error is not None
                           and error[0] == "UNAVAILABLE"]
                self.answered.append((time.monotonic(), len(left) - len(refused)))
                left = refused


class Load:
    def __init__(self, cluster, options):
        self.workers = [Worker(cluster.address, options) for _ in range(options.clients)]
        for worker in self.workers:
            worker.start()

    def between(self, begin, end):
        """What was answered then, in order of time."""
        return sorted(one for worker in self.workers for one in list(worker.answered) if begin <= one[0] < end)

    def errors(self):
        return sum((worker.errors for worker in self.workers), collections.Counter())

    def stop(self):
        for worker in self.workers:
            worker.stopping = True
        for worker in self.workers:
            worker.join()


def load_data(cluster, options):
    value = "v" * options.value_size
    with cluster.client() as client:
        for begin in range(0, options.keys, 500):
            keys = range(begin, min(begin + 500, options.keys))
            client("batch", *[["SET", [f"key:{i}", value]] for i in keys])


def figures(load, begin, end):
    answered = load.between(begin, end)
    windows = collections.Counter({i: 0 for i in range(int((end - begin) / WINDOW_S))})
    for moment, count in answered:
        windows[int((moment - begin) / WINDOW_S)] += count
    whole = [windows[i] / WINDOW_S for i in range(int((end - begin) / WINDOW_S))]
    times = [begin, *(moment for moment, _ in answered), end]
    gap = max(after - before for before, after in zip(times, times[1:]))
    return sum(count for _, count in answered) / (end - begin), min(whole, default=0.0), gap


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=200_000)
    parser.add_argument("--value-size", type=int, default=100)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--moves-max", type=int, default=1, help="of metad")
    parser.add_argument("--seconds", type=int, default=10, help="of the phases in which nothing moves")
    options = parser.parse_args()
    directory = tempfile.mkdtemp(prefix="skerry-membership-")
    cluster = Cluster(directory, shards=SHARDS, metad_flags=["--moves-max", str(options.moves_max)])
    members = Members(cluster)
    try:
        cluster.start()
        load_data(cluster, options)
        load = Load(cluster, options)
        before = None

        def rest():
            time.sleep(options.seconds)

        def drain(node_id):
            members.start_admin("drain", node_id)
            wait_for(lambda: members.is_even(members.know()), "it is drained", patience_s=3600)

        def join(nodes):
            cluster.add_node()
            wait_for(lambda: len(members.ids(members.know())) == nodes and members.is_even(members.know()),
                     "it has its share", patience_s=3600)

        phases = [("before", rest), ("a 4th joins", lambda: join(4)), ("a 5th joins", lambda: join(5)), ("five", rest),
                  ("2 is drained", lambda: drain(2)), ("1 is drained", lambda: drain(1)), ("after", rest)]
        print(f"{options.keys} keys of {options.value_size} bytes, {options.clients} clients, batches of {options.batch}, "
              f"{SHARDS} shards, moves-max {options.moves_max}")
        for name, act in phases:
            begin = time.monotonic()
            act()
            end = time.monotonic()
            rate, least, gap = figures(load, begin, end)
            before = before or rate
            print(f"{name:14} {end - begin:7.1f} s   {rate:9.0f} commands/s ({rate / before:4.0%})   "
                  f"least {least:9.0f}/s ({least / before:4.0%})   longest gap {gap * 1000:6.0f} ms", flush=True)
        load.stop()
        print("errors:", dict(load.errors()) or "none")
    finally:
        cluster.kill_all()
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
