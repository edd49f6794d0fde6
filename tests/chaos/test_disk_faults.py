"""What a node does when its disk fails it at a certain moment."""

import random

import pytest

from disks import Disk, pending_changes
from harness import Cluster, Loopback, wait_for
from replicas import Replicas
from variants import SHORT_LOG


class WithDisks(Loopback):
    def __init__(self, directory, names):
        self.disks = {name: Disk(directory / name, directory / f"{name}.journal") for name in names}

    def command(self, name, words):
        return self.disks[name].command(words) if name in self.disks else words


@pytest.fixture
def make_cluster(tmp_path):
    made = []

    def make(**options):
        cluster = Cluster(tmp_path, hosts=WithDisks(tmp_path, Cluster.node_names(3)), **options)
        made.append(cluster)
        return cluster

    yield make
    for cluster in made:
        cluster.kill_all()


@pytest.mark.parametrize("odds", [1.0, 0.5])
def test_everybody_loses_power(make_cluster, odds):
    """Acknowledged is what no power loss takes back, also when the log before it has been given back."""
    cluster = make_cluster(shardd_flags=SHORT_LOG).start()
    values = {f"key:{i}": f"{i} {'x' * 2000}".encode() for i in range(3000)}
    with cluster.client() as client:
        for begin in range(0, len(values), 500):
            keys = list(values)[begin:begin + 500]
            answers = client("batch", *[["SET", [key, values[key]]] for key in keys])
            assert all(error is None for error, _ in answers)
    cluster.kill_all()
    for disk in cluster.hosts.disks.values():
        disk.lose_power(random.Random(1), odds)
    cluster.start()
    with cluster.client() as client:
        assert all(client("GET", key) == value for key, value in values.items())
    Replicas(cluster).wait_level()
    cluster.stop()


def test_what_is_not_synced_before_it_is_acknowledged_is_lost(make_cluster):
    """The layer has teeth: a setting that does not promise to survive a power loss does not."""
    cluster = make_cluster(shardd_flags=["--durability", "interval", "--sync-interval", "60s"]).start()
    with cluster.client() as client:
        for i in range(100):
            client("SET", f"key:{i}", "value")
    cluster.kill_all()
    for disk in cluster.hosts.disks.values():
        disk.lose_power(random.Random(1), odds=1.0)
    cluster.start()
    with cluster.client() as client:
        assert not all(client("EXISTS", f"key:{i}") for i in range(100))
    cluster.stop()


def test_a_sync_that_fails_at_the_start_is_final(make_cluster):
    """R23: the log that a dead process has left is in the kernel's memory only, and the next sync would say that it is not."""
    cluster = make_cluster().start()
    node = cluster.nodes[0]
    disk = cluster.hosts.disks[node.name]
    with cluster.client() as client:
        client("SET", "key", "value")
    node.kill()
    disk["syncs_to_fail"] = 1
    node.start()
    wait_for(lambda: node.process.poll() is not None, "it gives up")
    assert node.reap() == 2 and "input/output error" in node.last_line()
    assert disk.is_suspect()
    node.start()
    wait_for(lambda: node.process.poll() is not None, "it gives up")
    assert node.reap() == 2 and "--accept-suspect" in node.last_line()
    disk.wipe()
    node.start()
    Replicas(cluster).wait_in_sync()
    cluster.stop()


def test_a_node_that_cannot_store_who_it_is(make_cluster):
    """It ends and says why; started again it joins."""
    cluster = make_cluster(shardd_flags=["--segment-size", "1MiB"])
    node = cluster.nodes[0]
    disk = cluster.hosts.disks[node.name]
    node.start()
    wait_for(lambda: node.said("event=shardd_opened"), "it waits for metad")
    wait_for(lambda: list(disk.data.glob("lane-0/log/*2.log")) and not pending_changes(disk.journal / "names"),
             "the next segment is ready, so that nothing else is synced")
    disk["syncs_to_fail"] = 1
    for daemon in cluster.daemons():
        if daemon is not node:
            daemon.start()
    wait_for(lambda: node.process.poll() is not None, "it gives up")
    assert node.reap() == 1
    assert node.said("event=identity_not_stored")
    cluster.start()
    Replicas(cluster).wait_in_sync()
    cluster.stop()
