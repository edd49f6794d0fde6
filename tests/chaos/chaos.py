#!/usr/bin/env python3
"""Chaos: whole clusters of real processes on hosts of their own, whose networks, disks and processes fail in every way that
a seed names, up to three at once, while clients work; what they saw is judged.

A round is some seconds of faults; then all of them heal, and every shard must take a write within 5 s. Nothing that was
acknowledged may be missing, nothing may have happened twice, every history must be linearizable, what clients of all data
types rely on must hold, nothing may be left of long collections that were removed, and all replicas must be equal. Logs,
faults and histories of a round that fails stay where it says.

With --until, what has passed is remembered for these programs, and an interrupted run goes on where it was."""

import argparse
import collections
import hashlib
import json
import pathlib
import random
import shutil
import statistics
import subprocess
import sys
import time
import traceback

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "cluster"))

from giants import ELEMENTS  # noqa: E402
from harness import BINARIES, BUILD, SPARES, Cluster, wait_for  # noqa: E402
from kinds import CLIENTS, KINDS, ChaosFaults  # noqa: E402
from loads import TypesLoad  # noqa: E402
from machines import Machines  # noqa: E402
from network import Network  # noqa: E402
from recovery import Probers  # noqa: E402
from trial import NEVER, Trial  # noqa: E402
from variants import VARIANTS  # noqa: E402

RECOVERY_S_MAX = 5.0
ROUND_S = (10, 45)  # longer histories take the judge longer
ROUNDS_OF_A_CLUSTER = 8
DEAD_SOON = ["--node-dead-after", "4s"]  # then others get what a node had, if there are enough


class ChaosTrial(Trial):
    def __init__(self, cluster, seed, kinds, shards):
        super().__init__(cluster, seed, kinds, ChaosFaults)
        self.shards = shards
        self.probers = None
        self.recoveries = []  # seconds, of each round
        self.types = None  # the load of the round
        self.removals = []  # of collections of very many elements: (type, by what, seconds until that was answered)

    def round(self, seconds):
        self.probers = Probers(self.cluster.addresses, self.shards)
        try:
            super().round(seconds)
        finally:
            self.probers.finish()

    def loads_beside(self):
        self.types = TypesLoad(self.cluster, self.shards, self.chance.randrange(1 << 32))
        return [self.types]

    def count(self, workload):
        super().count(workload)
        errors = self.types.errors()
        assert not NEVER & set(errors), errors
        self.totals += {"steps_of_types": self.types.operations(), "giants": len(self.types.giant.removed)}
        self.removals += self.types.giant.removed

    def wait_recovered(self):
        healed_s = self.faults.healed_s
        try:
            each = wait_for(lambda: self.probers.recovered_after(healed_s), "every shard takes writes")
        except AssertionError as never:
            raise AssertionError(f"never: {self.stories()}") from never
        self.probers.finish()  # else the replicas would never be level
        self.recoveries.append(max(each))

    def stories(self):
        """Of the shards that recovered too late in the last round."""
        return self.probers.stories_after(self.faults.healed_s, RECOVERY_S_MAX)


class Tally:
    """Of all rounds that were begun with the same programs, in a file of `directory`."""

    def __init__(self, directory):
        programs = hashlib.sha256(b"".join(BINARIES[name].read_bytes() for name in ("metad", "shardd", "gateway")))
        self.path = directory / f"tally-{programs.hexdigest()[:16]}.json"
        self.sums = collections.Counter()  # seconds, passed, failed, faults, operations, unknown
        self.recoveries = []
        if self.path.exists():
            kept = json.loads(self.path.read_text())
            self.sums.update(kept["sums"])
            self.recoveries = kept["recoveries"]

    def add(self, sums, recoveries=()):
        self.sums.update(sums)
        self.recoveries += recoveries
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps({"sums": self.sums, "recoveries": self.recoveries}))
        new.rename(self.path)

    def report(self):
        """A row of the table that scripts/test --full ends with."""
        sums = self.sums
        recovered = f"; every shard writable again {quantiles(self.recoveries)}" if self.recoveries else ""
        return (f"evidence: chaos | {sums['seconds'] / 3600:.1f} h: {sums['passed'] + sums['failed']} rounds, {sums['faults']:,} faults "
                f"of {len(KINDS)} kinds, {sums['operations']:,} operations | {sums['failed']} rounds failed{recovered}")


def quantiles(seconds):
    ordered = sorted(seconds)
    return (f"p50 {statistics.median(ordered):.2f} s, p99 {ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]:.2f} s, "
            f"max {ordered[-1]:.2f} s after the last fault healed ({len(ordered)} rounds)")


class Chaos:
    """Clusters one after the other, rounds in each; a cluster that has failed is left as it is."""

    def __init__(self, options):
        self.options = options
        self.chance = random.Random(options.seed)
        self.directory = options.directory / f"seed-{options.seed}"
        options.directory.mkdir(parents=True, exist_ok=True)
        self.tally = Tally(options.directory) if options.until is not None else None
        seconds = options.until - self.tally.sums["seconds"] if self.tally else options.seconds
        self.end_s = time.monotonic() + seconds
        self.passed = 0
        self.failures = []  # of (round's name, why)
        self.recoveries, self.removals = [], []
        self.totals, self.faults, self.errors, self.undone = (collections.Counter() for _ in range(4))
        self.clusters = 0
        daemons = [*Cluster.metad_names(options.metads), *Cluster.node_names(options.nodes), *Cluster.gateway_names(options.gateways)]
        self.network = Network([*daemons, CLIENTS])
        self.network.enter(CLIENTS)  # for good: nng's threads stay where they began

    def run(self):
        shutil.rmtree(self.directory, ignore_errors=True)
        try:
            while time.monotonic() < self.end_s:
                self.clusters += 1
                self.run_cluster(self.directory / f"cluster-{self.clusters}", self.chance.choice(list(VARIANTS)))
        finally:
            self.report()
            self.network.close()
        return not (self.tally.sums["failed"] if self.tally else self.failures)

    def run_cluster(self, directory, variant):
        options = self.options
        metad_flags = self.chance.choice([[], DEAD_SOON])
        metads = self.chance.choice([1, options.metads])
        self.say(f"cluster {self.clusters}: {variant} metads={metads} {' '.join(metad_flags)}")
        self.network.begin_anew(keep=CLIENTS)
        machines = Machines(self.network, directory, Cluster.node_names(options.nodes))
        cluster = Cluster(directory, nodes=options.nodes, shards=options.shards, gateways=options.gateways, hosts=machines,
                          data_of=machines.data.__getitem__, metad_flags=metad_flags, metads=metads,
                          **VARIANTS[variant])
        trial = ChaosTrial(cluster, f"{options.seed}-{self.clusters}", options.kinds, options.shards)
        failed = len(self.failures)
        try:
            cluster.start()
            while trial.rounds < ROUNDS_OF_A_CLUSTER and time.monotonic() < self.end_s:
                self.run_round(trial)
            cluster.stop()
        except Exception as failure:
            self.remember(failed=1)
            self.failed(f"{directory.name} round {trial.rounds}", failure)
            write_stacks(cluster)
            self.write_connections(directory)
        finally:
            self.add(trial)
            cluster.kill_all()
        if len(self.failures) == failed and not options.keep:
            shutil.rmtree(directory)

    def run_round(self, trial):
        begin_s = time.monotonic()
        faults = sum(trial.faults.counts.values())
        totals = trial.totals.copy()
        trial.round(max(1, min(self.chance.uniform(*ROUND_S), self.end_s - begin_s)))
        recovery_s = trial.recoveries[-1]
        faults = sum(trial.faults.counts.values()) - faults
        self.say(f"cluster {self.clusters} round {trial.rounds}: {faults} faults, writable after {recovery_s:.2f} s, "
                 f"{trial.totals['operations']} operations so far")
        in_time = recovery_s <= RECOVERY_S_MAX
        self.remember([recovery_s], seconds=time.monotonic() - begin_s, faults=faults, passed=int(in_time),
                      failed=int(not in_time), **(trial.totals - totals))
        if in_time:
            self.passed += 1
        else:
            self.failures.append((f"cluster {self.clusters} round {trial.rounds}",
                                  f"TOO LATE: a shard took no write for {recovery_s:.2f} s after all had healed\n{trial.stories()}"))
            self.say(self.failures[-1][1])

    def remember(self, recoveries=(), **sums):
        if self.tally:
            self.tally.add(sums, recoveries)

    def failed(self, name, failure):
        self.failures.append((name, f"{type(failure).__name__}: {failure}"))
        self.say(f"FAILED {name}; what is left of it lies in {self.directory}")
        traceback.print_exception(failure)

    def write_connections(self, directory):
        """Of each host, into a file: what has arrived that nobody reads, what was sent that nobody takes?"""
        for name in self.network.names():
            with open(directory / f"{name}.connections", "w", encoding="utf-8") as file:
                subprocess.run(self.network.command(name, ["ss", "-tanpo"]), stdout=file, stderr=subprocess.STDOUT, timeout=60,
                               check=False)

    def add(self, trial):
        self.recoveries += trial.recoveries
        self.removals += trial.removals
        self.totals += trial.totals
        self.faults += trial.faults.counts
        self.errors += trial.errors
        self.undone += trial.faults.undone

    def say(self, text):
        print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)

    def report(self):
        print(f"\nseed {self.options.seed}, {self.clusters} clusters of {self.options.nodes} nodes and {SPARES} spares, "
              f"{self.options.shards} shards")
        for title, counts in (("workload", self.totals), ("faults", self.faults), ("answers", self.errors),
                              ("power losses", self.undone), ("packets", self.network.counts())):
            print(f"  {title}: " + " ".join(f"{name}={count}" for name, count in sorted(counts.items())))
        if self.recoveries:
            print(f"  every shard writable: {quantiles(self.recoveries)}")
        if self.removals:
            seconds = sorted(seconds for _, _, seconds in self.removals)
            print(f"  {len(seconds)} collections of {ELEMENTS:,} elements removed: answered within p50 "
                  f"{statistics.median(seconds) * 1000:.0f} ms, max {seconds[-1] * 1000:.0f} ms, faults among them")
        for name, why in self.failures:
            print(f"  FAILED {name}: {why.splitlines()[0]}")
        if self.failures:
            print(f"  again: scripts/chaos --seed {self.options.seed}; logs in {self.directory}")
        passed, failed = self.passed, len(self.failures)
        if self.tally:
            print(self.tally.report())
            passed, failed = self.tally.sums["passed"], self.tally.sums["failed"]
        print(f"{passed} passed, {failed} failed")


def write_stacks(cluster):
    """Of all daemons that run, into a file beside each one's log: where does one stand that does not answer?"""
    for daemon in cluster.daemons():
        if daemon.process is None or daemon.has_died():
            continue
        command = ["gdb", "-p", str(daemon.process.pid), "-batch", "-ex", "thread apply all backtrace 20"]
        with open(cluster.directory / f"{daemon.name}.stacks", "w", encoding="utf-8") as file:
            subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, timeout=60, check=False)


def parse():
    parser = argparse.ArgumentParser(prog="scripts/chaos", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300, help="when the last round begins, at the latest (300)")
    parser.add_argument("--until", type=float, default=None, metavar="SECONDS", help="instead: so many in all")
    parser.add_argument("--seed", type=int, default=None, help="names the faults and the workload; random unless given")
    parser.add_argument("--nodes", type=int, default=3, help="at first (3); others come and go")
    parser.add_argument("--gateways", type=int, default=2)
    parser.add_argument("--metads", type=int, default=3, help="in half of the clusters; one in the others")
    parser.add_argument("--shards", type=int, default=16)
    parser.add_argument("--only", default=None, metavar="KIND,...", help="only these faults: " + " ".join(KINDS))
    parser.add_argument("--keep", action="store_true", help="also what is left of rounds that passed")
    parser.add_argument("--directory", type=pathlib.Path, default=BUILD / "chaos", help="for data and logs")
    options = parser.parse_args()
    options.seed = random.SystemRandom().randrange(1 << 32) if options.seed is None else options.seed
    options.kinds = KINDS
    if options.only and options.until:
        parser.error("--until is for all kinds of faults")
    if options.only:
        unknown = set(options.only.split(",")) - set(KINDS)
        if unknown:
            parser.error(f"no such fault: {' '.join(unknown)}")
        options.kinds = {name: KINDS[name] for name in options.only.split(",")}
    return options


if __name__ == "__main__":
    sys.exit(0 if Chaos(parse()).run() else 1)
