"""Commands by chance on a few keys of every type. Nobody judges what they answer: what they leave must be equal on all replicas."""

import collections

# Words: a key of lists L, hashes H, sets S, sorted sets Z, strings B, HyperLogLogs P, or of any type K, and J another than K; an
# element e, elements e+, pairs of fields and values fv+, of scores and members se+; an index i, a count n, a number f,
# milliseconds t, a bit b, an offset o. What is not in this list stands for itself. Another type's key comes now and then.
TEXT = """
LPUSH L e+ | RPUSH L e+ | RPUSH L e+ | LPUSHX L e | RPUSHX L e | LPOP L n | RPOP L | LMPOP 2 L L LEFT COUNT 2
LMOVE L L LEFT RIGHT | LMOVE L L RIGHT LEFT | RPOPLPUSH L L | LSET L i e | LINSERT L BEFORE e e | LINSERT L AFTER e e | LREM L i e
BLPOP L L 0.05 | BRPOP L 0.05 | BLMPOP 0.05 2 L L LEFT COUNT 2 | BLMOVE L L RIGHT LEFT 0.05 | BRPOPLPUSH L L 0.05
LTRIM L i i | LTRIM L 0 60 | SORT L ALPHA STORE L | SORT S ALPHA DESC LIMIT 1 9 STORE L | SORT Z BY nosort STORE L
HSET H fv+ | HMSET H fv+ | HSETNX H e e | HDEL H e+ | HINCRBY H counter i | HINCRBYFLOAT H sum f
SADD S e+ | SADD S e+ | SREM S e+ | SPOP S | SPOP S n | SMOVE S S e | SINTERSTORE S S S | SUNIONSTORE S S S | SDIFFSTORE S S S
ZADD Z se+ | ZADD Z se+ | ZADD Z GT CH se+ | ZADD Z NX se+ | ZINCRBY Z f e | ZREM Z e+ | ZPOPMIN Z n | ZPOPMAX Z
ZMPOP 2 Z Z MIN COUNT 2 | BZPOPMIN Z Z 0.05 | BZPOPMAX Z 0.05 | BZMPOP 0.05 2 Z Z MAX COUNT 2
ZREMRANGEBYRANK Z i i | ZREMRANGEBYSCORE Z -2 2 | ZREMRANGEBYLEX Z [e1 [e2 | ZRANGESTORE Z Z 0 5 | ZUNIONSTORE Z 2 Z S
ZINTERSTORE Z 2 Z Z WEIGHTS 2 3 | ZDIFFSTORE Z 2 Z S
SET B e | SET B i | SET B e XX KEEPTTL | SETNX B e | SETEX B 2 e | PSETEX B t e | GETSET B e | MSET B e B i | CAS B e1 e
SETRANGE B o e | APPEND B e | SETBIT B o b | BITOP XOR B B B | BITOP NOT B B | BITFIELD B INCRBY u5 #3 7 OVERFLOW SAT SET i8 o i
INCR B | DECR B | INCRBY B i | DECRBY B i | INCRBYFLOAT B f | GETDEL B | GETEX B PX t
PFADD P e+ | PFADD P e+ | PFMERGE P P P | PFMERGE B P
RENAME K J | RENAME J K | RENAMENX K J | COPY K J REPLACE | COPY J K REPLACE
DEL K | UNLINK K J | PEXPIRE K t | PEXPIRE K t | PERSIST K
EXPIRE K 2 | EXPIRE K 60 GT | EXPIREAT K 4000000000 | PEXPIREAT K 4000000000000 | EXPIREAT K 1
"""
TEMPLATES = [text.split() for line in TEXT.strip().splitlines() for text in line.split(" | ")]
ELEMENTS = 40
KEYS_OF_A_TYPE = 3
TYPES = "LHSZBP"
OTHER_TYPE = 0.08  # how often a key of another type is taken
LIFE_MS_MAX = 3000


class Fodder:
    """Of one slot."""

    def __init__(self, key):
        self.key = key
        self.outcomes = collections.Counter()

    def step(self, player):
        template = player.chance.choice(TEMPLATES)
        outcome, _ = player.write([word for place in template for word in self.words(place, player.chance)])
        self.outcomes[outcome] += 1

    def words(self, place, chance):
        """What stands in one place of a template."""
        if len(place) == 1 and place in TYPES + "KJ":
            kind = chance.choice(TYPES) if place in "KJ" or chance.random() < OTHER_TYPE else place
            numbers = {"K": range(KEYS_OF_A_TYPE - 1), "J": [KEYS_OF_A_TYPE - 1]}.get(place, range(KEYS_OF_A_TYPE))
            return [f"{self.key}:{kind}{chance.choice(numbers)}"]
        one = {"e": lambda: [f"e{chance.randrange(ELEMENTS)}"],
               "fv": lambda: [f"e{chance.randrange(ELEMENTS)}", chance.randrange(1000)],
               "se": lambda: [chance.randint(-5, 5), f"e{chance.randrange(ELEMENTS)}"], "i": lambda: [chance.randint(-6, 6)],
               "n": lambda: [chance.randint(0, 4)], "f": lambda: [chance.choice(("0.25", "-3", "1e3", "0.1"))],
               "t": lambda: [chance.randint(1, LIFE_MS_MAX)], "b": lambda: [chance.randrange(2)],
               "o": lambda: [chance.randrange(4000)]}
        make = one.get(place.removesuffix("+"))
        if make is None:
            return [place]
        return [word for _ in range(chance.randint(1, 5) if place.endswith("+") else 1) for word in make()]
