"""Faults to a cluster of real processes, one after the other and some at once: kill -9, SIGSTOP, hand-overs."""

import collections
import datetime
import signal
import time

from replicas import Replicas

DOWN_S_MAX = 3.0  # a daemon that was killed is started again after a random time up to this,
STOPPED_S = (0.1, 10.0)  # one that was stopped goes on after one of these,
PAUSE_S_MAX = 2.0  # and the next fault comes so much later, whether the last is over or not
NO_MAJORITY = 0.2  # how often a second node of three may be hit while one is ill

# What may happen, and how often.
KINDS = {"kill_leader": 6, "kill_follower": 4, "kill_gateway": 2, "kill_metad": 2, "kill_everything": 1,
         "stop_leader": 5, "stop_follower": 4, "stop_gateway": 1, "stop_metad": 1, "hand_over": 2, "leader_ahead": 2}


class Faults:
    """Chosen by `chance` (random.Random), so that a seed names the faults; what they meet depends on the moment.
    Each is written to `log`, a file, when it begins and when it is undone."""

    def __init__(self, cluster, chance, log):
        self.cluster = cluster
        self.replicas = Replicas(cluster)
        self.chance = chance
        self.file = open(log, "a", encoding="utf-8", buffering=1)
        self.plan = []  # of what has begun, the rest: (monotonic seconds, daemon, what happens to it)
        self.counts = collections.Counter()

    def run(self, seconds, look=lambda: None):
        """Faults for so long; then everything runs again. `look` is called now and then, and may raise."""
        end = time.monotonic() + seconds
        next_fault = time.monotonic()
        while time.monotonic() < end:
            if time.monotonic() >= next_fault:
                self.begin(self.chance.choices(list(KINDS), list(KINDS.values()))[0])
                next_fault = time.monotonic() + self.chance.uniform(0, PAUSE_S_MAX)
            self.go_on(time.monotonic())
            self.check()
            look()
            time.sleep(0.01)
        self.go_on(float("inf"))
        self.check()

    def begin(self, kind):
        if kind == "kill_everything":
            self.kill_everything()
            return
        status = self.status()
        if kind == "hand_over":
            self.hand_over(status)
        elif kind == "leader_ahead":
            self.let_leader_be_ahead(status)
        else:
            self.hit_one(kind, self.target(kind, status))

    def hit_one(self, kind, daemon):
        if not self.may_hit(daemon):
            return
        self.note(kind, daemon)
        if kind.startswith("stop"):
            self.stop(daemon)
            self.later(self.chance.uniform(*STOPPED_S), daemon, self.resume)
        else:
            daemon.kill()
            self.later(self.chance.uniform(0, DOWN_S_MAX), daemon, self.start)

    def kill_everything(self):
        self.note("kill_everything")
        self.plan = []
        self.cluster.kill_all()
        for daemon in self.cluster.daemons():
            self.later(self.chance.uniform(0, DOWN_S_MAX), daemon, self.start)

    def let_leader_be_ahead(self, status):
        """A leader goes on alone while the other nodes are stopped; then all are killed, so that what is on its way to the
        others is gone, and the leader is started last. Nobody may have been told that anything was written since."""
        if status is None or not all(self.is_well(node) for node in self.cluster.nodes):
            return
        leader = self.target("leader", status)
        others = [node for node in self.cluster.nodes if node is not leader]
        self.note("leader_ahead", leader)
        for node in others:
            self.stop(node)
        killed_s = self.chance.uniform(0, 0.5)
        for node in self.cluster.nodes:
            self.later(killed_s, node, self.kill)
        for node in others:
            self.later(killed_s + self.chance.uniform(0, 0.5), node, self.start)
        self.later(killed_s + self.chance.uniform(0.5, DOWN_S_MAX), leader, self.start)

    def hand_over(self, status):
        """Of a random shard to somebody in sync; metad may refuse, and the leader may give up."""
        if status is None:
            return
        shard = self.chance.randrange(len(status["map"]["shards"]))
        record = status["map"]["shards"][shard]
        others = [node for node in record["isr"] if node != record["leader"]]
        if not others:
            return
        to = self.chance.choice(others)
        self.note("hand_over")
        self.replicas.hand_over(shard, to)

    # ---- who ----

    def status(self):
        """None if metad cannot be asked now, or knows no shards yet."""
        status = self.replicas.status() if self.is_well(self.cluster.metad) else None
        return status if status is not None and status["map"]["shards"] else None

    def target(self, kind, status):
        cluster = self.cluster
        if kind.endswith("gateway"):
            return self.chance.choice(cluster.gateways)
        if kind.endswith("metad"):
            return cluster.metad
        leader_id = 0 if status is None else self.chance.choice(status["map"]["shards"])["leader"]
        leader = self.replicas.node_of(status, leader_id) if leader_id != 0 else self.chance.choice(cluster.nodes)
        if kind.endswith("leader"):
            return leader
        return self.chance.choice([node for node in cluster.nodes if node is not leader])

    def is_well(self, daemon):
        return all(daemon is not ill for _, ill, _ in self.plan)

    def may_hit(self, daemon):
        """Nothing twice at a time; of the nodes mostly one, sometimes two, so that for a while nobody can write."""
        if not self.is_well(daemon):
            return False
        ill = sum(not self.is_well(node) for node in self.cluster.nodes)
        ill_max = 1 if self.chance.random() < NO_MAJORITY else 0
        return daemon not in self.cluster.nodes or ill <= ill_max

    # ---- what happens ----

    def note(self, kind, *daemons):
        self.counts[kind] += 1
        self.say(kind, *(daemon.name for daemon in daemons))

    def say(self, *words):
        self.file.write(f"{datetime.datetime.utcnow().isoformat(timespec='milliseconds')}Z {' '.join(words)}\n")

    def later(self, seconds, daemon, action):
        self.plan.append((time.monotonic() + seconds, daemon, action))
        self.plan.sort(key=lambda planned: planned[0])

    def go_on(self, now):
        while self.plan and self.plan[0][0] <= now:
            _, daemon, action = self.plan.pop(0)
            self.say(f"  {action.__name__}", daemon.name)
            action(daemon)

    @staticmethod
    def stop(daemon):
        daemon.signal(signal.SIGSTOP)

    @staticmethod
    def resume(daemon):
        daemon.signal(signal.SIGCONT)

    @staticmethod
    def kill(daemon):
        daemon.kill()

    @staticmethod
    def start(daemon):
        daemon.start()

    def check(self):
        """No daemon has ended by itself."""
        for daemon in self.cluster.daemons():
            if daemon.process is not None and daemon.process.poll() is not None:
                raise AssertionError(f"{daemon.name} ended with {daemon.process.returncode}:\n"
                                     + daemon.log.read_text(errors="replace")[-2000:])
