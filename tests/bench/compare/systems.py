"""What is measured: Skerry and its peers, each on this machine, on a directory of its own. A system that is stopped and started
again on its directory has its data."""

import pathlib
import shutil
import sys
import urllib.request

import drivers
from figures import children
from processes import ROOT, Process, wait_for

sys.path[:0] = [str(ROOT / "tests" / "redis"), str(ROOT / "tests" / "cluster")]
from ports import free_port  # noqa: E402
from resp import Connection  # noqa: E402


class System:
    """It keeps its ports, too, since members of a cluster remember each other's; `processes` are ended in reverse."""

    WARMS_UP = False  # `drive` has a warm-up in itself

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.processes = []

    def spawn(self, name, command):
        process = Process(command, self.directory / f"{name}.log")
        self.processes.append(process)
        return process

    def stop(self):
        while self.processes:
            self.processes.pop().stop()

    def wipe(self):
        """While it is stopped: it has no data any more."""
        shutil.rmtree(self.directory)
        self.directory.mkdir()

    def pids(self):
        """Of what serves; not of the load program."""
        return [process.pid for process in self.processes]

    def start(self):
        raise NotImplementedError

    def load(self, settings):
        """Sets every key once."""
        raise NotImplementedError

    def drive(self, settings):
        """Figures of the load program."""
        raise NotImplementedError


class Skerry(System):
    """`skerry up` with its defaults, but for what `flags` say."""

    PORTS = [first + at for first in (7100, 7200, 8200, 9200, 7400) for at in (0, 1, 10, 80)] + [6379]

    def __init__(self, directory, flags=()):
        super().__init__(directory)
        self.offset, self.flags = free_port(self.PORTS), flags
        self.gateway, self.resp_port = f"tcp://127.0.0.1:{7400 + self.offset}", 6379 + self.offset

    def start(self):
        up = self.spawn("up", [drivers.SKERRY, "up", "--data", self.directory / "data", "--port-offset", self.offset, *self.flags])
        wait_for(lambda: "The cluster is ready" in up.said(), "skerry up is ready", [up])

    def pids(self):
        return children(self.processes[0].pid)  # the daemons; their supervisor serves nobody

    def load(self, settings):
        drivers.skerry_bench(self.gateway, settings, load=True)

    def drive(self, settings):
        return drivers.skerry_bench(self.gateway, settings)


class SkerryResp(Skerry):
    """The same by Redis's protocol."""

    def drive(self, settings):
        return drivers.redis_benchmark(self.resp_port, settings)


class Redis(System):
    """redis-server and its replicas. With `wait` each write, or each batch of them, is followed by a WAIT for so many replicas."""

    def __init__(self, directory, fsync, replicas=0, wait=0):
        super().__init__(directory)
        self.fsync, self.replicas, self.wait = fsync, replicas, wait

    def start_one(self, number, flags):
        port = free_port()
        data = self.directory / f"redis-{number}"
        data.mkdir(exist_ok=True)
        process = self.spawn(f"redis-{number}", ["redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes",
                                                 "--appendfsync", self.fsync, "--repl-diskless-sync-delay", 0, "--dir", data, *flags])
        wait_for(lambda: self.ask(port, b"PING") == ("+", b"PONG"), "redis-server answers", [process])
        return port

    @staticmethod
    def ask(port, *words):
        connection = Connection(port)
        try:
            return connection.ask(*words)
        finally:
            connection.close()

    def replicas_are_level(self):
        told = self.ask(self.port, b"INFO", b"replication")
        return isinstance(told, bytes) and told.count(b"state=online") == self.replicas

    def start(self):
        self.port = self.start_one(1, [])
        for number in range(self.replicas):
            self.start_one(2 + number, ["--replicaof", "127.0.0.1", self.port])
        wait_for(self.replicas_are_level, "the replicas are level", self.processes)

    def load(self, settings):
        drivers.resp_load(self.port, settings, wait=self.replicas, load=True)

    def drive(self, settings):
        return drivers.resp_load(self.port, settings, wait=self.wait)


class RedisDirect(Redis):
    def drive(self, settings):
        return drivers.redis_benchmark(self.port, settings)


class Nutcracker(Redis):
    """The proxy before such a redis-server."""

    def start(self):
        super().start()
        self.proxy_port = free_port()
        config = self.directory / "nutcracker.yml"
        config.write_text(f"redis:\n  listen: 127.0.0.1:{self.proxy_port}\n  redis: true\n  hash: fnv1a_64\n  distribution: ketama\n"
                          f"  servers:\n  - 127.0.0.1:{self.port}:1\n")
        proxy = self.spawn("nutcracker", ["nutcracker", "--conf-file", config, "--stats-addr", "127.0.0.1", "--stats-port", free_port()])
        wait_for(lambda: isinstance(self.ask(self.proxy_port, b"GET", b"key"), (bytes, type(None))), "nutcracker answers", [proxy])

    def drive(self, settings):
        return drivers.redis_benchmark(self.proxy_port, settings)


class Etcd(System):
    """Its defaults, but for a limit of its file that a long run would reach."""

    FILE_BYTES_MAX = 8 << 30

    def __init__(self, directory, members):
        super().__init__(directory)
        self.ports = [free_port((0, 1)) for _ in range(members)]  # for clients; the next is for peers
        self.endpoints = [f"127.0.0.1:{port}" for port in self.ports]

    def start(self):
        cluster = ",".join(f"m{i}=http://127.0.0.1:{port + 1}" for i, port in enumerate(self.ports))
        for i, port in enumerate(self.ports):
            client, peer = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{port + 1}"
            self.spawn(f"etcd-{i}", ["etcd", "--name", f"m{i}", "--data-dir", self.directory / f"m{i}", "--logger", "zap", "--log-level", "warn",
                                     "--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls", peer,
                                     "--initial-advertise-peer-urls", peer, "--initial-cluster", cluster, "--initial-cluster-state", "new",
                                     "--quota-backend-bytes", self.FILE_BYTES_MAX])
        for endpoint in self.endpoints:
            wait_for(lambda: self.is_healthy(endpoint), "etcd is healthy", self.processes)

    @staticmethod
    def is_healthy(endpoint):
        with urllib.request.urlopen(f"http://{endpoint}/health", timeout=2) as answer:
            return b'"true"' in answer.read()

    def load(self, settings):
        drivers.etcd_load(self.endpoints, settings, load=True)

    def drive(self, settings):
        return drivers.etcd_load(self.endpoints, settings)


class BareChain(System):
    """nng alone in the shape of Skerry, without any work: what its transport allows (tests/bench/bare_chain.c). It has no data, and
    its load program starts and ends its processes."""

    WARMS_UP, WARM_UP_S = True, 1

    def __init__(self, directory, servers=3, synced=True, copies=2):
        super().__init__(directory)
        self.servers, self.synced, self.copies = servers, synced, copies

    def start(self):
        pass

    def load(self, settings):
        pass

    def drive(self, settings):
        directory = self.directory if self.synced and settings.reads == 0 else None
        return drivers.bare_chain(free_port(range(12)), self.servers, directory, self.copies, self.WARM_UP_S, settings)
