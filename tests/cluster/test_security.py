"""TLS between daemons and at the clients' door, and the token: who has the right ones notices nothing of those who have not."""

import contextlib
import json
import re
import socket
import ssl
import struct
import subprocess

import pynng
import pytest

from harness import BINARIES, METAD_OFFSETS, Background, Client, Security, free_ports, wait_for
from replicas import Replicas

HANDSHAKE_S = 10  # what TLS gives a handshake (libcommon/tls_guard.h)


@pytest.fixture(scope="module")
def security(tmp_path_factory):
    return Security(tmp_path_factory.mktemp("certificates"))


class Works(Background):
    """A proper client that writes and reads while others are refused: none of its requests fails."""

    def __init__(self, cluster):
        super().__init__()
        self.cluster = cluster
        self.done = 0

    def work(self):
        with self.cluster.client() as client:
            while not self.stopping.is_set():
                assert client("SET", "works", self.done) == "OK"
                assert client("GET", "works") == str(self.done).encode()
                self.done += 1

    def __enter__(self):
        self.start()
        wait_for(lambda: self.done > 0 or self.failure, "it works")
        return self

    def __exit__(self, *_):
        before = self.done
        wait_for(lambda: self.done > before + 1 or self.failure, "it goes on")
        self.finish()


def endpoint(address):
    host, port = address.split("://")[1].rsplit(":", 1)
    return host, int(port)


def gateway_stats(cluster):
    return json.loads(cluster.skerry("status", "--metad", cluster.metad_address, "--json").stdout)["gateways"][0]["stats"]


def log_count(daemon, event):
    """The highest count that the event has told."""
    return max([int(count) for count in re.findall(rf"event={event} .* count=(\d+)", daemon.log.read_text())], default=0)


def is_refused(address, config):
    """A client's socket that never gets a connection."""
    with pynng.Req0(send_timeout=700) as client:
        client.tls_config = config
        client.dial(address, block=False)
        with pytest.raises(pynng.Timeout):
            client.send(b"")
    return True


def send_and_wait_for_the_end(address, content):
    with socket.create_connection(endpoint(address), timeout=30) as connection:
        connection.sendall(content)
        with contextlib.suppress(ConnectionResetError):
            while connection.recv(4096):
                pass


def client_hello():
    """The first flight of a real handshake."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    handshake = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        handshake.do_handshake()
    return outgoing.read()


def test_all_of_it(make_cluster, security):
    """Three nodes, TLS everywhere, a token: it writes, reads, and fails over; those who may not are refused beside it."""
    cluster = make_cluster(security=security).start()
    with cluster.client() as client:
        for i in range(200):
            assert client("SET", f"k{i}", i, id=f"set-{i}") == "OK"
    assert cluster.skerry("GET", "k7").stdout.strip() == "7"
    assert "differ" not in cluster.skerry("--metad", cluster.metad_address, "status").stderr

    idle = [socket.create_connection(endpoint(address)) for address in
            (cluster.address, cluster.nodes[0].flag("--frames-listen"), cluster.metad_address)]
    half = socket.create_connection(endpoint(cluster.address))
    half.sendall(client_hello()[:40])
    idle.append(half)

    with Works(cluster):
        # the token
        unauthorized = gateway_stats(cluster)["unauthorized"]
        for always in ({}, {"token": "the token of somebody else"}, {"token": 7}):
            with cluster.client(always=always) as client:
                error, result = client.ask("GET", "k7")
                assert error[0] == "NOAUTH" and result is None
                error, _ = client.ask("batch", ["SET", ["k7", "gone"]])
                assert error[0] == "NOAUTH"
        with cluster.client(always={"token": security.token.encode()}) as client:
            assert client("GET", "k7") == b"7"
        wait_for(lambda: gateway_stats(cluster)["unauthorized"] == unauthorized + 6, "they are counted")
        assert cluster.gateway.said("event=unauthorized from=127.0.0.1:")

        # the clients' door
        assert is_refused(cluster.address, security.tls_config(cluster.address, ca="other-ca"))
        send_and_wait_for_the_end(cluster.address, b"\x00SP\x00\x00\x30\x00\x00")
        send_and_wait_for_the_end(cluster.address, b"GET / HTTP/1.1\r\n\r\n")
        wait_for(lambda: gateway_stats(cluster)["tls_refused"] >= 3, "the gateway has counted them")

        # the doors between daemons: plain text, no certificate, one of another CA
        node, metad = cluster.nodes[0], cluster.metads[0]
        for address in (node.flag("--frames-listen"), node.flag("--replication-listen"), cluster.gateway.flag("--frames-listen")):
            send_and_wait_for_the_end(address, struct.pack(">4sHH", b"\x00SP\x00", 0x50, 0))
            assert is_refused("tls+" + address, security.tls_config(address))
            assert is_refused("tls+" + address, security.tls_config(address, name="other"))
        assert log_count(node, "tls_refused") > 0
        for flags in (security.flags("tls", name="other"), security.flags("tls", ca="other-ca"), []):
            done = subprocess.run([BINARIES["skerry"], "--metad", cluster.metad_address, *flags, "--timeout", "1s", "admin",
                                   "handover", "0", "2"], capture_output=True, text=True, timeout=30)
            assert done.returncode != 0, done
        assert log_count(metad, "tls_refused") > 0

        # a gateway without TLS, and one that another CA vouches for: neither side takes the other, and says so
        for name, flags in (("plain", []), ("strange", security.flags("tls", name="other", ca="other-ca"))):
            port = free_ports(2)
            log = cluster.directory / f"{name}.log"
            with open(log, "wb") as file:
                stranger = subprocess.Popen([BINARIES["gateway"], "--metad", cluster.metad_address, "--listen",
                                             f"tcp://127.0.0.1:{port[0]}", "--frames-listen", f"tcp://127.0.0.1:{port[1]}",
                                             "--resp-listen", "none",
                                             *flags], stderr=file)
            try:
                wait_for(lambda: b"member_waiting" in log.read_bytes(), "it finds no metad")
                if flags:
                    assert b"tls_refused to=" in log.read_bytes()
            finally:
                stranger.terminate()
                assert stranger.wait(30) == 0

        # one that stood still the whole time
        for connection in idle:
            connection.settimeout(HANDSHAKE_S + 20)
            assert connection.recv(1) == b""
            connection.close()
        assert log_count(cluster.gateway, "tls_timed_out") >= 1 and cluster.nodes[0].said("tls_timed_out")
        victim = cluster.nodes[0]
        victim.kill()
        with cluster.client() as client:
            for i in range(200):
                assert client("GET", f"k{i}") == str(i).encode()
                assert client("SET", f"k{i}", "new", id=f"again-{i}") == "OK"
        victim.start()
    with cluster.client() as client:
        assert client("GET", "k7") == b"new"
    cluster.stop()


def raft_endpoint(metad):
    host, port = endpoint(metad.flag("--listen"))
    return host, port + METAD_OFFSETS[1]


def speak_tls(where, said, security, name):
    """What a server of Raft answers to it; it ends the connection."""
    context = ssl.create_default_context(cafile=security.file("ca.pem"))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    if name:
        context.load_cert_chain(security.file(f"{name}.pem"), security.file(f"{name}.key"))
    heard = b""
    with socket.create_connection(where, timeout=30) as connection, contextlib.suppress(ConnectionError, ssl.SSLError):
        with context.wrap_socket(connection) as protected:
            protected.sendall(said)
            while part := protected.recv(4096):
                heard += part
    return heard


def handshakes(metad, side, *outcomes):
    metrics = metad.metrics()
    return sum(metrics[f'skerry_tls_handshakes_total{{side="{side}",outcome="{outcome}"}}'] for outcome in outcomes)


def try_until(tried, count):
    """One that is too slow on a slow machine is ended for that, and counted so: it is tried again until the count that it should
    raise has risen."""
    before = count()
    def is_counted():
        tried()
        return count() > before
    wait_for(is_counted, "it is counted")


def test_raft_between_metads_servers(make_cluster, security):
    """A group of three speaks TLS among itself, too: it forms, fails over, and takes none of those who may not; one of them that is
    started without TLS gets nowhere, and all say why."""
    cluster = make_cluster(metads=3, security=security).start()
    replicas = Replicas(cluster)
    replicas.wait_metad_complete()
    strange_hello = b"SkerryMR" + struct.pack(">I", 1) + bytes(400)
    with Works(cluster):
        for metad in cluster.metads:
            where = raft_endpoint(metad)
            def plain(said, where=where):
                send_and_wait_for_the_end("raft://%s:%d" % where, said)

            def certified(name, where=where):
                assert speak_tls(where, strange_hello, security, name) == b""

            for tried in (lambda: plain(strange_hello), lambda: plain(b"GET / HTTP/1.1\r\n\r\n"), lambda: certified(None),
                          lambda: certified("other")):
                try_until(tried, lambda m=metad: handshakes(m, "accepted", "refused"))
            assert metad.said("event=tls_refused from=127.0.0.1:")
            # a daemon's certificate is not enough
            try_until(lambda: certified("node"), lambda m=metad: m.count_said("event=raft_peer_refused server=0"))

            # nor is silence for ever
            try_until(lambda: plain(client_hello()[:40]), lambda m=metad: handshakes(m, "accepted", "timed_out"))

        leader = replicas.metad_leader(replicas.know())
        leader.kill()
        replicas.know()
        secured = leader.flags
        first = secured.index("--tls-ca")
        leader.flags = secured[:first] + secured[first + 6:]
        others = [metad for metad in cluster.metads if metad is not leader]
        leader.start()
        where = "%s:%d" % raft_endpoint(leader)
        wait_for(lambda: any(f"event=tls_broken to={where}" in metad.log.read_text() for metad in others), "it speaks no TLS")
        wait_for(lambda: leader.said('error=EPROTO reason="not a metad"'), "nor do they speak without")
        assert all(handshakes(metad, "dialled", "refused", "broken") > 0 for metad in others if metad.said(f"tls_broken to={where}"))
        assert leader.stop() == 0
        leader.flags = secured
        leader.start()
        replicas.wait_metad_complete()
    with cluster.client() as client:
        assert client("GET", "works") is not None
    cluster.stop()


def test_clients_with_certificates(make_cluster, security):
    """--client-tls-ca: without a certificate nobody comes in."""
    cluster = make_cluster(nodes=1, security=security,
                           gateway_flags=["--client-tls-ca", security.file("ca.pem")])
    for daemon in cluster.daemons():
        daemon.start()
    shown = security.tls_config(cluster.address, name="node")
    with Client(cluster.address, tls_config=shown, always={"token": security.token}) as client:
        wait_for(lambda: client.ask("SET", "k", "v", timeout_ms=1000)[0] is None, "it serves")
    assert is_refused(cluster.address, security.tls_config(cluster.address))
    assert is_refused(cluster.address, security.tls_config(cluster.address, name="other"))
    own = security.flags("client-tls")
    done = subprocess.run([BINARIES["skerry"], "--gateway", cluster.address, *own, "--token-file", security.token_file, "GET", "k"],
                          capture_output=True, text=True, timeout=30)
    assert done.stdout.strip() == "v", done


def test_tls_to_a_plain_port_is_refused(make_cluster, security):
    cluster = make_cluster(nodes=1).start()
    with Works(cluster):
        for address in (cluster.address, cluster.nodes[0].flag("--frames-listen"), cluster.metad_address):
            assert is_refused("tls+" + address, security.tls_config(address))
        # the options of a token are no harm where none is wanted
        with cluster.client(always={"token": security.token}) as client:
            assert client("SET", "k", "v") == "OK"
    cluster.stop()


def refusal(kind, *flags):
    """What a daemon says that does not start."""
    done = subprocess.run([BINARIES[kind], *map(str, flags)], capture_output=True, text=True, timeout=30)
    lines = done.stderr.strip().splitlines()
    assert done.returncode == 2 and len(lines) == 1, done
    return lines[0]


def test_other_hosts_are_not_let_in_by_mistake(tmp_path, security):
    port = free_ports(1)[0]
    data = ["--data-dir", tmp_path / "data"]
    local, wide = f"tcp://127.0.0.1:{port}", f"tcp://0.0.0.0:{port}"
    for kind, flags in (("shardd", [*data]), ("shardd", [*data, "--frames-listen", local]), ("metad", data),
                        ("shardd", [*data, "--replication-listen", local]), ("gateway", ["--listen", local])):
        line = refusal(kind, *flags)
        assert "--tls-cert" in line and "--insecure" in line and "127.0.0.1" in line, line
    line = refusal("gateway", "--frames-listen", local)
    assert "--client-tls-cert" in line and "--token-file" in line and "--insecure" in line and "127.0.0.1" in line, line
    # TLS without a token is not enough, nor is a token without TLS
    certified = security.flags("client-tls", ca=None)
    token = ["--token-file", security.token_file]
    assert "--token-file" in refusal("gateway", "--frames-listen", local, "--listen", "tls+" + wide, *certified)
    assert "--client-tls-cert" in refusal("gateway", "--frames-listen", local, "--listen", wide, *token)
    # and what goes together is given together
    assert "--client-tls-cert" in refusal("gateway", "--frames-listen", local, "--listen", "tls+" + wide, *token)
    assert "tls+tcp" in refusal("gateway", "--frames-listen", local, "--listen", local, *certified)
    assert "go together" in refusal("metad", *data, "--tls-ca", security.file("ca.pem"))
    assert "--tls-key: " in refusal("shardd", *data, "--tls-ca", security.file("ca.pem"), "--tls-cert", security.file("node.pem"),
                                    "--tls-key", security.file("other.key"))
    short = tmp_path / "short"
    short.write_text("fifteen bytes..\n")
    assert "16 to" in refusal("gateway", "--listen", local, "--frames-listen", local, "--token-file", short)
