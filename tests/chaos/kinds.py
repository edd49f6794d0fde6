"""What chaos does to a cluster beyond its processes. A kind is a name, a weight and a function (tests/cluster/faults.py);
a new one is a line in a table here."""

from faults import PROCESS_KINDS, Faults, Kind
from network import links_between, merge

CUT_S = (0.3, 10.0)  # a cut heals after one of these,
SLOW_S = (1.0, 15.0)  # delays and losses end after one of these,
FLAP_S = (0.02, 1.0)  # and a link that flaps changes so often
FLAPS_MAX = 8
CLIENTS = "clients"  # the host of the workload


class ChaosFaults(Faults):
    """Also of the network between the cluster's hosts."""

    def __init__(self, cluster, chance, log, kinds):
        super().__init__(cluster, chance, log, kinds)
        self.network = cluster.hosts
        self.rules = {}  # of each fault of the network that is on, what it does to the links

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

    def others(self, host):
        return [name for name in self.network.names() if name != host]


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

KINDS = PROCESS_KINDS | NETWORK_KINDS
