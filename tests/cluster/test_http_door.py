"""Keys and commands over HTTP, as docs/protocol.md and gateway/openapi.json describe them."""

import contextlib
import http.server
import json
import os
import pathlib
import re
import select
import signal
import socket
import ssl
import subprocess
import threading

import pytest
from openapi_spec_validator import validate

from browser import PROGRAM, Browser
from harness import PATIENCE_S, Background, Security, wait_for
from http_door import DOCUMENT, Answer, Http, door_of, in_base64, target_of

MIB = 1024 * 1024


@pytest.fixture
def door(shared):
    with door_of(shared) as door:
        yield door


@pytest.fixture(scope="module")
def security(tmp_path_factory):
    return Security(tmp_path_factory.mktemp("certificates"))


def address_of(cluster):
    host, port = cluster.gateway.flag("--http-listen").split("://")[1].rsplit(":", 1)
    return host, int(port)


def freeze(daemon):
    """SIGSTOP; none of its threads runs any more when this returns."""
    daemon.signal(signal.SIGSTOP)
    tasks = pathlib.Path(f"/proc/{daemon.process.pid}/task")
    wait_for(lambda: all((task / "stat").read_text().rsplit(") ", 1)[1][0] == "T" for task in tasks.iterdir()), "it stands still")


@contextlib.contextmanager
def raw(cluster):
    with socket.create_connection(address_of(cluster), timeout=PATIENCE_S) as connection:
        yield connection


def read_to_the_end(connection):
    content = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(65536):
            content += piece
    return content


# ---- keys ----


def test_a_key_lives(door):
    assert door.get("life").code == "NOT_FOUND"
    made = door.put("life", b"one")
    assert made.status == 201 and made.body == b""
    got = door.get("life")
    assert got.status == 200 and got.body == b"one" and got.etag == made.etag
    assert got.headers["Content-Type"] == "application/octet-stream"
    assert "Skerry-TTL-Ms" not in got.headers
    changed = door.put("life", b"two")
    assert changed.status == 204 and changed.etag != made.etag
    head = door("HEAD", target_of("life"))
    assert head.status == 200 and head.headers["Content-Length"] == "3" and head.etag == changed.etag
    assert door.delete("life").status == 204
    assert door.delete("life").status == 404
    assert door("HEAD", target_of("life")).status == 404
    assert door.put("life", b"three").etag not in (made.etag, changed.etag)  # never the same again


def test_values_and_keys_are_any_bytes(door, shared):
    every = bytes(range(256))
    for key in (every, b"", b"/", b"a/b//c", b"?&=#%", b"%41", "ä€🏝".encode(), b" + "):
        assert door.put(key, every + key).status in (201, 204)
        assert door.get(key).body == every + key
        with shared.client() as client:
            assert client("GET", key) == every + key
            client("DEL", key)
    assert door("PUT", "/v1/keys/plain/slashes", b"v").status == 201
    assert door.get("plain/slashes").body == b"v"
    for target in ("/v1/keys/%", "/v1/keys/%4", "/v1/keys/%xx"):
        assert door("GET", target).code == "BADREQUEST"


def test_representations(door):
    etag = door.put("rep", "ä".encode()).etag
    got = door.get("rep", Accept="application/json")
    assert got.json == {"key": "rep", "value": "ä", "version": int(etag.strip('"')), "ttl_ms": None}
    assert door.get("rep", Accept="text/html, application/json;q=0.4, */*;q=0.5").body == "ä".encode()
    assert door.get("rep", Accept="text/html").code == "NOT_ACCEPTABLE"
    assert door.get("rep", Accept="application/octet-stream;q=0").status == 406
    door.put("rep", b"\xff\x00", "?ttl_ms=90000")
    got = door.get("rep", Accept="application/json").json
    assert got["value"] == in_base64(b"\xff\x00") and 80000 < got["ttl_ms"] <= 90000


def test_time_to_live(door):
    door.put("ttl", b"v", "?ttl_ms=100000")
    assert 90000 < int(door.get("ttl").headers["Skerry-TTL-Ms"]) <= 100000
    door.put("ttl", b"w", "?keep_ttl=true")
    assert 0 < int(door.get("ttl").headers["Skerry-TTL-Ms"]) <= 100000
    door.put("ttl", b"x")
    assert "Skerry-TTL-Ms" not in door.get("ttl").headers
    door.put("ttl", b"y", "?ttl_ms=20")
    wait_for(lambda: door.get("ttl").status == 404, "the key expires")
    assert door.put("ttl", b"z", f"?ttl_ms={2**63 - 1}").code == "BADREQUEST"
    for query in ("?ttl_ms=0", "?ttl_ms=x", "?ttl_ms=1&keep_ttl=true", "?nonsense=1", "?ttl_ms=1&ttl_ms=1"):
        assert door.put("ttl", b"z", query).code == "BADREQUEST"
    assert door("GET", "/v1/keys/ttl?ttl_ms=1").code == "BADREQUEST"
    assert door.get("ttl").status == 404


def test_other_types(door):
    """A key that is no string is told of, and commands read it."""
    door.delete("typed")
    assert door.run("RPUSH", "typed", "a", in_base64(b"\xff")) == 2
    assert door.get("typed").code == "WRONGTYPE"
    assert door("HEAD", target_of("typed")).status == 409
    assert door.run("LRANGE", "typed", 0, -1) == ["a", in_base64(b"\xff")]
    assert door.put("typed", b"now a string").status == 204
    assert door.get("typed").status == 200


def test_conditions(door):
    door.delete("cond")
    assert door.put("cond", b"0", If_Match="*").code == "PRECONDITION_FAILED"
    assert door.put("cond", b"0", If_Match='"1"').status == 412
    assert door.delete("cond", If_Match="*").status == 412
    first = door.put("cond", b"1", If_None_Match="*")
    assert first.status == 201
    assert door.put("cond", b"2", If_None_Match="*").status == 412
    assert door.put("cond", b"2", If_Match='"nobodys"').status == 412
    assert door.put("cond", b"2", If_Match="W/" + first.etag).status == 412
    assert door.get("cond").body == b"1"
    second = door.put("cond", b"2", If_Match=first.etag)
    assert second.status == 204 and second.etag != first.etag
    assert door.put("cond", b"3", If_Match=first.etag).status == 412
    assert door.delete("cond", If_Match=first.etag).status == 412
    third = door.put("cond", b"3", "?ttl_ms=100000", If_Match="*")
    assert third.status == 204
    got = door.get("cond", If_None_Match=third.etag)
    assert got.status == 304 and got.etag == third.etag
    assert door.get("cond", If_None_Match=f'"1", W/{third.etag}').status == 304
    assert door("HEAD", target_of("cond"), If_None_Match="*").status == 304
    assert door.get("cond", If_None_Match=second.etag).body == b"3"
    assert door.get("cond", If_Match=second.etag).status == 412
    assert door.get("cond", If_Match=f"{second.etag}, {third.etag}").body == b"3"
    assert door.run("PEXPIRE", "cond", 50000) == 1  # of which an answer tells: it has another version
    assert door.put("cond", b"4", If_Match=third.etag).status == 412
    assert door.put("cond", b"4", "?ttl_ms=" + "9" * 18, If_Match=door.get("cond").etag).code == "BADREQUEST"
    assert door.delete("cond", If_Match=door.get("cond").etag).status == 204
    for headers in ({"If_Match": "1"}, {"If_Match": '"1", "2"'}, {"If_None_Match": '"1"'}, {"If_Match": "*", "If_None_Match": "*"}):
        assert door.put("cond", b"5", **headers).code == "BADREQUEST"
    assert door.get("cond").status == 404


class Adder(Background):
    """Adds one to a number by reading and conditional writing, so many times."""

    def __init__(self, cluster, times):
        super().__init__()
        self.cluster = cluster
        self.times = times
        self.lost = 0

    def work(self):
        with door_of(self.cluster) as door:
            for _ in range(self.times):
                self.add(door)

    def add(self, door):
        while True:
            got = door.get("sum")
            answer = door.put("sum", str(int(got.body) + 1).encode(), If_Match=got.etag)
            if answer.status == 204:
                return
            assert answer.status == 412, answer
            self.lost += 1


def test_no_update_is_lost(door, shared):
    door.put("sum", b"0")
    adders = [Adder(shared, 50) for _ in range(6)]
    for adder in adders:
        adder.start()
    for adder in adders:
        adder.join(PATIENCE_S)
        adder.finish()
    assert door.get("sum").body == b"300"
    assert sum(adder.lost for adder in adders) > 0  # or nobody was in anybody's way


def test_keys_are_listed(door):
    wanted = {f"list:{number}" for number in range(500)} | {"list*[?]\\x"}
    door.post({"commands": [["SET", key, "v"] for key in wanted]})
    assert door.put(b"list:\xff", b"v").status == 201

    def listed(prefix, limit):
        keys, cursor, pages = [], "0", 0
        while cursor is not None:
            page = door("GET", f"/v1/keys?prefix={prefix}&cursor={cursor}&limit={limit}")
            assert page.status == 200
            keys, cursor, pages = keys + page.json["keys"], page.json["cursor"], pages + 1
        return keys, pages
    keys, pages = listed("list:", 50)
    assert pages > 8
    assert {key for key in keys if isinstance(key, str)} == wanted - {"list*[?]\\x"}
    assert in_base64(b"list:\xff") in keys
    assert listed("list*%5B%3F%5D%5C", 10000)[0] == ["list*[?]\\x"]
    assert listed("list%3A%FF", 10000)[0] == [in_base64(b"list:\xff")]
    assert listed("none+at+all", 10000)[0] == []
    assert len(listed("", 10000)[0]) > 500
    for query in ("limit=0", "limit=10001", "cursor=x", "cursor=9223372036854775808", "prefix=%"):
        assert door("GET", "/v1/keys?" + query).code == "BADREQUEST"
    assert door("GET", "/v1/keys?prefix=" + "p" * 2000).code == "TOOLARGE"


# ---- commands ----


def test_commands(door):
    assert door.run("PING") == "PONG"
    assert door.run("SET", "c:1", 9007199254740993) == "OK"
    assert door.run("INCRBY", "c:1", 2) == 9007199254740995
    assert door.run("SET", "c:2", in_base64(b"\x00\xff")) == "OK"
    assert door.run("MGET", "c:1", "c:2", "c:none") == ["9007199254740995", in_base64(b"\x00\xff"), None]
    assert door.run("CAS", "c:3", None, "x") == 1
    assert door.run("incrbyfloat", "c:1", 1.5) == "9007199254740996.5"
    assert door.post({"command": ["INCR", "c:2"]}).code == "BADVALUE"
    for command in (["NOSUCH"], ["GET"], ["GET", True], ["GET", ["k"]], ["MULTI"]):
        assert door.post({"command": command}).code == "BADREQUEST", command
    version = door.run("VERSION", "c:1")
    exec_ = ["EXEC", [["c:1", version]], [["SET", ["c:1", "new"]], ["INCR", ["c:1"]]]]
    assert door.run(*exec_) == [[None, "OK"], [["BADVALUE", "value is not an integer or out of range"], None]]
    assert door.run(*exec_) is None


def test_batches(door):
    answer = door.post({"commands": [["SET", "b:1", "x"], ["INCR", "b:1"], ["GET", "b:1"], ["MGET", "b:1", "b:2"], ["NOSUCH"]]})
    results = answer.json["results"]
    assert results[0] == {"result": "OK"} and results[2] == {"result": "x"} and results[3] == {"result": ["x", None]}
    assert results[1]["error"]["code"] == "BADVALUE" and results[4]["error"]["code"] == "BADREQUEST"
    assert door.post({"commands": []}).json == {"results": []}
    door.run("DEL", "{b}1")
    atomic = door.post({"commands": [["SET", "{b}1", 5], ["INCR", "{b}1"]], "atomic": True})
    assert atomic.json == {"results": [{"result": "OK"}, {"result": 6}]}
    assert door.post({"atomic": True, "commands": [["SET", "{b}1", "x"], ["INCR", "{b}1"]]}).code == "BADVALUE"
    assert door.run("GET", "{b}1") == "6"
    assert door.post({"commands": [["SET", "a", 1], ["SET", "b", 1]], "atomic": True}).code == "CROSSSLOT"
    assert door.post({"commands": [["PING"]] * 10001}).code == "TOOLARGE"


@pytest.mark.parametrize("body", [
    b"", b"{", b"[]", b"null", b'{"command": ["PING"], "command": ["PING"]}', b'{"command": ["PING"]} x', b'{"command": []}',
    b'{"command": ["GET", "\xff"]}', b'{"command": ["GET", "\\ud800"]}', b'{"command": ["GET", {"base64": "?"}]}',
    b'{"command": ["PING"], "id": "x"}', b'\xef\xbb\xbf{"command": ["PING"]}', b'{"command": ["GET", ' + b"[" * 10000,
])
def test_bad_json_gets_an_answer(door, body):
    answer = door.post(body)
    assert answer.code == "BADREQUEST" and "at byte" in answer.json["detail"]
    assert door.run("PING") == "PONG"


def test_names_take_effect_once(door):
    door.run("DEL", "once")
    for _ in range(2):
        assert door.post({"command": ["INCR", "once"]}, Idempotency_Key="http-1").json == {"result": 1}
    assert door.post({"command": ["INCR", "once"]}, Idempotency_Key='"http-2"').json == {"result": 2}
    assert door.post({"command": ["INCR", "once"]}, Idempotency_Key="http-2").json == {"result": 2}
    first = door.put("once", b"a", Idempotency_Key="http-3")
    door.put("once", b"b")
    again = door.put("once", b"a", Idempotency_Key="http-3")
    assert (again.status, again.etag) == (first.status, first.etag)
    assert door.get("once").body == b"b"
    etag = door.get("once").etag
    for _ in range(2):  # the second time it is not looked whether the condition holds still
        assert door.put("once", b"c", If_Match=etag, Idempotency_Key="http-4").status == 204
    for _ in range(2):
        assert door.delete("once", Idempotency_Key="http-5").status == 204
    door.run("SET", "large", "x" * 10000)
    assert len(door.run("GETDEL", "large", Idempotency_Key="http-6")) == 10000
    done = door.post({"command": ["GETDEL", "large"]}, Idempotency_Key="http-6")
    assert done.status == 410 and done.code == "DONE" and done.json["happened"] == "yes"
    for name in ("", '""', "x" * 65):
        assert door.put("once", b"d", Idempotency_Key=name).code == "BADREQUEST"


def test_options(door):
    door.put("opt", b"v")
    assert door("GET", "/v1/keys/opt?read=leader&timeout_ms=60000").body == b"v"
    wait_for(lambda: door("GET", "/v1/keys/opt?read=follower").body == b"v", "followers have it")
    assert door.post({"command": ["GET", "opt"]}, "?timeout_ms=1000").json == {"result": "v"}
    for query in ("timeout_ms=0", "timeout_ms=60001", "read=any"):
        assert door("GET", "/v1/keys/opt?" + query).code == "BADREQUEST"


# ---- HTTP itself ----


def test_methods_and_types(door):
    for method, target, allow in (("POST", "/v1/keys/k", "GET, HEAD, PUT, DELETE"), ("PATCH", "/v1/keys/k", "GET, HEAD, PUT, DELETE"),
                                  ("DELETE", "/v1/keys", "GET, HEAD"), ("GET", "/v1/commands", "POST"),
                                  ("OPTIONS", "/v1/commands", "POST"), ("PUT", "/v1/openapi.json", "GET, HEAD")):
        answer = door(method, target, b"body")
        assert answer.code == "METHOD_NOT_ALLOWED" and answer.headers["Allow"] == allow
        assert not any(name.lower().startswith("access-control") for name in answer.headers)
    for target in ("/v1/", "/v1/nothing", "/v1/commands/x"):
        assert door("GET", target).code == "NOT_FOUND"
    for media in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
        answer = door.post({"command": ["SET", "forged", "x"]}, Content_Type=media)
        assert answer.code == "UNSUPPORTED_MEDIA_TYPE" and answer.headers["Accept"] == "application/json"
    assert door.get("forged").status == 404
    assert door.put("k", b"v", Content_Encoding="gzip").status == 415
    assert door.post({"command": ["PING"]}, Accept="text/html").status == 406


def test_the_document(door):
    validate(DOCUMENT)
    assert door("GET", "/v1/openapi.json").json == DOCUMENT


def test_pages_stay(shared, door):
    for path in ("/", "/healthz", "/readyz", "/metrics", "/status.json"):
        assert shared.gateway.page(path)[0] == 200


def test_browsers_of_others(shared, door):
    """Neither a page of another origin nor one that has pointed its name here gets in."""
    assert door.get("k", Origin="http://evil.example").code == "FORBIDDEN"
    assert door.put("k", b"v", Origin="null").status == 403
    host = "%s:%d" % address_of(shared)
    assert door.put("k", b"v", Origin=f"http://{host}").status in (201, 204)
    assert door.get("k", Host="evil.example").code == "MISDIRECTED"
    assert door.post({"command": ["PING"]}, Host="evil.example:7480", Origin="http://evil.example:7480").status == 421
    for host in ("localhost", "gateway:7480", "[::1]:7480"):
        assert door.get("k", Host=host).status == 200


class OtherOrigin(http.server.BaseHTTPRequestHandler):
    """A page of somebody else."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>other</title>")

    def log_message(self, *_):
        pass


@pytest.mark.skipif(PROGRAM is None, reason="chromium is not installed (scripts/install-deps installs it)")
def test_a_real_browser(shared, door, tmp_path):
    """What a page of another origin tries in it changes nothing, and tells it nothing."""
    door.put("browser", b"untouched")
    address = shared.gateway.flag("--http-listen")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), OtherOrigin)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    browser = Browser(tmp_path)

    def tries(path, **options):
        """Whether the page gets to see an answer."""
        return browser.run(f"fetch({json.dumps(address + path)}, {json.dumps(options)}).then(a => a.type != 'opaque', () => false)")
    forged = json.dumps({"command": ["SET", "browser", "forged"]})
    try:
        browser.open(f"http://127.0.0.1:{server.server_port}/")
        wait_for(lambda: browser.run("document.title") == "other", "the page is there")
        assert not tries("/v1/keys/browser")
        assert not tries("/v1/keys/browser", method="PUT", body="forged")
        assert not tries("/v1/keys/browser", method="DELETE")
        assert not tries("/v1/commands", method="POST", body=forged, headers={"Content-Type": "application/json"})
        for media in ("text/plain", "application/x-www-form-urlencoded"):
            for mode in ("cors", "no-cors"):
                assert not tries("/v1/commands", method="POST", body=forged, headers={"Content-Type": media}, mode=mode)
        assert door.get("browser").body == b"untouched"
        browser.open(address + "/")  # a page of the gateway itself may
        wait_for(lambda: browser.run("location.origin") == address, "the status page is there")
        assert tries("/v1/keys/browser", method="PUT", body="by its own page")
        assert door.get("browser").body == b"by its own page"
    finally:
        browser.close()
        server.shutdown()
        server.server_close()


def test_heads_that_are_too_long(shared):
    for head, status in ((b"GET /v1/keys/" + b"k" * 40000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
                         (b"GET /v1/keys/k HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 40000 + b"\r\n\r\n", 431),
                         (b"GET /v1/keys/k HTTP/1.1\r\n\r\n", 400)):
        with raw(shared) as connection:
            connection.sendall(head)
            assert b" %d " % status in connection.recv(4096)


def test_long_keys_have_commands(door):
    key = "k" * 65536
    assert door.run("SET", key, "v") == "OK"
    assert door.run("GET", key) == "v"
    assert door.put("k" * 20000, b"v").status == 201


def test_connections_are_kept(shared, door):
    door.put("kept", b"v")
    socket_ = door.connection.sock
    for number in range(100):
        assert door.get("kept").status == 200
        assert door.get("none").status == 404
        assert door.put("kept", b"v" * number).status == 204
        assert door("POST", "/v1/keys", b"body").status == 405
    assert door.connection.sock is socket_


def test_requests_may_come_at_once(shared, door):
    door.put("pipe", b"0")
    body = b'{"command": ["INCR", "pipe"]}'
    one = b"POST /v1/commands HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%s\r\n%s"
    with raw(shared) as connection:
        connection.sendall(b"".join(one % (len(body), b"Connection: close\r\n" if i == 199 else b"", body) for i in range(200)))
        content = read_to_the_end(connection)
    assert [int(number) for number in re.findall(rb'\{"result":(\d+)\}', content)] == list(range(1, 201))


def test_chunked_bodies(shared, door):
    def pieces():
        for number in range(100):
            yield b"%d," % number
    door.connection.request("PUT", "/v1/keys/chunked", pieces(), encode_chunked=True, headers={"Transfer-Encoding": "chunked"})
    assert Answer(door.connection.getresponse()).status == 201
    assert door.get("chunked").body == b"".join(pieces())


def test_limits(door):
    value = os.urandom(16 * MIB)
    assert door.put("limit", value).status == 201
    assert door.get("limit").body == value
    assert door.get("limit", Accept="application/json").json["value"] == in_base64(value)
    door.delete("limit")


def test_bodies_that_are_too_long(shared, door):
    with door_of(shared) as early:  # known from the head: not even read
        early.connection.putrequest("PUT", "/v1/keys/long")
        early.connection.putheader("Content-Length", str(16 * MIB + 1))
        early.connection.endheaders()
        answer = Answer(early.connection.getresponse())
        assert answer.code == "TOOLARGE" and answer.headers["Connection"].lower() == "close"
    done = subprocess.run(["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "-T", "-", "-H", "Transfer-Encoding: chunked",
                           shared.gateway.flag("--http-listen") + "/v1/keys/long"], input=bytes(17 * MIB), capture_output=True,
                          timeout=PATIENCE_S)
    assert done.stdout == b"413", done  # found out while it comes
    assert door.get("long").status == 404
    body = {"command": ["SET", "long", "v" * (16 * MIB + 1)]}
    assert door.post(body).code == "TOOLARGE"
    assert door.run("PING") == "PONG"


def test_who_goes_or_is_silent_is_in_nobodys_way(shared, door):
    before = shared.gateway.metrics()['skerry_client_connections{door="http"}']
    silent = [socket.create_connection(address_of(shared)) for _ in range(50)]
    for number, connection in enumerate(silent):
        connection.sendall((b"PUT /v1/keys/half HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf", b"POST /v1/com", b"")[number % 3])
    assert door.run("PING") == "PONG"
    wait_for(lambda: shared.gateway.metrics()['skerry_client_connections{door="http"}'] >= before + 50, "they are counted")
    for connection in silent:
        connection.close()
    wait_for(lambda: shared.gateway.metrics()['skerry_client_connections{door="http"}'] <= before + 1, "they are gone")
    assert door.get("half").status == 404


# ---- the gateway's caps, ends and faults ----


@pytest.fixture
def small(make_cluster):
    """One node, and a gateway that takes little at a time."""
    return make_cluster(nodes=1, shards=4, gateway_flags=["--requests-max", "8", "--bytes-max", "24MiB", "--connection-bytes-max",
                                                         "20MiB"]).start()


def test_bytes_in_flight_are_limited(small):
    """Who does not read holds what it asked for, and others are told, until it goes."""
    with door_of(small) as door:
        assert door.put("big", bytes(8 * MIB)).status == 201
        held = []
        for _ in range(2):
            connection = socket.socket()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(address_of(small))
            connection.sendall(b"GET /v1/keys/big HTTP/1.1\r\nHost: x\r\n\r\n")
            select.select([connection], [], [], PATIENCE_S)  # it has begun to come
            held.append(connection)
        refused = door.put("more", bytes(12 * MIB))
        assert refused.code == "OVERLOADED" and refused.headers["Retry-After"] == "1"
        assert door.get("more").status == 404  # and what is small goes on
        with small.client() as client:  # the caps are those of all doors
            assert client.ask("SET", "more", bytes(12 * MIB))[0][0] == "OVERLOADED"
        for connection in held:
            connection.close()
        wait_for(lambda: door.put("more", bytes(12 * MIB)).status in (201, 204), "there is room again")
    with small.client() as client:
        assert client("STRLEN", "more") == 12 * MIB


def test_requests_in_flight_are_limited(small):
    """While the node stands still, so many wait, and those behind them are refused."""
    freeze(small.nodes[0])
    doors = [door_of(small) for _ in range(12)]
    try:
        for door in doors:
            door.connection.request("PUT", "/v1/keys/wait?timeout_ms=3000", b"v")
        answers = [Answer(door.connection.getresponse()) for door in doors]
    finally:
        small.nodes[0].signal(signal.SIGCONT)
    codes = [answer.code for answer in answers]
    assert codes.count("OVERLOADED") == 4 and set(codes) - {"UNAVAILABLE"} == {"OVERLOADED", "TIMEOUT"}  # some had not left yet
    timed_out = next(answer for answer in answers if answer.code == "TIMEOUT")
    assert timed_out.status == 504 and timed_out.json["happened"] == "perhaps"
    for door in doors:
        door.close()


def test_who_has_gone_does_not_hold_anything(small):
    freeze(small.nodes[0])
    for _ in range(8):
        door = door_of(small)
        door.connection.request("PUT", "/v1/keys/gone?timeout_ms=2000", b"v")
        door.close()
    small.nodes[0].signal(signal.SIGCONT)
    with door_of(small) as door:
        wait_for(lambda: door.put("here", b"v").status in (201, 204), "others are served")
    wait_for(lambda: small.gateway.metrics()["skerry_requests_in_flight"] == 0, "nothing is left")


def test_a_gateway_ends_in_the_middle(make_cluster):
    """What is in flight is answered, what comes then is refused, and it ends."""
    cluster = make_cluster(nodes=1, shards=4).start()
    doors = [door_of(cluster) for _ in range(20)]
    for door in doors:
        assert door.put("end", b"v").status in (201, 204)
    freeze(cluster.nodes[0])
    for door in doors:
        door.connection.request("GET", "/v1/keys/end")
    wait_for(lambda: cluster.gateway.metrics()["skerry_requests_in_flight"] == 20, "all wait")
    cluster.gateway.end()
    wait_for(lambda: cluster.gateway.said("event=draining"), "it is ending")
    assert door_of(cluster).get("end").code == "UNAVAILABLE"
    cluster.nodes[0].signal(signal.SIGCONT)
    answers = [Answer(door.connection.getresponse()) for door in doors]
    assert [answer.body for answer in answers] == [b"v"] * 20
    assert cluster.gateway.reap(PATIENCE_S) == 0


class Writer(Background):
    """Writes one key after the other, conditionally, and remembers what was acknowledged."""

    def __init__(self, cluster):
        super().__init__()
        self.cluster = cluster
        self.done = 0

    def work(self):
        with door_of(self.cluster) as door:
            while not self.stopping.is_set():
                answer = door.put(f"failover:{self.done}", str(self.done).encode(), "?timeout_ms=20000", If_None_Match="*",
                                  Idempotency_Key=f"failover-{self.done}")
                assert answer.status == 201, answer
                self.done += 1


def test_a_leader_dies_under_it(make_cluster):
    cluster = make_cluster(shards=4).start()
    writers = Writer(cluster)
    writers.start()
    wait_for(lambda: writers.done > 50 or writers.failure, "it writes")
    cluster.nodes[0].kill()
    before = writers.done
    wait_for(lambda: writers.done > before + 200 or writers.failure, "it goes on")
    writers.finish()
    with door_of(cluster) as door:
        for number in range(writers.done):
            assert door.get(f"failover:{number}").body == str(number).encode()


def test_metrics_are_by_door(shared, door):
    before = shared.gateway.metrics()
    for number in range(10):
        door.put("metric", b"v")
    door.post({"commands": [["GET", "metric"]] * 5})
    door.post({"command": ["NOSUCH"]})
    after = shared.gateway.metrics()

    def rise(name):
        return after[name] - before.get(name, 0)
    assert rise('skerry_requests_total{door="http"}') == 12
    assert rise('skerry_door_commands_total{door="http"}') == 10 + 5 + 1
    assert rise('skerry_requests_total{door="nng"}') == 0
    assert after['skerry_client_connections{door="http"}'] >= 1


# ---- security ----


def https_flags(cluster):
    """The HTTP port of a gateway becomes one of TLS."""
    flags = cluster.gateway.flags
    place = flags.index("--http-listen") + 1
    flags[place] = flags[place].replace("http://", "https://")


def context_of(security, ca="ca", name=None):
    context = ssl.create_default_context(cafile=security.file(f"{ca}.pem"))
    if name:
        context.load_cert_chain(security.file(f"{name}.pem"), security.file(f"{name}.key"))
    return context


def test_tls_and_tokens(make_cluster, security):
    cluster = make_cluster(nodes=1, shards=4, security=security)
    https_flags(cluster)
    cluster.start()
    context = context_of(security)
    shown = {"Authorization": f"Bearer {security.token}"}
    with door_of(cluster, context=context, headers=shown) as door:
        assert door.put("secret", os.urandom(3 * MIB)).status == 201
        assert len(door.get("secret").body) == 3 * MIB
        assert door.run("STRLEN", "secret") == 3 * MIB
        assert door.connection.sock.version() in ("TLSv1.2", "TLSv1.3")
        assert door.get("secret", Host="any.example.com").status == 200  # who has a token was not led here

    def unauthorized():
        status = cluster.skerry("status", "--metad", cluster.metad_address, "--json")
        return json.loads(status.stdout)["gateways"][0]["stats"]["unauthorized"]
    before = unauthorized()
    with door_of(cluster, context=context) as door:
        for headers in ({}, {"Authorization": "Bearer the token of somebody else"}, {"Authorization": "Basic eDp5"}):
            answer = door.get("secret", **headers)
            assert answer.code == "NOAUTH" and answer.headers["WWW-Authenticate"].startswith("Bearer")
            assert door.put("secret", bytes(2 * MIB), **headers).status == 401
            assert door.post(b"nonsense", **headers).status == 401
            assert door("GET", "/v1/nothing", **headers).status in (401, 404)
        assert door("GET", "/v1/openapi.json").status == 200
        assert door("GET", "/v1/keys?prefix=s").status == 401
    wait_for(lambda: unauthorized() >= before + 10, "they are counted")
    assert cluster.gateway.said("event=unauthorized from=127.0.0.1:")
    for bad in (ssl.create_default_context(), context_of(security, ca="other-ca")):
        with pytest.raises(ssl.SSLCertVerificationError), door_of(cluster, context=bad) as door:
            door.get("secret")
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.minimum_version = ssl.TLSVersion.TLSv1
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, ConnectionError)), door_of(cluster, context=old) as door:
        door.get("secret")
    with raw(cluster) as connection:  # plain text to a port of TLS
        connection.sendall(b"GET /v1/keys/secret HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"200 OK" not in read_to_the_end(connection)
    cluster.stop()


def test_certificates_of_clients(make_cluster, security):
    cluster = make_cluster(nodes=1, shards=4, security=security, gateway_flags=["--client-tls-ca", security.file("ca.pem")])
    https_flags(cluster)
    for daemon in cluster.daemons():
        daemon.start()
    wait_for(lambda: cluster.gateway.said("event=node_connected"), "the gateway serves")
    shown = {"Authorization": f"Bearer {security.token}"}
    with door_of(cluster, context=context_of(security, name="node"), headers=shown) as door:
        wait_for(lambda: door("PUT", "/v1/keys/k?timeout_ms=1000", b"v").status in (201, 204), "it serves")
    for name in (None, "other"):
        with contextlib.suppress(ssl.SSLError, ConnectionError), \
                door_of(cluster, context=context_of(security, name=name), headers=shown) as door:
            assert door.get("k").code == "FORBIDDEN"
            assert door("GET", "/v1/openapi.json").status == 403
            assert Answer(door.connection.request("GET", "/readyz") or door.connection.getresponse()).status == 200
    cluster.stop()


def test_the_door_is_closed_where_others_could_come(make_cluster, security):
    """At an address of all, without TLS and a token: pages, and nothing else. --insecure opens it."""
    for insecure in (False, True):
        cluster = make_cluster(name=f"insecure-{insecure}", nodes=1, shards=4, gateway_flags=["--insecure"] if insecure else [])
        flags = cluster.gateway.flags
        place = flags.index("--http-listen") + 1
        flags[place] = flags[place].replace("127.0.0.1", "0.0.0.0")
        cluster.start()
        with Http(flags[place].replace("0.0.0.0", "127.0.0.1")) as door:
            answer = door.get("k")
            assert answer.code == ("NOT_FOUND" if insecure else "FORBIDDEN")
            door.connection.request("GET", "/readyz")
            assert Answer(door.connection.getresponse()).status == 200
        assert cluster.gateway.said("event=http_door_closed") != insecure
        cluster.stop()


def test_hosts_can_be_named(make_cluster):
    cluster = make_cluster(nodes=1, shards=4, gateway_flags=["--http-hosts", "db.example.com"]).start()
    with door_of(cluster) as door:
        assert door.get("k", Host="db.example.com:7480").status == 404
        assert door.get("k", Host="evil.example").status == 421
