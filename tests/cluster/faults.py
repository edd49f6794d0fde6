"""Faults to a cluster of real processes, one after the other and some at once. What may happen is a table of kinds; here
are those of processes: kill -9, SIGSTOP, hand-overs. tests/chaos adds those of networks and disks."""

import collections
import datetime
import signal
import time
import typing

from replicas import Replicas

DOWN_S_MAX = 3.0  # a daemon that was killed is started again after a random time up to this,
STOPPED_S = (0.1, 10.0)  # one that was stopped goes on after one of these,
PAUSE_S_MAX = 2.0  # and the next fault comes so much later, whether the last is over or not,
AT_ONCE_MAX = 3  # up to so many at a time
BEGINNING_S_MAX = 2  # of a process, on a busy machine
ENDING_S_MAX = 40  # within which a daemon ends that is told to; it has given up by then (libcommon/ending.h)
NO_MAJORITY = 0.2  # how often a second node of three may be hit while one is ill


class Fault:
    """One that has begun."""

    def __init__(self, kind, patients, nature):
        self.kind = kind
        self.patients = set(patients)  # daemons that may be of no use while it lasts
        # "process": what is left of it starts, ends or resumes processes, and is void when all are killed; "repair": it
        # needs its processes; or something else
        self.nature = nature


class Kind(typing.NamedTuple):
    weight: int  # how often, relative to the others
    begin: typing.Callable  # begin(faults, kind's name): does it, or nothing if it cannot be done now


class Step(typing.NamedTuple):
    """Of what has begun, a part that is still to come."""
    time_s: float  # monotonic
    fault: Fault
    words: str  # for the log
    action: typing.Callable


def name_of(argument):
    """Of a daemon or a plain value; what else a step needs is not for the log."""
    plain = isinstance(argument, (str, int, tuple))
    return getattr(argument, "name", None) or (str(argument) if plain else "")


class Faults:
    """Chosen by `chance` (random.Random) from `kinds` (name: Kind), so that a seed names the faults; what they meet depends
    on the moment. Each is written to `log`, a file, when it begins and when it is undone."""

    def __init__(self, cluster, chance, log, kinds):
        self.cluster = cluster
        self.replicas = Replicas(cluster)
        self.chance = chance
        self.kinds = kinds
        self.file = open(log, "a", encoding="utf-8", buffering=1)
        self.plan = []  # of Step, in the order of time
        self.counts = collections.Counter()
        self.healed_s = time.monotonic()  # when the last one was over

    def run(self, seconds, look=lambda: None):
        """Faults for so long; then everything is well again. `look` is called now and then, and may raise."""
        end = time.monotonic() + seconds
        next_fault = time.monotonic()
        while time.monotonic() < end:
            if time.monotonic() >= next_fault and len(self.active()) < AT_ONCE_MAX:
                kind = self.chance.choices(list(self.kinds), [kind.weight for kind in self.kinds.values()])[0]
                self.kinds[kind].begin(self, kind)
                next_fault = time.monotonic() + self.chance.uniform(0, PAUSE_S_MAX)
            self.pass_time(time.monotonic(), look)
        self.pass_time(float("inf"), look)
        while self.plan:  # a step may plan another
            self.pass_time(time.monotonic(), look)
        self.healed_s = time.monotonic()
        self.say("healed")

    def pass_time(self, now_s, look):
        self.go_on(now_s)
        self.check()
        look()
        time.sleep(0.01)

    # ---- who ----

    def active(self):
        return {step.fault for step in self.plan}

    def status(self):
        """None if metad cannot be asked now, or knows no shards yet."""
        well = sum(self.is_well(metad) for metad in self.cluster.metads)
        status = self.replicas.status() if well > len(self.cluster.metads) // 2 else None
        return status if status is not None and status["map"]["shards"] else None

    def leader(self):
        """Of a random shard; anybody if that is not known."""
        status = self.status()
        leader_id = 0 if status is None else self.chance.choice(status["map"]["shards"])["leader"]
        return self.replicas.node_of(status, leader_id) if leader_id != 0 else self.chance.choice(self.cluster.nodes)

    def follower(self):
        leader = self.leader()
        return self.chance.choice([node for node in self.cluster.nodes if node is not leader])

    def gateway(self):
        return self.chance.choice(self.cluster.gateways)

    def metad(self):
        """Often the one that leads."""
        status = self.status() if self.chance.random() < 0.5 else None
        return self.chance.choice(self.cluster.metads) if status is None else self.replicas.metad_leader(status)

    def is_well(self, daemon):
        return all(daemon not in fault.patients for fault in self.active())

    def may_hit(self, *daemons):
        """Nobody twice at a time; of the nodes mostly one, sometimes two, so that for a while nobody can write."""
        if not all(self.is_well(daemon) for daemon in daemons):
            return False
        ill = sum(not self.is_well(node) or node in daemons for node in self.cluster.nodes)
        ill_max = 2 if self.chance.random() < NO_MAJORITY else 1
        return not set(daemons) & set(self.cluster.nodes) or ill <= ill_max

    # ---- what happens ----

    def note(self, kind, *daemons, nature="process", words=""):
        """A fault begins; its steps are planned with `later`."""
        self.counts[kind] += 1
        self.say(kind, *(daemon.name for daemon in daemons), words)
        return Fault(kind, daemons, nature)

    def say(self, *words):
        now = datetime.datetime.utcnow().isoformat(timespec="milliseconds")
        self.file.write(f"{now}Z {' '.join(word for word in words if word)}\n")

    def later(self, seconds, fault, action, *arguments):
        words = " ".join(filter(None, [action.__name__, *(name_of(argument) for argument in arguments)]))
        self.plan.append(Step(time.monotonic() + seconds, fault, words, lambda: action(*arguments)))
        self.plan.sort(key=lambda step: step.time_s)

    def may_kill_all(self):
        return all(fault.nature != "repair" for fault in self.active())

    def kill_all(self):
        """What was planned for their processes is void."""
        self.plan = [step for step in self.plan if step.fault.nature != "process"]
        self.cluster.kill_all()

    def start_all_later(self, fault):
        for daemon in self.cluster.daemons():
            self.later(self.chance.uniform(0, DOWN_S_MAX), fault, start, daemon)

    def go_on(self, now_s):
        """Does what is due by then."""
        due = [step for step in self.plan if step.time_s <= now_s]
        self.plan = self.plan[len(due):]
        for step in due:
            self.say(f"  {step.words}")
            step.action()

    def check(self):
        """No daemon has ended by itself."""
        for daemon in self.cluster.daemons():
            if daemon.has_died() and not self.forgives(daemon):
                raise AssertionError(f"{daemon.name} ended with {daemon.process.returncode}:\n"
                                     + daemon.log.read_text(errors="replace")[-2000:])

    def forgives(self, daemon):
        """Whether it had to; then it has been seen to."""
        return False


# ---- kinds ----


def start(daemon):
    daemon.start()


def kill(daemon):
    daemon.kill()


def stop(daemon):
    daemon.signal(signal.SIGSTOP)


def resume(daemon):
    daemon.signal(signal.SIGCONT)


def begin_kill(find):
    def begin(faults, kind):
        daemon = find(faults)
        if faults.may_hit(daemon):
            fault = faults.note(kind, daemon)
            kill(daemon)
            faults.later(faults.chance.uniform(0, DOWN_S_MAX), fault, start, daemon)
    return begin


def begin_stop(find):
    def begin(faults, kind):
        daemon = find(faults)
        if faults.may_hit(daemon):
            fault = faults.note(kind, daemon)
            stop(daemon)
            faults.later(faults.chance.uniform(*STOPPED_S), fault, resume, daemon)
    return begin


def start_when_ended(faults, fault, daemon, deadline_s):
    """It was told to end, which takes a while: leaders are handed over, and requests in flight are answered."""
    if daemon.process.poll() is None:
        assert time.monotonic() < deadline_s, f"{daemon.name} does not end"
        faults.later(0.05, fault, start_when_ended, faults, fault, daemon, deadline_s)
        return
    code = daemon.reap()
    had_begun = daemon.ended_after_s > BEGINNING_S_MAX  # before, the signal may have met no handler yet
    assert code == 0 or (code == -signal.SIGTERM and not had_begun), f"{daemon.name} was told to end, and ended with {code}"
    faults.later(faults.chance.uniform(0, DOWN_S_MAX), fault, start, daemon)


def restart(faults, kind, daemons):
    fault = faults.note(kind, *daemons)
    for daemon in daemons:
        daemon.end()
        faults.later(0.05, fault, start_when_ended, faults, fault, daemon, time.monotonic() + ENDING_S_MAX)


def begin_restart(find):
    def begin(faults, kind):
        daemon = find(faults)
        if faults.may_hit(daemon):
            restart(faults, kind, [daemon])
    return begin


def restart_everything(faults, kind):
    if all(faults.is_well(daemon) for daemon in faults.cluster.daemons()):
        restart(faults, kind, faults.cluster.daemons())


def kill_everything(faults, kind):
    if faults.may_kill_all():
        faults.kill_all()
        faults.start_all_later(faults.note(kind, *faults.cluster.daemons()))


def leader_ahead(faults, kind):
    """A leader goes on alone while the other nodes are stopped; then all are killed, so that what is on its way to the others
    is gone, and the leader is started last. Nobody may have been told that anything was written since."""
    nodes = faults.cluster.nodes
    if faults.status() is None or not all(faults.is_well(node) for node in nodes):
        return
    leader = faults.leader()
    others = [node for node in nodes if node is not leader]
    fault = faults.note(kind, *nodes, words=f"of {leader.name}")
    for node in others:
        stop(node)
    killed_s = faults.chance.uniform(0, 0.5)
    for node in nodes:
        faults.later(killed_s, fault, kill, node)
    for node in others:
        faults.later(killed_s + faults.chance.uniform(0, 0.5), fault, start, node)
    faults.later(killed_s + faults.chance.uniform(0.5, DOWN_S_MAX), fault, start, leader)


def hand_over(faults, kind):
    """Of a random shard to somebody in sync; metad may refuse, and the leader may give up."""
    status = faults.status()
    if status is None:
        return
    shard = faults.chance.randrange(len(status["map"]["shards"]))
    record = status["map"]["shards"][shard]
    others = [node for node in record["isr"] if node != record["leader"]]
    if others:
        to = faults.chance.choice(others)
        faults.note(kind, words=f"shard {shard} to node {to}")
        faults.replicas.hand_over(shard, to)


PROCESS_KINDS = {
    "kill_leader": Kind(6, begin_kill(Faults.leader)),
    "kill_follower": Kind(4, begin_kill(Faults.follower)),
    "kill_gateway": Kind(2, begin_kill(Faults.gateway)),
    "kill_metad": Kind(2, begin_kill(Faults.metad)),
    "kill_everything": Kind(1, kill_everything),
    "stop_leader": Kind(5, begin_stop(Faults.leader)),
    "stop_follower": Kind(4, begin_stop(Faults.follower)),
    "stop_gateway": Kind(1, begin_stop(Faults.gateway)),
    "stop_metad": Kind(1, begin_stop(Faults.metad)),
    "restart_leader": Kind(2, begin_restart(Faults.leader)),
    "restart_gateway": Kind(1, begin_restart(Faults.gateway)),
    "restart_metad": Kind(1, begin_restart(Faults.metad)),
    "restart_everything": Kind(1, restart_everything),
    "hand_over": Kind(2, hand_over),
    "leader_ahead": Kind(2, leader_ahead),
}
