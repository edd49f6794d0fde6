"""A node that comes back gets what it has missed, from the leaders' logs or as snapshots, while writes go on; then it
has the same data as the others, which is read back with that node as the leader of everything."""

import random
import shutil

import pytest

from harness import Background, wait_for
from replicas import Replicas
from variants import SHORT_LOG

BATCH = 500


class Data:
    """What has been written, and must be read."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.values = {}

    def write(self, first, count, mark):
        """Keys first, …, in batches. Every command is repeated until it is done; SET may."""
        with self.cluster.client() as client:
            for begin in range(first, first + count, BATCH):
                keys = [f"key:{i}" for i in range(begin, min(begin + BATCH, first + count))]
                left = keys
                while left:
                    answers = client("batch", *[["SET", [key, f"{mark}:{key}:{'x' * 50}"]] for key in left])
                    left = [key for key, (error, _) in zip(left, answers) if error is not None]
                for key in keys:
                    self.values[key] = f"{mark}:{key}:{'x' * 50}"

    def check(self):
        keys = list(self.values)
        with self.cluster.client() as client:
            assert client("DBSIZE") == len(keys)
            for begin in range(0, len(keys), BATCH):
                part = keys[begin:begin + BATCH]
                for key, value in zip(part, client("MGET", *part)):
                    assert value is not None and value.decode() == self.values[key], key


class Busy(Background):
    """Writes all the time, to keys of its own, over all shards."""

    def __init__(self, data):
        super().__init__()
        self.data = data
        self.own = Data(data.cluster)

    def work(self):
        turn = 0
        while not self.stopping.is_set():
            turn += 1
            self.own.write(10_000_000, 1000, f"busy{turn}")

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.finish()
        self.data.values.update(self.own.values)


def come_back(cluster, data, keys, before_start=lambda node: None):
    """A node dies, so many keys are written without it, it comes back while writes go on, and is level."""
    replicas = Replicas(cluster)
    cluster.start()
    replicas.wait_in_sync()
    data.write(0, keys // 10, "old")
    victim = random.choice(cluster.nodes)
    print("victim", victim.name)
    victim.kill()
    data.write(0, keys, "new")
    wait_for(lambda: sum(one.get("behind", 0) for one in replicas.know()["stats"].values()) >= keys, "the leaders tell so")
    before_start(victim)
    with Busy(data):
        victim.start()
        replicas.wait_in_sync()
        replicas.verify()
    replicas.wait_level()
    replicas.verify()
    return replicas, victim


def read_back_from(replicas, node, data):
    """The others die, one after the other, and come back, so that `node` must lead what they led; then it leads all."""
    for other in replicas.cluster.nodes:
        if other is node:
            continue
        other.kill()
        data.check()
        other.start()
        replicas.wait_in_sync()
    other = next(other for other in replicas.cluster.nodes if other is not node)
    other.kill()
    replicas.lead_everything_from(node)
    data.check()
    other.start()
    replicas.wait_level()
    replicas.verify()
    replicas.cluster.stop()


def test_from_the_log(make_cluster, catch_up_keys):
    cluster = make_cluster()
    data = Data(cluster)
    replicas, victim = come_back(cluster, data, catch_up_keys)
    assert not victim.said("snapshot_installed")
    read_back_from(replicas, victim, data)


def test_by_snapshots(make_cluster, catch_up_keys):
    cluster = make_cluster(shardd_flags=SHORT_LOG, lanes=(1, 2, 3))  # snapshots of several lanes at once
    data = Data(cluster)
    replicas, victim = come_back(cluster, data, catch_up_keys)
    assert victim.said("snapshot_installed")
    read_back_from(replicas, victim, data)


@pytest.mark.parametrize("flags", [[], SHORT_LOG], ids=["log", "snapshots"])
def test_after_its_disk_was_lost(make_cluster, catch_up_keys, flags):
    cluster = make_cluster(shardd_flags=flags)
    data = Data(cluster)

    def lose_disk(victim):
        shutil.rmtree(cluster.data_of(cluster.nodes.index(victim)))

    replicas, victim = come_back(cluster, data, catch_up_keys, lose_disk)
    assert victim.said("snapshot_installed") == bool(flags)
    read_back_from(replicas, victim, data)
