#!/usr/bin/env python3
"""How long metad takes no changes around a fault of the server that leads it, and that nobody who writes data notices. Three
metad servers, three nodes, a gateway, default settings, each on a host of its own (tests/chaos/network.py): as root. Measures;
asserts nothing.

  kill      kill -9
  stop      SIGSTOP for 5 s
  isolate   its host reaches nobody for 5 s

A try's figure is the time from the fault until another server has committed a change of the map (a hand-over that somebody
asks for again and again), and that until the hand-over is done: two nodes and metad have agreed. Writers write all the time;
what they were refused or got as an error is counted.

usage: tests/bench/metad_failover.py [--tries N] [--only KIND[,KIND...]]
"""

import argparse
import pathlib
import signal
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "bench"), str(ROOT / "cluster"), str(ROOT / "chaos")]

import pynng  # noqa: E402

from failover import Writers, percentile  # noqa: E402
from harness import Client, Cluster, wait_for  # noqa: E402
from kinds import CLIENTS, down  # noqa: E402
from machines import Machines  # noqa: E402
from network import Network, links_between  # noqa: E402
from replicas import Replicas, tag_of  # noqa: E402

SHARDS = 16
METADS = 3
AWAY_S = 5.0
ASK_MS = 100  # a server that has not answered within that is asked again
WRITERS = 8


class Bench:
    def __init__(self, directory):
        names = Cluster.node_names(3)
        self.network = Network([*Cluster.metad_names(METADS), *names, *Cluster.gateway_names(1), CLIENTS])
        self.network.enter(CLIENTS)
        machines = Machines(self.network, pathlib.Path(directory), names)
        self.cluster = Cluster(directory, shards=SHARDS, metads=METADS, hosts=machines,
                               data_of=machines.data.__getitem__).start()
        self.replicas = Replicas(self.cluster)
        self.writers = Writers(self.cluster, tag_of(0, SHARDS), WRITERS)
        self.shard = 0

    def begin(self, kind, victim):
        """The fault; what undoes it is returned."""
        if kind == "kill":
            victim.kill()
            return victim.start
        if kind == "stop":
            victim.signal(signal.SIGSTOP)
            return lambda: victim.signal(signal.SIGCONT)
        others = [name for name in self.network.names() if name != victim.name]
        self.network.set(down(links_between([victim.name], others)))
        return lambda: self.network.set({})

    def ask(self, clients, *words):
        """Everybody else in turn, until one does it."""
        while True:
            for client in clients:
                try:
                    error, result = client.ask(*words)
                except pynng.exceptions.NNGException:
                    continue
                if error is None:
                    return result

    def one(self, kind):
        """Seconds until a change was committed, and until it was carried out; what writers were refused, and their errors."""
        self.replicas.wait_metad_complete()
        self.replicas.wait_at_home()
        status = self.replicas.know()
        victim = self.replicas.metad_leader(status)
        self.shard = (self.shard + 1) % SHARDS
        record = status["map"]["shards"][self.shard]
        to = next(node for node in record["isr"] if node != record["leader"])
        addresses = [metad.flag("--listen") for metad in self.cluster.metads if metad is not victim]
        clients = [Client(address, timeout_ms=ASK_MS) for address in addresses]
        self.writers.forget()
        begin_s = time.monotonic()
        undo = self.begin(kind, victim)
        self.ask(clients, "handover", self.shard, to)
        changed_s = time.monotonic()
        wait_for(lambda: self.ask(clients, "status")["map"]["shards"][self.shard]["leader"] == to, "it is carried out")
        done_s = time.monotonic()
        time.sleep(max(0, begin_s + AWAY_S - done_s) if kind != "kill" else 0)
        undo()
        self.replicas.wait_metad_complete()
        for client in clients:
            client.close()
        gap_s, _ = self.writers.gap(begin_s)
        return {"changed": changed_s - begin_s, "done": done_s - begin_s, "gap": gap_s,
                "refused": sum(writer.refused for writer in self.writers.all),
                "errors": sum(len(writer.errors) for writer in self.writers.all)}

    def stop(self):
        self.writers.stop()
        self.cluster.kill_all()
        self.network.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tries", type=int, default=30)
    parser.add_argument("--only", default="kill,stop,isolate")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(directory)
        try:
            for kind in options.only.split(","):
                tries = []
                for number in range(options.tries):
                    tries.append(bench.one(kind))
                    print(f"{kind} {number + 1}: " + " ".join(
                        f"{name}={value * 1000:.0f}ms" if isinstance(value, float) else f"{name}={value}"
                        for name, value in tries[-1].items()), flush=True)
                for name, words in (("changed", "until a change is committed"), ("done", "until it is carried out"),
                                    ("gap", "longest time without a write")):
                    values = sorted(one[name] * 1000 for one in tries)
                    print(f"{kind}: {words}: p50 {percentile(values, 0.5):.0f} p99 {percentile(values, 0.99):.0f} "
                          f"max {values[-1]:.0f} ms")
                print(f"{kind}: refused {sum(one['refused'] for one in tries)}, "
                      f"errors {sum(one['errors'] for one in tries)} in {options.tries} tries", flush=True)
        finally:
            bench.stop()


if __name__ == "__main__":
    main()
