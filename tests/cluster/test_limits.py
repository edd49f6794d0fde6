"""Clients and machines at their worst: many connections, silent ones, greedy ones, a full disk, damage, bad set-ups."""

import re
import shutil
import socket
import subprocess

import msgpack
import pynng
import pytest

from harness import BINARIES, Client, Cluster, free_ports, wait_for


def test_a_thousand_connections(shared):
    clients = [Client(shared.address) for _ in range(1000)]
    try:
        for i, client in enumerate(clients):
            client.socket.send(msgpack.packb([0, i, "SET", [f"conn:{i}", str(i)]]))
        for i, client in enumerate(clients):
            assert msgpack.unpackb(client.socket.recv()) == [1, i, None, "OK"]
        for i, client in enumerate(clients):
            assert client("GET", f"conn:{i}") == str(i).encode()
    finally:
        for client in clients:
            client.close()


def is_served(client):
    try:
        return client("GET", "a") == b"1"
    except pynng.exceptions.NNGException:
        return False


def test_more_connections_than_allowed(make_cluster):
    """One too many is closed, told of and counted; it gets in when another has ended."""
    cluster = make_cluster(nodes=1, gateway_flags=["--connections-max", "2"]).start()
    first, second = cluster.client(), cluster.client()
    assert first("SET", "a", 1) == "OK" and is_served(second)
    with cluster.client(timeout_ms=500) as third:
        assert not is_served(third) and is_served(first)
        assert cluster.gateway.said("event=connections_refused from=127.0.0.1:")
        wait_for(lambda: cluster.gateway.metrics()["skerry_client_connections_refused_total"] > 0, "it is counted")
        first.close()
        wait_for(lambda: is_served(third), "there is a place again")
    second.close()


def test_silent_connections_do_no_harm(shared):
    """A thousand that connect and say nothing: plain TCP, and with the protocol's greeting."""

    host, port = shared.address.removeprefix("tcp://").split(":")
    silent = [socket.create_connection((host, int(port))) for _ in range(1000)]
    for connection in silent[500:]:
        connection.sendall(b"\x00SP\x00\x00\x30\x00\x00")
    with shared.client(timeout_ms=10000) as client:
        for i in range(100):
            assert client("SET", "silent", i) == "OK"
    for connection in silent:
        connection.close()


def test_a_client_that_never_reads(shared):
    """It sends requests with large answers and takes none; others go on as if it were not there."""

    with shared.client() as client:
        client("SET", "big", b"x" * 1_000_000)
        host, port = shared.address.removeprefix("tcp://").split(":")
        greedy = socket.create_connection((host, int(port)))
        greedy.sendall(b"\x00SP\x00\x00\x30\x00\x00")
        request = msgpack.packb([0, 1, "GET", ["big"]])
        greedy.setblocking(False)
        sent = 0
        try:
            while sent < 20000:
                body = (0x80000000 | sent).to_bytes(4, "big") + request
                greedy.sendall(len(body).to_bytes(8, "big") + body)
                sent += 1
        except (BlockingIOError, ConnectionError):
            pass  # the gateway takes no more of it, or has had enough of it
        for i in range(200):
            assert client("SET", "other", i, timeout_ms=10000) == "OK"
        greedy.close()


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 48 MiB of its own."""
    mount = tmp_path / "disk"
    mount.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(mount)], capture_output=True)
    if done.returncode != 0:
        pytest.fail("this test mounts a tmpfs and so needs root: " + done.stderr.decode())
    yield mount
    subprocess.run(["umount", "-l", str(mount)], check=True)


def test_disk_full(make_cluster, small_disk):
    """Writes are refused with a clear code, reads go on, and writes come back by themselves."""
    cluster = make_cluster(nodes=1, data_of=lambda i: small_disk / "node",
                           shardd_flags=["--segment-size", "1MiB", "--memtable-size", "256KiB"]).start()
    with cluster.client() as client:
        client("SET", "kept", "value")
        written, value = 0, b"x" * 20000
        ballast = small_disk / "ballast"
        with open(ballast, "wb") as file:
            try:
                while True:
                    file.write(b"\0" * 65536)
            except OSError:
                pass

        def fill():
            nonlocal written
            error, _ = client.ask("SET", f"fill:{written}", value, timeout_ms=2000)
            if error is None:
                written += 1
                return False
            assert error[0] in ("DISKFULL", "UNAVAILABLE", "TIMEOUT"), error
            return error[0] == "DISKFULL"

        wait_for(fill, "the disk is full")
        for i in range(20):
            assert client("GET", "kept") == b"value"
            error, _ = client.ask("SET", "refused", "x", timeout_ms=2000)
            assert error is not None and error[0] == "DISKFULL"
        assert client("GET", "refused") is None
        ballast.unlink()
        wait_for(lambda: client.ask("SET", "back", "x", timeout_ms=2000)[0] is None, "writes come back")
        for i in range(written):
            assert client("GET", f"fill:{i}") == value
    cluster.kill_all()
    cluster.start()
    with cluster.client() as client:
        assert client("GET", "back") == b"x" and client("GET", "kept") == b"value"
        for i in range(written):
            assert client("GET", f"fill:{i}") == value


def last_line(daemon):
    return daemon.log.read_text().strip().splitlines()[-1]


def damage_in_the_middle(path):
    """Flips a bit in the middle of what has been written."""
    content = bytearray(path.read_bytes())
    used = len(content.rstrip(b"\0"))
    assert used > 8192
    content[used // 2] ^= 0x10
    path.write_bytes(content)


def test_a_flipped_bit_in_the_log_is_reported(make_cluster):
    cluster = make_cluster(nodes=1, shardd_flags=["--segment-size", "1MiB"]).start()
    with cluster.client() as client:
        for i in range(300):
            client("SET", f"k{i}", "v" * 50)
    node = cluster.nodes[0]
    node.kill()
    log = sorted((cluster.data_of(0) / "lane-0" / "log").glob("*.log"))[0]
    damage_in_the_middle(log)
    node.start()
    assert node.process.wait(30) == 2
    assert log.name in last_line(node) and "offset" in last_line(node)
    node.process = None


def test_a_damaged_store_is_reported(make_cluster):
    cluster = make_cluster(nodes=1).start()
    node = cluster.nodes[0]
    node.stop()
    store = cluster.data_of(0) / "lane-0" / "store" / "data.mdb"
    store.write_bytes(b"not a database" * 1000)
    node.start()
    assert node.process.wait(30) == 2
    assert "data.mdb" in last_line(node)
    node.process = None


def run(kind, *flags, env=None):
    done = subprocess.run([BINARIES[kind], *map(str, flags)], capture_output=True, text=True, timeout=30, env=env)
    return done.returncode, done.stderr.strip().splitlines()


@pytest.mark.parametrize("kind", ["metad", "shardd", "gateway"])
def test_bad_set_ups_exit_with_2_and_one_line(kind, tmp_path):
    port = free_ports(1)[0]
    listen = {"metad": "--listen", "shardd": "--frames-listen", "gateway": "--listen"}[kind]
    data = ["--insecure"] if kind == "gateway" else ["--insecure", "--data-dir", tmp_path / "data"]

    code, lines = run(kind, *data, "--no-such-flag", "1")
    assert code == 2 and "no-such-flag" in lines[-1]
    code, lines = run(kind, *data, listen, "nonsense")
    assert code == 2 and "nonsense" in lines[-1]

    config = tmp_path / "config.yaml"
    config.write_text("log-level: info\nno-such-key: 1\n")
    code, lines = run(kind, *data, "--config", config)
    assert code == 2 and "no-such-key" in lines[-1] and "config.yaml" in lines[-1]

    with socket.socket() as holder:
        holder.bind(("127.0.0.1", port))
        holder.listen()
        code, lines = run(kind, *data, listen, f"tcp://127.0.0.1:{port}")
        assert code == 2 and str(port) in lines[-1]

    if kind != "gateway":
        code, lines = run(kind, "--insecure", "--data-dir", "/proc/no/such")
        assert code == 2 and "/proc/no/such" in lines[-1]
        code, lines = run(kind)
        assert code == 2 and "data-dir" in lines[-1]

    done = subprocess.run([BINARIES[kind], "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and "SKERRY_" in done.stdout + done.stderr


def test_a_data_directory_of_another_cluster_is_refused(make_cluster):
    one, other = make_cluster("one", nodes=1).start(), make_cluster("other", nodes=1).start()
    one.nodes[0].stop()
    other.nodes[0].stop()
    shutil.rmtree(other.data_of(0))
    shutil.copytree(one.data_of(0), other.data_of(0))
    node = other.nodes[0]
    node.start()
    assert node.process.wait(30) == 2
    assert "cluster" in node.log.read_text()
    node.process = None


def test_a_data_directory_in_use_is_refused(make_cluster):
    cluster = make_cluster(nodes=1).start()
    code, lines = run("shardd", "--data-dir", cluster.data_of(0), "--frames-listen", "tcp://127.0.0.1:0",
                      "--replication-listen", "tcp://127.0.0.1:0")
    assert code == 2 and "in use" in lines[-1]
    code, lines = run("metad", "--data-dir", cluster.directory / "metad", "--listen", f"tcp://127.0.0.1:{free_ports(1)[0]}")
    assert code == 2 and "in use" in lines[-1]


def test_a_newer_format_is_refused(make_cluster):
    cluster = make_cluster(nodes=1).start()
    node = cluster.nodes[0]
    node.stop()
    identity = cluster.data_of(0) / "IDENTITY"
    text = identity.read_text()
    identity.write_text(re.sub(r"format (\d+)", lambda found: f"format {int(found[1]) + 1}", text))
    assert identity.read_text() != text
    node.start()
    assert node.process.wait(30) == 2
    assert "format" in last_line(node)
    node.process = None


def test_sigterm_ends_everything_with_0(make_cluster):
    cluster = make_cluster().start()
    with cluster.client() as client:
        client("SET", "k", "v")
    cluster.stop()  # asserts the codes
    cluster.start()
    with cluster.client() as client:
        assert client("GET", "k") == b"v"


def test_a_cluster_at_other_addresses_has_its_data(make_cluster, tmp_path):
    cluster = make_cluster("moved").start()
    with cluster.client() as client:
        client("MSET", *[f"{i}" for i in range(100)])
    cluster.stop()
    moved = Cluster(tmp_path / "moved")  # the same directories, other ports
    try:
        moved.start()
        with moved.client() as client:
            assert client("DBSIZE") == 50
            client("SET", "k", "v")
    finally:
        moved.kill_all()


def greedy_client(address):
    """A client that sends requests with large answers and takes none of them."""
    host, port = address.removeprefix("tcp://").split(":")
    greedy = socket.create_connection((host, int(port)))
    greedy.sendall(b"\x00SP\x00\x00\x30\x00\x00")
    greedy.settimeout(0.2)
    request = msgpack.packb([0, 1, "GET", ["big"]])
    try:
        for number in range(3000):
            body = (0x80000000 | number).to_bytes(4, "big") + request
            greedy.sendall(len(body).to_bytes(8, "big") + body)
    except OSError:
        pass  # the gateway takes no more of it, or has had enough of it
    return greedy


def closed_by_the_other_side(connection):
    """Whether nothing can be sent any more; what was received meanwhile is left where it is."""
    try:
        connection.sendall(b"\x00" * 8)
        return False
    except socket.timeout:
        return False
    except OSError:
        return True


def test_the_gateway_outlives_clients_it_had_to_close(make_cluster):
    """It closes who does not read; afterwards it must still connect to a node that was started again, and end."""
    cluster = make_cluster(nodes=1).start()
    with cluster.client() as client:
        client("SET", "big", b"x" * 1_000_000)
        for _ in range(3):
            greedy = [greedy_client(cluster.address) for _ in range(3)]
            for connection in greedy:
                wait_for(lambda: closed_by_the_other_side(connection), "who does not read is closed")
                connection.close()
        cluster.nodes[0].kill()
        cluster.nodes[0].start()
        wait_for(lambda: client.ask("SET", "k", "v", timeout_ms=1000)[0] is None, "the node is connected again")
    with cluster.client() as client:
        assert client("GET", "k") == b"v"
    cluster.stop()
