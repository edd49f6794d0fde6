#!/usr/bin/env python3
"""How long a shard takes no writes after a cut between one host and everybody but clients has healed: TCP has had long to
wait between its tries. Where the host is metad's, a node has died just before, so that metad has to be asked. Prints seconds.

usage: tests/chaos/long_cut.py SECONDS [HOST]     of the cut; metad, gateway or shardd-0 (metad)"""

import pathlib
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "cluster"))

from harness import Cluster, wait_for  # noqa: E402
from kinds import CLIENTS, down  # noqa: E402
from machines import Machines  # noqa: E402
from network import Network, links_between  # noqa: E402
from recovery import Probers  # noqa: E402
from replicas import Replicas  # noqa: E402

SHARDS = 16


def main(cut_s, host, directory):
    names = Cluster.node_names(3)
    network = Network(["metad", *names, *Cluster.gateway_names(1), CLIENTS])
    network.enter(CLIENTS)
    machines = Machines(network, pathlib.Path(directory), names)
    cluster = Cluster(directory, shards=SHARDS, hosts=machines, data_of=machines.data.__getitem__).start()
    Replicas(cluster).wait_in_sync()
    probers = Probers(cluster.addresses, SHARDS)
    network.set(down(links_between([host], [name for name in network.names() if name not in (host, CLIENTS)])))
    time.sleep(cut_s)
    if host == "metad":
        cluster.nodes[0].kill()
    network.set({})
    healed_s = time.monotonic()
    print(max(wait_for(lambda: probers.recovered_after(healed_s), "every shard takes writes")))
    probers.finish()
    cluster.kill_all()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        main(float(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "metad", place)
