"""Gives the same commands to two servers and compares what they answer.

The server under test (`subject`) gets a batch of commands at once; when its answers are there, the other one (`reference`) gets the
same, but for what a rule asks instead (canonical.py)."""

import itertools
import re
import time

import values
from canonical import EXACT, RULES, refused_rightly, score_walked, sorted_pairs, unordered, without_kept_count, without_minus_zero
from resp import Connection, is_error

BATCH = 400
EXPIRED_AFTER_S = 0.12  # more than the times of Generator.expiry
CONTENT = {  # of a key by its type: what tells it, and how it is compared
    b"string": ([b"GET"], without_kept_count),
    b"list": ([b"LRANGE", b"0", b"-1"], lambda reply: reply),
    b"hash": ([b"HGETALL"], sorted_pairs),
    b"set": ([b"SMEMBERS"], unordered),
    b"zset": ([b"ZRANGE", b"0", b"-1", b"WITHSCORES"], without_minus_zero),
}


class Difference(Exception):
    """Of the answers to one command."""

    def __init__(self, at, command, got, expected):
        super().__init__()
        self.at, self.command, self.got, self.expected = at, command, got, expected

    def signature(self):
        """What it is about: differences that look alike here are probably one."""
        return self.command[0].upper(), kind_of(self.got), kind_of(self.expected)


QUOTED = re.compile(rb"'[^']*'")


def kind_of(reply):
    if is_error(reply):
        return b"error: " + b" ".join(QUOTED.sub(b"'...'", reply[1]).split(b" ")[:6])[:60]
    if isinstance(reply, tuple):
        return reply[0].encode() if isinstance(reply[0], str) else reply[0]  # a reply's kind, or a key's type
    return type(reply).__name__.encode()


class Side:
    """One of the servers, with two connections. The other one is never within a transaction."""

    def __init__(self, port, protocol=2, change=None):
        self.port, self.protocol, self.change = port, protocol, change
        self.main = self.other = None

    def open(self):
        self.close()
        self.main, self.other = Connection(self.port), Connection(self.port)
        if self.protocol != 2:
            for connection in (self.main, self.other):
                hello = connection.ask(b"HELLO", b"%d" % self.protocol)
                assert not is_error(hello), hello

    def close(self):
        for connection in (self.main, self.other):
            if connection is not None:
                connection.close()

    def begin(self, commands):
        """`change` may plant a difference."""
        self.main.send(commands if self.change is None else list(map(self.change, commands)))

    def ask_all(self, commands):
        self.begin(commands)
        return self.main.receive(len(commands))

    def ask_beside(self, commands):
        """On the other connection."""
        return self.other.ask_all(commands)

    def empty(self):
        if self.other.ask(b"FLUSHALL") != ("+", b"OK"):  # it has no such command
            keys = walk(self, [b"SCAN"])
            self.other.ask_all([[b"DEL", key] for key in keys])


class Runner:
    def __init__(self, subject, reference, batch=BATCH):
        self.subject, self.reference, self.batch = subject, reference, batch
        self.compared = 0  # commands in all

    def reset(self):
        """Both without keys, on new connections."""
        for side in (self.subject, self.reference):
            side.open()
            side.empty()

    def run(self, commands):
        """From what the servers have now. Raises Difference; its `at` counts the commands."""
        self.at = 0
        self.watched = []  # keys
        commands = iter(commands)
        batch, control = self.next_batch(commands)
        while batch or control:
            self.subject.begin(batch)
            following = self.next_batch(commands) if control is None else None
            self.compare_batch(batch)
            if control is not None:
                self.control(control)
                self.at += 1
                following = self.next_batch(commands)
            batch, control = following

    def next_batch(self, commands):
        """Up to the next that is the runner's own; a transaction stays whole."""
        batch, in_transaction = [], False
        for command in commands:
            if command[0].startswith(b"@"):
                return batch, command
            batch.append(command)
            in_transaction = command[0] == b"MULTI" or in_transaction and not ends_transaction(command)
            if len(batch) >= self.batch and not in_transaction:
                break
        return batch, None

    def compare_batch(self, batch):
        got = self.subject.main.receive(len(batch))
        plan = Plan(batch, got, self.watched)
        answers = iter(self.reference.ask_all(plan.asked))
        for i, step in enumerate(plan.steps):
            expected = list(itertools.islice(answers, step.count))
            if not step.same(batch[i], got[i], expected):
                raise Difference(self.at + i, batch[i], got[i], expected[0] if len(expected) == 1 else expected)
        self.at += len(batch)
        self.compared += len(batch)

    # What is the runner's own

    def control(self, command):
        if command[0] == b"@wait":
            time.sleep(EXPIRED_AFTER_S)
        elif command[0] == b"@state":
            self.compare_state(command)
        elif command[0] == b"@block":
            got, expected = blocked(self.subject, command), blocked(self.reference, command)
            refused = crosses_slots(got[0]) and is_error(expected[0])  # a word was taken for a key
            if not EXACT.same(command, got[refused:], expected[refused:]):
                raise Difference(self.at, command, got, expected)
        else:
            got, expected = self.answers_beside(command[0], command[1:])
            self.compared += 1
            rule = RULES.get(command[1].upper(), EXACT) if command[0] == b"@other" else EXACT
            if not crosses_slots(got) and not rule.same(command[1:], got, expected):
                raise Difference(self.at, command, got, expected)

    def answers_beside(self, kind, command):
        """To what goes over the other connection; what crosses slots the reference is not asked."""
        answer = ask_other if kind == b"@other" else walk
        got = answer(self.subject, command)
        return got, None if crosses_slots(got) else answer(self.reference, command)

    def compare_state(self, command):
        """Which keys there are, their types, contents and deadlines."""
        keys = [walk(side, [b"SCAN"]) for side in (self.subject, self.reference)]
        if keys[0] != keys[1]:
            raise Difference(self.at, command, keys[0], keys[1])
        for some in (keys[0][i:i + self.batch] for i in range(0, len(keys[0]), self.batch)):
            states = [states_of(side, some) for side in (self.subject, self.reference)]
            for key, got, expected in zip(some, *states):
                if got[:2] != expected[:2] or not RULES[b"PTTL"].same(None, got[2], expected[2]):
                    raise Difference(self.at, [*command, key], got, expected)


def ask_other(side, command):
    return side.ask_beside([command])[0]


def states_of(side, keys):
    """(type, content, milliseconds left) of each."""
    types = [reply[1] for reply in side.ask_beside([[b"TYPE", key] for key in keys])]
    left = side.ask_beside([[b"PTTL", key] for key in keys])
    asked = [CONTENT.get(kind, ([b"EXISTS"], None))[0] for kind in types]
    contents = side.ask_beside([[words[0], key, *words[1:]] for words, key in zip(asked, keys)])
    return [(kind, CONTENT[kind][1](content) if kind in CONTENT else content, time_left)
            for kind, content, time_left in zip(types, contents, left)]


def blocked(side, command):
    """What the one that waits is answered, and the one that lets it go on."""
    size = int(command[1])
    side.begin([command[2:2 + size]])
    beside = ask_other(side, command[2 + size:])
    return [side.main.receive(1)[0], beside]


def walk(side, command):
    """The elements that a walk finds, each once, in order; or its error."""
    before = 1 if command[0] == b"SCAN" else 2
    found, cursor = set(), b"0"
    while True:
        reply = ask_other(side, [*command[:before], cursor, *command[before:]])
        if is_error(reply):
            return reply
        cursor, items = reply
        if command[0] == b"ZSCAN":
            items[1::2] = map(score_walked, items[1::2])
        found |= set(items if command[0] in (b"SCAN", b"SSCAN") else zip(items[::2], items[1::2]))
        if cursor == b"0":
            return sorted(found)


class Step:
    """How one command of a batch is judged: by the answers to the `count` commands that were asked for it."""

    def __init__(self, count, same):
        self.count, self.same = count, same


def same_by(rule):
    return lambda command, got, expected: rule.same(command, got, expected[0])


def fits_by(rule):
    return lambda command, got, expected: rule.fits(command, got, expected)


EXACT_STEP = Step(1, same_by(EXACT))
STEPS = {name: Step(1, same_by(rule)) for name, rule in RULES.items() if not rule.follows}
IGNORED_STEP = Step(0, lambda command, got, expected: True)
OK = ("+", b"OK")
QUEUED = ("+", b"QUEUED")


class Plan:
    """What the reference is asked, when the subject has answered a batch so, and how its answers are judged."""

    def __init__(self, batch, got, watched):
        self.asked, self.steps = [], []
        transaction = None
        for i, command in enumerate(batch):
            name = command[0].upper()
            if transaction is not None:
                transaction.add(self, name, command, got[i])
                if ends_transaction(command):
                    watched.clear()
                    transaction = None
            elif name == b"MULTI" and got[i] == OK:
                crosses = any(map(crosses_slots, got[i:end_of_transaction(batch, i)]))
                transaction = (Crossing if crosses else Transaction)(self, watched)
            else:
                self.plain(name, command, got[i])
                if name == b"WATCH" and got[i] == OK:
                    watched += command[1:]
                elif name == b"UNWATCH":
                    watched.clear()

    def add(self, commands, step):
        self.asked += commands
        self.steps.append(step)

    def plain(self, name, command, got):
        rule = RULES.get(name)
        if is_error(got) and crosses_slots(got):
            self.add([[b"COMMAND", b"GETKEYS", *command]], Step(1, may_cross_slots))
        elif refused_rightly(command, got):
            self.add([], IGNORED_STEP)
        elif rule is None:
            self.asked.append(command)
            self.steps.append(EXACT_STEP)
        elif rule.follows:
            commands = rule.follow(command, got)
            self.add(commands, Step(len(commands), fits_by(rule)))
        else:
            self.add([command], STEPS[name])


class Transaction:
    """From MULTI on."""

    def __init__(self, plan, watched):
        plan.add([[b"MULTI"]], EXACT_STEP)
        self.queued = []

    def add(self, plan, name, command, got):
        plan.add([command], Step(1, self.same_results) if name == b"EXEC" else EXACT_STEP)
        if got == QUEUED:
            self.queued.append(command)

    def same_results(self, command, got, expected):
        """Of EXEC: each result by the rule of its command."""
        results = expected[0]
        if not isinstance(got, list) or not isinstance(results, list) or not len(got) == len(results) == len(self.queued):
            return EXACT.same(command, got, results)
        return all(RULES.get(queued[0].upper(), EXACT).same(queued, *both) for queued, *both in zip(self.queued, got, results))


class Crossing:
    """One that the subject refuses because of its slots: the reference is asked for the keys only."""

    def __init__(self, plan, watched):
        self.keys = list(watched)
        plan.add([[b"UNWATCH"]], EXACT_STEP)

    def add(self, plan, name, command, got):
        if ends_transaction(command):
            plan.add([], Step(0, self.is_refused))
        else:
            plan.add([[b"COMMAND", b"GETKEYS", *command]], Step(1, self.take_keys))

    def take_keys(self, command, got, expected):
        self.keys += expected[0] if isinstance(expected[0], list) else command[1:]  # where Redis sees no keys, Skerry may
        return True

    def is_refused(self, command, got, expected):
        refused = is_error(got) and got[1].startswith((b"EXECABORT", b"CROSSSLOT"))
        return (refused or command[0].upper() == b"DISCARD") and len(set(map(values.slot_of, self.keys))) > 1


def ends_transaction(command):
    """EXEC ends it also where it is refused for its arguments."""
    name = command[0].upper()
    return name == b"EXEC" or name == b"DISCARD" and len(command) == 1


def end_of_transaction(batch, at):
    """Behind it."""
    while at < len(batch) and not ends_transaction(batch[at]):
        at += 1
    return at + 1


def crosses_slots(reply):
    return is_error(reply) and reply[1].startswith(b"CROSSSLOT")


def may_cross_slots(command, got, expected):
    """The keys that Redis sees in it lie in several slots, or patterns make more of them, or STORE comes twice."""
    words = [word.upper() for word in command]
    if words[0] in (b"SORT", b"SORT_RO") and (b"BY" in words or b"GET" in words or words.count(b"STORE") > 1):
        return True
    return isinstance(expected[0], list) and len(set(map(values.slot_of, expected[0]))) > 1
