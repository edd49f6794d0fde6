"""Hosts of their own for daemons: network namespaces that a process of ours (switch.c) passes packets between."""

import collections
import ctypes
import subprocess
import threading

from harness import BUILD

SWITCH = BUILD / "tests" / "chaos" / "skerry-switch"
CLONE_NEWNET = 0x40000000
# What a link is when nothing is wrong with it.
WELL = {"up": 1, "delay_us": 0, "jitter_us": 0, "loss_ppm": 0, "repeat_ppm": 0, "bytes_per_s": 0}


class Network:
    """Of the named hosts. They are gone when this process is, and so are the daemons on them."""

    def __init__(self, names):
        self.numbers = {name: i for i, name in enumerate(names)}
        self.lock = threading.Lock()
        self.rules = {(a, b): dict(WELL) for a in names for b in names if a != b}
        self.switch = subprocess.Popen([SWITCH, str(len(names))], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                       text=True, bufsize=1)
        self.namespaces = {name: self.ask("host", i) for name, i in self.numbers.items()}

    def ask(self, *words):
        with self.lock:
            self.switch.stdin.write(" ".join(map(str, words)) + "\n")
            self.switch.stdin.flush()
            answer = self.switch.stdout.readline().strip()
        assert answer and not answer.startswith("error"), f"the switch answers {answer!r} to {words}"
        return answer

    def names(self):
        return list(self.numbers)

    def address(self, name):
        return f"10.77.0.{self.numbers[name] + 1}"

    def command(self, name, words):
        """What runs the command on that host; it dies with the thread that starts it."""
        return ["setpriv", "--pdeathsig", "KILL", "nsenter", f"--net={self.namespaces[name]}", *words]

    def enter(self, name):
        """This thread, and those that it starts from now on, are on that host."""
        with open(self.namespaces[name], "rb") as namespace:
            if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), f"cannot enter the namespace of {name}")

    def renew(self, name):
        """Nothing may run there. Its connections are gone and the others are not told."""
        self.namespaces[name] = self.ask("renew", self.numbers[name])

    def begin_anew(self, keep):
        """All but one host, on which nobody runs; all links are well."""
        self.set({})
        for name in self.numbers:
            if name != keep:
                self.renew(name)

    def set(self, rules):
        """{(from, to): {rule: value}}: these rules and no others; what is not named is well."""
        for link, now in self.rules.items():
            for rule, value in (WELL | rules.get(link, {})).items():
                if now[rule] != value:
                    self.ask("link", self.numbers[link[0]], self.numbers[link[1]], rule, value)
                    now[rule] = value

    def counts(self):
        words = self.ask("counts").split()
        return dict(zip(words[::2], map(int, words[1::2])))

    def close(self):
        self.switch.stdin.close()
        self.switch.wait()


def links_between(some, others):
    """Both ways."""
    return [link for a in some for b in others if a != b for link in ((a, b), (b, a))]


def merge(all_rules):
    """Of several faults at once, the worst of each."""
    merged = collections.defaultdict(dict)
    for rules in all_rules:
        for link, changes in rules.items():
            for rule, value in changes.items():
                worst = min if rule in ("up", "bytes_per_s") else max
                merged[link][rule] = worst(value, merged[link].get(rule, value))
    return merged
