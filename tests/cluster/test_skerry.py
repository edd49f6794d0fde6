"""The command for people: data commands, status, and a supervised cluster."""

import json
import os
import re
import signal
import subprocess

import pytest

from harness import BINARIES, Client, free_ports, wait_for


def test_answers_and_exit_codes(shared):
    assert shared.skerry("SET", "cli", "a value").stdout == "OK\n"
    assert shared.skerry("GET", "cli").stdout == "a value\n"
    assert json.loads(shared.skerry("--json", "MGET", "cli", "cli:none").stdout) == ["a value", None]
    failed = shared.skerry("INCR", "cli", check=False)
    assert failed.returncode == 1 and "BADVALUE" in failed.stdout + failed.stderr
    assert shared.skerry("NOSUCH", check=False).returncode == 1
    piped = shared.skerry(input="SET cli:1 x\nINCR cli:n\nGET \"cli:1\"\n")
    assert piped.stdout.splitlines() == ["OK", "1", "x"]


def test_no_gateway_is_exit_3(shared):
    done = subprocess.run([BINARIES["skerry"], "--gateway", f"tcp://127.0.0.1:{free_ports(1)[0]}", "--timeout", "300ms",
                           "GET", "k"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 3


def test_status(shared):
    done = shared.skerry("--metad", shared.metad_address, "--json", "status")
    status = json.loads(done.stdout)
    assert len(status["map"]["nodes"]) == 3
    waited = shared.skerry("--metad", shared.metad_address, "status", "--wait", "30")
    assert "3" in waited.stdout


def test_bench_counts_what_it_did(shared):
    done = shared.skerry("bench", "--duration", "1s", "--keys", "1000", "--batch", "10", "--load", "--json")
    figures = json.loads(done.stdout)
    assert figures["errors"] == {} and figures["missing"] == 0
    assert figures["reads"]["count"] > 0 and figures["writes"]["count"] > 0
    assert figures["commands"] <= figures["reads"]["count"] + figures["writes"]["count"]
    with shared.client() as client:
        assert client("DBSIZE") >= 1000


class Up:
    """`skerry up` on a directory, with ports of its own."""

    def __init__(self, directory, offset):
        self.address = f"tcp://127.0.0.1:{7400 + offset}"
        self.metad = f"tcp://127.0.0.1:{7100 + offset}"
        self.directory = directory
        self.command = [BINARIES["skerry"], "up", "--data", str(directory), "--port-offset", str(offset)]
        self.output = open(directory.parent / "up.out", "ab+")

    def start(self):
        self.process = subprocess.Popen(self.command, stdout=self.output, stderr=self.output)
        wait_for(lambda: "ready" in self.said() or self.process.poll() is not None, "the cluster is ready")
        assert self.process.poll() is None, self.said()

    def said(self):
        return (self.directory.parent / "up.out").read_text()

    def children(self):
        """name -> pid"""
        listing = subprocess.run(["ps", "--ppid", str(self.process.pid), "-o", "pid=,comm="], capture_output=True,
                                 text=True).stdout
        return [(name, int(pid)) for pid, name in (line.split() for line in listing.splitlines())]

    def interrupt(self):
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(60)


@pytest.fixture
def up(tmp_path):
    up = Up(tmp_path / "data", 3000 + os.getpid() % 18000)  # all ports below those of outgoing connections
    yield up
    if up.process.poll() is None:
        up.process.kill()
        up.process.wait()
    up.output.close()


def test_up_restarts_what_dies_and_keeps_its_data(up):
    up.start()
    with Client(up.address) as client:
        client("SET", "k", "v")
        for victim in ("shardd", "gateway", "metad"):
            name, pid = next(child for child in up.children() if child[0] == victim)
            os.kill(pid, signal.SIGKILL)
            wait_for(lambda: any(n == name and p != pid for n, p in up.children()), f"{name} is started again")
        assert re.search(r"shardd-\d.*(SIGKILL|signal 9|Killed)", up.said(), re.I), up.said()
    with Client(up.address) as client:
        wait_for(lambda: client.ask("GET", "k", timeout_ms=1000)[1] == b"v", "the value is read again")
    second = subprocess.run(up.command, capture_output=True, text=True, timeout=60)
    assert second.returncode != 0 and str(up.directory) in second.stderr + second.stdout
    assert up.interrupt() == 0
    up.start()
    with Client(up.address) as client:
        assert client("GET", "k") == b"v"
    assert up.interrupt() == 0


def test_up_leaves_a_removed_node_alone(up):
    up.command += ["--nodes", "4", "--shards", "8"]
    up.start()
    for change in ("drain", "remove"):
        done = subprocess.run([BINARIES["skerry"], "--metad", up.metad, "admin", change, "2"], capture_output=True,
                              text=True, timeout=60)
        assert done.returncode == 0, done
    wait_for(lambda: "was removed from the cluster and is not started again" in up.said(), "up says so")
    assert sum(name == "shardd" for name, _ in up.children()) == 3
    with Client(up.address) as client:
        client("SET", "k", "v")
        assert client("GET", "k") == b"v"
    assert up.interrupt() == 0


def test_up_grows_to_three_metads(up):
    up.start()
    with Client(up.address) as client:
        client("SET", "k", "v")
    assert up.interrupt() == 0
    up.command += ["--metad", "3"]
    up.start()
    metads = ",".join(f"tcp://127.0.0.1:{int(up.metad.rsplit(':', 1)[1]) + 1000 * i}" for i in range(3))

    def status():
        done = subprocess.run([BINARIES["skerry"], "--metad", metads, "status"], capture_output=True, text=True, timeout=60)
        return done.stdout
    wait_for(lambda: status().count("  follows ") == 2, "two follow")
    _, leader = next((name, pid) for name, pid in up.children() if name == "metad")
    os.kill(leader, signal.SIGKILL)
    wait_for(lambda: status().count("  follows ") == 2, "it is there again, or another leads")
    with Client(up.address) as client:
        assert client("GET", "k") == b"v"
    assert up.interrupt() == 0
    kept = [path for folder in up.directory.iterdir() if re.fullmatch(r"(metad|shardd)-\d", folder.name) for path in folder.rglob("*")]
    assert len(kept) > 20 and all(path.stat().st_mode & 0o077 == 0 for path in [up.directory / "secret", *kept])
    up.command.remove("3")
    up.command.remove("--metad")
    up.start()  # as it was
    wait_for(lambda: status().count("  follows ") == 2, "two follow")
    assert up.interrupt() == 0
