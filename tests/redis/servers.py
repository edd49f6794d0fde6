"""The two servers: a real redis-server, and a Skerry cluster."""

import os
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "cluster"))
from harness import Cluster, free_ports, wait_for  # noqa: E402
from resp import Connection  # noqa: E402

VALUE_BYTES_MAX = 16 << 20  # of Skerry (docs/protocol.md): the other server gets the same limit


class Redis:
    """redis-server on loopback. It keeps nothing, or syncs every write."""

    def __init__(self, directory, flags=(), keeps=False):
        self.port = free_ports(1)[0]
        kept = ["--appendonly", "yes", "--appendfsync", "always", "--appenddirname", f"appendonly-{self.port}",
                "--dbfilename", f"{self.port}.rdb"] if keeps else ["--appendonly", "no"]
        self.log = pathlib.Path(directory) / f"redis-{self.port}.log"
        self.process = subprocess.Popen([
            "redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", *kept, "--dir", str(directory),
            "--databases", "1", "--enable-protected-configs", "yes", "--proto-max-bulk-len", str(VALUE_BYTES_MAX),
            "--logfile", str(self.log), *flags],
            env={**os.environ, "LC_ALL": "C"})  # SORT ALPHA follows the locale
        wait_for(self.answers, "redis-server answers")

    def answers(self):
        try:
            connection = Connection(self.port)
        except OSError:
            return False
        connection.close()
        return True

    def stop(self):
        self.process.terminate()
        self.process.wait()


class Skerry:
    """Three shardd, with their settings as they are by default, one metad, and a gateway with a RESP door."""

    def __init__(self, directory, shards=16):
        self.port = free_ports(1)[0]
        self.cluster = Cluster(directory, shards=shards, gateway_flags=["--resp-listen", f"tcp://127.0.0.1:{self.port}"])
        self.cluster.start()

    def verify(self):
        """Whether the content of all replicas is alike, and what was said about it."""
        done = self.cluster.skerry("--metad", self.cluster.metad_address, "admin", "verify", check=False)
        return done.returncode == 0, (done.stdout + done.stderr).strip()

    def stop(self):
        self.cluster.stop()
