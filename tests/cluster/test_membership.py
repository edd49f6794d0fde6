"""Nodes come and go while clients work: a new one gets its share, one that is drained loses what it has, one that is dead
for long is replaced, and whatever dies meanwhile, nothing that was acknowledged is lost."""

import random
import shutil
import signal
import time

import pytest

from asking import REFUSED
from harness import wait_for
from history import Workload
from replicas import MEMBER, Replicas
from trial import early_in

SHARDS = 16
RETRIED = {"UNAVAILABLE"}  # what clients may see, but for what the workload itself does wrong: surely not done


class Members(Replicas):
    """What each node has, and what a person asks for."""

    def admin(self, *words, **options):
        return self.cluster.skerry("--metad", self.cluster.metad_address, "admin", *words, **options)

    def start_admin(self, change, node_id):
        """Only decided; metad does it by itself."""
        self.admin(change, str(node_id), "--no-wait")

    def ids(self, status):
        return [node["id"] for node in status["map"]["nodes"]]

    def led(self, status, node_id):
        return sum(shard["leader"] == node_id for shard in status["map"]["shards"])

    def is_even(self, status):
        """Settled, and every member leads its share."""
        counts = [self.led(status, node["id"]) for node in status["map"]["nodes"]
                  if node["alive"] and node["state"] == MEMBER]
        return self.is_settled(status) and max(counts) - min(counts) <= 1

    def wait_even(self, nodes):
        def look():
            status = self.status()
            return status if status and len(self.ids(status)) >= nodes and self.is_even(status) else None
        return wait_for(look, "everything is even")


@pytest.fixture
def members(make_cluster):
    cluster = make_cluster(shards=SHARDS)
    cluster.start()
    return Members(cluster)


def start_work(members, path, **options):
    return Workload(members.cluster.address, path, **options).start()


def finish(members, workload, allowed=RETRIED):
    workload.rest()
    workload.read_back()
    workload.stop(early_in(members.cluster))
    print(workload.errors(), workload.recorder.done, "longest gap", workload.recorder.longest_gap_us // 1000, "ms",
          workload.judge())
    assert set(workload.errors()) <= allowed | REFUSED, workload.errors()


def stop_node(members, node_id):
    """A drained node is removed and its process stops."""
    node = members.node_of(members.know(), node_id)
    members.admin("remove", str(node_id))
    assert wait_for(node.process.poll, "a removed node ends") == 3
    node.process = None
    members.cluster.retire(node)
    return node


def test_three_nodes_become_five_and_three_again(members, tmp_path):
    """Under load, with no error that a client may not retry."""
    cluster = members.cluster
    workload = start_work(members, tmp_path / "history")
    wait_for(lambda: workload.operations() > 200, "clients work")
    for nodes in (4, 5):
        cluster.add_node()
        status = members.wait_even(nodes)
        assert members.held(status, nodes) >= SHARDS * 3 // nodes
    for node_id in (2, 1):
        done = members.admin("drain", str(node_id))
        assert done.stdout.endswith(f"node {node_id} is drained: it can be stopped, and removed\n")
        stop_node(members, node_id)
        members.wait_even(3)
    finish(members, workload)
    assert members.ids(members.know()) == [3, 4, 5]
    cluster.stop()


def test_a_removed_store_is_refused(members):
    cluster = members.cluster
    cluster.add_node()
    members.wait_even(4)
    done = members.admin("remove", "4", check=False)
    assert done.returncode == 1 and "drain it first" in done.stderr
    members.admin("drain", "4")
    node = stop_node(members, 4)
    assert node.said("node 4 was removed for ever")
    node.start()
    assert wait_for(lambda: node.process.poll(), "it ends") == 3
    assert node.said("which was removed for ever")
    node.process = None
    shutil.rmtree(node.flag("--data-dir"))
    cluster.spares.remove(node)
    cluster.spares.insert(0, node)
    assert cluster.add_node() is node
    status = members.wait_even(4)
    assert members.ids(status) == [1, 2, 3, 5]


def test_too_few_nodes_are_not_drained(members):
    done = members.admin("drain", "2", check=False)
    assert done.returncode == 1 and "start another one first" in done.stderr
    assert members.know()["map"]["nodes"][1]["state"] == MEMBER


def test_a_drain_is_cancelled(members):
    members.cluster.add_node()
    members.wait_even(4)
    members.start_admin("drain", 1)
    wait_for(lambda: members.held(members.know(), 1) < SHARDS * 3 // 4 - 2, "some replicas have gone")
    done = members.admin("add", "1")
    assert "node 1 has its share" in done.stdout
    members.wait_even(4)


def test_a_node_that_is_dead_for_long_is_replaced(make_cluster, tmp_path):
    cluster = make_cluster(shards=SHARDS, nodes=4, metad_flags=["--node-dead-after", "3s"])
    cluster.start()
    members = Members(cluster)
    members.wait_even(4)
    workload = start_work(members, tmp_path / "history")
    wait_for(lambda: workload.operations() > 200, "clients work")
    victim = members.node_of(members.know(), 2)
    victim.kill()
    wait_for(lambda: members.held(members.know(), 2) == 0, "others have what it had")
    status = members.know()
    assert all(len(shard["replicas"]) == 3 for shard in status["map"]["shards"])
    victim.start()  # it comes back, drops what it had, and gets its share again
    wait_for(lambda: members.know()["map"]["nodes"][1]["alive"], "it is back")
    members.wait_even(4)
    assert victim.said("replica_dropped")
    assert members.held(members.know(), 2) == SHARDS * 3 // 4
    finish(members, workload, RETRIED | {"TIMEOUT", "LOST"})
    cluster.stop()


def test_a_dead_node_is_removed(make_cluster):
    """At once, though it would be replaced only after ten minutes."""
    cluster = make_cluster(shards=SHARDS, nodes=4)
    cluster.start()
    members = Members(cluster)
    members.wait_even(4)
    victim = members.node_of(members.know(), 3)
    victim.kill()
    wait_for(lambda: not members.know()["map"]["nodes"][2]["alive"], "metad has noticed")
    done = members.admin("remove", "3")
    assert done.stdout.endswith("node 3 is removed\n")
    status = members.wait_even(3)
    assert members.ids(status) == [1, 2, 4]
    cluster.retire(victim)
    cluster.stop()


def test_a_shard_grows_to_the_replicas_that_are_wanted(make_cluster, tmp_path):
    cluster = make_cluster(shards=SHARDS, nodes=1)
    cluster.start()
    members = Members(cluster)
    workload = start_work(members, tmp_path / "history")
    wait_for(lambda: workload.operations() > 200, "clients work")
    for nodes in (2, 3):
        cluster.add_node()
        status = members.wait_even(nodes)
        assert all(len(shard["replicas"]) == nodes and shard["min_isr"] == 2 for shard in status["map"]["shards"])
    finish(members, workload)
    cluster.stop()


KILLS = 12


@pytest.mark.parametrize("kind", ["shardd", "metad", "any"])
def test_a_drain_goes_on_whatever_dies(members, tmp_path, kind):
    """Nodes 4 and 5 come and 1 and 2 go, while one process after the other is killed."""
    cluster = members.cluster
    chance = random.Random()
    workload = start_work(members, tmp_path / "history", resolves=lambda number: number % 2 == 0)
    wait_for(lambda: workload.operations() > 200, "clients work")
    cluster.add_node()
    cluster.add_node()
    wait_for(lambda: len(members.ids(members.know())) == 5, "they are registered")
    for number in range(KILLS):
        if number % 6 == 0:
            node_id = str(1 + number // 6)
            wait_for(lambda: members.admin("drain", node_id, "--no-wait", check=False).returncode == 0, "it is decided")
        victims = {"shardd": cluster.nodes, "metad": [cluster.metad], "any": cluster.daemons()}[kind]
        victim = chance.choice(victims)
        print("kill", victim.name)
        victim.kill()
        time.sleep(chance.random() * 0.5)
        victim.start()
        time.sleep(chance.random() * 1.5)
        workload.operations()
    status = members.wait_even(5)
    assert not any(members.held(status, node) for node in (1, 2))
    finish(members, workload, RETRIED | {"TIMEOUT", "LOST", "OVERLOADED"})
    cluster.stop()
