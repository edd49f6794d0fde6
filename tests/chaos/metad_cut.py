#!/usr/bin/env python3
"""metad's leader is cut off from everybody, again and again, while a node dies whose shards need a metad that leads: clients see no
error, and all is in sync again after each. A program of its own: it goes to a host of its own, and nng's threads must begin there.

usage: tests/chaos/metad_cut.py TRIES DIRECTORY"""

import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "cluster"), str(ROOT / "chaos")]

from counters import Counter, wait_for_rounds  # noqa: E402
from harness import Cluster  # noqa: E402
from kinds import CLIENTS, down  # noqa: E402
from machines import Machines  # noqa: E402
from network import Network, links_between  # noqa: E402
from replicas import Replicas, tag_of  # noqa: E402

SHARDS = 16
METADS = 3
COUNTERS = 4


def cut_off_once(cluster, replicas, counters):
    network = cluster.hosts.network
    victim = replicas.metad_leader(replicas.know())
    node = replicas.leader(0)
    others = [name for name in network.names() if name != victim.name]
    network.set(down(links_between([victim.name], others)))
    node.kill()
    wait_for_rounds(counters)
    assert replicas.metad_leader(replicas.know()) is not victim
    node.start()
    network.set({})
    replicas.wait_in_sync()
    replicas.wait_metad_complete()


def main(tries, directory):
    names = Cluster.node_names(3)
    network = Network([*Cluster.metad_names(METADS), *names, *Cluster.gateway_names(1), CLIENTS])
    network.enter(CLIENTS)
    machines = Machines(network, pathlib.Path(directory), names)
    cluster = Cluster(directory, shards=SHARDS, metads=METADS, hosts=machines, data_of=machines.data.__getitem__)
    try:
        replicas = Replicas(cluster.start())
        replicas.wait_metad_complete()
        replicas.wait_in_sync()
        tags = [tag_of(shard, SHARDS) for shard in range(SHARDS)]
        counters = [Counter(cluster.address, f"c{i}", tags) for i in range(COUNTERS)]
        for counter in counters:
            counter.start()
        for _ in range(tries):
            cut_off_once(cluster, replicas, counters)
        for counter in counters:
            counter.stop()
    finally:
        cluster.kill_all()
        network.close()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
