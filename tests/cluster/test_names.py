"""Writes that clients did not name: the gateway does (R10), and what it sends again takes effect once."""

import signal
import time

from harness import Background, Client, wait_for
from replicas import Replicas

COUNTERS = 32
ROUNDS = 3


class Counter(Background):
    """Increments its own key, without ids, and waits for each answer: it is always one more."""

    def __init__(self, address, name):
        super().__init__()
        self.client = Client(address, timeout_ms=70000)
        self.key = name
        self.count = 0

    def work(self):
        while not self.stopping.is_set():
            counted = self.client("INCR", self.key, timeout_ms=60000)
            self.count += 1
            assert counted == self.count, f"{self.key} is {counted} after {self.count} increments"


def wait_for_counts(counters):
    targets = [counter.count + 2 for counter in counters]

    def look():
        for counter in counters:
            counter.check()
        return all(counter.count >= target for counter, target in zip(counters, targets))
    wait_for(look, "everybody counts")


def wait_stored(replicas, left_out):
    """Others lead everything; all that they have is executed and in their stores, by what they have told since this began."""
    begin = time.monotonic()

    def look():
        asked = time.monotonic()
        status = replicas.status()
        if status is None or any(shard["leader"] == left_out for shard in status["map"]["shards"]):
            return False
        others = [node["id"] for node in status["map"]["nodes"] if node["id"] != left_out]
        fresh = all(asked - status["ages_ms"][node] / 1000 > begin + 1 for node in others)
        return fresh and not any(status["stats"][node][name] for node in others for name in ("unapplied", "memtable_bytes"))
    wait_for(look, "all that the others have is in their stores")


def test_names_of_gateways_are_kept_with_the_state(make_cluster):
    """R25: a leader and the gateway stand still while others execute what that leader had sent on, and store it; then all
    nodes die. Nobody has answered, and nothing of it is in a log that is replayed: the gateway sends it again."""
    cluster = make_cluster(shardd_flags=["--checkpoint-interval", "100ms"]).start()
    replicas = Replicas(cluster)
    replicas.wait_in_sync()
    counters = [Counter(cluster.address, f"counter{i}") for i in range(COUNTERS)]
    for counter in counters:
        counter.start()
    for turn in range(ROUNDS):
        wait_for_counts(counters)
        leader = cluster.nodes[turn % len(cluster.nodes)]
        leader.signal(signal.SIGSTOP)
        cluster.gateway.signal(signal.SIGSTOP)
        wait_stored(replicas, replicas.id_of(replicas.know(), leader))
        for node in cluster.nodes:
            node.kill()
        for node in cluster.nodes:
            node.start()
        replicas.wait_in_sync()
        cluster.gateway.signal(signal.SIGCONT)
    wait_for_counts(counters)
    for counter in counters:
        counter.finish()
        counter.client.close()
    cluster.stop()
