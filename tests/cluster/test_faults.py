"""Faults under clients: after one alone none of them sees an error."""

import signal
import threading

import pytest

from harness import Client, wait_for
from replicas import Replicas, tag_of

SHARDS = 16
CLIENTS = 8


class Counter(threading.Thread):
    """Increments a key in each shard in turn, under ids, with the gateway's own deadline (5 s). It tries again what surely
    has not happened, and takes no other error."""

    def __init__(self, address, name, tags):
        super().__init__(daemon=True)
        self.client = Client(address)
        self.name = name
        self.keys = [f"{name}:{{{tag}}}" for tag in tags]
        self.counts = dict.fromkeys(self.keys, 0)
        self.rounds = 0
        self.stopping = threading.Event()
        self.failure = None

    def count(self, key):
        number = f"{key}:{self.counts[key]}"
        while True:
            error, result = self.client.ask("INCR", key, id=number)
            if error is None:
                break
            assert error[0] == "UNAVAILABLE", f"{key}: {error}"
        self.counts[key] += 1
        assert result == self.counts[key], f"{key} is {result} after {self.counts[key]} increments"

    def run(self):
        try:
            while not self.stopping.is_set():
                for key in self.keys:
                    self.count(key)
                self.rounds += 1
        except BaseException as failure:  # told by the test's own thread
            self.failure = failure

    def stop(self):
        self.stopping.set()
        self.join()
        if self.failure is not None:
            raise self.failure
        for key, count in self.counts.items():
            assert self.client("GET", key) == str(count).encode(), key
        self.client.close()


def wait_for_rounds(counters, more=2):
    """Everybody has written to every shard."""
    targets = [counter.rounds + more for counter in counters]
    wait_for(lambda: all(counter.failure or counter.rounds >= target for counter, target in zip(counters, targets)),
             "every shard takes writes")
    for counter in counters:
        if counter.failure is not None:
            raise counter.failure


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
    cluster.stop()
