"""The door of the Redis protocol, with the clients that people have: they work unchanged."""

import os
import shutil
import socket
import subprocess
import threading

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from harness import PATIENCE_S, ROOT, Background, Security, wait_for
from test_examples import DOWNLOAD_S, NOT_THE_NETWORK, run, skip_without

CLIENTS = ROOT / "tests" / "cluster" / "clients"
MIB = 1024 * 1024


def endpoint(cluster):
    host, port = cluster.gateway.flag("--resp-listen").removeprefix("tcp://").rsplit(":", 1)
    return host, int(port)


def connect(cluster, **options):
    host, port = endpoint(cluster)
    return redis.Redis(host, port, socket_timeout=PATIENCE_S, **{"retry": Retry(NoBackoff(), 0), **options})


class Raw:
    """A connection on which tests say every byte."""

    def __init__(self, cluster):
        self.socket = socket.create_connection(endpoint(cluster), timeout=PATIENCE_S)
        self.file = self.socket.makefile("rb")

    def send(self, data):
        self.socket.sendall(data)

    def line(self):
        return self.file.readline()

    def reply(self):
        """Of RESP2, decoded; an error as its line."""
        line = self.file.readline()
        kind, rest = line[:1], line[1:-2]
        if kind == b"$":
            return None if rest == b"-1" else self.file.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return None if rest == b"-1" else [self.reply() for _ in range(int(rest))]
        return int(rest) if kind == b":" else rest if kind == b"+" else line

    def close(self):
        self.file.close()
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def words(*arguments):
    """A command as its array of bulk strings."""
    encoded = [a if isinstance(a, bytes) else str(a).encode() for a in arguments]
    return b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%s\r\n" % (len(a), a) for a in encoded)


@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_py(shared, protocol):
    with connect(shared, protocol=protocol, client_name="tests", decode_responses=True) as client:
        key = f"py:{protocol}"
        assert client.ping() and client.client_getname() == "tests"
        assert client.set(key, "value", ex=100) and client.get(key) == "value" and 0 < client.ttl(key) <= 100
        assert client.get("py:none") is None and client.mget([key, "py:none"]) == ["value", None]
        assert client.set(key, 1, nx=True) is None
        with pytest.raises(redis.ResponseError, match="value is not an integer or out of range"):
            client.incr(key)
        assert client.mset({f"{key}:{i}": i for i in range(100)})
        assert sorted(client.scan_iter(match=f"{key}:*", count=10)) == sorted(f"{key}:{i}" for i in range(100))
        assert client.delete(*(f"{key}:{i}" for i in range(100))) == 100
        assert client.rpush(f"{key}:l", "a", "b", "c") == 3 and client.lrange(f"{key}:l", 0, -1) == ["a", "b", "c"]
        assert client.lpop(f"{key}:l", 2) == ["a", "b"] and client.lpop(f"{key}:none", 2) is None
        with pytest.raises(redis.ResponseError, match="^WRONGTYPE"):
            client.get(f"{key}:l")
        info = client.info()
        assert info["loading"] == 0 and info["role"] == "master" and info["redis_mode"] == "standalone"
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert client.memory_usage(key) == len(key) + len("value") and client.memory_usage("py:none") is None
        assert client.command_getkeys("MSET", "a", 1, "b", 2) == ["a", "b"]
        assert client.command_count() == len(client.command())
        assert {c["name"] for c in client.client_list()} >= {"tests"}


@pytest.mark.parametrize("protocol", [2, 3])
def test_transactions(shared, protocol):
    with connect(shared, protocol=protocol, decode_responses=True) as client:
        key = "{tx%d}" % protocol
        with client.pipeline(transaction=True) as pipe:
            pipe.set(key + "a", "x").incr(key + "b").get(key + "a")
            assert pipe.execute() == [True, 1, "x"]
            # what fails does not undo the others
            pipe.set(key + "a", "y").incr(key + "a").incr(key + "b")
            assert [type(r) for r in pipe.execute(raise_on_error=False)] == [bool, redis.ResponseError, int]
            assert client.get(key + "a") == "y" and client.get(key + "b") == "2"
            # nothing happens over several slots
            pipe.set(key + "a", "z").set("another", "z")
            with pytest.raises(redis.ResponseError, match="do not share a slot"):
                pipe.execute()
            assert client.get(key + "a") == "y" and client.get("another") is None
        with client.pipeline() as pipe:
            pipe.watch(key + "a")
            client.set(key + "a", "by another")
            pipe.multi()
            pipe.set(key + "a", "mine")
            with pytest.raises(redis.WatchError):
                pipe.execute()
            assert client.get(key + "a") == "by another"
            pipe.watch(key + "a", key + "none")
            value = pipe.get(key + "a")
            pipe.multi()
            pipe.set(key + "a", value + " and me")
            assert pipe.execute() == [True]
        assert client.get(key + "a") == "by another and me"


def test_watched_counters_lose_nothing(shared):
    """Several clients read, add one, and write what they have, each only if nobody was faster."""
    rounds, clients = 50, 4

    class Adder(Background):
        def work(self):
            with connect(shared) as client, client.pipeline() as pipe:
                for _ in range(rounds):
                    while True:
                        try:
                            pipe.watch("adders")
                            value = int(pipe.get("adders") or 0)
                            pipe.multi()
                            pipe.set("adders", value + 1)
                            pipe.execute()
                            break
                        except redis.WatchError:
                            continue

    adders = [Adder() for _ in range(clients)]
    for adder in adders:
        adder.start()
    for adder in adders:
        adder.finish(PATIENCE_S)
    with connect(shared) as client:
        assert int(client.get("adders")) == rounds * clients


def test_a_pipeline_keeps_its_order(shared):
    """Of commands that go to every shard, that the door answers, and that are refused; more than fit a message."""
    count = 20_000
    with Raw(shared) as raw:
        sent = []
        for i in range(count):
            sent.append((words("SET", f"order:{i % 500}", i), words("GET", f"order:{i % 500}"), words("ECHO", i),
                         words("INCR"), b"PING\r\n")[i % 5])
        sender = threading.Thread(target=raw.send, args=(b"".join(sent),))
        sender.start()
        written = {}
        for i in range(count):
            got = raw.reply()
            if i % 5 == 0:
                assert got == b"OK"
                written[i % 500] = i
            elif i % 5 == 1:
                assert got == (b"%d" % written[i % 500] if i % 500 in written else None)
            else:
                assert got == (b"%d" % i, b"-ERR wrong number of arguments for 'incr' command\r\n", b"PONG")[i % 5 - 2]
        sender.join()


def test_messages_carry_pipelines(shared):
    """What a connection sends at once goes on together."""
    def count(name):
        return shared.gateway.metrics()[name + '{door="resp"}']

    with Raw(shared) as raw:
        requests, commands = count("skerry_requests_total"), count("skerry_door_commands_total")
        raw.send(b"".join(words("INCR", "carried") for _ in range(5000)))
        assert [raw.reply() for _ in range(5000)] == list(range(1, 5001))
        assert count("skerry_door_commands_total") - commands == 5000
        assert count("skerry_requests_total") - requests < 500


def test_large_values(shared):
    large = os.urandom(16 * MIB)
    with connect(shared) as client:
        assert client.set("large", large) and client.get("large") == large
        with Raw(shared) as raw:
            raw.send(b"*3\r\n$3\r\nSET\r\n$5\r\nlarge\r\n$%d\r\n" % (16 * MIB + 1))
            assert raw.reply() == b"-ERR Protocol error: invalid bulk length\r\n"
        # together more than one message of the contract may be
        with client.pipeline(transaction=False) as pipe:
            for _ in range(5):
                pipe.get("large").get("carried")
            got = pipe.execute()
        assert [len(value) for value in got[::2]] == [16 * MIB] * 5
        client.delete("large")


BROKEN = [
    (b"*x\r\n", b"invalid multibulk length"), (b"*1\r\n+PING\r\n", b"expected '$', got '+'"),
    (b"*1\r\n$-5\r\n", b"invalid bulk length"), (b"*100000\r\n", b"invalid multibulk length"),
    (b"SET \"a\r\n", b"unbalanced quotes in request"), (b"a" * 70_000, b"too big inline request"),
    (b"*1" + b"1" * 70_000, b"too big mbulk count string"), (b"*1\r\n$1" + b"1" * 70_000, b"too big bulk count string"),
]


@pytest.mark.parametrize("sent,told", BROKEN, ids=[told.decode() for _, told in BROKEN])
def test_broken_protocol(shared, sent, told):
    with Raw(shared) as raw, connect(shared) as client:
        raw.send(words("SET", "broken", "no") + sent)
        assert raw.reply() == b"OK"
        assert raw.line() == b"-ERR Protocol error: " + told + b"\r\n"
        assert raw.line() == b""
        assert client.get("broken") == b"no"


def test_what_ends_a_connection(shared):
    with Raw(shared) as raw:
        raw.send(b"GET ended\r\nQUIT\r\nGET ended\r\n")
        assert (raw.reply(), raw.reply(), raw.line()) == (None, b"OK", b"")
    with Raw(shared) as raw:  # what a browser can be made to send
        raw.send(b"POST / HTTP/1.1\r\nHost: x\r\n\r\nSET posted 1\r\n")
        assert raw.line() == b""
    with Raw(shared) as raw:  # half closed: what was sent is answered
        raw.send(b"SET ended 1\r\nGET ended\r\nGET unended")
        raw.socket.shutdown(socket.SHUT_WR)
        assert (raw.reply(), raw.reply(), raw.line()) == (b"OK", b"1", b"")
    with Raw(shared) as raw, connect(shared) as client:
        raw.send(b"CLIENT ID\r\n")
        victim = raw.reply()
        assert client.client_kill_filter(_id=victim) == 1 and raw.line() == b""
        assert client.get("posted") is None


def test_thousands_of_connections(shared):
    count = 2000
    def connected():
        return shared.gateway.metrics()['skerry_client_connections{door="resp"}']

    raws = [Raw(shared) for _ in range(count)]
    try:
        for i, raw in enumerate(raws):
            raw.send(words("SET", f"many:{i}", i) + words("GET", f"many:{i}"))
        for i, raw in enumerate(raws):
            assert raw.reply() == b"OK" and raw.reply() == b"%d" % i
        wait_for(lambda: connected() >= count, "they are counted")
    finally:
        for raw in raws:
            raw.close()
    wait_for(lambda: connected() < count / 2, "they are gone")


def test_there_is_an_end_to_connections(make_cluster):
    cluster = make_cluster(nodes=1, gateway_flags=["--connections-max", "3"]).start()
    wait_for(lambda: cluster.gateway.metrics()['skerry_client_connections{door="nng"}'] == 0, "nobody is there")
    raws = [Raw(cluster) for _ in range(3)]
    for raw in raws:
        raw.send(b"PING\r\n")
        assert raw.reply() == b"PONG"
    with Raw(cluster) as raw:
        assert raw.line() == b"-ERR max number of clients reached\r\n" and raw.line() == b""
    raws.pop().close()

    def is_let_in():
        with Raw(cluster) as raw:
            raw.send(b"PING\r\n")
            return raw.line() == b"+PONG\r\n"
    wait_for(is_let_in, "there is room again")
    for raw in raws:
        raw.close()
    assert cluster.gateway.metrics()['skerry_door_connections_refused_total{door="resp"}'] >= 1


def resident_bytes(daemon):
    with open(f"/proc/{daemon.process.pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_slow_reader_is_bounded(shared):
    """It asks for a gigabyte and reads nothing: the gateway holds a little of that, serves others, and closes it."""
    with connect(shared) as client:
        client.set("slow", os.urandom(MIB))
        before = resident_bytes(shared.gateway)
        with Raw(shared) as raw:
            raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            for _ in range(16):  # each batch is at most 64 MiB of answers; unread, the second is not begun
                raw.send(words("GET", "slow") * 64)
            largest = 0

            def closed():
                nonlocal largest
                largest = max(largest, resident_bytes(shared.gateway))
                assert client.set("others", "are served")
                return shared.gateway.said("event=client_closed door=resp")
            wait_for(closed, "it is closed")
        assert largest - before < 400 * MIB


def test_redis_cli(shared):
    host, port = endpoint(shared)

    def cli(*arguments, **options):
        return subprocess.run(["redis-cli", "-h", host, "-p", str(port), *arguments], capture_output=True, text=True,
                              timeout=PATIENCE_S, **options).stdout

    assert cli("SET", "cli", "value") == "OK\n" and cli("GET", "cli") == "value\n"
    assert cli("INCR", "cli") == "ERR value is not an integer or out of range\n\n"
    assert cli("-3", "HELLO", "3").splitlines()[:2] == ["server redis", "version 7.0.0"]
    piped = cli(input="SET cli:2 1\nMULTI\nINCR cli:2\nGET cli:2\nEXEC\n")
    assert piped.splitlines() == ["OK", "OK", "QUEUED", "QUEUED", "2", "2"]
    assert {"cli", "cli:2"} <= set(cli("--scan", "--pattern", "cli*").splitlines())
    assert "errors: 0, replies: 1000" in cli("--pipe", input="".join(f"SET piped:{i} {i}\r\n" for i in range(1000)))
    assert cli("GET", "piped:999") == "999\n"


def test_redis_benchmark(shared):
    host, port = endpoint(shared)
    for extra in (["-P", "1"], ["-P", "16"]):
        done = subprocess.run(["redis-benchmark", "-h", host, "-p", str(port), "-t", "ping,set,get,incr,lpush,mset", "-n", "2000",
                               "-c", "20", "--csv", *extra], capture_output=True, text=True, timeout=PATIENCE_S * 2)
        lines = [line.split(",")[0].strip('"') for line in done.stdout.splitlines()[1:]]
        assert done.returncode == 0 and "rror" not in done.stdout + done.stderr, done
        assert lines == ["PING_INLINE", "PING_MBULK", "SET", "GET", "INCR", "LPUSH", "MSET (10 keys)"], done


def test_who_may_come_in(make_cluster, tmp_path):
    security = Security(tmp_path / "security")
    cluster = make_cluster(nodes=1, security=security).start()
    secured = {"ssl": True, "ssl_ca_certs": security.file("ca.pem"), "ssl_check_hostname": False}
    for protocol in (2, 3):
        with connect(cluster, password=security.token, protocol=protocol, **secured) as client:
            assert client.set("secured", "x") and client.get("secured") == b"x"
            large = os.urandom(3 * MIB)
            assert client.set("large", large) and client.get("large") == large
        with connect(cluster, protocol=protocol, username="default", password=security.token, **secured) as client:
            assert client.get("secured") == b"x"
        with connect(cluster, protocol=2, **secured) as client, pytest.raises(redis.AuthenticationError):
            client.get("secured")
        with connect(cluster, protocol=protocol, password="wrong", **secured) as client, \
                pytest.raises(redis.AuthenticationError):
            client.get("secured")
    told = cluster.gateway.metrics()
    assert told['skerry_door_unauthorized_total{door="resp"}'] >= 4
    with Raw(cluster) as raw:  # no TLS
        raw.send(b"PING\r\n" * 10)
        assert b"PONG" not in raw.file.read()
    other = {**secured, "ssl_ca_certs": security.file("other-ca.pem")}
    with connect(cluster, password=security.token, **other) as client, pytest.raises(redis.ConnectionError):
        client.ping()
    wait_for(lambda: cluster.gateway.metrics()['skerry_door_connections_refused_total{door="resp"}'] >= 2, "they are counted")


def test_the_gateway_may_go_and_come(make_cluster):
    """What was in flight when it drains is answered, and clients come back to its successor."""
    cluster = make_cluster(nodes=1).start()
    with connect(cluster) as client:
        assert client.set("stays", 1)
        assert cluster.gateway.stop() == 0
        with pytest.raises(redis.ConnectionError):
            client.get("stays")
        cluster.gateway.start()
        cluster.wait_ready()
        assert client.get("stays") == b"1"


STORY = ["PING: PONG", "SET: OK", "GET: hello", "GET of a missing key: nil", "INCR of a text: ERR", "pipeline: 1 to 100",
         "transaction: OK 101 hello", "watched: not done"]
PROGRAMS = {
    "c": (["./story"], [("cc", (0, 0), "--version")], None, ["cc", "-Wall", "-Werror", "-o", "story", "story.c", "-lhiredis"]),
    "go": (["./story"], [("go", (1, 19), "version")], ["go", "mod", "download"], ["go", "build", "-o", "story", "."]),
    "javascript": (["node", "story.mjs"], [("node", (18, 0), "--version"), ("npm", (8, 0), "--version")],
                   ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline", "--fetch-retries=1"], None),
}


@pytest.mark.parametrize("language", PROGRAMS)
def test_clients_of_other_languages(shared, tmp_path, language):
    command, tools, fetch, build = PROGRAMS[language]
    for tool in tools:
        skip_without(language, *tool)
    directory = tmp_path / language
    shutil.copytree(CLIENTS / language, directory, ignore=shutil.ignore_patterns("node_modules"))
    environment = {**os.environ, "GOTOOLCHAIN": "local"}
    if fetch:
        done = run(fetch, directory, environment, DOWNLOAD_S)
        if done.returncode != 0:
            assert not NOT_THE_NETWORK.search(done.stderr), done.stderr
            pytest.skip(f"clients/{language}: {' '.join(fetch)} failed")
    if build:
        done = run(build, directory, environment, 240)
        assert done.returncode == 0, done.stderr
    host, port = endpoint(shared)
    done = run([*command, host, str(port), f"story:{language}"], directory, environment, PATIENCE_S)
    assert done.returncode == 0, done
    assert done.stdout.splitlines() == STORY
