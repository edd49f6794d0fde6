"""Keys of all types that clients change at the same time, each with what must hold of it whatever fails, as long as writes have
ids: nothing that was acknowledged is missing, nothing has happened twice, and what is one command or one atomic batch has
happened as a whole or not at all.

Players (loads.py) do `step`, many of them at a time. `check` reads through `read`, a function of a command, and is for moments
when nobody writes. `TAKE` and the like name the commands by which the same is done to several types."""

import collections
import itertools
import time
import typing

READ_EVERY = 4  # of what all players see at any moment, one step in so many is a look
# Commands that wait; that it was in vain is not remembered.
WAITING = {"BLPOP", "BRPOP", "BLMPOP", "BLMOVE", "BRPOPLPUSH", "BZPOPMIN", "BZPOPMAX", "BZMPOP"}
TAKEN_MAX = 3  # by one command
STEPS_MAX = 300  # on collections that are read as a whole at every look


class Invariant:
    def __init__(self, key):
        self.key = key

    def prepare(self, player):
        """Before the others do anything."""

    def step(self, player):
        raise NotImplementedError

    def check(self, read):
        raise NotImplementedError

    def fail(self, why, *what):
        raise AssertionError(f"{type(self).__name__} {self.key}: {why}: {' '.join(map(repr, what))[:2000]}")


# ---- elements that are there or not ----


class Elements(Invariant):
    """Each is put and taken by one player alone, so that it knows whether it is there, and with which value; an element of
    which that is not known, since a write was left unknown, it leaves alone from then on."""

    EACH = 40  # elements of a player

    def __init__(self, key):
        super().__init__(key)
        self.possible = {}  # of each element, its values (None: not there); several if nobody knows
        self.numbers = collections.defaultdict(itertools.count)  # of players

    def choose(self, player):
        """Some of the player's elements of which it knows what they are."""
        mine = [name for name in (self.name_of(player, i) for i in range(self.EACH)) if len(self.possible.get(name, [None])) == 1]
        if not mine:
            return [self.name_of(player, self.EACH + next(self.numbers[player.number]))]
        return player.chance.sample(mine, min(len(mine), player.chance.randint(1, TAKEN_MAX)))

    def name_of(self, player, i):
        return f"{player.number}-{i}".encode()

    def value_of(self, name):
        value, = self.possible.get(name, [None])
        return value

    def step(self, player):
        names = self.choose(player)
        there = [name for name in names if self.value_of(name) is not None]
        what = player.chance.choice(("put", "put", "take", "look"))
        if what == "put":
            values = {name: self.new_value(player) for name in names}
            self.change(player, self.put(values), len(names) - len(there), values)
        elif what == "take":
            self.change(player, [self.TAKE, self.key, *names], len(there), dict.fromkeys(names))
        else:
            outcome, result = player.read([self.GET, self.key, names[0]])
            if outcome == "done" and self.seen(result) != self.value_of(names[0]):
                self.fail("a read shows something else than was written", names[0], result, self.value_of(names[0]))

    def change(self, player, command, expected, values):
        outcome, result = player.write(command)
        if outcome == "done" and result != expected:
            self.fail(f"{command} should have answered {expected}", result)
        for name, value in values.items():
            old = self.value_of(name)
            self.possible[name] = {"done": [value], "failed": [old], "unknown": [old, value]}[outcome]

    def check(self, read):
        there = self.read_all(read)
        count = read([self.COUNT, self.key])
        if count != len(there):
            self.fail(f"{self.COUNT} tells {count} of {len(there)} elements")
        for name in set(there) | set(self.possible):
            if there.get(name) not in self.possible.get(name, [None]):
                self.fail("an element is not what was acknowledged", name, there.get(name), self.possible.get(name))


class SetElements(Elements):
    TAKE, GET, COUNT = "SREM", "SISMEMBER", "SCARD"

    def new_value(self, player):
        return True

    def put(self, values):
        return ["SADD", self.key, *values]

    def seen(self, result):
        return True if result else None

    def read_all(self, read):
        return dict.fromkeys(read(["SMEMBERS", self.key]), True)


class HashElements(Elements):
    TAKE, GET, COUNT = "HDEL", "HGET", "HLEN"

    def new_value(self, player):
        return player.unique()

    def put(self, values):
        return ["HSET", self.key, *itertools.chain(*values.items())]

    def seen(self, result):
        return result

    def read_all(self, read):
        return read(["HGETALL", self.key])


class ScoredElements(Elements):
    TAKE, GET, COUNT = "ZREM", "ZSCORE", "ZCARD"

    def new_value(self, player):
        return float(player.chance.randint(-50, 50))

    def put(self, values):
        return ["ZADD", self.key, *itertools.chain(*((str(score), name) for name, score in values.items()))]

    def seen(self, result):
        return result

    def read_all(self, read):
        pairs = read(["ZRANGE", self.key, 0, -1, "WITHSCORES"])
        if [tuple(pair) for pair in pairs] != sorted((tuple(pair) for pair in pairs), key=lambda pair: (pair[1], pair[0])):
            self.fail("not in order", pairs)
        return dict(map(tuple, pairs))


# ---- items, each put once and taken once ----


class Take(typing.NamedTuple):
    begin_s: float
    end_s: float
    items: list


class Bag(Invariant):
    """Players put items that are all unlike, and take them. Who takes asks until it knows what it got."""

    def __init__(self, key):
        super().__init__(key)
        self.put = set()  # acknowledged
        self.perhaps = set()
        self.takes = []
        # (when it began, command, id) of who waited in vain, and was not answered at first: what was asked first may have taken
        # something later, which the same id gets (docs/protocol.md, "Commands that wait")
        self.doubtful = []

    def new_items(self, player):
        return [player.unique() for _ in range(player.chance.randint(1, TAKEN_MAX))]

    def step(self, player):
        if player.chance.random() < 0.5:
            self.take(player)
            return
        items = self.new_items(player)
        outcome, result = player.write(self.put_command(items))
        if outcome == "done":
            self.put.update(items)
            if result < len(items):
                self.fail("new items were not new, or the list is shorter than what was put", items, result)
        elif outcome == "unknown":
            self.perhaps.update(items)

    def take(self, player):
        count = player.chance.choice((None, 1, TAKEN_MAX))
        begin_s = time.monotonic()
        command, name, doubts = self.take_command(player, count), player.new_name(), player.doubts()
        outcome, result = player.write(command, name, insists=True)
        if command[0] in WAITING and result is None and player.doubts() > doubts:
            self.doubtful.append((begin_s, command, name))
        if outcome != "done":
            self.fail("not taken", outcome, result)
        items = self.items_of(result, count)
        if len(items) > (count or 1):
            self.fail(f"{count} were asked for", items)
        self.takes.append(Take(begin_s, time.monotonic(), items))

    def take_command(self, player, count):
        return [self.TAKE, self.key, *([] if count is None else [count])]

    def items_of(self, result, count):
        if count is None:
            return [] if result is None else [result]
        return result or []

    def check(self, read):
        while self.doubtful:
            begin_s, command, name = self.doubtful.pop()
            items = self.items_of(read(command, id=name), None)
            self.takes.append(Take(begin_s, time.monotonic(), items))
        taken = [item for take in self.takes for item in take.items]
        left = read(self.all_command())
        twice = [item for item, count in collections.Counter(taken + left).items() if count > 1]
        if twice:
            self.fail("items are there twice", twice)
        seen = {*taken, *left}
        if self.put - seen:
            self.fail("items that were acknowledged are missing", sorted(self.put - seen))
        if seen - self.put - self.perhaps:
            self.fail("items come from nowhere", sorted(seen - self.put - self.perhaps))
        self.check_order(left)

    def check_order(self, left):
        """Where there is one."""


class Queue(Bag):
    """A list; each player's items come out in the order in which they were put. Some wait for one."""

    TAKE = "LPOP"
    WAIT_S = "0.1"

    def take_command(self, player, count):
        waits = count is None and player.chance.random() < 0.5
        return ["BLPOP", self.key, self.WAIT_S] if waits else super().take_command(player, count)

    def items_of(self, result, count):
        if count is None and isinstance(result, list):  # of BLPOP: the key, too
            return result[1:]
        return super().items_of(result, count)

    def put_command(self, items):
        return ["RPUSH", self.key, *items]

    def all_command(self):
        return ["LRANGE", self.key, 0, -1]

    def check_order(self, left):
        """Of those that were acknowledged: a write of which nobody knows may happen later. Of two takes one of which began when
        the other had ended."""
        now_s = time.monotonic()
        takes = sorted([*self.takes, Take(now_s, now_s, left)])
        ended = iter(sorted(takes, key=lambda take: take.end_s))
        before, last = next(ended), {}  # of each player, the last of its items that came out in what had ended
        for take in takes:
            while before.end_s < take.begin_s:
                for player, number in self.places(before):
                    last[player] = max(number, last.get(player, 0))
                before = next(ended)
            within = {}
            for player, number in self.places(take):
                if number <= max(last.get(player, 0), within.get(player, 0)):
                    self.fail(f"item {number} of player {player} came too late", take.items)
                within[player] = number

    def places(self, take):
        for item in take.items:
            if item in self.put:
                player, number = item.split(b"-")
                yield player, int(number)


class Draws(Bag):
    """A set, of which members are drawn by chance."""

    TAKE = "SPOP"

    def put_command(self, items):
        return ["SADD", self.key, *items]

    def all_command(self):
        return ["SMEMBERS", self.key]


class Heap(Bag):
    """A sorted set, of which the first is taken."""

    TAKE = "ZPOPMIN"

    def put_command(self, items):
        return ["ZADD", self.key, *itertools.chain(*((len(item), item) for item in items))]

    def items_of(self, result, count):
        pairs = [result] if result and not isinstance(result[0], list) else result or []
        return [member for member, _ in pairs]

    def all_command(self):
        return ["ZRANGE", self.key, 0, -1]


# ---- sums ----


class Sums(Invariant):
    """All players add to the same few; what each was answered no other was."""

    COUNT = 3
    AMOUNTS = (1, 5)

    def __init__(self, key):
        super().__init__(key)
        self.answers = collections.defaultdict(list)  # of each element, (amount, result)
        self.perhaps = collections.Counter()

    def step(self, player):
        name, amount = f"sum{player.chance.randrange(self.COUNT)}", player.chance.randint(*self.AMOUNTS)
        outcome, result = player.write([self.ADD, self.key, *self.words(name, amount)])
        if outcome == "done":
            self.answers[name].append((amount, float(result)))
        elif outcome == "unknown":
            self.perhaps[name] += amount

    def words(self, name, amount):
        return [name, amount]

    def check(self, read):
        for name in (f"sum{i}" for i in range(self.COUNT)):
            answers = self.answers[name]
            results = [result for _, result in answers]
            sure, end = sum(amount for amount, _ in answers), float(read([self.GET, self.key, name]) or 0)
            if not sure <= end <= sure + self.perhaps[name]:
                self.fail(f"{name} is {end}, of which {sure} were acknowledged, and {self.perhaps[name]} unknown")
            if len(set(results)) < len(results):
                self.fail(f"two additions to {name} have one answer", sorted(results))
            if max(results, default=0) > end:
                self.fail(f"{name} is {end}, less than was answered", max(results))


class HashSums(Sums):
    ADD, GET = "HINCRBY", "HGET"


class ScoredSums(Sums):
    ADD, GET = "ZINCRBY", "ZSCORE"

    def words(self, name, amount):
        return [amount, name]


# ---- items that move ----


class Moves(Invariant):
    """Between keys of one slot. At every moment each item is in one of them."""

    KEYS = 3
    ITEMS = 60

    def __init__(self, key):
        super().__init__(key)
        self.keys = [f"{key}:{i}" for i in range(self.KEYS)]
        self.items = [f"item{i}".encode() for i in range(self.ITEMS)]

    def prepare(self, player):
        outcome, result = player.write([self.PUT, self.keys[0], *self.items], insists=True)
        if (outcome, result) != ("done", self.ITEMS):
            self.fail("not filled", outcome, result)

    def step(self, player):
        if player.chance.randrange(READ_EVERY) == 0:
            outcome, result = player.read(self.look(), atomic=True)
            if outcome == "done":
                self.judge(result)
        else:
            self.move(player, *player.chance.choices(self.keys, k=2))

    def look(self):
        return ["batch", *([self.ALL[0], [key, *self.ALL[1:]]] for key in self.keys)]

    def judge(self, results):
        found = sorted(item for _, items in results for item in items)
        if found != sorted(self.items):
            self.fail("items are lost or there twice", collections.Counter(found).most_common(3), sorted({*self.items} - {*found}))

    def check(self, read):
        self.judge([(None, read([self.ALL[0], key, *self.ALL[1:]])) for key in self.keys])


class ListMoves(Moves):
    PUT, ALL = "RPUSH", ("LRANGE", 0, -1)

    def move(self, player, source, target):
        ends = [player.chance.choice(("LEFT", "RIGHT")) for _ in range(2)]
        command = player.chance.choice((["LMOVE", source, target, *ends], ["RPOPLPUSH", source, target]))
        outcome, result = player.write(command)
        if outcome == "done" and result is not None and result not in self.items:
            self.fail("moved from nowhere", result)


class SetMoves(Moves):
    PUT, ALL = "SADD", ("SMEMBERS",)

    def move(self, player, source, target):
        player.write(["SMOVE", source, target, player.chance.choice(self.items)])


# ---- what happens together ----


class Together(Invariant):
    """An atomic batch or an EXEC puts an item into several collections; or into none, where a command of the batch is refused, or
    the EXEC watches a version that is not there. At every moment all of them have the same items."""

    KINDS = {"list": ("RPUSH", ("LRANGE", 0, -1)), "set": ("SADD", ("SMEMBERS",)), "hash": ("HSET", ("HKEYS",)),
             "zset": ("ZADD", ("ZRANGE", 0, -1))}
    NO_VERSION = 1 << 60  # which no key has

    def __init__(self, key):
        super().__init__(key)
        self.done, self.perhaps = set(), set()
        self.numbers = itertools.count()

    def step(self, player):
        if next(self.numbers) > STEPS_MAX:
            return
        if player.chance.randrange(READ_EVERY) == 0:
            self.see(player)
            return
        item = player.unique()
        commands = self.puts(item)
        way = player.chance.choice(("batch", "spoiled batch", "EXEC", "late EXEC"))
        if way == "batch":
            outcome, result = player.write(["batch", *commands], atomic=True)
        elif way == "spoiled batch":
            outcome, result = player.write(["batch", *commands, ["INCR", [f"{self.key}:list"]]], atomic=True)
        else:
            watched = [[f"{self.key}:list", self.NO_VERSION]] if way == "late EXEC" else []
            outcome, result = player.write(["EXEC", watched, commands])
        if way in ("batch", "EXEC"):
            self.note(item, outcome, result)
        elif outcome == "done" and result is not None:
            self.fail(f"a {way} has happened", item, result)

    def puts(self, item):
        words = {"list": [item], "set": [item], "hash": [item, 1], "zset": [1, item]}
        return [[put, [f"{self.key}:{kind}", *words[kind]]] for kind, (put, _) in self.KINDS.items()]

    def note(self, item, outcome, result):
        if outcome == "done":
            self.done.add(item)
            if [error for error, _ in result] != [None] * len(self.KINDS):
                self.fail("a part of it was refused", item, result)
        elif outcome == "unknown":
            self.perhaps.add(item)

    def commands(self):
        return [[all_of[0], [f"{self.key}:{kind}", *all_of[1:]]] for kind, (_, all_of) in self.KINDS.items()]

    def see(self, player):
        done = set(self.done)
        outcome, result = player.read(["batch", *self.commands()], atomic=True)
        if outcome == "done":
            self.judge([items for _, items in result], done)

    def judge(self, collections_, done):
        contents = [sorted(items) for items in collections_]
        if any(content != contents[0] for content in contents):
            self.fail("they have not the same items", *contents)
        if done - set(contents[0]):
            self.fail("items that were acknowledged are missing", sorted(done - set(contents[0])))

    def check(self, read):
        contents = [read([method, *params]) for method, params in self.commands()]
        self.judge(contents, self.done)
        if set(contents[0]) - self.done - self.perhaps:
            self.fail("items come from nowhere", sorted(set(contents[0]) - self.done - self.perhaps))


# ---- what expires ----


class Mayflies(Invariant):
    """Collections that are made with a time to live. Each is there as a whole or not at all, and does not come back."""

    ELEMENTS = 300
    LIVES_MS = (50, 8000)
    LATE_S = 2.0  # nothing is there so long after it should be gone

    KINDS = (("RPUSH", lambda names: names, "LLEN"), ("SADD", lambda names: names, "SCARD"),
             ("HSET", lambda names: [word for name in names for word in (name, "v")], "HLEN"),
             ("ZADD", lambda names: [word for i, name in enumerate(names) for word in (i, name)], "ZCARD"))

    def __init__(self, key):
        super().__init__(key)
        # by each player: [key, command that counts, when it is due, whether it was seen gone]
        self.made = collections.defaultdict(list)
        self.names = [f"element{i}" for i in range(self.ELEMENTS)]

    def step(self, player):
        mine = self.made[player.number]
        if not mine or player.chance.random() < 0.3:
            put, words_of, count = player.chance.choice(self.KINDS)
            key, life_ms = f"{self.key}:{player.unique().decode()}", player.chance.randint(*self.LIVES_MS)
            outcome, _ = player.write(["batch", [put, [key, *words_of(self.names)]], ["PEXPIRE", [key, life_ms]]], insists=True,
                                      atomic=True)
            if outcome == "done":
                mine.append([key, count, time.monotonic() + life_ms / 1000, False])
            return
        one = player.chance.choice(mine)
        outcome, result = player.read([one[1], one[0]])
        if outcome == "done":
            self.judge(one, result)

    def judge(self, one, count):
        key, _, due_s, gone = one
        if count not in (0, self.ELEMENTS) or (gone and count != 0):
            self.fail("a part of it is there, or it has come back", key, count, gone)
        one[3] = count == 0
        if count != 0 and time.monotonic() > due_s + self.LATE_S:
            self.fail("it should be gone", key, time.monotonic() - due_s)

    def check(self, read):
        for one in itertools.chain(*self.made.values()):
            self.judge(one, read([one[1], one[0]]))


INVARIANTS = (SetElements, HashElements, ScoredElements, Queue, Draws, Heap, HashSums, ScoredSums, ListMoves, SetMoves,
              Together, Mayflies)
