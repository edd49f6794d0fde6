"""Reads that may be stale (docs/protocol.md, option read): followers serve them, never staler than 500 ms, and nobody sees
an error that a read of the leader would not give."""

import bisect
import signal
import time

import pytest

from harness import Background, Client, wait_for
from replicas import Replicas, tag_of

SHARDS = 4
STALE_S = 0.5


def follower_reads(replicas):
    """Of each daemon, of now or later."""
    begin = time.monotonic()

    def look():
        asked = time.monotonic()
        status = replicas.know()
        # figures are up to a tick older than the heartbeat
        fresh = all(asked - age / 1000 > begin + 0.1 for age in status["ages_ms"].values())
        return status if fresh else None
    status = wait_for(look, "every node has told its figures")
    return {replicas.node_of(status, node).name: stats["follower_reads"] for node, stats in status["stats"].items()}


class Counter(Background):
    """Increments keys in turn and remembers when each number was acknowledged."""

    def __init__(self, address, keys):
        super().__init__()
        self.client = Client(address)
        self.keys = keys
        self.times = {key: [] for key in keys}  # times[key][i]: i + 1 was acknowledged

    def work(self):
        while not self.stopping.is_set():
            for key in self.keys:
                number = len(self.times[key]) + 1
                while True:
                    error, result = self.client.ask("INCR", key, id=f"{key}:{number}")
                    if error is None:
                        break
                    assert error[0] in ("UNAVAILABLE", "TIMEOUT"), error
                assert result == number
                self.times[key].append(time.monotonic())

    def least(self, key, at):
        """The number that anybody who reads at that time has to see."""
        return bisect.bisect_right(self.times[key], at)

    def stop(self):
        try:
            self.finish()
        finally:
            self.client.close()


class Reader(Background):
    """Reads the keys in turn, stale, and judges what it gets."""

    def __init__(self, address, counter):
        super().__init__()
        self.client = Client(address)
        self.counter = counter
        self.reads = 0
        self.behind_s = 0  # the oldest that was read
        self.slowest_s = 0

    def read(self, key):
        begin = time.monotonic()
        value = self.client("GET", key, read="follower")
        took = time.monotonic() - begin
        number = int(value or 0)
        least = self.counter.least(key, begin - STALE_S)
        assert number >= least, f"{key}: {number} was read, {least} was acknowledged {STALE_S} s before"
        times = self.counter.times[key]
        if number < self.counter.least(key, begin):
            self.behind_s = max(self.behind_s, begin - times[number])
        self.slowest_s = max(self.slowest_s, took)
        self.reads += 1

    def work(self):
        while not self.stopping.is_set():
            for key in self.counter.keys:
                self.read(key)

    def stop(self):
        try:
            self.finish()
        finally:
            self.client.close()


@pytest.fixture
def cluster(make_cluster):
    cluster = make_cluster(shards=SHARDS).start()
    Replicas(cluster).wait_in_sync()
    return cluster


def test_followers_serve_them(cluster):
    replicas = Replicas(cluster)
    keys = [tag_of(shard, SHARDS) for shard in range(SHARDS)]
    with cluster.client() as client:
        client("MSET", *(word for key in keys for word in (key, "1")))
        replicas.wait_level()
        before = follower_reads(replicas)

        def all_have_served():
            assert client("MGET", *keys, read="follower") == [b"1"] * SHARDS
            assert client("DBSIZE", read="follower") == SHARDS
            return all(reads > before[node] for node, reads in follower_reads(replicas).items())
        wait_for(all_have_served, "every node has served as a follower")

        served = follower_reads(replicas)
        for _ in range(100):
            client("MGET", *keys)
            client("batch", ["GET", [keys[0]]], ["SET", [keys[0], "1"]], ["GET", [keys[0]]], read="follower")
        assert follower_reads(replicas) == served
    cluster.stop()


def test_what_a_batch_writes_it_reads(cluster):
    with cluster.client() as client:
        for i in range(200):
            pairs = client("batch", ["GET", ["k"]], ["SET", ["k", str(i)]], ["GET", ["k"]], read="follower")
            before = None if i == 0 else str(i - 1).encode()
            assert pairs == [[None, before], [None, "OK"], [None, str(i).encode()]]
    cluster.stop()


def test_never_staler_than_promised(cluster):
    """Leaders and followers are killed and stopped under the writes."""
    replicas = Replicas(cluster)
    counter = Counter(cluster.address, [tag_of(shard, SHARDS) for shard in range(SHARDS)])
    readers = [Reader(cluster.address, counter) for _ in range(4)]
    threads = [counter, *readers]
    for thread in threads:
        thread.start()

    def go_on():
        """Everybody reads, and every key was written."""
        reads = [reader.reads + 50 for reader in readers]
        numbers = {key: len(times) + 5 for key, times in counter.times.items()}
        wait_for(lambda: any(thread.failure for thread in threads) or (
            all(reader.reads >= target for reader, target in zip(readers, reads)) and
            all(len(counter.times[key]) >= target for key, target in numbers.items())), "reads and writes go on")
        assert not [thread.failure for thread in threads if thread.failure]

    def kill(victim):
        victim.kill()
        go_on()
        victim.start()

    def stop(victim):
        victim.signal(signal.SIGSTOP)
        go_on()
        victim.signal(signal.SIGCONT)

    go_on()
    before = follower_reads(replicas)
    for fault in (kill, stop):
        for find in (replicas.leader, lambda shard: replicas.followers(shard)[0]):
            for shard in (0, 2):
                fault(find(shard))
                go_on()
                replicas.wait_in_sync()
    go_on()
    wait_for(lambda: sum(follower_reads(replicas).values()) > sum(before.values()), "followers have served")
    for thread in readers:
        thread.stop()
    counter.stop()
    print({"reads": sum(reader.reads for reader in readers), "behind_s": max(reader.behind_s for reader in readers),
           "slowest_s": max(reader.slowest_s for reader in readers)})
    cluster.stop()


def test_without_followers_the_leader_serves(cluster):
    """Alone it has no lease for long: what nobody serves is answered as without the option, TIMEOUT if it was just being
    asked at the deadline."""
    replicas = Replicas(cluster)
    key = tag_of(0, SHARDS)
    with cluster.client() as client:
        client("SET", key, "1")
        replicas.lead_everything_from(cluster.nodes[0])
        for node in cluster.nodes[1:]:
            node.signal(signal.SIGSTOP)
        for _ in range(8):
            error, result = client.ask("GET", key, read="follower", timeout_ms=1000)
            assert (error is None and result == b"1") or error[0] in ("UNAVAILABLE", "TIMEOUT"), error
        for node in cluster.nodes[1:]:
            node.signal(signal.SIGCONT)
        wait_for(lambda: client("GET", key, read="follower") == b"1", "it is served again")
    cluster.stop()
