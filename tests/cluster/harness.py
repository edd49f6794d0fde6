"""A cluster of real processes on loopback, and a client of the contract (docs/protocol.md) over pynng.

The tests start every daemon themselves, so that they can kill it at any moment and start it again. They wait for
states, never for times."""

import itertools
import os
import pathlib
import random
import signal
import socket
import subprocess
import time

import msgpack
import pynng

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("SKERRY_BUILD", ROOT / "build" / "release"))
BINARIES = {
    "metad": BUILD / "metad" / "metad",
    "shardd": BUILD / "shardd" / "shardd",
    "gateway": BUILD / "gateway" / "gateway",
    "skerry": BUILD / "cli" / "skerry",
    "skerry-check": BUILD / "tests" / "check" / "skerry-check",
}
PATIENCE_S = 60  # a state that has not come by then never will


def free_ports(count):
    """Ports that nobody listens on now, below those that the kernel gives to outgoing connections: one of these could
    otherwise have a daemon's port while it is down."""
    ports = []
    while len(ports) < count:
        port = random.randrange(10000, 32000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in ports:
            ports.append(port)
    return ports


def wait_for(condition, what, patience_s=PATIENCE_S):
    """Polls until the condition answers something true, and returns that."""
    deadline = time.monotonic() + patience_s
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"never came true: {what}")
        time.sleep(0.01)


class ReplyError(Exception):
    def __init__(self, code, text):
        super().__init__(f"{code} {text}")
        self.code = code
        self.text = text


class Client:
    """One REQ socket. nng's resending is off: a lost connection is an exception, and the caller decides."""

    def __init__(self, address, timeout_ms=PATIENCE_S * 1000):
        self.socket = pynng.Req0(resend_time=-1, recv_timeout=timeout_ms, send_timeout=timeout_ms)
        self.socket.recv_max_size = 0
        self.socket.reconnect_time_min = 10
        self.socket.reconnect_time_max = 100
        self.socket.dial(address, block=False)
        self.numbers = itertools.count(1)

    def raw(self, message):
        """Bytes out, bytes back."""
        self.socket.send(message)
        return self.socket.recv()

    def ask(self, method, *params, **options):
        """The reply's [error, result]."""
        number = next(self.numbers)
        request = [0, number, method, list(params)]
        if options:
            request.append(options)
        reply = msgpack.unpackb(self.raw(msgpack.packb(request)), strict_map_key=False)
        assert reply[0] == 1 and reply[1] == number and len(reply) == 4, reply
        return reply[2], reply[3]

    def __call__(self, method, *params, **options):
        error, result = self.ask(method, *params, **options)
        if error is not None:
            raise ReplyError(*error)
        return result

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Daemon:
    def __init__(self, cluster, kind, name, flags):
        self.cluster = cluster
        self.kind = kind
        self.name = name
        self.flags = flags
        self.process = None
        self.log = cluster.directory / f"{name}.log"

    def start(self, *more):
        assert self.process is None
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([BINARIES[self.kind], *self.flags, *more], stderr=log, stdout=log)

    def kill(self):
        """kill -9, and the body is taken away."""
        self.signal(signal.SIGKILL)
        self.process.wait()
        self.process = None

    def signal(self, number):
        self.process.send_signal(number)

    def stop(self):
        """SIGTERM; the exit code."""
        if self.process is None:
            return None
        self.signal(signal.SIGTERM)
        code = self.process.wait(PATIENCE_S)
        self.process = None
        return code

    def port(self, flag):
        """Of an address among the flags, as text."""
        return self.flags[self.flags.index(flag) + 1].rsplit(":", 1)[1]

    def said(self, text):
        return text in self.log.read_text(errors="replace")


class Cluster:
    def __init__(self, directory, nodes=3, shards=16, shardd_flags=(), gateway_flags=(), data_of=None,
                 lanes=(1,), gateways=1, metad_flags=()):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        ports = free_ports(3 + 2 * nodes + 2 * gateways)
        self.metad_address = f"tcp://127.0.0.1:{ports[0]}"
        metad = ["--metad", self.metad_address, "--metad-publish", f"tcp://127.0.0.1:{ports[1]}"]
        here = ["--advertise", "127.0.0.1"]
        self.metad = Daemon(self, "metad", "metad", [
            "--data-dir", str(self.directory / "metad"), *here,
            "--listen", self.metad_address, "--publish-listen", f"tcp://127.0.0.1:{ports[1]}",
            "--raft-listen", f"127.0.0.1:{ports[2]}", "--shards", str(shards), "--expect-nodes", str(nodes),
            *metad_flags])
        self.nodes = []

        def make_node(i, frames, replication):
            data = data_of(i) if data_of else self.directory / f"shardd-{i}"
            return Daemon(self, "shardd", f"shardd-{i}", [
                "--data-dir", str(data), *here, *metad,
                "--lanes", str(lanes[i % len(lanes)]),
                "--frames-listen", f"tcp://127.0.0.1:{frames}",
                "--replication-listen", f"tcp://127.0.0.1:{replication}", *shardd_flags])
        self.make_node = make_node
        for i in range(nodes):
            self.nodes.append(make_node(i, ports[3 + 2 * i], ports[4 + 2 * i]))
        ports = ports[3 + 2 * nodes:]
        self.addresses = [f"tcp://127.0.0.1:{ports[2 * i]}" for i in range(gateways)]
        self.gateways = [Daemon(self, "gateway", f"gateway-{i}" if i > 0 else "gateway", [
            *here, *metad, "--listen", self.addresses[i],
            "--frames-listen", f"tcp://127.0.0.1:{ports[2 * i + 1]}", *gateway_flags]) for i in range(gateways)]
        self.address, self.gateway = self.addresses[0], self.gateways[0]

    def add_node(self):
        """Another shardd, which joins by starting."""
        node = self.make_node(len(self.nodes), *free_ports(2))
        self.nodes.append(node)
        node.start()
        return node

    def data_of(self, i):
        flags = self.nodes[i].flags
        return pathlib.Path(flags[flags.index("--data-dir") + 1])

    def daemons(self):
        return [self.metad, *self.nodes, *self.gateways]

    def start(self):
        for daemon in self.daemons():
            if daemon.process is None:
                daemon.start()
        self.wait_ready()
        return self

    def wait_ready(self):
        """Every shard answers a read through the gateway."""
        with Client(self.address) as client:
            def ready():
                for daemon in self.daemons():
                    if daemon.process is None or daemon.process.poll() is not None:
                        raise AssertionError(f"{daemon.name} ended:\n{daemon.log.read_text()[-2000:]}")
                error, _ = client.ask("DBSIZE", timeout_ms=1000)
                return error is None
            wait_for(ready, "the cluster is ready")

    def client(self, **options):
        return Client(self.address, **options)

    def kill_all(self):
        """All at once: nothing is reaped before everything has been killed."""
        for daemon in self.daemons():
            if daemon.process is not None:
                daemon.signal(signal.SIGKILL)
        for daemon in self.daemons():
            if daemon.process is not None:
                daemon.process.wait()
                daemon.process = None

    def skerry(self, *words, check=True, timeout=PATIENCE_S, **options):
        done = subprocess.run([BINARIES["skerry"], "--gateway", self.address, *words], capture_output=True, text=True,
                              timeout=timeout, **options)
        assert not check or done.returncode == 0, done
        return done

    def stop(self):
        """Everything, in order; every exit code must be 0."""
        codes = {daemon.name: daemon.stop() for daemon in reversed(self.daemons())}
        assert all(code in (0, None) for code in codes.values()), codes
