"""How the answers of two servers to one command are compared, where equal bytes would be too much to ask. Commands that are
not in RULES answer exactly alike.

The server under test answers first. A rule may then ask the other one something else instead (`follow`): a member that
was taken at random is removed there by name."""

from resp import NIL_ARRAY, is_error

TIME_TOLERANCE_S = 3


class Rule:
    """The same answer, byte for byte; of an error, the same text."""
    follows = False  # asks something else than the command itself

    def same(self, command, got, expected):
        if got == expected:
            return True
        if is_error(got) and is_error(expected):
            return same_text(got[1], expected[1])
        if command[0].upper().startswith((b"Z", b"BZ", b"@BLOCK")):  # which may wait for a score
            return without_minus_zero(got) == without_minus_zero(expected)
        return without_kept_count(got) == without_kept_count(expected)


class Unordered(Rule):
    """Elements in any order."""

    def same(self, command, got, expected):
        return unordered(got) == unordered(expected)


class UnorderedPairs(Rule):
    """Pairs in any order."""

    def same(self, command, got, expected):
        return sorted_pairs(got) == sorted_pairs(expected)


class Sorted(Unordered):
    """SORT: what BY makes alike, or leaves unsorted, has no order; of that, LIMIT may show any. To ALPHA, words are alike that differ
    behind a byte 0; without it, Redis reads a number up to such a byte."""

    def same(self, command, got, expected):
        words = {word.upper() for word in command}
        if got == NO_NUMBERS and isinstance(expected, list):
            return words & {b"BY", b"GET", b"LIMIT"} or any(b"\0" in item for item in expected if item)
        if b"BY" not in words or not isinstance(got, list):
            return Rule.same(self, command, got, expected) or (b"ALPHA" in words and c_strings(got) == c_strings(expected))
        if b"LIMIT" in words:
            return isinstance(expected, list) and len(got) == len(expected)
        return super().same(command, got, expected)


class Near(Rule):
    """Points in time: each server has read its own clock."""

    def __init__(self, units_a_second):
        self.tolerance = TIME_TOLERANCE_S * units_a_second

    def same(self, command, got, expected):
        if not isinstance(got, int) or not isinstance(expected, int) or got < 0 or expected < 0:
            return got == expected
        return abs(got - expected) <= self.tolerance


class Shape(Rule):
    """Errors and the absence of a key are the same; anything else is one's own affair."""

    def same(self, command, got, expected):
        if is_error(expected) or expected is None or expected == ("_", None) or expected == NIL_ARRAY:
            return got == expected
        return type(got) is type(expected) and not is_error(got)


class Object(Shape):
    """OBJECT: how values are kept, and what is counted of them, is one's own affair."""

    def same(self, command, got, expected):
        if is_error(got):
            untracked = len(command) == 3 and command[1].upper() in (b"FREQ", b"IDLETIME")
            return is_error(expected) or untracked and got[1] == b"ERR access to keys is not tracked"
        return super().same(command, got, expected)


class Ignored(Rule):
    """What is for the other server only."""

    def same(self, command, got, expected):
        return True


class Cursor(Shape):
    """One step of a walk. The whole walks are compared by what they find."""

    def same(self, command, got, expected):
        if is_error(got) and got[1] == b"ERR invalid cursor":
            cursor = command[1 if command[0].upper() == b"SCAN" else 2]
            return got == expected or not cursor.isdigit() or int(cursor) >= CURSOR_END
        if is_error(got) and got[1].endswith(b"COUNT is limited to 10000"):
            return any(word.isdigit() and int(word) > COUNT_MAX for word in command)
        return super().same(command, got, expected) and (is_error(got) or (len(got) == 2 and isinstance(got[1], list)))


class Random(Rule):
    """What was chosen at random. `follow` asks the other server whether that could be so, `fits` judges its answers.
    Errors, and that there is nothing to choose from, must be the same."""
    follows = True

    def follow(self, command, got):
        return [command] if says_nothing(got) else self.ask(command, got)

    def fits(self, command, got, answers):
        return got == answers[0] if says_nothing(got) else self.judge(command, got, answers)


def uncached(command):
    """PFCOUNT of one key, said so that Redis keeps nothing."""
    return [*command, command[1]] if len(command) == 2 and command[0].upper() == b"PFCOUNT" else command


class Uncached(Rule):
    """PFCOUNT of one key: Redis keeps the result in the value, but not that of several keys."""
    follows = True

    def follow(self, command, got):
        return [uncached(command)]

    def fits(self, command, got, answers):
        return self.same(command, got, answers[0])


class Checked(Uncached):
    """PFADD: Skerry refuses what is no whole HyperLogLog, which Redis sees only where it looks."""

    def follow(self, command, got):
        return [] if got == CORRUPTED else [command]

    def fits(self, command, got, answers):
        return got == CORRUPTED or super().fits(command, got, answers)


class RandomMembers(Random):
    """Members: of a set, a hash or a sorted set, with or without what belongs to them."""

    def __init__(self, size, look_up, with_word=None):
        self.size, self.look_up, self.with_word = size, look_up, with_word

    def members(self, command, got):
        """The chosen members, and what was said beside them."""
        items = got[1] if isinstance(got, tuple) else got
        if not isinstance(items, list):
            return [items], None
        if self.with_word is None or len(command) < 4:
            return items, None
        pairs = items if items and isinstance(items[0], list) else list(zip(items[::2], items[1::2]))
        return [pair[0] for pair in pairs], [pair[1] for pair in pairs]

    def ask(self, command, got):
        members, _ = self.members(command, got)
        return [[self.size, command[1]], [self.look_up, command[1], *members]]

    def judge(self, command, got, answers):
        members, beside = self.members(command, got)
        size, found = answers
        if not isinstance(size, int) or is_error(found):
            return False
        if beside is not None and without_minus_zero(beside) != without_minus_zero(found):
            return False
        if None in found or ("_", None) in found or 0 in found[:self.ints(found)]:
            return False
        if len(command) < 3:
            return len(members) == 1 and not isinstance(got, list)
        count = int(command[2])
        if count < 0:
            return len(members) == -count
        return len(members) == min(count, size) and len(set(members)) == len(members)

    def ints(self, found):
        """SMISMEMBER says 0 for what is no member; in the others 0 would be a value."""
        return len(found) if self.look_up == b"SMISMEMBER" else 0


class Popped(RandomMembers):
    """SPOP: what was taken here is removed there."""

    def __init__(self):
        super().__init__(b"SCARD", b"SREM")

    def judge(self, command, got, answers):
        members, _ = self.members(command, got)
        size, removed = answers
        wanted = 1 if len(command) < 3 else min(int(command[2]), size)
        return removed == len(members) == wanted and (len(command) > 2) == (not isinstance(got, bytes))


class RandomKey(Random):
    def ask(self, command, got):
        return [[b"EXISTS", got]]

    def judge(self, command, got, answers):
        return answers == [1]


def says_nothing(reply):
    """An error, nil or an empty collection."""
    return is_error(reply) or reply in (None, [], NIL_ARRAY, ("_", None), ("~", []))


def unordered(reply):
    if isinstance(reply, list):
        return sorted(reply, key=repr)
    if isinstance(reply, tuple) and isinstance(reply[1], list):
        return reply[0], sorted(reply[1], key=repr)
    return reply


def sorted_pairs(reply):
    if isinstance(reply, list) and len(reply) % 2 == 0:
        return sorted(zip(reply[::2], reply[1::2]))
    return unordered(reply)


def c_strings(reply):
    """The words of an array up to a byte 0."""
    return [item and item.split(b"\0")[0] for item in reply] if isinstance(reply, list) else reply


# What differs in errors, and which limits are narrower (docs/redis-differences.txt)

CITED_BYTES = 63  # of a word that an error cites
ONLY_REDIS_HAS = [(b" (proto-max-bulk-len)", b""), (b"INVALIDOBJ ", b"ERR ")]
NO_NUMBERS = ("-", b"ERR One or more scores can't be converted into double")
CORRUPTED = ("-", b"ERR Corrupted HLL object detected")
COUNT_MAX = 10000  # of SCAN and its like
CURSOR_END = 16384 << 48  # a slot and 48 bits of a hash
LAST_DEADLINE_S = (1 << 63) // 1000000


def same_text(got, expected):
    """Skerry cites plain ASCII only, with ? or a blank for the rest, and the beginning of long words; of limits, it has a code."""
    for text, ours in ONLY_REDIS_HAS:
        expected = expected.replace(text, ours)
    if got.startswith(b"TOOLARGE "):
        expected = expected.replace(b"ERR ", b"TOOLARGE ", 1)
    expected = expected.ljust(len(got), b"\n")  # Redis leaves out line ends at the end
    if len(got) > CITED_BYTES:
        expected = expected[:len(got)]
    return len(got) == len(expected) and all(byte == other or byte in b"? " and not 0x20 < other < 0x7f
                                             for byte, other in zip(got, expected))


def without_minus_zero(reply):
    """Skerry's scores have one zero."""
    if isinstance(reply, (list, tuple)):
        return type(reply)(map(without_minus_zero, reply))
    return b"0" if reply == b"-0" else reply


def without_kept_count(reply):
    """Of a HyperLogLog: the count that Redis keeps in its bytes 8 to 15, which Skerry does not; 5 to 7 mean nothing."""
    if isinstance(reply, (list, tuple)):
        return type(reply)(map(without_kept_count, reply))
    return reply[:5] + reply[16:] if isinstance(reply, bytes) and reply.startswith(b"HYLL") else reply


def score_walked(score):
    """Of ZSCAN: Redis tells it as text of 17 decimals, Skerry as elsewhere."""
    return b"%.17f" % (float(score[1] if isinstance(score, tuple) else score) + 0.0)


def refused_rightly(command, got):
    """An error that Redis does not answer: it takes later deadlines, and does not see a byte 0 in a bound."""
    if not is_error(got):
        return False
    if got[1].startswith(b"ERR invalid expire time in"):
        return any(map(is_beyond_deadlines, command))
    return got[1] == b"ERR min or max is not a float" and any(b"\0" in word for word in command)


def is_beyond_deadlines(word):
    return word.isdigit() and LAST_DEADLINE_S <= int(word) < 1 << 63


def may_be_refused_rightly(command):
    if command[0].upper() in (b"SORT", b"SORT_RO") and {word.upper() for word in command} & {b"BY", b"GET"}:
        return True  # the keys of its patterns may lie in other slots
    return any(map(is_beyond_deadlines, command)) or command[0].upper().startswith(b"Z") and any(b"\0" in word for word in command)


RULES = {
    **dict.fromkeys((b"SMEMBERS", b"SUNION", b"SINTER", b"SDIFF", b"HKEYS", b"HVALS", b"KEYS"), Unordered()),
    b"HGETALL": UnorderedPairs(),
    **dict.fromkeys((b"SORT", b"SORT_RO"), Sorted()),
    **dict.fromkeys((b"TTL", b"EXPIRETIME"), Near(1)),
    **dict.fromkeys((b"PTTL", b"PEXPIRETIME"), Near(1000)),
    **dict.fromkeys((b"SCAN", b"HSCAN", b"SSCAN", b"ZSCAN"), Cursor()),
    b"OBJECT": Object(),
    b"DUMP": Shape(),
    b"CONFIG": Ignored(),
    b"SPOP": Popped(),
    b"SRANDMEMBER": RandomMembers(b"SCARD", b"SMISMEMBER"),
    b"HRANDFIELD": RandomMembers(b"HLEN", b"HMGET", b"WITHVALUES"),
    b"ZRANDMEMBER": RandomMembers(b"ZCARD", b"ZMSCORE", b"WITHSCORES"),
    b"RANDOMKEY": RandomKey(),
    b"PFCOUNT": Uncached(),
    b"PFADD": Checked(),
}
EXACT = Rule()
