"""What chaos does to a cluster beyond its processes. A kind is a name, a weight and a function (tests/cluster/faults.py);
a new one is a line in a table here."""

import collections
import shutil
import time

from faults import DOWN_S_MAX, PROCESS_KINDS, Faults, Kind, kill, start
from network import links_between, merge
from replicas import LOST, MEMBER

CUT_S = (0.3, 10.0)  # a cut heals after one of these,
SLOW_S = (1.0, 15.0)  # delays and losses end after one of these,
FLAP_S = (0.02, 1.0)  # and a link that flaps changes so often
FLAPS_MAX = 8
FULL_S = (0.5, 10.0)  # a disk is full for one of these,
ROOM_BYTES_MAX = 4 << 20  # when it has taken up to so much more,
SYNC_DELAY_US = (1_000, 300_000)  # and is slow by one of these
SYNCS_IN_S = 3.0  # a node that is in use syncs within that
AGAIN_S = 0.5  # a node without room is started again so often
SAFE_S_MAX = 120  # when all else is well, a node may be given an empty disk within that
LAST_COPY = 0.2  # how often it is, though then only one node may hold something that was acknowledged
LEAVING_S_MAX = 180  # a node that is drained is gone within that
STAYING_S_MAX = 5.0  # when that is taken back, it is by then
REMOVED = 3  # the exit code of a node that metad has removed
CLIENTS = "clients"  # the host of the workload


class ChaosFaults(Faults):
    """Also of the network between the cluster's hosts, and of the nodes' disks; and nodes come and go."""

    def __init__(self, cluster, chance, log, kinds):
        super().__init__(cluster, chance, log, kinds)
        self.network = cluster.hosts.network
        self.rules = {}  # of each fault of the network that is on, what it does to the links
        self.lost_ids = set()  # metad's ids of nodes whose disks are gone
        self.leaving = {}  # of nodes that are drained, the faults
        self.undone = collections.Counter()  # by power losses

    def begin_rules(self, fault, rules):
        self.rules[fault] = rules
        self.network.set(merge(self.rules.values()))

    def end_rules(self, fault):
        self.rules.pop(fault, None)
        self.network.set(merge(self.rules.values()))

    def impair(self, kind, patients, rules, seconds, words=""):
        """For a random time in the range."""
        fault = self.note(kind, *patients, nature="network", words=words)
        self.begin_rules(fault, rules)
        self.later(self.chance.uniform(*seconds), fault, self.end_rules, fault)

    def any_daemon(self):
        return self.chance.choice(self.cluster.daemons())

    def disk(self, node):
        return self.cluster.hosts.disks[node.name]

    def lose_power(self, daemon):
        """Of one that is dead: also its connections are gone, and nobody is told."""
        self.network.renew(daemon.name)
        if daemon in self.cluster.nodes:
            counts = self.disk(daemon).lose_power(self.chance)
            self.undone += {"sectors_not_durable": counts[0], "sectors_undone": counts[1], "names_not_durable": counts[2],
                            "names_undone": counts[3]}
            self.say(f"  of what was not durable {daemon.name} lost {counts[1]} of {counts[0]} sectors and {counts[3]} of "
                     f"{counts[2]} names")

    def forgives(self, daemon):
        """A node that was drained and removed ends. One that a sync has failed for may give up, and one without room for its
        files cannot begin: both say so, and are started again, as whoever looks after them would do."""
        if daemon in self.leaving and daemon.process.returncode == REMOVED:
            daemon.reap()
            self.leaving[daemon].patients.add(daemon)
            return True
        of_sync = any(daemon in fault.patients and fault.kind == "sync_error" for fault in self.active())
        last = daemon.last_line().lower()
        no_room = daemon in self.cluster.nodes and daemon.process.returncode == 2 and "no space left" in last
        begun = daemon.process.returncode == 1
        if not no_room and not (of_sync and (begun or "input/output error" in last)):
            return False
        self.say(f"  {daemon.name} gave up")
        daemon.reap()
        if no_room:
            self.later(AGAIN_S, self.note("no_room", daemon), start, daemon)
        return True

    def others(self, host):
        return [name for name in self.network.names() if name != host]


    def may_empty(self, node):
        """One disk at a time, and no node that goes with what it has."""
        return (node not in self.leaving and self.may_hit(node)
                and all(fault.nature != "repair" for fault in self.active()))


# ---- networks ----


def down(links):
    return dict.fromkeys(links, {"up": 0})


def cut_off(find):
    """From everybody, clients and metad too."""
    def begin(faults, kind):
        daemon = find(faults)
        if faults.may_hit(daemon):
            faults.impair(kind, [daemon], down(links_between([daemon.name], faults.others(daemon.name))), CUT_S)
    return begin


def cut_some(faults, kind):
    """One daemon does not reach some of the others, nor they it."""
    daemon = faults.any_daemon()
    if faults.may_hit(daemon):
        others = faults.others(daemon.name)
        some = faults.chance.sample(others, faults.chance.randint(1, len(others) - 1))
        faults.impair(kind, [daemon], down(links_between([daemon.name], some)), CUT_S, "from " + " ".join(some))


def cut_one_way(faults, kind):
    """What one daemon sends does not arrive, or it hears nothing; of all others or of some."""
    daemon = faults.any_daemon()
    if faults.may_hit(daemon):
        others = faults.others(daemon.name)
        some = faults.chance.sample(others, faults.chance.randint(1, len(others)))
        deaf = faults.chance.random() < 0.5
        links = [(name, daemon.name) if deaf else (daemon.name, name) for name in some]
        words = ("hears nothing of " if deaf else "is not heard by ") + " ".join(some)
        faults.impair(kind, [daemon], down(links), CUT_S, words)


def split(faults, kind):
    """All hosts in two halves."""
    names = faults.network.names()
    half = faults.chance.sample(names, faults.chance.randint(1, len(names) - 1))
    patients = [daemon for daemon in faults.cluster.daemons() if daemon.name in half]
    rest = [daemon for daemon in faults.cluster.daemons() if daemon.name not in half]
    fewer = min((patients, rest), key=lambda side: sum(daemon in faults.cluster.nodes for daemon in side))
    if faults.may_hit(*fewer):
        others = [name for name in names if name not in half]
        faults.impair(kind, fewer, down(links_between(half, others)), CUT_S, " ".join(half) + " from the others")


def flap(faults, kind):
    """Links of one daemon go down one by one, and come up again in random order; some more than once."""
    daemon = faults.any_daemon()
    if not faults.may_hit(daemon):
        return
    chance = faults.chance
    fault = faults.note(kind, daemon, nature="network")
    links = links_between([daemon.name], faults.others(daemon.name))
    rules = {}
    time_s = 0

    def change(link, up):
        rules[link] = {"up": up}
        faults.begin_rules(fault, rules)

    for link in chance.sample(links, chance.randint(1, min(FLAPS_MAX, len(links)))):
        for _ in range(chance.randint(1, 3)):
            time_s += chance.uniform(*FLAP_S)
            faults.later(time_s, fault, change, link, 0)
            faults.later(time_s + chance.uniform(*FLAP_S), fault, change, link, 1)
    faults.later(time_s + FLAP_S[1], fault, faults.end_rules, fault)


def some_links(faults):
    """All, those of one host, or those between two."""
    names = faults.network.names()
    some = faults.chance.sample(names, faults.chance.choice([1, 2, len(names)]))
    return links_between(some, some if len(some) == 2 else names), " ".join(some)


def slow(faults, kind):
    """Packets come late, and those sent later may come first."""
    links, words = some_links(faults)
    delay_us = int(10 ** faults.chance.uniform(3, 5))  # 1 ms to 100 ms
    rules = {"delay_us": delay_us, "jitter_us": faults.chance.randint(0, delay_us)}
    faults.impair(kind, [], dict.fromkeys(links, rules), SLOW_S, f"{words} {rules}")


def lossy(faults, kind):
    """Packets get lost, and some come twice."""
    links, words = some_links(faults)
    rules = {"loss_ppm": int(10 ** faults.chance.uniform(3, 5)), "repeat_ppm": faults.chance.choice([0, 50_000])}
    faults.impair(kind, [], dict.fromkeys(links, rules), SLOW_S, f"{words} {rules}")


def narrow(faults, kind):
    """Little fits through."""
    links, words = some_links(faults)
    rules = {"bytes_per_s": int(10 ** faults.chance.uniform(5, 7))}
    faults.impair(kind, [], dict.fromkeys(links, rules), SLOW_S, f"{words} {rules}")


# ---- disks ----


def power_loss(faults, kind):
    node = faults.chance.choice(faults.cluster.nodes)
    if faults.may_hit(node):
        fault = faults.note(kind, node)
        kill(node)
        faults.lose_power(node)
        faults.later(faults.chance.uniform(0, DOWN_S_MAX), fault, start, node)


def power_loss_everywhere(faults, kind):
    if faults.may_kill_all():
        faults.kill_all()
        fault = faults.note(kind, *faults.cluster.daemons())
        for daemon in faults.cluster.daemons():
            faults.lose_power(daemon)
        faults.start_all_later(fault)


def disk_full(faults, kind):
    """On one node or several."""
    nodes = faults.chance.sample(faults.cluster.nodes, faults.chance.choice([1, 1, len(faults.cluster.nodes)]))
    room = faults.chance.choice([0, faults.chance.randrange(ROOM_BYTES_MAX)])
    fault = faults.note(kind, nature="disk", words=" ".join(node.name for node in nodes) + f" after {room} bytes")

    def set_full(full):
        for node in nodes:
            faults.disk(node)["room_bytes"] = room
            faults.disk(node)["full"] = full

    set_full(1)
    faults.later(faults.chance.uniform(*FULL_S), fault, set_full, 0)


def disk_slow(faults, kind):
    node = faults.chance.choice(faults.cluster.nodes)
    delay_us = faults.chance.randint(*SYNC_DELAY_US)
    fault = faults.note(kind, nature="disk", words=f"{node.name} by {delay_us} us")

    def set_delay(us):
        faults.disk(node)["sync_delay_us"] = us

    set_delay(delay_us)
    faults.later(faults.chance.uniform(*SLOW_S), fault, set_delay, 0)


def sync_error(faults, kind):
    """If it was the log's, the node is of no use any more (R23); it gets an empty disk."""
    node = faults.chance.choice(faults.cluster.nodes)
    if not faults.may_empty(node):
        return
    fault = faults.note(kind, node, nature="repair")
    said = node.count_said("event=disk_failed")
    faults.disk(node)["syncs_to_fail"] = 1

    def look():
        faults.disk(node)["syncs_to_fail"] = 0
        if node.count_said("event=disk_failed") > said or faults.disk(node).is_suspect():
            if node.process is not None:
                kill(node)
            empty_when_safe(faults, fault, node, time.monotonic() + SAFE_S_MAX)
        elif node.process is None:
            start(node)

    faults.later(faults.chance.uniform(0.1, SYNCS_IN_S), fault, look)


def wipe(faults, kind):
    node = faults.chance.choice(faults.cluster.nodes)
    if faults.may_empty(node):
        fault = faults.note(kind, node, nature="repair")
        kill(node)
        empty_when_safe(faults, fault, node, time.monotonic() + SAFE_S_MAX)


def may_lose(faults, node):
    """Whether everything that was acknowledged is also on other disks. Of a node that is dead, so that it holds no more by
    now."""
    status = faults.status()
    if status is None:
        return False
    gone = faults.lost_ids | {faults.replicas.id_of(status, node)}
    left = min(len(set(shard["isr"]) - gone) for shard in status["map"]["shards"])
    enough = min(shard["min_isr"] for shard in status["map"]["shards"])
    return left >= enough or (left >= 1 and faults.chance.random() < LAST_COPY)


def empty_when_safe(faults, fault, node, deadline_s):
    if not may_lose(faults, node):
        assert time.monotonic() < deadline_s, f"nobody else holds what {node.name} does"
        faults.later(0.2, fault, empty_when_safe, faults, fault, node, deadline_s)
        return
    status = faults.replicas.know()
    faults.lost_ids.add(faults.replicas.id_of(status, node))
    faults.disk(node).wipe()
    faults.say(f"  emptied {node.name}")
    faults.later(faults.chance.uniform(0, DOWN_S_MAX), fault, start, node)


# ---- metad's disks ----


def wipe_metad(faults, kind):
    """One of several servers loses its disk, and is put back as a person would do it."""
    metad = faults.metad()
    if len(faults.cluster.metads) == 1 or not all(faults.is_well(other) for other in faults.cluster.metads):
        return
    status = faults.status()
    if status is None or not faults.replicas.metad_is_complete(status):
        return
    fault = faults.note(kind, metad, nature="repair")
    kill(metad)
    shutil.rmtree(metad.flag("--data-dir"))
    faults.later(faults.chance.uniform(0, DOWN_S_MAX), fault, begin_anew, faults, fault, metad)


def begin_anew(faults, fault, metad):
    metad.start()
    put_back(faults, fault, metad, time.monotonic() + SAFE_S_MAX)


def put_back(faults, fault, metad, deadline_s):
    """metad refuses while the server cannot be reached, and does nothing while nobody leads."""
    if faults.replicas.demand("server", "add", metad.flag("--listen").removeprefix("tcp://")) is None:
        faults.say(f"  {metad.name} is back")
        return
    assert time.monotonic() < deadline_s, f"{metad.name} is not put back"
    faults.later(0.2, fault, put_back, faults, fault, metad, deadline_s)


# ---- members ----


def join(faults, kind):
    """A node comes that was not there before."""
    if faults.cluster.spares:
        node = faults.cluster.add_node()
        faults.note(kind, node, nature="members")


def begin_drain(faults, kind):
    """The fault, the node and metad's id of it; nothing if metad refuses, or does not answer before anybody has asked."""
    status = faults.status()
    if status is None:
        return None
    node = faults.chance.choice(faults.cluster.nodes)
    *before, node_id = faults.replicas.ids_of(status, node) or [0]
    if node_id == 0 or node in faults.leaving or any(faults.replicas.held(status, other) for other in before):
        return None  # it takes over what it had on another disk
    if faults.replicas.change_node(node_id, "drain") not in (None, LOST):
        return None
    fault = faults.note(kind, nature="members", words=f"{node.name} node {node_id}")
    faults.leaving[node] = fault
    return fault, node, node_id


def leave(faults, kind):
    """A node is drained and removed, and ends."""
    begun = begin_drain(faults, kind)
    if begun:
        see_off(faults, *begun, time.monotonic() + LEAVING_S_MAX)


def see_off(faults, fault, node, node_id, deadline_s):
    """Until it has ended for good. Whatever else befalls it meanwhile."""
    status = faults.status()
    known = None if status is None else {one["id"]: one["state"] for one in status["map"]["nodes"]}
    if known is not None and known.get(node_id) == MEMBER:  # the one request that metad did not answer it did not do
        del faults.leaving[node]
        return
    if known is not None and node_id not in known and is_over(faults, fault, node):
        faults.disk(node).wipe()
        faults.cluster.retire(node)
        del faults.leaving[node]
        faults.say(f"  {node.name} is gone")
        return
    if known is not None and node_id in known:
        faults.replicas.change_node(node_id, "remove")  # refused until nothing is left on it
    assert time.monotonic() < deadline_s, f"{node.name} does not go"
    faults.later(0.2, fault, see_off, faults, fault, node, node_id, deadline_s)


def is_over(faults, fault, node):
    """It has ended, and no other fault will start it again."""
    return node.process is None and all(node not in other.patients for other in faults.active() if other is not fault)


def stay(faults, kind):
    """A node is drained, and then it is not."""
    begun = begin_drain(faults, kind)
    if begun:
        fault, node, node_id = begun
        faults.later(faults.chance.uniform(0, STAYING_S_MAX), fault, keep, faults, fault, node, node_id)


def keep(faults, fault, node, node_id):
    if faults.replicas.change_node(node_id, "add") is None:
        del faults.leaving[node]
    else:
        faults.later(0.2, fault, keep, faults, fault, node, node_id)


NETWORK_KINDS = {
    "cut_off_leader": Kind(4, cut_off(Faults.leader)),
    "cut_off_follower": Kind(3, cut_off(Faults.follower)),
    "cut_off_gateway": Kind(1, cut_off(Faults.gateway)),
    "cut_off_metad": Kind(2, cut_off(Faults.metad)),
    "cut_some": Kind(4, cut_some),
    "cut_one_way": Kind(5, cut_one_way),
    "split": Kind(2, split),
    "flap": Kind(3, flap),
    "slow": Kind(3, slow),
    "lossy": Kind(3, lossy),
    "narrow": Kind(1, narrow),
}

DISK_KINDS = {
    "power_loss": Kind(5, power_loss),
    "power_loss_everywhere": Kind(2, power_loss_everywhere),
    "disk_full": Kind(3, disk_full),
    "disk_slow": Kind(2, disk_slow),
    "sync_error": Kind(2, sync_error),
    "wipe": Kind(2, wipe),
    "wipe_metad": Kind(2, wipe_metad),
}

MEMBER_KINDS = {
    "join": Kind(4, join),
    "leave": Kind(3, leave),
    "stay": Kind(1, stay),
}

KINDS = PROCESS_KINDS | NETWORK_KINDS | DISK_KINDS | MEMBER_KINDS
