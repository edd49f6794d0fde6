"""`skerry admin verify`, and the same in the background: replicas are compared while clients write and leaders die; and one
that has other content than it should is found, named, and begins anew."""

import subprocess

from harness import BINARIES, wait_for
from replicas import Replicas, shard_of
from test_catch_up import Busy, Data

SHARDS = 8
KEYS = 2000
CHECKPOINTS = ["--checkpoint-interval", "100ms"]  # what is written is soon in the store's file


def start(make_cluster, *flags):
    cluster = make_cluster(shards=SHARDS, shardd_flags=[*CHECKPOINTS, *flags]).start()
    replicas = Replicas(cluster)
    replicas.wait_in_sync()
    data = Data(cluster)
    data.write(0, KEYS, "old")
    return cluster, replicas, data


def wait_checkpointed(replicas):
    def look():
        stats = replicas.know()["stats"].values()
        return all(one["memtable_bytes"] == 0 and one["unapplied"] == 0 for one in stats)
    replicas.wait_level()
    wait_for(look, "everything is in the stores' files")


def store_of(cluster, node):
    return cluster.data_of(cluster.nodes.index(node)) / "lane-0" / "store"


def plant_difference(cluster, node, shard):
    """A byte of a value, and the checksum with it: only the other replicas can tell."""
    subprocess.run([BINARIES["skerry-plant"], store_of(cluster, node), str(shard)], check=True, capture_output=True)


def plant_damage(cluster, node, key):
    """A byte of a value: its checksum tells."""
    path = store_of(cluster, node) / "data.mdb"
    content = bytearray(path.read_bytes())
    value = f"old:{key}:".encode()
    count = content.count(value)
    assert count > 0
    path.write_bytes(content.replace(value, b"O" + value[1:]))
    return count


def plant(cluster, replicas, node, planting):
    """While the node is down. Afterwards it is back in sync, as if nothing were wrong."""
    wait_checkpointed(replicas)
    assert node.stop() == 0
    wait_for(lambda: not replicas.in_sync(replicas.know()), "it is missed")
    planting()
    node.start()
    replicas.wait_in_sync()


def replica_id(replicas, shard, node_id):
    return dict(map(tuple, replicas.know()["map"]["shards"][shard]["replicas"]))[node_id]


def wait_rebuilt(replicas, shard, node_id, before):
    wait_for(lambda: replica_id(replicas, shard, node_id) != before, "the replica begins anew")
    replicas.wait_in_sync()


def test_while_clients_write_and_a_leader_dies(make_cluster):
    cluster, replicas, data = start(make_cluster)
    with Busy(data):
        for _ in range(3):
            replicas.verify()
        leader = replicas.leader(0)
        verifying = subprocess.Popen([BINARIES["skerry"], "--metad", cluster.metad_address, "admin", "verify", "--wait", "50"],
                                     stdout=subprocess.PIPE, text=True)
        leader.kill()
        said, _ = verifying.communicate()
        assert verifying.returncode == 0 and "all replicas are equal" in said, said
        leader.start()
        replicas.wait_in_sync()
        replicas.verify()
    replicas.wait_level()
    assert replicas.verify()["replicas_not_in_sync"] == 0
    data.check()
    cluster.stop()


def test_a_follower_that_differs_begins_anew(make_cluster):
    cluster, replicas, data = start(make_cluster)
    node = replicas.followers(3)[0]
    node_id = replicas.id_of(replicas.know(), node)
    plant(cluster, replicas, node, lambda: plant_difference(cluster, node, 3))
    before = replica_id(replicas, 3, node_id)
    with Busy(data):
        result = replicas.compare()
        found = [(one["shard"], one["node"], one["fault"]) for one in result["findings"]]
        assert found == [(3, node_id, "differs")], result
        assert result["compared"] == SHARDS
        wait_rebuilt(replicas, 3, node_id, before)
        replicas.verify()
    replicas.lead_everything_from(node)
    data.check()
    cluster.stop()


def test_a_leader_that_differs_begins_anew(make_cluster):
    cluster, replicas, data = start(make_cluster)
    replicas.wait_at_home()
    node = replicas.leader(3)
    node_id = replicas.id_of(replicas.know(), node)
    plant(cluster, replicas, node, lambda: plant_difference(cluster, node, 3))
    replicas.wait_at_home()  # it leads the shard again
    assert replicas.leader(3) is node
    before = replica_id(replicas, 3, node_id)
    with Busy(data):
        result = replicas.compare()
        assert [(one["shard"], one["node"], one["fault"]) for one in result["findings"]] == [(3, node_id, "differs")], result
        wait_rebuilt(replicas, 3, node_id, before)
        replicas.verify()
    replicas.lead_everything_from(node)
    data.check()
    cluster.stop()


def test_r24_damage_on_disk_is_found_and_mended(make_cluster):
    cluster, replicas, data = start(make_cluster)
    key = "key:1000"
    shard = shard_of(key, SHARDS)
    node = replicas.followers(shard)[0]
    node_id = replicas.id_of(replicas.know(), node)
    plant(cluster, replicas, node, lambda: plant_damage(cluster, node, key))
    before = replica_id(replicas, shard, node_id)
    result = replicas.compare()
    assert [(one["shard"], one["node"], one["fault"]) for one in result["findings"]] == [(shard, node_id, "damaged")], result
    wait_rebuilt(replicas, shard, node_id, before)
    replicas.verify()
    replicas.lead_everything_from(node)
    data.check()
    cluster.stop()


def test_in_the_background(make_cluster):
    """Nobody asks. What is wrong is in the logs and in the figures of status, and is mended."""
    cluster, replicas, data = start(make_cluster, "--verify-interval", "500ms")
    node = replicas.followers(5)[0]
    node_id = replicas.id_of(replicas.know(), node)
    before = replica_id(replicas, 5, node_id)
    plant(cluster, replicas, node, lambda: plant_difference(cluster, node, 5))
    wait_rebuilt(replicas, 5, node_id, before)
    wait_for(lambda: sum(one["differing"] for one in replicas.know()["stats"].values()) == 1, "status tells")
    assert any(other.said(f"event=verify_differs shard=5 node={node_id}") for other in cluster.nodes)
    replicas.verify()
    data.check()
    cluster.stop()
