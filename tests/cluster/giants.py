"""Collections of very many elements, which are made and removed while all else goes on: what is left of them is swept by and by."""

import time

from asking import Asker

ELEMENTS = 200_000
PORTION = 2000  # elements of one command
PREFIX = "an-element-of-a-collection-of-very-many-"

MAKES = {  # of each type: what puts elements, and what counts them
    "list": ("RPUSH", lambda names: names, "LLEN"),
    "set": ("SADD", lambda names: names, "SCARD"),
    "hash": ("HSET", lambda names: [word for name in names for word in (name, "v")], "HLEN"),
    "zset": ("ZADD", lambda names: [word for i, name in enumerate(names) for word in (i, name)], "ZCARD"),
}
# What there is afterwards under the key: nothing, or a string.
REMOVES = (("DEL", lambda key: ["DEL", key], 1, None), ("UNLINK", lambda key: ["UNLINK", key], 1, None),
           ("SET", lambda key: ["SET", key, "short"], "OK", b"short"), ("PEXPIRE", lambda key: ["PEXPIRE", key, 1], 1, None),
           ("RENAME", lambda key: ["RENAME", f"{key}:short", key], "OK", b"short"))


class Giant(Asker):
    """Makes one after the other, each in another shard. It finishes what it has begun also when it should stop, so that there is
    one at least."""

    def __init__(self, make_client, keys, chance, timeout_ms, elements):
        super().__init__(make_client, timeout_ms, resolves=True)
        self.keys = keys
        self.chance = chance
        self.elements = elements
        self.removed = []  # (kind, by what, seconds until it was answered)

    def work(self):
        try:
            for key in self.keys:
                self.make_and_remove(key, self.chance.choice(list(MAKES)), self.chance.choice(REMOVES))
                if self.stopping.is_set():
                    break
        finally:
            self.client.close()

    def make_and_remove(self, key, kind, removes):
        put, words_of, count = MAKES[kind]
        name, remove, answer, left = removes
        for begin in range(0, self.elements, PORTION):
            names = [f"{PREFIX}{i}" for i in range(begin, begin + PORTION)]
            result = self.insist(f"make-{begin}", key, put, key, *words_of(names))
            assert result == (begin + PORTION if kind == "list" else PORTION), f"{key} takes {result} of the elements from {begin}"
        assert self.insist(None, key, count, key) == self.elements, f"{key} has not all elements"
        self.insist("short", key, "SET", f"{key}:short", "short")
        begin_s = time.monotonic()
        assert self.insist("remove", key, *remove(key)) == answer, f"{key} is not removed by {name}"
        self.removed.append((kind, name, time.monotonic() - begin_s))
        self.look_after(key, kind, name, left)

    def look_after(self, key, kind, name, left):
        """Nothing of it is in what has its key next, whatever was swept by then."""
        put, words_of, count = MAKES[kind]
        while name == "PEXPIRE" and self.insist(None, key, "EXISTS", key):
            time.sleep(0.01)
        assert self.insist(None, key, "TYPE", key) == ("none" if left is None else "string"), f"{key} is there after {name}"
        if left is not None:
            assert self.insist(None, key, "GET", key) == left
            self.insist("clean", key, "DEL", key)
        assert self.insist("again", key, put, key, *words_of(["new"])) == 1
        assert self.insist(None, key, count, key) == 1, f"{key} has old elements"
        self.insist("end", key, "DEL", key, f"{key}:short")

    def insist(self, id_, key, *command):
        outcome, result = self.ask(list(command), id_ and f"{key}-{id_}", insists=True)
        assert outcome == "done", (command[:2], outcome, result)
        return result
