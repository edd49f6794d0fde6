"""Where the daemons of a cluster under chaos live: hosts of a network of ours, with disks of ours under the nodes."""

from disks import Disk


class Machines:
    """What a Cluster asks its hosts (tests/cluster/harness.py), and what faults need of them."""

    def __init__(self, network, directory, nodes):
        self.network = network
        self.disks = {name: Disk(directory / name, directory / f"{name}.journal") for name in nodes}
        self.data = [disk.data for disk in self.disks.values()]

    def address(self, name):
        return self.network.address(name)

    def command(self, name, words):
        disk = self.disks.get(name)
        return self.network.command(name, words if disk is None else disk.command(words))
