"""What metad and the nodes say of shards and their replicas, and waiting for states of them."""

import binascii
import itertools
import json
import time

import pynng

from harness import wait_for

SLOTS = 16384
MEMBER = 0  # a node's state: it gets its share
LOST = "LOST"  # metad did not answer: what was asked for may have been done
SETTLING_S_MAX = 150  # a move may be given up, and its shard left alone (metad/moves.h), before another is tried
SWEEPING_S_MAX = 180  # of several collections of very many elements


def shard_of(key, shards):
    """The shard of a key without a tag (docs/protocol.md)."""
    return binascii.crc_hqx(key.encode(), 0) % SLOTS * shards // SLOTS


def tag_of(shard, shards, prefix="t"):
    """A key, or a tag in braces, whose slot is in that shard."""
    return next(tag for tag in (f"{prefix}{i}" for i in itertools.count()) if shard_of(tag, shards) == shard)


class Replicas:
    """Of one cluster. Nodes are the harness's daemons; their ids, in metad's order of registration, are found by address."""

    def __init__(self, cluster):
        self.cluster = cluster

    def ask_metad(self, *words):
        """(error, result) of the server that leads, or why none does; None if none answers."""
        answer = None
        for address in self.cluster.metad_addresses:
            try:
                with self.cluster.metad_client(address, timeout_ms=2000) as client:
                    answer = client.ask(*words)
            except pynng.exceptions.NNGException:
                continue
            if answer[0] is None or answer[0][0] not in ("NOT_LEADER", "RETRY"):
                break
        return answer

    def metad_leader(self, status):
        """The daemon that leads metad's group."""
        name = next(name for _, name, _, leads in status["metad"]["servers"] if leads)
        return next(metad for metad in self.cluster.metads if metad.port("--listen") == name.rsplit(":", 1)[1])

    def metad_is_complete(self, status):
        """All of metad's servers vote."""
        servers = status["metad"]["servers"]
        return len(servers) == len(self.cluster.metads) and all(votes for _, _, votes, _ in servers)

    def wait_metad_complete(self):
        wait_for(lambda: (status := self.status()) and self.metad_is_complete(status), "all of metad's servers vote")

    def status(self):
        """None when metad does not answer."""
        error, status = self.ask_metad("status") or (LOST, None)
        return status if error is None else None

    def know(self):
        return wait_for(self.status, "metad answers")

    def node_of(self, status, node_id):
        """The daemon with that id."""
        address = next(node["frames_address"] for node in status["map"]["nodes"] if node["id"] == node_id)
        return next(node for node in self.cluster.nodes + self.cluster.spares
                    if node.port("--frames-listen") == address.rsplit(":", 1)[1])

    def ids_of(self, status, daemon):
        """In their order: a daemon whose disk was emptied comes back as another node."""
        return sorted(node["id"] for node in status["map"]["nodes"] if self.node_of(status, node["id"]) is daemon)

    def id_of(self, status, daemon):
        """The newest; 0 if metad does not know it yet."""
        return max(self.ids_of(status, daemon), default=0)

    def leader(self, shard):
        status = self.know()
        return self.node_of(status, status["map"]["shards"][shard]["leader"])

    def followers(self, shard):
        leader = self.leader(shard)
        return [node for node in self.cluster.nodes if node is not leader]

    def in_sync(self, status):
        """Every shard is led by a process that lives, and all of its replicas are in sync."""
        alive = {node["id"] for node in status["map"]["nodes"] if node["alive"]}
        return all(shard["leader"] in alive and len(shard["isr"]) == len(shard["replicas"])
                   for shard in status["map"]["shards"])

    def held(self, status, node_id):
        """How many replicas."""
        return sum(any(replica[0] == node_id for replica in shard["replicas"]) for shard in status["map"]["shards"])

    def is_settled(self, status):
        """Nothing moves, every member that is alive has its share, nobody else has anything, and all are in sync."""
        members = [node["id"] for node in status["map"]["nodes"] if node["alive"] and node["state"] == MEMBER]
        counts = [self.held(status, node) for node in members]
        moving = any("move_to" in shard for shard in status["map"]["shards"])
        gone = any(self.held(status, node["id"]) for node in status["map"]["nodes"] if node["id"] not in members)
        return self.in_sync(status) and not moving and not gone and max(counts) - min(counts) <= 1

    def wait_settled(self):
        def look():
            status = self.status()
            return status if status and self.is_settled(status) else None
        try:
            return wait_for(look, "every node has its share", SETTLING_S_MAX)
        except AssertionError as never:
            raise AssertionError(f"{never}: {self.unsettled(self.status())}") from never

    def unsettled(self, status):
        """What is_settled is missing, in words."""
        if status is None:
            return "metad does not answer"
        nodes = [f"node {node['id']} state={node['state']} alive={node['alive']} holds={self.held(status, node['id'])}"
                 for node in status["map"]["nodes"]]
        shards = [f"shard {number} {shard}" for number, shard in enumerate(status["map"]["shards"])
                  if "move_to" in shard or len(shard["isr"]) != len(shard["replicas"])]
        return "; ".join(nodes + shards)

    def wait_in_sync(self):
        def look():
            status = self.status()
            return status if status and self.in_sync(status) else None
        return wait_for(look, "every replica is in sync")

    def wait_at_home(self):
        """Every shard is led where metad wants it, so none will move by itself."""
        def look():
            status = self.status()
            return status and self.in_sync(status) and all(
                shard["leader"] == shard["replicas"][0][0] and shard["wanted_leader"] == 0
                for shard in status["map"]["shards"])
        wait_for(look, "every shard is led by its first replica")

    def demand(self, *words):
        """Of metad; the error's code if it refuses or does not answer."""
        answer = self.ask_metad(*words)
        if answer is None:
            return LOST
        error, _ = answer
        return None if error is None else error[0]

    def hand_over(self, shard, node_id):
        return self.demand("handover", shard, node_id)

    def change_node(self, node_id, change):
        """"add", "drain" or "remove", as `skerry admin` does."""
        return self.demand("node", node_id, change)

    def lead_everything_from(self, daemon):
        """Hands every shard over to one node."""
        status = self.know()
        self.lead_from([self.id_of(status, daemon)] * len(status["map"]["shards"]))

    def lead_from(self, node_ids):
        """Hands each shard over to its node."""
        def all_moved():
            shards = self.know()["map"]["shards"]
            left = [i for i, shard in enumerate(shards) if shard["leader"] != node_ids[i]]
            for shard in left:
                if shards[shard]["wanted_leader"] != node_ids[shard]:
                    self.hand_over(shard, node_ids[shard])  # asked again if it was refused or given up
            return not left
        wait_for(all_moved, f"nodes {sorted(set(node_ids))} lead")

    def lead_in_turns(self):
        """From every replica, in turn: yields when each shard is led by the next one."""
        shards = self.know()["map"]["shards"]
        for turn in range(max(len(shard["replicas"]) for shard in shards)):
            self.lead_from([shard["replicas"][turn % len(shard["replicas"])][0] for shard in shards])
            yield

    def compare(self):
        """What `skerry admin verify` tells: whether the replicas of each shard have the same content."""
        done = self.cluster.skerry("--metad", self.cluster.metad_address, "--json", "admin", "verify", "--wait", "50",
                                   check=False)
        assert done.returncode in (0, 1) and done.stdout, done
        result = json.loads(done.stdout)
        assert (done.returncode == 0) == result["equal"], done
        return result

    def verify(self):
        """Every replica that is in sync has what its leader has. Writes may go on."""
        result = self.compare()
        assert result["equal"], result
        return result

    def garbage(self, node):
        """How many collections are gone there whose elements are not."""
        return sum(value for name, value in node.metrics().items() if name.startswith("skerry_garbage_collections"))

    def wait_swept(self):
        """On no replica is anything left of collections that are gone."""
        wait_for(lambda: not any(map(self.garbage, self.cluster.nodes)), "everything is swept", SWEEPING_S_MAX, pause_s=0.2)

    def wait_level(self):
        """Nobody writes any more: every replica has executed everything that its leader has, and holds the same. By what
        the nodes have told after this was called. How much each holds is compared where all have every shard."""
        begin = time.monotonic()

        def look():
            asked = time.monotonic()
            status = self.status()
            if status is None or not self.in_sync(status):
                return None
            holders = {replica[0] for shard in status["map"]["shards"] for replica in shard["replicas"]}
            stats = [status["stats"][node] for node in holders]
            # figures are up to a tick older than the heartbeat
            fresh = all(asked - status["ages_ms"][node] / 1000 > begin + 0.1 for node in holders)
            if not fresh or any(one["unapplied"] or one["behind"] for one in stats):
                return None
            if any(len(shard["replicas"]) < len(holders) for shard in status["map"]["shards"]):
                return status
            same = {tuple(one[name] for name in ("shards", "applied", "keys", "key_bytes", "value_bytes", "expires", "ids"))
                    for one in stats}
            return status if len(same) == 1 else None
        return wait_for(look, "all replicas are level")
