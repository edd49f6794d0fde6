"""Faults under clients: after one alone none of them sees an error, and after many nothing is lost or done twice."""

import random
import shutil
import signal
import time

import msgpack
import pytest

from counters import Counter, wait_for_rounds
from faults import PROCESS_KINDS
from harness import BUILD, Background, Client, wait_for
from replicas import Replicas, shard_of, tag_of
from trial import Trial
from variants import VARIANTS

SHARDS = 16
CLIENTS = 8


def kill_and_restart(cluster, victim, counters):
    victim.kill()
    wait_for_rounds(counters)
    victim.start()


def stop_and_resume(cluster, victim, counters):
    victim.signal(signal.SIGSTOP)
    wait_for_rounds(counters)
    victim.signal(signal.SIGCONT)


def kill_leader(cluster, replicas, counters):
    kill_and_restart(cluster, replicas.leader(0), counters)


def kill_follower(cluster, replicas, counters):
    kill_and_restart(cluster, replicas.followers(0)[0], counters)


def stop_leader(cluster, replicas, counters):
    stop_and_resume(cluster, replicas.leader(0), counters)


def stop_follower(cluster, replicas, counters):
    stop_and_resume(cluster, replicas.followers(0)[0], counters)


def kill_metad(cluster, replicas, counters):
    kill_and_restart(cluster, cluster.metad, counters)


def stop_metad(cluster, replicas, counters):
    stop_and_resume(cluster, cluster.metad, counters)


def hand_over(cluster, replicas, counters):
    status = replicas.know()
    for shard in range(SHARDS):
        record = status["map"]["shards"][shard]
        to = next(node for node in record["isr"] if node != record["leader"])
        cluster.skerry("--metad", cluster.metad_address, "admin", "handover", str(shard), str(to))
    wait_for_rounds(counters)


@pytest.mark.parametrize("fault", [kill_leader, kill_follower, stop_leader, stop_follower, kill_metad,
                                   stop_metad, hand_over])
def test_no_client_sees_an_error_for_a_single_fault(make_cluster, fault):
    cluster = make_cluster(shards=SHARDS).start()
    replicas = Replicas(cluster)
    replicas.wait_in_sync()
    counters = [Counter(cluster.address, f"c{i}", [tag_of(shard, SHARDS) for shard in range(SHARDS)])
                for i in range(CLIENTS)]
    for counter in counters:
        counter.start()
    wait_for_rounds(counters)
    fault(cluster, replicas, counters)
    wait_for_rounds(counters)
    replicas.wait_in_sync()
    wait_for_rounds(counters)
    for counter in counters:
        counter.stop()
    replicas.wait_level()
    replicas.verify()
    cluster.stop()


class Adder(Background):
    """Increments the key it shares with others. What it does not know it asks for again, under the same id."""

    def __init__(self, cluster, name, key):
        super().__init__()
        self.client = cluster.client()
        self.name = name
        self.key = key
        self.acknowledged = 0
        self.resolved = 0  # of these, how many were unknown for a while

    def add(self):
        unknown = False
        while True:
            error, _ = self.client.ask("INCR", self.key, id=f"{self.name}:{self.acknowledged}", timeout_ms=300)
            if error is None:
                break
            assert error[0] in ("UNAVAILABLE", "TIMEOUT"), error
            unknown = unknown or error[0] == "TIMEOUT"
        self.acknowledged += 1
        self.resolved += unknown

    def work(self):
        while not self.stopping.is_set():
            self.add()


def test_one_counter_through_many_failovers(make_cluster, rounds):
    """It ends at what was acknowledged, with what was unknown and asked again."""
    cluster = make_cluster(shards=SHARDS).start()
    replicas = Replicas(cluster)
    replicas.wait_in_sync()
    adders = [Adder(cluster, f"adder{i}", "counter") for i in range(CLIENTS)]
    for adder in adders:
        adder.start()

    def epoch(shard=shard_of("counter", SHARDS)):
        return replicas.know()["map"]["shards"][shard]["leader_epoch"]

    def total():
        for adder in adders:
            adder.check()
        return sum(adder.acknowledged for adder in adders)

    for turn in range(max(1, rounds // 3)):
        before, leader = epoch(), replicas.leader(shard_of("counter", SHARDS))
        leader.signal(signal.SIGSTOP) if turn % 2 else leader.kill()
        wait_for(lambda: epoch() > before, "another leads")
        enough = total() + 50
        wait_for(lambda: total() > enough, "it counts")
        leader.signal(signal.SIGCONT) if turn % 2 else leader.start()
        replicas.wait_in_sync()
    for adder in adders:
        adder.stopping.set()
    for adder in adders:
        adder.join()
    with cluster.client() as client:
        assert int(client("GET", "counter")) == total()
    assert sum(adder.resolved for adder in adders) > 0
    replicas.wait_level()
    replicas.verify()
    cluster.stop()


def test_a_leader_that_wakes_reads_nothing_stale(make_cluster, rounds):
    """R14: leader and gateway sleep while another leads and writes. Then reads that come after the write meet both as they
    wake, the gateway not knowing yet of the other leader, nor perhaps the old leader itself."""
    cluster = make_cluster(shards=SHARDS, gateways=2).start()
    replicas = Replicas(cluster)
    asleep = cluster.gateways[1]
    keys = [f"{{{tag_of(shard, SHARDS)}}}" for shard in range(SHARDS)]
    for turn in range(rounds):
        status = replicas.wait_in_sync()
        leaders = [record["leader"] for record in status["map"]["shards"]]
        leader = replicas.node_of(status, leaders[turn % SHARDS])
        led = [key for key, node in zip(keys, leaders) if node == leaders[turn % SHARDS]] * 3
        readers = [Client(cluster.addresses[1]) for _ in led]
        with cluster.client() as writer:
            for key, reader in zip(led, readers):
                writer("SET", key, f"{turn} before")
                assert reader("GET", key) == f"{turn} before".encode()  # it is connected
            asleep.signal(signal.SIGSTOP)
            leader.signal(signal.SIGSTOP)
            for key in led:
                writer("SET", key, f"{turn} after", id=f"{turn}{key}", timeout_ms=60000)
        for key, reader in zip(led, readers):
            reader.socket.send(msgpack.packb([0, 0, "GET", [key]]))
        asleep.signal(signal.SIGCONT)
        time.sleep(random.uniform(0, 0.005))  # the reads are on their way; now and then they meet a leader that knows nothing
        leader.signal(signal.SIGCONT)
        for key, reader in zip(led, readers):
            _, _, error, result = msgpack.unpackb(reader.socket.recv())
            assert error is None and result == f"{turn} after".encode(), (key, error, result)
            reader.close()
    cluster.stop()


# ---- many faults, and the judge ----

ROUND_S_MAX = 45  # longer histories take the judge longer

FAULT_VARIANTS = ("one_lane", "lanes_and_snapshots")


@pytest.mark.parametrize("variant", FAULT_VARIANTS)
def test_many_faults(make_cluster, fault_seconds, fault_seed, variant, capsys):
    """Each variant has its part of the time. What is left of a failed run lies where it says."""
    directory = BUILD / "faults" / f"{variant}-{fault_seed}"
    shutil.rmtree(directory, ignore_errors=True)
    told = f"seed {fault_seed}, logs and histories in {directory}"
    cluster = make_cluster(directory, shards=SHARDS, gateways=2, **VARIANTS[variant]).start()
    trial = Trial(cluster, f"{variant}-{fault_seed}", PROCESS_KINDS)
    try:
        end = time.monotonic() + fault_seconds / len(FAULT_VARIANTS)
        while time.monotonic() < end:
            trial.round(min(ROUND_S_MAX, max(1, end - time.monotonic())))
        trial.cluster.stop()
    except BaseException as failure:
        raise AssertionError(f"{told}\n{trial.report()}") from failure
    with capsys.disabled():
        print(f"\n{variant}, seed {fault_seed}: {trial.report()}\n{trial.evidence(variant, fault_seconds / len(FAULT_VARIANTS))}")
    shutil.rmtree(directory)
