"""What is left of long collections that are gone: it is swept by and by, on all replicas alike, also on one that gets a snapshot
meanwhile."""

import random

from harness import wait_for
from loads import TypesLoad
from replicas import Replicas
from variants import SHORT_LOG

SHARDS = 8
ELEMENTS = 60_000  # of those that are made one after the other


def test_a_snapshot_while_collections_are_swept(make_cluster):
    cluster = make_cluster(shards=SHARDS, shardd_flags=SHORT_LOG, lanes=(1, 2, 3)).start()
    replicas = Replicas(cluster)
    replicas.wait_in_sync()
    load = TypesLoad(cluster, SHARDS, random.randrange(1 << 32), giants=8, giant_elements=ELEMENTS, timeout_ms=5000).start()
    victim = random.choice(cluster.nodes)
    victim.kill()
    others = [node for node in cluster.nodes if node is not victim]

    def removed(count):
        load.operations()
        return len(load.giant.removed) >= count

    wait_for(lambda: removed(2), "long collections are removed", patience_s=120)
    wait_for(lambda: all(replicas.garbage(node) for node in others), "they are being swept")
    victim.start()
    wait_for(lambda: victim.said("snapshot_installed"), "a snapshot has come")
    wait_for(lambda: removed(3), "the next one is removed", patience_s=120)
    replicas.wait_in_sync()
    replicas.verify()
    load.rest()
    replicas.wait_swept()
    replicas.wait_level()
    replicas.verify()
    for _ in replicas.lead_in_turns():
        load.read_back()
    cluster.stop()
