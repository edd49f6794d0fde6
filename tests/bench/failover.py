#!/usr/bin/env python3
"""How long one shard takes no writes around a fault, with default settings. Measures; asserts nothing.

  leader    kill -9 of the process that leads the shard
  follower  kill -9 of one that follows
  stopped   SIGSTOP of one that follows
  handover  a planned hand-over; no client may see an error

Many small writers write to the one shard all the time. A try's figure is the longest time between two successive
writes that were acknowledged around the fault. The victim stays down until that is measured, then comes back, and the
next try begins when every shard is in sync and led where it belongs. `idle` is the same without a fault: what the
machine and this script add by themselves.

usage: tests/bench/failover.py [--tries N] [--only KIND[,KIND…]] [--writers N] [--trace]
"""

import argparse
import datetime
import pathlib
import re
import shutil
import signal
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "cluster"))

from harness import Client, Cluster, wait_for  # noqa: E402
from replicas import Replicas, tag_of  # noqa: E402

SHARDS = 64
LOOK_S = 1.5  # after writes have come back: what else the fault causes belongs to it


class Writer(threading.Thread):
    """Sets one key of the shard again and again, and notes when it was acknowledged."""

    def __init__(self, address, key):
        super().__init__(daemon=True)
        self.client = Client(address)
        self.key = key
        self.done = []  # monotonic seconds
        self.refused = 0  # UNAVAILABLE: surely not done, tried again
        self.errors = []
        self.stopping = False

    def run(self):
        number = 0
        while not self.stopping:
            number += 1
            error, _ = self.client.ask("SET", self.key, str(number))
            if error is None:
                self.done.append(time.monotonic())
            elif error[0] == "UNAVAILABLE":
                self.refused += 1
            else:
                self.errors.append(error)


class Writers:
    def __init__(self, cluster, tag, count):
        self.all = [Writer(cluster.address, f"{{{tag}}}{i}") for i in range(count)]
        for writer in self.all:
            writer.start()
        wait_for(lambda: all(len(writer.done) > 10 for writer in self.all), "everybody writes")

    def forget(self):
        for writer in self.all:
            writer.done = writer.done[-1:]
            writer.refused, writer.errors = 0, []

    def last(self):
        return max(writer.done[-1] for writer in self.all)

    def gap(self, since):
        """The longest time without an acknowledged write that ended after `since`, and when it ended."""
        times = sorted(moment for writer in self.all for moment in list(writer.done))
        pairs = [(after - before, after) for before, after in zip(times, times[1:]) if after > since]
        return max(pairs)

    def stop(self):
        for writer in self.all:
            writer.stopping = True
        for writer in self.all:
            writer.join()
            writer.client.close()


class Trace:
    """What the daemons' logs say of one shard after a moment, in milliseconds from it."""

    LINE = re.compile(r"^(\S+)Z level=\S+ daemon=(\S+) event=(\S+)(.*)$")

    def __init__(self, cluster):
        self.cluster = cluster
        self.read = {daemon.name: daemon.log.stat().st_size for daemon in cluster.daemons()}

    def lines(self, shard, since):
        found = []
        for daemon in self.cluster.daemons():
            with open(daemon.log, errors="replace") as log:
                log.seek(self.read[daemon.name])
                for line in log:
                    match = self.LINE.match(line)
                    if not match:
                        continue
                    other = re.search(r" shard=(\d+)", match[4])
                    if other and int(other[1]) != shard:
                        continue
                    at = datetime.datetime.fromisoformat(match[1] + "+00:00").timestamp()
                    found.append(((at - since) * 1000, daemon.name, match[3], match[4].strip()))
        return sorted(line for line in found if line[0] >= 0)


def kill(victim):
    victim.signal(signal.SIGKILL)


def stop(victim):
    victim.signal(signal.SIGSTOP)


def restart(victim):
    victim.process.wait()
    victim.process = None
    victim.start()


def resume(victim):
    victim.signal(signal.SIGCONT)


class Bench:
    def __init__(self, cluster, writers):
        self.cluster = cluster
        self.replicas = Replicas(cluster)
        self.writers = writers
        self.shard = 0
        self.turn = 0

    def follower(self):
        self.turn += 1
        return self.replicas.followers(self.shard)[self.turn % 2]

    def measure(self, act):
        """Seconds without writes around act()."""
        self.writers.forget()
        begin, begin_wall = time.monotonic(), time.time()
        act()
        wait_for(lambda: self.writers.last() > begin + LOOK_S, "writes have come back")
        gap, end = self.writers.gap(begin)
        refused = sum(writer.refused for writer in self.writers.all)
        errors = [error for writer in self.writers.all for error in writer.errors]
        return {"gap": gap, "end_ms": (end - begin) * 1000, "begin_wall": begin_wall, "refused": refused, "errors": errors}

    def one(self, kind):
        if kind == "idle":
            return self.measure(lambda: None)
        self.replicas.wait_at_home()
        if kind == "handover":
            record = self.replicas.know()["map"]["shards"][self.shard]
            to = next(node for node in record["isr"] if node != record["leader"])
            with Client(self.cluster.metad_address) as metad:
                return self.measure(lambda: metad("handover", self.shard, to))
        victim = self.replicas.leader(self.shard) if kind == "leader" else self.follower()
        fault, undo = (stop, resume) if kind == "stopped" else (kill, restart)
        try:
            return self.measure(lambda: fault(victim))
        finally:
            undo(victim)


def percentile(values, part):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * part))]


def report(kind, results):
    gaps = [result["gap"] * 1000 for result in results]
    errors = [error for result in results for error in result["errors"]]
    refused = sum(result["refused"] for result in results)
    print(f"{kind:10} tries {len(gaps):3}   p50 {percentile(gaps, 0.5):7.1f} ms   p99 {percentile(gaps, 0.99):7.1f} ms"
          f"   max {max(gaps):7.1f} ms   refused {refused}   errors {len(errors)}", flush=True)
    for error in errors[:5]:
        print("   ", error)


def main():
    kinds = ["idle", "leader", "follower", "stopped", "handover"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tries", type=int, default=30, help="of each kind (30)")
    parser.add_argument("--only", default=",".join(kinds), help="of " + ", ".join(kinds))
    parser.add_argument("--writers", type=int, default=32)
    parser.add_argument("--trace", action="store_true", help="print what the daemons logged in each try")
    options = parser.parse_args()
    level = ["--log-level", "debug"] if options.trace else []
    directory = tempfile.mkdtemp(prefix="skerry-failover-")
    cluster = Cluster(directory, shards=SHARDS, shardd_flags=level, gateway_flags=level)
    try:
        cluster.start()
        writers = Writers(cluster, tag_of(0, SHARDS), options.writers)
        bench = Bench(cluster, writers)
        for kind in options.only.split(","):
            results = []
            for _ in range(options.tries):
                trace = Trace(cluster)
                results.append(bench.one(kind))
                if options.trace:
                    result = results[-1]
                    print(f"--- {kind}: gap {result['gap'] * 1000:.1f} ms, ended at {result['end_ms']:.1f}")
                    for at, name, event, rest in trace.lines(bench.shard, result["begin_wall"]):
                        if at < result["end_ms"] + 50:
                            print(f"{at:9.2f}  {name:9} {event} {rest}")
                sys.stdout.flush()
            report(kind, results)
        writers.stop()
    finally:
        cluster.kill_all()
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
