"""What commands are made of: keys, members, numbers and their edges, at random. Few keys and few members, so that commands
meet each other's traces and each other's types."""

import binascii
import random

TAGS = [b"{a}", b"{b}", b"{tag}"]  # keys of one command share one, mostly: Skerry wants them in one slot
STRAYS = [b"", b"plain", b"k\x00\xff\r\n", b"{}a", b"x{a}{b}", b"{a", b"long" * 160, b"{a}" + b"longer" * 100]
LETTERS = b"shlezbp"  # of keys, by the type that they mostly have
STRAY, FOREIGN = 0.02, 0.04  # of keys: from nowhere near, and those of another type

MEMBERS = [b"a", b"b", b"c", b"d", b"A", b"aa", b"ab", b"zz", b"1", b"2", b"10", b"-5", b"3.0", b"0", b"07", b"12345678901234567890",
           b"", b"\x00", b"\xff\xfe", b"a b\r\n", b"field", b"member", b"{a}s1", b"*", b"?[a]", b"x" * 64, b"y" * 65]
SMALL_INTEGERS = [b"%d" % n for n in range(-6, 12)]
EDGE_INTEGERS = [b"0", b"-0", b"00", b"+1", b" 1", b"1 ", b"01", b"", b"x", b"1.5", b"1e3", b"0x10", b"-", b"2147483647", b"2147483648",
                 b"-2147483648", b"-2147483649", b"4294967295", b"4294967296", b"9223372036854775807", b"9223372036854775808",
                 b"-9223372036854775808", b"-9223372036854775809", b"18446744073709551615", b"18446744073709551616", b"9" * 40, b"\x00",
                 b"1\x00", b"4611686018427387904", b"-4611686018427387905"]
FLOATS = [b"0", b"1", b"-1", b"2", b"3", b"1.5", b"-2.5", b"0.1", b"0.2", b"3.0", b"10", b"100", b"-0.5", b"1e2", b"5.0e3"]
EDGE_FLOATS = [b"-0", b"-0.0", b"inf", b"-inf", b"+inf", b"Infinity", b"nan", b"NaN", b"1e308", b"-1e308", b"1.7976931348623157e308", b"1e400",
               b"-1e400", b"1e-400", b"0x1p3", b"0x1.8", b"1e17", b"123456789012345678", b"0.1e", b"",
               b" 1", b"1 ", b"x", b"1x", b".5", b"5.", b"+3", b"3.14159265358979", b"9007199254740993", b"1e-5", b"1e21", b"1\x00",
               b"1234567890123456789012345678901234567890", b"0.30000000000000004", b"1e4933", b"1e15", b"--1"]
TINY_FLOATS = [b"5e-324", b"2.2250738585072014e-308", b"-5e-324"]  # no scores: a small sorted set with one Redis cannot SORT
LONG_BYTES = [300, 4096, 16384, 65536]
PATTERNS = [b"*", b"a*", b"?", b"[ab]", b"[^a]*", b"[a-c]*", b"\\*", b"", b"{a}*", b"*1", b"*[12]", b"[", b"[a", b"a\\", b"a**", b"*\xff*", b"[z-a]"]
# Deadlines lie so far from each other that neither side's clock can change their order.
FAR_SECONDS = [b"4102444800", b"4133980800", b"4165516800", b"9999999999"]
PAST_SECONDS = [b"1", b"1000000", b"1600000000"]
EDGE_TIMES = [b"0", b"-1", b"-100", b"9223372036854775807", b"-9223372036854775808", b"9223372036854775", b"9223372036854774", b"x", b"",
              b"1.5", b"92233720368547758070", b"-9223372036854775"]


class Dice(random.Random):
    """A seeded random number generator, with what the making of one command remembers."""

    def __init__(self, seed):
        super().__init__(seed)
        self.tag = TAGS[0]
        self.tag_stays = False
        self.deadlines = 0

    def begin(self):
        """A new command, whose keys share a tag."""
        if not self.tag_stays:
            self.tag = self.pick(TAGS)

    def below(self, count):
        return int(self.random() * count)

    def pick(self, items):
        return items[int(self.random() * len(items))]

    def any_case(self, word):
        return bytes(self.pick((byte, byte ^ 0x20)) if chr(byte).isalpha() else byte for byte in word)

    def bytes(self, size):
        return self.randbytes(size)


def key_of(kind):
    """Keys that commands of one type meet each other on."""
    others = [letter for letter in LETTERS if letter != kind]

    def key(dice):
        chance = dice.random()
        if chance < STRAY:
            return dice.pick(STRAYS)
        letter = dice.pick(others) if chance < STRAY + FOREIGN else kind
        tag = dice.tag if chance < 0.99 else dice.pick(TAGS)
        return b"%b%c%d" % (tag, letter, dice.below(3))
    return key


def level_key(dice):
    """Sorted sets whose members have the score 0: what lies between two words is defined only there."""
    return b"%b%c%d" % (dice.tag, dice.pick(b"xxxxxxxxw"), dice.below(3))


def level_store(dice):
    """One that is written."""
    return b"%bx%d" % (dice.tag, dice.below(3))


def any_key(dice):
    if dice.random() < 3 * STRAY:
        return dice.pick(STRAYS)
    return b"%b%c%d" % (dice.tag, dice.pick(LETTERS), dice.below(3))


def any_source(dice):
    """Also one of those that not everything may be written to."""
    return level_key(dice) if dice.random() < 0.1 else any_key(dice)


def key_anywhere(dice):
    """Of commands whose keys may lie in many slots."""
    if dice.random() < 0.5:
        dice.begin()
    return any_key(dice)


def long_bytes(dice):
    size = dice.pick(LONG_BYTES)
    if dice.random() < 0.9:
        size = 1 + dice.below(size >> 3)
    return (dice.bytes(16) * (size // 16 + 1))[:size]


def member(dice):
    chance = dice.random()
    if chance < 0.93:
        return dice.pick(MEMBERS)
    if chance < 0.99:
        return b"m%d" % dice.below(300)
    return long_bytes(dice)


def value(dice):
    chance = dice.random()
    if chance < 0.3:
        return dice.pick(MEMBERS)
    if chance < 0.6:
        return integer(dice)
    if chance < 0.75:
        return number(dice)
    if chance < 0.97:
        return dice.bytes(dice.below(40))
    return long_bytes(dice)


def integer(dice):
    chance = dice.random()
    if chance < 0.75:
        return dice.pick(SMALL_INTEGERS)
    if chance < 0.9:
        return b"%d" % (dice.below(1 << dice.below(64)) - dice.below(1 << dice.below(64)))
    return dice.pick(EDGE_INTEGERS)


def index(dice):
    """Mostly such as meet a collection of a few elements."""
    chance = dice.random()
    if chance < 0.9:
        return b"%d" % (dice.below(14) - 6)
    if chance < 0.95:
        return b"%d" % (dice.below(4000) - 2000)
    return dice.pick(EDGE_INTEGERS)


def count(dice):
    chance = dice.random()
    if chance < 0.85:
        return b"%d" % dice.below(7)
    if chance < 0.95:
        return b"%d" % (dice.below(300) - 20)
    return dice.pick(EDGE_INTEGERS)


def number(dice):
    chance = dice.random()
    if chance < 0.8:
        return dice.pick(FLOATS)
    if chance < 0.9:
        return b"%r" % dice.uniform(-100, 100)
    return dice.pick(EDGE_FLOATS)


def any_number(dice):
    return dice.pick(TINY_FLOATS) if dice.random() < 0.02 else number(dice)


def score_bound(dice):
    return dice.pick([b"", b"", b"", b"("]) + dice.pick([number(dice), number(dice), b"-inf", b"+inf"])


def lex_bound(dice):
    if dice.random() < 0.3:
        return dice.pick([b"-", b"+"])
    return dice.pick([b"[", b"(", b"[", b"(", b"[", b"(", b""]) + member(dice)


def bit_offset(dice):
    chance = dice.random()
    if chance < 0.85:
        return b"%d" % dice.below(200)
    if chance < 0.95:
        return b"%d" % dice.below(1 << dice.below(20))
    return dice.pick(EDGE_INTEGERS)


def field_type(dice):
    """Of BITFIELD."""
    if dice.random() < 0.9:
        return b"%c%d" % (dice.pick(b"iu"), 1 + dice.below(63))
    return dice.pick([b"i64", b"u64", b"u63", b"i65", b"i0", b"u0", b"x8", b"i", b"", b"I8", b"u-1", b"i8x"])


def field_offset(dice):
    return (b"#" if dice.random() < 0.3 else b"") + bit_offset(dice)


def seconds(dice):
    """From now on: every one lies hundreds of seconds from those before it."""
    chance = dice.random()
    if chance < 0.85:
        dice.deadlines = (dice.deadlines + 1) % 20000
        return b"%d" % (100000 + 300 * dice.deadlines)
    if chance < 0.93:
        return dice.pick([b"0", b"-1", b"-1000"])
    return dice.pick(EDGE_TIMES)


def milliseconds(dice):
    said = seconds(dice)
    return said + b"000" if said.isdigit() and int(said) < 1 << 40 else said


def moment(dice):
    """In seconds since 1970."""
    chance = dice.random()
    if chance < 0.75:
        return dice.pick(FAR_SECONDS)
    return dice.pick(PAST_SECONDS) if chance < 0.88 else dice.pick(EDGE_TIMES)


def moment_ms(dice):
    said = moment(dice)
    return said + b"%03d" % dice.below(3) if said in FAR_SECONDS or said in PAST_SECONDS else said


def sort_pattern(dice):
    return dice.pick([b"nosort", b"{a}s*", b"{a}h*->field", b"{a}h*->a", b"{b}s*", b"w", b"*", b"{a}s*->", b"#", b""])


def cursor(dice):
    return dice.pick([b"0", b"0", b"x", b"-1", b"", b"1.5"])


def key_pattern(dice):
    return dice.pick(PATTERNS + [dice.tag + b"*", b"*" + dice.pick([b"s", b"z1", b"0"])])


VALUES = {
    "key": any_source, "target": any_key, "anykey": key_anywhere, "level": level_key, "levelstore": level_store,
    "soon": lambda dice: b"0.01" if dice.random() < 0.9 else dice.pick([b"-1", b"x", b"", b"nan", b"0.001", b"-2.5"]),
    "qtarget": lambda dice: dice.tag + dice.pick([b"q1", b"q1", b"w0"]),
    "qkey": lambda dice: dice.tag + b"q0",
    "ckey": lambda dice: dice.tag + b"c%d" % dice.below(3),
    "nkey": lambda dice: dice.tag + b"n%d" % dice.below(4), "digit": lambda dice: dice.pick(SMALL_INTEGERS),
    "wkey": lambda dice: dice.tag + b"w%d" % dice.below(3),
    "skey": key_of(ord("s")), "hkey": key_of(ord("h")), "lkey": key_of(ord("l")), "ekey": key_of(ord("e")), "zkey": key_of(ord("z")),
    "bkey": key_of(ord("b")), "pkey": key_of(ord("p")),
    "member": member, "value": value, "integer": integer, "index": index, "count": count, "number": number, "anynumber": any_number,
    "score": number, "bound": score_bound, "lex": lex_bound, "bit": lambda dice: dice.pick([b"0", b"1", b"0", b"1", b"0", b"1", b"2", b"x", b""]),
    "offset": bit_offset, "fieldtype": field_type, "fieldoffset": field_offset,
    "seconds": seconds, "milliseconds": milliseconds, "moment": moment, "momentms": moment_ms,
    "pattern": lambda dice: dice.pick(PATTERNS), "keypattern": key_pattern, "sortpattern": sort_pattern, "cursor": cursor,
}

# Every key that a command may name.
KEYS = STRAYS + [b"%b%c%d" % (tag, letter, n) for tag in TAGS for letter in LETTERS + b"xwncq" for n in range(4)]


def slot_of(key):
    """As in Redis Cluster: CRC16 of the key or of its tag."""
    begin = key.find(b"{")
    end = key.find(b"}", begin + 1)
    return binascii.crc_hqx(key[begin + 1:end] if begin >= 0 and end > begin + 1 else key, 0) % 16384
