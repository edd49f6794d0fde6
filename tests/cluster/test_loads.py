"""The load of all data types: a cluster without faults fulfils what it asks for; and it notices when one does not."""

import random

import pytest

import asking
from fodder import TEMPLATES, Fodder
from harness import wait_for
from invariants import Queue, Take
from loads import TypesLoad
from replicas import Replicas

SHARDS = 16  # of a cluster of the harness


@pytest.fixture(scope="module")
def rested(shared):
    """A load that has worked for a while without faults."""
    load = TypesLoad(shared, SHARDS, seed=1, giants=2, giant_elements=20_000).start()
    wait_for(lambda: load.operations() > 3000, "enough steps")
    load.rest()
    with shared.client() as client:
        for name in ("Queue", "Draws", "Heap"):  # none of them is empty
            items = [b"99-1", b"99-2", b"99-3"]
            client(*of(load, name).put_command(items))
            of(load, name).put.update(items)
    return load


def test_a_cluster_without_faults(shared, rested):
    rested.read_back()
    assert set(rested.errors()) <= asking.REFUSED
    assert len(rested.giant.removed) == 2
    assert all(fodder.outcomes["done"] > fodder.outcomes["refused"] > 0 for fodder in rested.fodder)
    replicas = Replicas(shared)
    replicas.wait_swept()
    replicas.wait_level()
    replicas.verify()


def of(load, name):
    return next(invariant for invariant in load.invariants if type(invariant).__name__ == name)


# What somebody else does to a key of an invariant, as a mistake of the cluster would; and what is noticed. KEY is the key.
MISTAKES = [
    ("Queue", ["LPOP", "KEY"], "acknowledged are missing"),
    ("Queue", ["RPUSH", "KEY", "nobodys-1"], "come from nowhere"),
    ("Queue", ["LMOVE", "KEY", "KEY", "RIGHT", "LEFT"], "came too late"),
    ("Queue", "again", "there twice"),
    ("Draws", ["SPOP", "KEY"], "acknowledged are missing"),
    ("Draws", ["SADD", "KEY", "nobodys-1"], "come from nowhere"),
    ("Draws", "again", "there twice"),
    ("Heap", ["ZPOPMIN", "KEY"], "acknowledged are missing"),
    ("Heap", "again", "there twice"),
    ("SetElements", ["SPOP", "KEY"], "not what was acknowledged"),
    ("SetElements", ["SADD", "KEY", "nobodys"], "not what was acknowledged"),
    ("HashElements", ["HSET", "KEY", "nobodys", "v"], "not what was acknowledged"),
    ("HashElements", ["DEL", "KEY"], "not what was acknowledged"),
    ("ScoredElements", ["ZPOPMAX", "KEY"], "not what was acknowledged"),
    ("ScoredElements", ["ZADD", "KEY", 1000, "0-0"], "not what was acknowledged"),
    ("HashSums", ["HINCRBY", "KEY", "sum0", 1], "were acknowledged"),
    ("HashSums", ["HINCRBY", "KEY", "sum0", -1], "were acknowledged"),
    ("ScoredSums", ["ZINCRBY", "KEY", 1, "sum1"], "were acknowledged"),
    ("ListMoves", ["LPUSH", "KEY:1", "item7"], "lost or there twice"),
    ("ListMoves", ["DEL", "KEY:0", "KEY:1", "KEY:2"], "lost or there twice"),
    ("SetMoves", ["SUNIONSTORE", "KEY:0", "KEY:0", "KEY:1", "KEY:2"], "lost or there twice"),
    ("Together", ["LPOP", "KEY:list"], "not the same items"),
    ("Together", ["DEL", "KEY:list", "KEY:set", "KEY:hash", "KEY:zset"], "acknowledged are missing"),
]


@pytest.mark.parametrize("name, command, noticed", MISTAKES)
def test_a_mistake_is_noticed(shared, rested, name, command, noticed):
    invariant = of(rested, name)
    with shared.client() as client:
        def read(words):
            return client(*words)

        invariant.check(read)
        keys = [invariant.key, *(f"{invariant.key}:{end}" for end in (0, 1, 2, "list", "set", "hash", "zset"))]
        for key in keys:  # what it was is put back afterwards
            client("COPY", key, f"{key}:kept", "REPLACE")
        if command == "again":
            command = invariant.put_command([next(item for take in invariant.takes for item in take.items)])
        client(*(word.replace("KEY", invariant.key) if isinstance(word, str) else word for word in command))
        with pytest.raises(AssertionError, match=noticed):
            invariant.check(read)
        for key in keys:
            client("DEL", key)
            client("COPY", f"{key}:kept", key)
            client("DEL", f"{key}:kept")
        invariant.check(read)


def test_mayflies_that_stay_or_come_back_are_noticed(rested):
    mayflies = of(rested, "Mayflies")
    key, count, due_s, _ = next(one for made in mayflies.made.values() for one in made)
    for gone, due_s, left in ((True, due_s, mayflies.ELEMENTS), (False, due_s, 1), (False, 0, mayflies.ELEMENTS)):
        with pytest.raises(AssertionError, match="come back|a part|should be gone"):
            mayflies.judge([key, count, due_s, gone], left)
    mayflies.judge([key, count, due_s, False], 0)


def test_what_was_taken_for_who_had_given_up_waiting():
    queue = Queue("key")
    queue.put = {b"1-1"}
    queue.doubtful = [(1, ["BLPOP", "key", "0.1"], "name")]

    def read(command, **options):
        return [b"key", b"1-1"] if options == {"id": "name"} else []

    queue.check(read)
    queue.check(read)
    assert [take.items for take in queue.takes] == [[b"1-1"]]


def ordered(*takes):
    queue = Queue("key")
    queue.put = {f"{player}-{number}".encode() for player in (1, 2) for number in range(1, 9)}
    queue.takes = [Take(begin, end, [item.encode() for item in items]) for begin, end, *items in takes]
    return queue


def test_order_in_a_queue():
    ordered((1, 2, "1-1", "2-1"), (3, 4, "2-2"), (5, 6, "1-2")).check_order([b"1-3", b"2-3"])
    ordered((1, 4, "1-2"), (2, 5, "1-1")).check_order([])  # at the same time
    ordered((1, 2, "9-2"), (3, 4, "9-1")).check_order([])  # nobody knows when these were put
    for takes, left in ([[(1, 2, "1-2"), (3, 4, "1-1")], []], [[(1, 2, "1-2", "1-1")], []], [[(1, 2, "1-2")], [b"1-1"]],
                        [[(1, 9, "2-1"), (2, 3, "1-5"), (4, 5, "1-4")], []]):
        with pytest.raises(AssertionError, match="came too late"):
            ordered(*takes).check_order(left)


def test_reads_between_writes_are_judged(rested):
    """By all who see many keys at one moment, and by who owns an element."""
    class Liar:
        number, chance = 0, random.Random(1)

        def read(self, command, **_):
            if command[0] == "batch":
                return "done", [[None, []] for _ in command[1:]]
            return "done", b"something else"

    for name in ("ListMoves", "SetMoves"):
        moves = of(rested, name)
        with pytest.raises(AssertionError, match="lost or there twice"):
            moves.judge(Liar().read(moves.look())[1])
    together = of(rested, "Together")
    with pytest.raises(AssertionError, match="acknowledged are missing"):
        together.see(Liar())


def test_templates_make_commands():
    """No words of templates are left in them."""
    for template in TEMPLATES:
        command = [word for place in template for word in Fodder("{t}").words(place, random.Random(1))]
        assert len(command) >= len(template) and not {"K", "J", "e", "e+", "fv+", "se+", "i", "n", "f", "t"} & set(command), command


def test_fodder_is_made_of_all_commands_that_write(shared):
    with shared.client() as client:
        writes = {name.decode().upper() for name, _, flags, *_ in client("COMMAND") if "write" in flags}
    assert writes == {template[0] for template in TEMPLATES}


class Answers:
    """A client that answers what it is told, and a mistake when there is nothing more to say."""

    def __init__(self, *answers):
        self.answers = list(answers)

    def ask(self, *_, **__):
        return self.answers.pop(0)

    def close(self):
        pass


def test_who_insists_asks_until_it_knows():
    asker = asking.Asker(lambda: Answers([["TIMEOUT", ""], None], [["UNAVAILABLE", ""], None], [None, 5]), 100)
    asker.stopping.set()
    assert asker.ask(["LPOP", "k"], "id", insists=True) == ("done", 5)
    asker = asking.Asker(lambda: Answers([["INTERNAL", ""], None]), 100)
    with pytest.raises(AssertionError, match="INTERNAL"):
        asker.ask(["LPOP", "k"], "id", insists=True)


def test_who_insists_gives_up_when_all_is_over(monkeypatch):
    monkeypatch.setattr(asking, "PATIENCE_S", 0)
    asker = asking.Asker(lambda: Answers([["UNAVAILABLE", ""], None]), 100)
    asker.stopping.set()
    with pytest.raises(AssertionError, match="never answered"):
        asker.ask(["LPOP", "k"], "id", insists=True)
