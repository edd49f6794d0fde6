"""Random commands from a seed: those of the families (families.py), sometimes spoilt; transactions, keys that expire soon,
and what needs more than one command. A command is a list of bytes; one that begins with @ is for the runner (runner.py):

    @wait                  until what expires soon has expired
    @other COMMAND...      on a second connection
    @block N COMMAND... COMMAND...   the first, of N words, waits until the second comes on a second connection
    @scan COMMAND...       a SCAN, HSCAN, SSCAN or ZSCAN without its cursor, walked to its end
    @state                 every key is compared
"""

import families
import values
from canonical import RULES, may_be_refused_rightly
from grammar import compile_line

SPOILT = 0.06  # of commands
TRANSACTIONS, WATCHES, EXPIRIES, WALKS, WAITS = 0.008, 0.002, 0.00015, 0.003, 0.001
FEWEST = -1000  # negative counts of random members: as many as asked for come back
HUGE_OFFSET = 1 << 27  # of bits: where the other server's limit lies (servers.VALUE_BYTES_MAX)
LEAST_FIELD = -(1 << 62)  # below, Redis takes an overflow downwards for one upwards
WITH_BIT_OFFSETS = (b"SETBIT", b"GETBIT", b"BITFIELD", b"BITFIELD_RO")
OF_ALL_SHARDS = (b"SCAN", b"KEYS", b"RANDOMKEY")  # not within transactions
CLEARS_ERRNO = [b"CONFIG", b"SET", b"dir", b"/nonexistent"]
WITH_TIMEOUT = (b"BLPOP", b"BRPOP", b"BLMOVE", b"BRPOPLPUSH", b"BLMPOP", b"BZPOPMIN", b"BZPOPMAX", b"BZMPOP")
WRITES_BYTES = (b"SETBIT", b"SETRANGE", b"APPEND", b"BITFIELD", b"BITOP")
WITH_TARGET = (b"COPY", b"RENAME", b"RENAMENX")
RANDOM_WITH_COUNT = (b"SRANDMEMBER", b"HRANDFIELD", b"ZRANDMEMBER")


class Generator:
    """`has(name)` tells which commands shall come, `weights` changes how often families do."""

    def __init__(self, seed, has=lambda name: True, weights=None):
        self.dice = values.Dice(seed)
        self.left_out = set()
        names, makers, of_families = [], [], []
        for family, (weight, text) in families.FAMILIES.items():
            lines = [line.split(maxsplit=1) for line in text.strip().splitlines()]
            kept = [line for line in lines if has(line[1].split()[0]) or line[1].startswith("NOSUCH")]
            self.left_out |= {line[1].split()[0] for line in lines if line not in kept}
            weight = (weights or {}).get(family, 0 if weights else weight)
            if not kept or not weight:
                continue
            names.append(family)
            of_families.append(weight)
            makers.append(([compile_line(line[1], values.VALUES) for line in kept], sums([int(line[0]) for line in kept])))
        self.families, self.makers, self.family_sums = names, makers, sums(of_families)
        self.has_transactions = has("MULTI")
        self.has_watch = has("WATCH")
        self.walks = [name for name in ("SCAN", "HSCAN", "SSCAN", "ZSCAN") if has(name)]
        self.waits = [(compile_line(waits, values.VALUES), compile_line(wakes, values.VALUES))
                      for waits, wakes in families.WAITS if has(waits.split()[0])]
        self.has = has
        self.hyperloglogs, self.overwritten = set(), set()  # keys that may hold one, and of these, whose bytes may be another command's

    def commands(self, count):
        """About so many, with the state compared at the end."""
        made = 0
        while made < count:
            for command in self.story():
                yield command
                made += 1
        yield [b"@state"]

    def story(self):
        """Commands that belong together; mostly one."""
        chance = self.dice.random()
        if chance < TRANSACTIONS and self.has_transactions:
            return self.transaction()
        chance -= TRANSACTIONS
        if 0 <= chance < WATCHES and self.has_watch:
            return self.watch()
        chance -= WATCHES
        if 0 <= chance < EXPIRIES:
            return self.expiry()
        chance -= EXPIRIES
        if 0 <= chance < WALKS and self.walks:
            return [self.walk()]
        chance -= WALKS
        if 0 <= chance < WAITS and self.waits:
            return self.wait()
        return whole(self.command())

    def command(self):
        dice = self.dice
        dice.begin()
        lines, line_sums = self.makers[place(self.family_sums, dice)]
        out = []
        lines[place(line_sums, dice)].make(dice, out)
        if dice.random() < SPOILT and not writes_level(out):
            self.spoil(out)
        return self.spare(tame(out))

    def spare(self, command):
        """Nothing is added to a HyperLogLog after other commands have changed its bytes. Where both servers still take it for whole, Redis
        changes single registers in it, and Skerry writes all of them in its own form."""
        name, key = command[0].upper(), command[1:2]
        if name in (b"PFADD", b"PFMERGE"):
            if self.overwritten.intersection(key):
                return [b"PFCOUNT", *key]
            self.hyperloglogs.update(key)
        elif name in WITH_TARGET:
            for some in (self.hyperloglogs, self.overwritten):
                if some.intersection(key):
                    some.update(command[2:3])
        elif name in WRITES_BYTES and self.hyperloglogs.intersection(command[1:]):
            self.overwritten.update(command[2:3] if name == b"BITOP" else key)
        elif name == b"DEL" and len(command) == 2 and not self.dice.tag_stays:
            self.hyperloglogs.difference_update(key)
            self.overwritten.difference_update(key)
        return command

    def spoil(self, command):
        """Another form than it should have."""
        dice = self.dice
        first = 2 if b"x" in (word[-2:-1] for word in command[1:2]) else 1  # not its name, nor a key that only words are asked of
        if first > len(command):
            return
        at = first + dice.below(len(command) + 1 - first)
        kind = dice.below(6)
        if kind == 0:
            del command[at:]
        elif kind == 1:
            command.insert(at, dice.pick(command) if dice.random() < 0.5 else values.value(dice))
        elif at < len(command):
            if kind == 2:
                del command[at]
            elif kind == 3:
                command[at] = dice.pick(values.EDGE_INTEGERS)
            elif kind == 4:
                command[at] = dice.pick(values.EDGE_FLOATS + values.STRAYS)
            else:
                other = first + dice.below(len(command) - first)
                command[at], command[other] = command[other], command[at]

    def plain(self):
        """A command for a transaction: the other server can be asked the same, whatever the first has answered."""
        while True:
            command = self.command()
            rule = RULES.get(command[0].upper())
            if (rule is None or not rule.follows) and not may_be_refused_rightly(command) and \
                    not is_malformed_object(command) and not sorts_numbers(command) and command[0].upper() not in OF_ALL_SHARDS:
                return command

    def transaction(self):
        dice = self.dice
        dice.begin()
        dice.tag_stays = True
        body = [self.plain() for _ in range(dice.below(6))]
        if dice.random() < 0.03:
            body.insert(dice.below(len(body) + 1), [dice.pick([b"MULTI", b"WATCH", b"EXEC"]), b"{a}s1"])
        dice.tag_stays = False
        end = b"EXEC" if dice.random() < 0.9 else b"DISCARD"
        return [[b"MULTI"], *body, [end]] if dice.random() < 0.98 else [[end]]

    def watch(self):
        """A key is watched, and perhaps changed before the transaction."""
        dice = self.dice
        dice.begin()
        dice.tag_stays = True
        story = [[b"WATCH", *(values.any_key(dice) for _ in range(1 + dice.below(3)))]]
        for _ in range(dice.below(3)):
            story.append(([b"@other"] if dice.random() < 0.7 else []) + self.plain())
        if dice.random() < 0.1:
            story.append([b"UNWATCH"])
        dice.tag_stays = False
        return story + self.transaction()

    def expiry(self):
        """A key that is gone when the next command comes."""
        dice = self.dice
        dice.begin()
        soon = b"%d" % (1 + dice.below(20))
        key = values.any_key(dice)
        expiring = dice.pick([[b"PEXPIRE", key, soon], [b"PEXPIRE", key, soon], [b"SET", key, b"soon", b"PX", soon],
                              [b"PSETEX", key, soon, b"soon"], [b"GETEX", key, b"PX", soon]])
        return [expiring if self.has(expiring[0].decode()) else [b"PEXPIRE", key, soon], [b"@wait"], [b"EXISTS", key]]

    def wait(self):
        """The key is not there before, so that it is the same which of the two commands comes first."""
        dice = self.dice
        dice.begin()
        words = [[], []]
        for line, command in zip(dice.pick(self.waits), words):
            line.make(dice, command)
        return [[b"DEL", values.VALUES["qkey"](dice)], [b"@block", b"%d" % len(words[0]), *words[0], *words[1]]]

    def walk(self):
        dice = self.dice
        dice.begin()
        name = dice.pick(self.walks)
        kind = {"HSCAN": "hkey", "SSCAN": "ekey", "ZSCAN": "zkey"}.get(name)
        command = [b"@scan", name.encode()] + ([values.VALUES[kind](dice)] if kind else [])
        if dice.random() < 0.5:
            command += [b"MATCH", values.VALUES["pattern" if kind else "keypattern"](dice)]
        if dice.random() < 0.5:
            command += [b"COUNT", b"%d" % (1 + dice.below(50))]
        return command


def whole(command):
    """With what clears errno before SORT."""
    return [CLEARS_ERRNO, command] if sorts_numbers(command) else [command]


def sorts_numbers(command):
    """It fails in Redis where an earlier command has left ERANGE behind in errno."""
    return command[0].upper() in (b"SORT", b"SORT_RO") and b"ALPHA" not in (word.upper() for word in command)


def is_malformed_object(command):
    """To Redis each OBJECT is a command, which it refuses at once; to Skerry its first word is an argument, looked at when it runs."""
    return command[0].upper() == b"OBJECT" and (len(command) != 3 or command[1].upper() != b"ENCODING")


def writes_level(command):
    """Spoilt, it could give the members of values.level_key other scores, or put what is no number where SORT stores from."""
    return command[0].upper() not in (b"ZRANGE", b"ZRANGEBYLEX", b"ZREVRANGEBYLEX", b"ZLEXCOUNT", b"ZREMRANGEBYLEX") and \
        any(word[-2:-1] in (b"x", b"n") for word in command[1:3])


def tame(command):
    """Asks nobody for so many members that it would take minutes, nor for hundreds of megabytes of bits, nor to wait long."""
    name = command[0].upper()
    if name in RANDOM_WITH_COUNT and len(command) > 2:
        if -(1 << 63) < as_integer(command[2]) < FEWEST:
            command[2] = b"%d" % FEWEST
    elif name in WITH_TIMEOUT and len(command) > 1:
        at = 1 if name in (b"BLMPOP", b"BZMPOP") else len(command) - 1
        if is_long_wait(command[at]):
            command[at] = b"0.01"
    elif name in WITH_BIT_OFFSETS:
        for at in range(2, len(command)):
            word = command[at]
            if HUGE_OFFSET <= as_integer(word) < 1 << 32 or word[:1] == b"#" and abs(as_integer(word[1:])) >= HUGE_OFFSET >> 6:
                command[at] = b"#7"
            elif as_integer(word) < LEAST_FIELD:
                command[at] = b"-5"
    return command


def is_long_wait(word):
    try:
        seconds = float(word)
    except ValueError:
        return any(byte in b"xX" for byte in word) and word != b"x"  # may be hexadecimal
    return seconds > 0.02 or -1 < seconds < 0.001  # Redis rounds upwards, and 0 is for ever


def as_integer(word):
    try:
        return int(word)
    except ValueError:
        return 0


def sums(weights):
    """Running sums."""
    total, result = 0, []
    for weight in weights:
        total += weight
        result.append(total)
    return result


def place(running, dice):
    """One of the places, as often as its weight says."""
    at = dice.random() * running[-1]
    for i, bound in enumerate(running):
        if at < bound:
            return i
    return len(running) - 1
