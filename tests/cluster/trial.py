"""Rounds of faults against one cluster under a workload whose history is judged."""

import collections
import random

from faults import Faults
from harness import wait_for
from history import Workload
from leads import Leads
from replicas import Replicas, shard_of

NEVER = {"INTERNAL", "FORGOTTEN", "DONE", "BADREQUEST"}  # what no fault may bring about


def early_in(cluster):
    """For Workload.stop: by how much something may expire too early."""
    shards = len(Replicas(cluster).know()["map"]["shards"])
    leads = Leads.of(cluster)
    return lambda key, *times: leads.early_us(shard_of(key, shards), *times)


class Trial:
    """Every round has a history of its own, over keys of its own; it ends with the faults undone, the replicas level and of
    one content, and every key read from each replica in turn."""

    def __init__(self, cluster, seed, kinds, make_faults=Faults):
        self.cluster = cluster
        self.replicas = Replicas(cluster)
        self.chance = random.Random(seed)
        self.faults = make_faults(cluster, self.chance, cluster.directory / "faults.log", kinds)
        self.rounds = 0
        self.totals = collections.Counter()
        self.errors = collections.Counter()
        self.longest_gap_us = 0

    def round(self, seconds):
        self.rounds += 1
        workload = Workload(self.cluster.addresses, self.cluster.directory / f"history-{self.rounds}.jsonl", workers=12,
                            keys_of_each_kind=8, seed=self.chance.randrange(1 << 32), timeout_ms=1500,
                            resolves=lambda number: number % 6 < 3, named=lambda number: number % 6 != 5)
        loads = [workload, *self.loads_beside()]
        try:
            self.work(loads, seconds)
        except AssertionError:
            self.faults.check()  # a daemon that has died since may be why
            raise
        finally:
            for load in loads:
                load.give_up()
        workload.stop(early_in(self.cluster))
        workload.judge()
        self.count(workload)
        workload.path.unlink()

    def work(self, loads, seconds):
        def operations():
            return [load.operations() for load in loads]
        for load in loads:
            load.start()
        self.faults.run(seconds, operations)
        self.wait_recovered()
        enough = [count + 200 for count in operations()]
        wait_for(lambda: all(count > least for count, least in zip(operations(), enough)), "operations go on")
        self.replicas.wait_settled()
        for load in loads:
            load.rest()
        self.replicas.wait_swept()
        self.replicas.wait_level()
        self.replicas.verify()
        for _ in self.replicas.lead_in_turns():
            for load in loads:
                load.read_back()

    def loads_beside(self):
        """Others, whose clients work as well (loads.py)."""
        return []

    def wait_recovered(self):
        """After the last fault is over."""

    def count(self, workload):
        self.errors += workload.errors()
        assert not NEVER & set(self.errors), self.errors
        self.totals += {"operations": workload.recorder.done, "unknown": workload.recorder.unknown}
        self.longest_gap_us = max(self.longest_gap_us, workload.recorder.longest_gap_us)

    def evidence(self, name, seconds):
        """A row of the table that scripts/test --full ends with."""
        return (f"evidence: faults of processes ({name}) | {seconds / 60:.0f} min in one go: {self.rounds} rounds, "
                f"{sum(self.faults.counts.values()):,} faults, {self.totals['operations']:,} operations | 0 rounds failed")

    def report(self):
        def listed(counts):
            return " ".join(f"{name}={count}" for name, count in sorted(counts.items()))
        return (f"rounds={self.rounds} {listed(self.totals)} longest_gap_ms={self.longest_gap_us // 1000}\n"
                f"  faults: {listed(self.faults.counts)}\n  errors: {listed(self.errors)}")
