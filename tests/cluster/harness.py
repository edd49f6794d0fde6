"""A cluster of real processes on loopback, and a client of the contract (docs/protocol.md) over pynng.

The tests start every daemon themselves, so that they can kill it at any moment and start it again. They wait for
states, never for times."""

import itertools
import os
import pathlib
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request

import msgpack
import pynng

from ports import free_port

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("SKERRY_BUILD", ROOT / "build" / "release"))
BINARIES = {
    "metad": BUILD / "metad" / "metad",
    "shardd": BUILD / "shardd" / "shardd",
    "gateway": BUILD / "gateway" / "gateway",
    "skerry": BUILD / "cli" / "skerry",
    "skerry-check": BUILD / "tests" / "check" / "skerry-check",
    "skerry-plant": BUILD / "tests" / "cluster" / "skerry-plant",
}
METAD_OFFSETS = (1, 10)  # a metad server's other ports lie so much above the one it is known by
PATIENCE_S = 60  # a state that has not come by then never will
SPARES = 2  # nodes of every cluster that do not run until a test wants them


def free_ports(count):
    """Ports that are free, and so are the others of a metad server that has one of them."""
    ports, taken = [], set()
    while len(ports) < count:
        ports.append(free_port((0, *METAD_OFFSETS), taken))
        taken |= {ports[-1] + offset for offset in (0, *METAD_OFFSETS)}
    return ports


def wait_for(condition, what, patience_s=PATIENCE_S, pause_s=0.01):
    """Polls until the condition answers something true, and returns that."""
    deadline = time.monotonic() + patience_s
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"never came true: {what}")
        time.sleep(pause_s)


class Background(threading.Thread):
    """Does `work` beside the test. What goes wrong in it is raised in the thread that asks."""

    def __init__(self):
        super().__init__(daemon=True)
        self.stopping = threading.Event()  # for `work` to look at
        self.failure = None

    def run(self):
        try:
            self.work()
        except BaseException as failure:
            self.failure = failure

    def work(self):
        raise NotImplementedError

    def check(self):
        if self.failure is not None:
            raise self.failure

    def finish(self, timeout_s=None):
        self.stopping.set()
        self.join(timeout_s)
        self.check()


class ReplyError(Exception):
    def __init__(self, code, text):
        super().__init__(f"{code} {text}")
        self.code = code
        self.text = text


class Security:
    """TLS on every socket of a cluster, and a token at the gateway's door, with certificates made for it."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        subprocess.run([ROOT / "tests" / "certificates", self.directory], check=True)
        self.token_file = self.directory / "token"
        self.token = "the token of the tests' clients"
        self.token_file.write_text(self.token + "\n")

    def file(self, name):
        return str(self.directory / name)

    def flags(self, prefix, name="node", ca="ca"):
        """A CA and a certificate with its key, of which either may be None."""
        flags = [f"--{prefix}-ca", self.file(f"{ca}.pem")] if ca else []
        return flags + ([f"--{prefix}-cert", self.file(f"{name}.pem"), f"--{prefix}-key", self.file(f"{name}.key")] if name else [])

    def door(self):
        """Of a gateway."""
        return [*self.flags("client-tls", ca=None), "--token-file", str(self.token_file)]

    def skerry(self):
        """Of the command line."""
        return [*self.flags("tls"), *self.flags("client-tls", name=None), "--token-file", str(self.token_file)]

    def tls_config(self, address, ca="ca", name=None):
        texts = {"ca_string": pathlib.Path(self.file(f"{ca}.pem")).read_text()}
        if name:
            texts["own_cert_string"] = pathlib.Path(self.file(f"{name}.pem")).read_text()
            texts["own_key_string"] = pathlib.Path(self.file(f"{name}.key")).read_text()
        host = address.split("://")[1].rsplit(":", 1)[0]
        return pynng.TLSConfig(pynng.TLSConfig.MODE_CLIENT, server_name=host, **texts)


class Client:
    """One REQ socket. nng's resending is off: a lost connection is an exception, and the caller decides. Every request has the
    options `always`, too."""

    def __init__(self, address, timeout_ms=PATIENCE_S * 1000, tls_config=None, always=None):
        self.address = address
        self.always = always or {}
        self.socket = pynng.Req0(resend_time=-1, recv_timeout=timeout_ms, send_timeout=timeout_ms)
        self.socket.recv_max_size = 0
        self.socket.reconnect_time_min = 10
        self.socket.reconnect_time_max = 100
        if tls_config is not None:
            self.socket.tls_config = tls_config
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
        options = {**self.always, **options}
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


class Loopback:
    """The one host of daemons that share this machine's own address."""

    def address(self, name):
        return "127.0.0.1"

    def command(self, name, words):
        """What runs the command where that daemon lives."""
        return words


class Daemon:
    def __init__(self, cluster, kind, name, flags):
        self.cluster = cluster
        self.kind = kind
        self.name = name
        self.flags = flags
        self.process = None
        self.is_ending = False  # it was told to,
        self.ended_after_s = 0  # when it had run for so long
        self.began_s = 0
        self.log = cluster.directory / f"{name}.log"

    def start(self, *more):
        assert self.process is None
        with open(self.log, "ab") as log:
            command = self.cluster.hosts.command(self.name, [BINARIES[self.kind], *self.flags, *more])
            self.process = subprocess.Popen(command, stderr=log, stdout=log)
        self.began_s = time.monotonic()

    def kill(self):
        """kill -9, and the body is taken away."""
        self.signal(signal.SIGKILL)
        self.reap()

    def end(self):
        """SIGTERM; `reap` tells when it has ended."""
        self.signal(signal.SIGTERM)
        self.is_ending = True
        self.ended_after_s = time.monotonic() - self.began_s

    def reap(self, timeout_s=None):
        """Waits for its end; the exit code."""
        code = self.process.wait(timeout_s)
        self.process = None
        self.is_ending = False
        return code

    def has_died(self):
        """Without having been told to."""
        return self.process is not None and not self.is_ending and self.process.poll() is not None

    def signal(self, number):
        self.process.send_signal(number)

    def stop(self):
        """SIGTERM; the exit code."""
        if self.process is None:
            return None
        self.end()
        return self.reap(PATIENCE_S)

    def flag(self, name):
        return self.flags[self.flags.index(name) + 1]

    def port(self, flag):
        """Of an address among the flags, as text."""
        return self.flag(flag).rsplit(":", 1)[1]

    def page(self, path):
        """Of its HTTP door: (status, text); status 0: nobody answers."""
        try:
            with urllib.request.urlopen(self.flag("--http-listen") + path, timeout=PATIENCE_S) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def metrics(self):
        """By name with labels, as in the page."""
        status, text = self.page("/metrics")
        assert status == 200, text
        return {name: float(value) for name, value in
                (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))}

    def said(self, text):
        return self.count_said(text) > 0

    def last_line(self):
        return (self.log.read_text(errors="replace").splitlines() or [""])[-1]

    def count_said(self, text):
        return self.log.read_text(errors="replace").count(text)


class Cluster:
    def __init__(self, directory, nodes=3, shards=16, shardd_flags=(), gateway_flags=(), data_of=None,
                 lanes=(1,), gateways=1, hosts=None, metad_flags=(), metads=1, security=None):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.hosts = hosts or Loopback()
        self.security = security
        self.ports = iter(free_ports(2 * metads + 3 * (nodes + SPARES) + 4 * gateways))  # all unlike, also where hosts are
        self.metad_addresses = [self.listen_at(name) for name in self.metad_names(metads)]
        self.metad_address = ",".join(self.metad_addresses)
        metad = ["--metad", self.metad_address]
        group = []
        if metads > 1:
            secret = self.directory / "secret"
            secret.write_text("what only metad's servers know\n")
            group = ["--peers", self.metad_address, "--secret-file", str(secret)]
        self.metads = [Daemon(self, "metad", name, [
            "--data-dir", str(self.directory / name), *self.advertise(name), "--listen", address, *self.http_at(name), *group,
            "--shards", str(shards), "--expect-nodes", str(nodes), *self.protect(name), *metad_flags])
            for name, address in zip(self.metad_names(metads), self.metad_addresses)]
        self.metad = self.metads[0]

        def make_node(i):
            name = self.node_names(nodes)[i]
            data = data_of(i) if data_of else self.directory / name
            return Daemon(self, "shardd", name, [
                "--data-dir", str(data), *self.advertise(name), *metad,
                "--lanes", str(lanes[i % len(lanes)]), "--frames-listen", self.listen_at(name),
                "--replication-listen", self.listen_at(name), *self.http_at(name), *self.protect(name), *shardd_flags])
        made = [make_node(i) for i in range(nodes + SPARES)]
        self.nodes, self.spares = made[:nodes], made[nodes:]
        self.gateways = [Daemon(self, "gateway", name, [
            *self.advertise(name), *metad, "--listen", self.door_at(name), "--frames-listen", self.listen_at(name),
            "--resp-listen", self.listen_at(name),
            *self.http_at(name), *self.protect(name), *(security.door() if security else ()), *gateway_flags])
            for name in self.gateway_names(gateways)]
        self.addresses = [gateway.flag("--listen") for gateway in self.gateways]
        self.address, self.gateway = self.addresses[0], self.gateways[0]

    def add_node(self):
        """Another shardd, which joins by starting."""
        node = self.spares.pop(0)
        self.nodes.append(node)
        node.start()
        return node

    def retire(self, node):
        """It has ended for good, and may come back as another one, with an empty disk."""
        assert node.process is None
        self.nodes.remove(node)
        self.spares.append(node)

    @staticmethod
    def node_names(count):
        """Of so many nodes, and their spares."""
        return [f"shardd-{i}" for i in range(count + SPARES)]

    @staticmethod
    def metad_names(count):
        return [f"metad-{i}" if i > 0 else "metad" for i in range(count)]

    @staticmethod
    def gateway_names(count):
        return [f"gateway-{i}" if i > 0 else "gateway" for i in range(count)]

    def listen_at(self, name):
        return f"tcp://{self.hosts.address(name)}:{next(self.ports)}"

    def http_at(self, name):
        return ["--http-listen", self.listen_at(name).replace("tcp:", "http:")]

    def door_at(self, name):
        """Where clients come in."""
        return ("tls+" if self.security else "") + self.listen_at(name)

    def protect(self, name):
        """What a daemon needs to listen at its host's address."""
        if self.security:
            return self.security.flags("tls")
        return [] if self.hosts.address(name).startswith("127.") else ["--insecure"]

    def advertise(self, name):
        return ["--advertise", self.hosts.address(name)]

    def data_of(self, i):
        return pathlib.Path(self.nodes[i].flag("--data-dir"))

    def daemons(self):
        return [*self.metads, *self.nodes, *self.gateways]

    def start(self):
        for daemon in self.daemons():
            if daemon.process is None:
                daemon.start()
        self.wait_ready()
        return self

    def wait_ready(self):
        """Every shard answers a read through the gateway."""
        with self.client() as client:
            def ready():
                for daemon in self.daemons():
                    if daemon.process is None or daemon.has_died():
                        raise AssertionError(f"{daemon.name} ended:\n{daemon.log.read_text()[-2000:]}")
                error, _ = client.ask("DBSIZE", timeout_ms=1000)
                return error is None
            wait_for(ready, "the cluster is ready")

    def client(self, **options):
        if self.security:
            options = {"tls_config": self.security.tls_config(self.address), "always": {"token": self.security.token}, **options}
        return Client(self.address, **options)

    def metad_client(self, address, **options):
        """Of one of metad's servers, as a daemon would be."""
        if self.security:
            options["tls_config"] = self.security.tls_config(address, name="node")
            address = "tls+" + address
        return Client(address, **options)

    def kill_all(self):
        """All at once: nothing is reaped before everything has been killed."""
        for daemon in self.daemons():
            if daemon.process is not None:
                daemon.signal(signal.SIGKILL)
        for daemon in self.daemons():
            if daemon.process is not None:
                daemon.reap()

    def skerry(self, *words, check=True, timeout=PATIENCE_S, **options):
        shown = self.security.skerry() if self.security else []
        done = subprocess.run([BINARIES["skerry"], "--gateway", self.address, *shown, *words], capture_output=True, text=True,
                              timeout=timeout, **options)
        assert not check or done.returncode == 0, done
        return done

    def stop(self):
        """Everything, in order; every exit code must be 0."""
        codes = {daemon.name: daemon.stop() for daemon in reversed(self.daemons())}
        assert all(code in (0, None) for code in codes.values()), codes
