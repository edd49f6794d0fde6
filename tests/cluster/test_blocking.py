"""Blocking commands at a whole cluster: what is pushed goes to who waits, once, in their order, whatever becomes of the leader."""

import asyncio
import itertools
import threading
import time

import msgpack
import pynng
import pytest

from harness import Background, Client, ReplyError, wait_for
from replicas import Replicas, shard_of
from test_resp import Raw, connect, words

SLICE_S = 1  # WAIT_SLICE_MS: what a client that has gone may leave behind
LATE_S = 0.1  # what waiting may take beyond its time on a machine that is not busy
SHARDS = 16
WAITING = 2000
ELEMENTS = 1500
CONSUMERS = 12
PRODUCERS = 3


@pytest.fixture(scope="module")
def cluster(module_directory):
    from harness import Cluster
    made = Cluster(module_directory / "blocking", shards=SHARDS,
                   gateway_flags=["--connection-requests-max", "4096"]).start()
    yield made
    made.stop()


def waiting_clients(client):
    """How many do."""
    lines = client("INFO", "clients").decode().splitlines()
    return next(int(line.split(":")[1]) for line in lines if line.startswith("blocked_clients:"))


class Asking(Background):
    """One command of a client of its own; `answer` is (error, result)."""

    def __init__(self, address, *words, **options):
        super().__init__()
        self.client, self.words, self.options = Client(address), words, options
        self.answer = None
        self.start()

    def work(self):
        self.answer = self.client.ask(*self.words, **self.options)


def until_named(client, name, *words):
    """Asks under one id until the fate is known."""
    while True:
        error, result = client.ask(*words, id=name)
        if error is None:
            return result
        assert error[0] in ("TIMEOUT", "UNAVAILABLE"), error


# ---- what a client sees ----

def test_takes_what_is_there(cluster):
    with cluster.client() as client:
        client("RPUSH", "{q}1", "a", "b", "c", "d", "e")
        assert client("BLPOP", "{q}0", "{q}1", 0) == [b"{q}1", b"a"]
        assert client("BRPOP", "{q}1", 0.1) == [b"{q}1", b"e"]
        assert client("BLMPOP", 0, 2, "{q}0", "{q}1", "LEFT") == [b"{q}1", [b"b"]]
        assert client("BLMOVE", "{q}1", "{q}2", "LEFT", "RIGHT", 0) == b"c"
        assert client("BRPOPLPUSH", "{q}1", "{q}2", 0) == b"d"
        assert client("LRANGE", "{q}2", 0, -1) == [b"d", b"c"]
        client("DEL", "{q}2")


@pytest.mark.parametrize("waits, taken", [
    (("BZPOPMIN", "{z}0", "{z}1", 0), [b"{z}1", b"a", 1.5]),
    (("BZPOPMAX", "{z}1", "{z}0", 0), [b"{z}1", b"b", 2.0]),
    (("BZMPOP", 0, 2, "{z}0", "{z}1", "MIN", "COUNT", 9), [b"{z}1", [[b"a", 1.5], [b"b", 2.0]]])])
def test_sorted_sets_are_waited_for(cluster, waits, taken):
    """A list at one of their keys wakes nobody."""
    with cluster.client() as client:
        asking = Asking(cluster.address, *waits)
        wait_for(lambda: waiting_clients(client) == 1, "it waits")
        client("RPUSH", "{z}0", "no sorted set")
        client("DEL", "{z}0")
        assert asking.answer is None
        client("ZADD", "{z}1", 1.5, "a", 2, "b")
        asking.finish()
        assert asking.answer == (None, taken)
        client("DEL", "{z}1")



@pytest.mark.parametrize("command,code", [
    (["BLPOP", "q", "x"], "BADREQUEST"), (["BLPOP", "q", -1], "BADREQUEST"), (["BLPOP", "q"], "BADREQUEST"),
    (["BLPOP", "a", "b", 0], "CROSSSLOT"), (["BLMOVE", "a", "b", "LEFT", "LEFT", 0], "CROSSSLOT"),
    (["BLMPOP", 0, 0, "q", "LEFT"], "BADREQUEST"), (["BLPOP", "text", 0], "WRONGTYPE")])
def test_refusals_come_at_once(cluster, command, code):
    with cluster.client() as client:
        client("SET", "text", "v")
        with pytest.raises(ReplyError) as refused:
            client(*command)
        assert refused.value.code == code


def test_batches_do_not_wait(cluster):
    with cluster.client() as client:
        commands = [["BLPOP", ["{q}b", 0]], ["RPUSH", ["{q}b", "x"]], ["BLPOP", ["{q}b", 0]], ["BLMOVE", ["{q}b", "{q}c", "LEFT", "LEFT", 0]]]
        answer = client("batch", *commands)
        assert answer == [[None, None], [None, 1], [None, [b"{q}b", b"x"]], [None, None]]
        assert client("batch", *commands, atomic=True) == answer


@pytest.mark.parametrize("seconds", [0.02, 0.3, 1.0, 1.25, 2.6])
def test_times_are_kept(cluster, seconds):
    """Never early; and late by no more than some tens of milliseconds, at least once of a few."""
    with cluster.client() as client:
        late = []
        for _ in range(5):
            begin = time.monotonic()
            assert client("BLPOP", "{q}none", f"{seconds}") is None
            late.append(time.monotonic() - begin - seconds)
            assert late[-1] >= 0
            if late[-1] < LATE_S:
                return
        raise AssertionError(f"late by {late}")


def test_its_time_is_not_that_of_a_request(cluster):
    with cluster.client() as client:
        begin = time.monotonic()
        assert client("BLPOP", "{q}none", 1.5, timeout_ms=200) is None
        assert time.monotonic() - begin >= 1.5


# ---- who is served ----

def test_first_come_first_served_over_many_slices(cluster):
    """The gateway asks for each again and again meanwhile."""
    order, lock = [], threading.Lock()

    class Waiting(Background):
        def __init__(self, number):
            super().__init__()
            self.client, self.number = Client(cluster.address), number

        def work(self):
            _, value = self.client("BLPOP", "{q}order", 0)
            with lock:
                order.append((self.number, int(value)))

    with cluster.client() as client:
        everybody = []
        for number in range(40):
            everybody.append(Waiting(number))
            everybody[-1].start()
            wait_for(lambda: waiting_clients(client) == number + 1, "it waits")
        time.sleep(2.5 * SLICE_S)  # what is to be seen is that time does not change their order
        for value in range(40):
            client("RPUSH", "{q}order", value)
        for one in everybody:
            one.finish()
        assert sorted(order) == [(number, number) for number in range(40)]


async def wait_many(address, key, count, ready):
    """So many clients in one connection, each with a BLPOP; what each has got. `ready` is set when all have been sent."""
    with pynng.Req0(resend_time=-1, recv_timeout=60000, send_timeout=60000) as socket:
        socket.dial(address, block=True)
        contexts = [socket.new_context() for _ in range(count)]

        async def ask(number, context):
            await context.asend(msgpack.packb([0, number, "BLPOP", [key, 0]]))
            return msgpack.unpackb(await context.arecv())
        tasks = [asyncio.ensure_future(ask(number, context)) for number, context in enumerate(contexts)]
        await asyncio.sleep(0)
        ready.set()
        replies = await asyncio.gather(*tasks)
        for context in contexts:
            context.close()
        return replies


class ManyWaiting(Background):
    def __init__(self, cluster, key, count):
        super().__init__()
        self.cluster, self.key, self.count = cluster, key, count
        self.ready, self.replies = threading.Event(), None
        self.start()

    def work(self):
        self.replies = asyncio.run(wait_many(self.cluster.address, self.key, self.count, self.ready))

    def values(self):
        self.finish()
        assert all(reply[2] is None for reply in self.replies), [reply[2] for reply in self.replies if reply[2]][:3]
        return sorted(int(reply[3][1]) for reply in self.replies)


def test_thousands_wait(cluster):
    """Others are served meanwhile, and each of those who wait gets an element of its own."""
    with cluster.client() as client:
        many = ManyWaiting(cluster, "{q}many", WAITING)
        wait_for(lambda: waiting_clients(client) >= WAITING or many.check(), "all of them wait")
        time.sleep(2 * SLICE_S)  # they are asked for again
        begin = time.monotonic()
        client("SET", "other", "v")
        assert time.monotonic() - begin < SLICE_S
        for begin in range(0, WAITING, 100):
            client("RPUSH", "{q}many", *range(begin, begin + 100))
        assert many.values() == list(range(WAITING))
        assert client("LLEN", "{q}many") == 0


def test_too_many_are_told(cluster):
    """A quarter of what may be in flight is kept for those who do not wait."""
    with cluster.client() as client:
        many = ManyWaiting(cluster, "{q}full", 3072)
        wait_for(lambda: waiting_clients(client) >= 3072 or many.check(), "all of them wait")
        with pytest.raises(ReplyError) as refused:
            client("BLPOP", "{q}full", 0)
        assert refused.value.code == "OVERLOADED"
        client("SET", "other", "v")
        client("RPUSH", "{q}full", *range(3072))
        assert many.values() == list(range(3072))


def test_who_has_gone_takes_nothing_after_its_slice(cluster):
    with cluster.client() as client:
        gone = [Client(cluster.address) for _ in range(50)]
        for one in gone:
            one.socket.send(msgpack.packb([0, 1, "BLPOP", ["{q}gone", 0]]))
        wait_for(lambda: waiting_clients(client) == 50, "they wait")
        for one in gone:
            one.close()
        wait_for(lambda: waiting_clients(client) == 0, "their last slices have ended", patience_s=10 * SLICE_S)
        assert client("RPUSH", "{q}gone", *range(100)) == 100
        assert client("LLEN", "{q}gone") == 100


# ---- by the Redis protocol ----

def test_redis_clients_wait(cluster):
    with connect(cluster) as waiting, connect(cluster) as pushing:
        assert waiting.blpop("{r}none", 1) is None
        answer = []
        thread = threading.Thread(target=lambda: answer.append(waiting.blpop(["{r}0", "{r}1"], 0)))
        thread.start()
        with cluster.client() as client:
            wait_for(lambda: waiting_clients(client) == 1, "it waits")
        pushing.rpush("{r}1", "a")
        thread.join()
        assert answer == [(b"{r}1", b"a")]
        assert pushing.blmove("{r}1", "{r}2", 1, "LEFT", "RIGHT") is None
        pipe = pushing.pipeline(transaction=True)
        assert pipe.blpop("{r}none", 0).rpush("{r}2", "x").brpop("{r}2", 0).execute() == [None, 1, (b"{r}2", b"x")]


def test_what_follows_in_a_pipeline_comes_after_it(cluster):
    with Raw(cluster) as raw, cluster.client() as client:
        raw.send(words("SET", "{p}s", "1") + words("BLPOP", "{p}q", 0) + words("SET", "{p}s", "2") + words("GET", "{p}s"))
        assert raw.reply() == b"OK"
        wait_for(lambda: waiting_clients(client) == 1, "it waits")
        assert client("GET", "{p}s") == b"1"
        client("RPUSH", "{p}q", "x")
        assert [raw.reply() for _ in range(3)] == [[b"{p}q", b"x"], b"OK", b"2"]
        raw.send(words("BLPOP", "{p}q", "0.05") + words("BLPOP", "{p}q", "x"))
        assert raw.reply() is None
        assert raw.reply() == b"-ERR timeout is not a float or out of range\r\n"


def test_a_closed_connection_takes_nothing_after_its_slice(cluster):
    with cluster.client() as client:
        gone = [Raw(cluster) for _ in range(50)]
        for one in gone:
            one.send(words("BLPOP", "{r}gone", 0))
        wait_for(lambda: waiting_clients(client) == 50, "they wait")
        for one in gone:
            one.close()
        wait_for(lambda: waiting_clients(client) == 0, "their last slices have ended", patience_s=10 * SLICE_S)
        assert client("RPUSH", "{r}gone", *range(100)) == 100
        assert client("LLEN", "{r}gone") == 100


# ---- faults ----

class Producer(Background):
    def __init__(self, address, key, values):
        super().__init__()
        self.client, self.key, self.values = Client(address), key, values
        self.start()

    def work(self):
        for value in self.values:
            until_named(self.client, f"push {value}", "RPUSH", self.key, value)
            time.sleep(0.002)


class Consumer(Background):
    """Takes until there has been nothing for a while after it was told to stop."""
    names = itertools.count()

    def __init__(self, address, key):
        super().__init__()
        self.client, self.key, self.taken = Client(address), key, []
        self.start()

    def work(self):
        while True:
            got = until_named(self.client, f"pop {next(self.names)}", "BLPOP", self.key, 1.5)
            if got is not None:
                self.taken.append(int(got[1]))
            elif self.stopping.is_set():
                return


def leader_of(replicas, shard):
    status = replicas.know()
    return replicas.node_of(status, status["map"]["shards"][shard]["leader"])


@pytest.mark.parametrize("how", ["kill", "end"])
def test_each_element_is_taken_once_while_leaders_go(make_cluster, how):
    cluster = make_cluster(shards=SHARDS).start()
    replicas = Replicas(cluster)
    replicas.wait_in_sync()
    consumers = [Consumer(cluster.address, "q") for _ in range(CONSUMERS)]
    producers = [Producer(cluster.address, "q", range(i, ELEMENTS, PRODUCERS)) for i in range(PRODUCERS)]
    shard = shard_of("q", SHARDS)
    for round_ in range(1, 3):
        wait_for(lambda: sum(len(consumer.taken) for consumer in consumers) > round_ * ELEMENTS // 4, "they take")
        leader = leader_of(replicas, shard)
        if how == "kill":
            leader.kill()
        else:
            assert leader.stop() == 0
        wait_for(lambda: leader_of(replicas, shard) is not leader, "another leads")
        leader.start()
        replicas.wait_in_sync()
    for background in producers + consumers:
        background.finish()
    taken = sorted(itertools.chain.from_iterable(consumer.taken for consumer in consumers))
    assert taken == list(range(ELEMENTS))
    cluster.stop()


def test_waiting_survives_the_leader(make_cluster):
    """Many wait while nothing is there and their leader dies; what the next is given goes to each of them."""
    cluster = make_cluster(shards=SHARDS, gateway_flags=["--connection-requests-max", "4096"]).start()
    replicas = Replicas(cluster)
    replicas.wait_in_sync()
    with cluster.client() as client:
        many = ManyWaiting(cluster, "q", 1000)
        wait_for(lambda: waiting_clients(client) >= 1000 or many.check(), "all of them wait")
        leader = leader_of(replicas, shard_of("q", SHARDS))
        leader.kill()
        time.sleep(0.1)
        for begin in range(0, 1000, 50):
            until_named(client, f"push {begin}", "RPUSH", "q", *range(begin, begin + 50))
        assert many.values() == list(range(1000))
        leader.start()
        replicas.wait_in_sync()
        assert client("EXISTS", "q") == 0
    cluster.stop()


def test_a_long_wait_outlives_a_shard_that_is_away(make_cluster):
    """Longer than a request may take: nobody leads for a while."""
    cluster = make_cluster(shards=SHARDS).start()
    with cluster.client() as client:
        client("SET", "s", "v")
        forever = Asking(cluster.address, "BLPOP", "q", 0, timeout_ms=500)
        short = Asking(cluster.address, "BLPOP", "q", 0.2, timeout_ms=500)
        wait_for(lambda: waiting_clients(client) >= 1, "it waits")
        for node in cluster.nodes:
            node.kill()
        short.join()
        assert short.answer[0] is None or short.answer[0][0] in ("UNAVAILABLE", "TIMEOUT")
        time.sleep(2)
        assert forever.answer is None
        for node in cluster.nodes:
            node.start()
        cluster.wait_ready()
        until_named(client, "push", "RPUSH", "q", "x")
        forever.finish()
        assert forever.answer == (None, [b"q", b"x"])
    cluster.stop()
