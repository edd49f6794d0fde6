"""The client socket as docs/protocol.md describes it, through real daemons."""

import os
import random
import time

import msgpack
import pytest

from harness import Client, ReplyError, wait_for


@pytest.fixture
def client(shared):
    with shared.client() as client:
        yield client


def refused(client, code, method, *params, **options):
    error, result = client.ask(method, *params, **options)
    assert error is not None and error[0] == code, (error, result)
    assert isinstance(error[1], str) and error[1]
    assert result is None


def test_results_have_their_types(client):
    assert client("SET", "t:s", b"\x00\xff") == "OK"
    assert client("GET", "t:s") == b"\x00\xff"
    assert client("GET", "t:none") is None
    assert client("strlen", "t:s") == 2  # any case
    assert client("SET", "t:n", 17) == "OK"  # an integer where Redis takes decimal text
    assert client("INCRBY", "t:n", -7) == 10
    assert client("MGET", "t:n", "t:none", b"t:s") == [b"10", None, b"\x00\xff"]
    assert client("TYPE", "t:s") == "string"
    assert client("PING") == "PONG"
    assert client("ECHO", "x") == b"x"
    seconds, micros = client("TIME")
    assert abs(int(seconds) - time.time()) < 60 and 0 <= int(micros) < 10**6
    assert client("COMMAND", "COUNT") > 40


def test_cas(client):
    client("DEL", "c")
    assert client("CAS", "c", "x", "y") == 0
    assert client("CAS", "c", None, "1") == 1
    assert client("CAS", "c", None, "2") == 0
    client("PEXPIRE", "c", 100000)
    assert client("CAS", "c", "1", "2") == 1
    assert client("PTTL", "c") > 0
    assert client("CAS", "c", "2", None) == 1
    assert client("EXISTS", "c") == 0
    client("SET", "c", "a")
    assert client("SET", "c", "b", "IFEQ", "zzz") is None
    assert client("SET", "c", "b", "IFEQ", "a") == "OK"


def test_split_commands_join(client):
    keys = [f"split:{i}" for i in range(500)]
    assert client("MSET", *[word for key in keys for word in (key, "v" + key)]) == "OK"
    assert client("MGET", *keys, keys[3]) == [("v" + key).encode() for key in [*keys, keys[3]]]
    assert client("EXISTS", *keys, keys[0], "split:none") == 501
    assert client("DEL", *keys[:250], "split:none") == 250
    assert client("UNLINK", *keys) == 250
    assert client("TOUCH", *keys) == 0


def test_batch(client):
    replies = client("batch", ["SET", ["b:1", "x"]], ["INCR", ["b:1"]], ["NOSUCH", []], ["GET", ["b:1"]],
                     ["MGET", ["b:1", "b:2"]], ["PING", []], ["batch", []])
    assert replies[0] == [None, "OK"]
    assert replies[1][0][0] == "BADVALUE" and replies[1][1] is None
    assert replies[2][0][0] == "BADREQUEST"
    assert replies[3] == [None, b"x"]
    assert replies[4] == [None, [b"x", None]]
    assert replies[5] == [None, "PONG"]
    assert replies[6][0][0] == "BADREQUEST"
    assert client("batch") == []


def test_a_batch_reads_what_it_wrote(client):
    for i in range(300):
        key = f"order:{i}"
        replies = client("batch", ["SET", [key, i]], ["GET", [key]], ["INCR", [key]], ["MGET", [key, "order:0"]],
                         ["SET", [key, "last"]])
        assert replies[1] == [None, str(i).encode()]
        assert replies[3][1][0] == str(i + 1).encode()
    assert client("GET", "order:299") == b"last"


def test_atomic_batch(client):
    client("DEL", "{a}1", "{a}2")
    done = client("batch", ["SET", ["{a}1", "5"]], ["INCRBY", ["{a}1", "2"]], ["GET", ["{a}1"]], atomic=True)
    assert done == [[None, "OK"], [None, 7], [None, b"7"]]
    # all or nothing: the last command fails, and nothing has happened
    refused(client, "BADVALUE", "batch", ["SET", ["{a}2", "x"]], ["DEL", ["{a}1"]], ["INCR", ["{a}2"]], atomic=True)
    assert client("MGET", "{a}1", "{a}2") == [b"7", None]
    refused(client, "CROSSSLOT", "batch", ["SET", ["a", "1"]], ["SET", ["b", "1"]], atomic=True)


def test_names_take_effect_once(client):
    client("DEL", "once")
    assert client("INCR", "once", id="contract-1") == 1
    assert client("INCR", "once", id="contract-1") == 1
    assert client("INCR", "once", id=b"contract-2") == 2
    assert client("GET", "once") == b"2"
    # a result that is too large to be kept: that it happened is known
    client("SET", "large", b"x" * 10000)
    assert len(client("GETDEL", "large", id="contract-3")) == 10000
    refused(client, "DONE", "GETDEL", "large", id="contract-3")


def test_scan_finds_every_key(make_cluster):
    cluster = make_cluster().start()
    with cluster.client() as client:
        expected = {f"scan:{i}".encode() for i in range(3000)}
        client("MSET", *[word for key in expected for word in (key, b"v")])
        found, cursor = set(), 0
        while True:
            cursor, keys = client("SCAN", cursor, "COUNT", 100, "MATCH", "scan:*")
            found.update(keys)
            if int(cursor) == 0:
                break
            # what changes meanwhile must not hide what stays
            client("SET", f"other:{random.random()}", "v")
        assert found == expected
        refused(client, "BADREQUEST", "SCAN", "nonsense")
        refused(client, "BADREQUEST", "SCAN", str(1 << 63))
        count = client("DBSIZE")
        assert count >= 3000
        assert f"keys:{count}" in client("INFO").decode()


def test_expiry(client):
    client("SET", "e:1", "v", "PX", 30)
    client("SET", "e:2", "v", "EX", 1000)
    assert 0 < client("TTL", "e:2") <= 1000
    wait_for(lambda: client("GET", "e:1") is None, "the key expires")
    assert client("TTL", "e:1") == -2
    assert client("PERSIST", "e:2") == 1
    assert client("TTL", "e:2") == -1
    before = client("DBSIZE")
    client("batch", *[["SET", [f"e:many:{i}", "v", "PX", 1]] for i in range(2000)])
    wait_for(lambda: client("DBSIZE") <= before, "expired keys are removed though nobody reads them")


@pytest.mark.parametrize("request_", [
    b"", b"\xc1", b"\xff" * 100, msgpack.packb(None), msgpack.packb([]), msgpack.packb([0, 1]),
    msgpack.packb([0, 1, "GET"]), msgpack.packb([1, 1, "GET", ["k"]]), msgpack.packb([0, -1, "GET", ["k"]]),
    msgpack.packb([0, "x", "GET", ["k"]]), msgpack.packb([0, 1, 2, ["k"]]), msgpack.packb([0, 1, "GET", "k"]),
    msgpack.packb([0, 1, "GET", {"k": 1}]), msgpack.packb([0, 1, "GET", ["k"], []]),
    msgpack.packb([0, 1, "GET", ["k"], {"nonsense": 1}]), msgpack.packb([0, 1, "GET", ["k"], {"id": ""}]),
    msgpack.packb([0, 1, "GET", ["k"], {"id": "x" * 65}]), msgpack.packb([0, 1, "GET", ["k"], {"timeout_ms": 0}]),
    msgpack.packb([0, 1, "GET", ["k"], {"timeout_ms": "5"}]), msgpack.packb([0, 1, "GET", ["k"], {"read": "dirty"}]),
    msgpack.packb([0, 1, "GET", ["k"], {}, 1]), msgpack.packb([0, 1, "GET", ["k"]]) + b"\x00",
    msgpack.packb([0, 1, "GET", [["k"]]]), msgpack.packb([0, 1, "GET", [None]]), msgpack.packb([0, 1, "GET", []]),
    msgpack.packb([0, 1, "NOSUCH", ["k"]]), msgpack.packb([0, 1, "GET", ["a", "b"]]), msgpack.packb([0, 1, "", []]),
    msgpack.packb([0, 1, "batch", [1]]), msgpack.packb([0, 1, "batch", [["GET"]]]),
    b"\x94\x00\x01\xa3GET" + b"\x91" * 10000 + b"\xa1k",
    b"\x94\x00\x01\xa3GET\xdd\xff\xff\xff\xff", b"\x94\x00\x01\xa3GET\x91\xc6\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff",
    msgpack.packb([0, 1, "MSET", ["a"]]), msgpack.packb([0, 1, "SET", ["k", "v", "EX"]]),
])
def test_bad_requests_get_an_answer(client, request_):
    reply = msgpack.unpackb(client.raw(request_))
    assert reply[0] == 1 and reply[2][0] == "BADREQUEST" and reply[3] is None, reply
    assert client("PING") == "PONG"


def test_every_truncation_gets_an_answer(client):
    whole = msgpack.packb([0, 7, "batch", [["SET", ["k", b"v" * 40]], ["GET", ["k"]]], {"timeout_ms": 500, "id": "t"}])
    for size in range(len(whole)):
        reply = msgpack.unpackb(client.raw(whole[:size]))
        assert reply[2][0] == "BADREQUEST", size
    assert client("PING") == "PONG"


def test_random_bytes_get_an_answer(client):
    seed = random.SystemRandom().randrange(1 << 32)
    print("seed", seed)
    chance = random.Random(seed)
    whole = msgpack.packb([0, 7, "SET", ["fuzz", b"v" * 20], {"timeout_ms": 500}])
    for _ in range(3000):
        if chance.random() < 0.5:
            message = chance.randbytes(chance.randrange(60))
        else:
            message = bytearray(whole)
            for _ in range(chance.randrange(1, 4)):
                message[chance.randrange(len(message))] = chance.randrange(256)
            message = bytes(message)
        reply = msgpack.unpackb(client.raw(message), strict_map_key=False)
        assert reply[0] == 1 and len(reply) == 4
    assert client("PING") == "PONG"


def test_limits(client):
    key, value = b"k" * 65536, b"v" * (16 * 1024 * 1024)
    assert client("SET", key, value) == "OK"
    assert client("GET", key) == value
    assert client("SET", b"", b"") == "OK"
    assert client("GET", b"") == b""
    refused(client, "TOOLARGE", "SET", key + b"k", "v")
    refused(client, "TOOLARGE", "GET", key + b"k")
    refused(client, "TOOLARGE", "SET", "k", value + b"v")
    refused(client, "TOOLARGE", "APPEND", key, "v")
    refused(client, "TOOLARGE", "MGET", *["k"] * 10001)
    refused(client, "TOOLARGE", "batch", *[["PING", []]] * 10001)
    refused(client, "TOOLARGE", "MGET", *[key] * 5)  # the answer would be larger than a message
    replies = client("batch", *[["GET", [key]]] * 5)
    assert replies[0] == [None, value]
    assert any(error is not None and error[0] == "TOOLARGE" for error, _ in replies)
    assert client("DEL", key, b"") == 2
    prefix = os.urandom(3000)  # keys that differ only far behind LMDB's limit
    client("SET", prefix + b"a", "1")
    client("SET", prefix + b"b", "2")
    assert client("MGET", prefix + b"a", prefix + b"b") == [b"1", b"2"]


def test_a_message_of_ten_thousand(client):
    replies = client("batch", *[["SET", [f"many:{i}", str(i)]] for i in range(10000)])
    assert replies == [[None, "OK"]] * 10000
    assert client("MGET", *[f"many:{i}" for i in range(10000)]) == [str(i).encode() for i in range(10000)]
    assert client("DEL", *[f"many:{i}" for i in range(10000)]) == 10000


def test_unavailable_while_a_node_is_down(make_cluster):
    cluster = make_cluster(nodes=1).start()
    with cluster.client() as client:
        client("SET", "k", "v")
        cluster.nodes[0].kill()
        error, _ = client.ask("GET", "k", timeout_ms=300)
        assert error[0] in ("UNAVAILABLE", "TIMEOUT")
        wait_for(lambda: client.ask("SET", "k", "w", timeout_ms=100)[0][0] == "UNAVAILABLE",
                 "a write that was never sent surely did not happen")
        cluster.nodes[0].start()
        assert client("GET", "k", timeout_ms=30000) == b"v"  # waits in the gateway until the node is back
