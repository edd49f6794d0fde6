"""The network between hosts of ours does to packets what it is told, to those of one link and one direction."""

import json
import subprocess
import sys
import time

import pytest

from network import SWITCH, Network, links_between, merge

possible = subprocess.run([SWITCH, "1"], stdin=subprocess.DEVNULL, capture_output=True).returncode == 0
pytestmark = pytest.mark.skipif(not possible, reason="needs root, network namespaces and /dev/net/tun")

COUNT = 200
RECEIVER = """
import json, socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("0.0.0.0", 5000))
print("ready", flush=True)
s.settimeout(1)
got = []
try:
    while True:
        number, sent = s.recv(100).split()
        got.append((int(number), time.monotonic() - float(sent)))
except TimeoutError:
    print(json.dumps(got))
"""
SENDER = """
import socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for i in range(int(sys.argv[2])):
    s.sendto(b"%d %f" % (i, time.monotonic()), (sys.argv[1], 5000))
    time.sleep(0.0005)
"""


@pytest.fixture
def network():
    network = Network(["a", "b", "c"])
    yield network
    network.close()


def run(network, host, program, *words):
    return subprocess.Popen(network.command(host, [sys.executable, "-c", program, *map(str, words)]),
                            stdout=subprocess.PIPE, text=True)


def exchange(network, sender, receiver, count=COUNT):
    """What arrives, as (number, seconds under way)."""
    with run(network, receiver, RECEIVER) as receiving:
        assert receiving.stdout.readline() == "ready\n"
        assert run(network, sender, SENDER, network.address(receiver), count).wait() == 0
        return json.loads(receiving.stdout.readline())


def numbers(arrived):
    return [number for number, _ in arrived]


def test_everything_arrives_in_order(network):
    assert numbers(exchange(network, "a", "b")) == list(range(COUNT))
    assert network.counts()["passed"] >= COUNT


def test_one_way_may_be_cut(network):
    network.set({("a", "b"): {"up": 0}})
    assert exchange(network, "a", "b") == []
    assert numbers(exchange(network, "b", "a")) == list(range(COUNT))
    assert numbers(exchange(network, "a", "c")) == list(range(COUNT))
    network.set({})
    assert numbers(exchange(network, "a", "b")) == list(range(COUNT))


def test_packets_get_lost_and_come_twice(network):
    network.set({("a", "b"): {"loss_ppm": 300_000}})
    assert COUNT * 0.5 < len(exchange(network, "a", "b")) < COUNT * 0.9
    network.set({("a", "b"): {"repeat_ppm": 300_000}})
    arrived = numbers(exchange(network, "a", "b"))
    assert set(arrived) == set(range(COUNT)) and COUNT * 1.1 < len(arrived) < COUNT * 1.5


def test_packets_come_late_and_overtake_each_other(network):
    network.set({("a", "b"): {"delay_us": 50_000}})
    arrived = exchange(network, "a", "b")
    assert numbers(arrived) == list(range(COUNT))
    assert min(seconds for _, seconds in arrived) >= 0.05
    network.set({("a", "b"): {"delay_us": 1_000, "jitter_us": 50_000}})
    arrived = exchange(network, "a", "b")
    assert sorted(numbers(arrived)) == list(range(COUNT)) != numbers(arrived)


def test_a_narrow_link(network):
    network.set({("a", "b"): {"bytes_per_s": 20_000}})
    begin = time.monotonic()
    assert numbers(exchange(network, "a", "b")) == list(range(COUNT))
    assert time.monotonic() - begin > COUNT * 40 / 20_000  # a packet has more than 40 bytes


def test_a_host_begins_anew(network):
    with run(network, "b", RECEIVER) as old:
        assert old.stdout.readline() == "ready\n"
        network.renew("b")
        assert numbers(exchange(network, "a", "b")) == list(range(COUNT))
        assert json.loads(old.stdout.readline()) == []


def test_what_is_no_command_is_refused(network):
    for words in ("nonsense", "link 0 9 up 1", "link 0 1 nothing 1", "link 0 1 up x", "renew 3", "host -1", ""):
        with pytest.raises(AssertionError, match="error: not a command"):
            network.ask(*words.split(" "))
    assert numbers(exchange(network, "a", "b")) == list(range(COUNT))


def test_who_is_on_a_host_dies_with_who_started_it():
    program = f"""
import sys
sys.path[:0] = {sys.path!r}
from network import Network
import os, signal, subprocess
network = Network(["a"])
child = subprocess.Popen(network.command("a", ["sleep", "1000"]))
print(child.pid, network.switch.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout
    pids = [int(pid) for pid in told.split()]
    assert len(pids) == 2
    deadline = time.monotonic() + 10
    while any(is_alive(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_the_worst_of_several_rules():
    one, other = ("a", "b"), ("b", "a")
    assert merge([{one: {"up": 0, "delay_us": 5}}, {one: {"up": 1, "delay_us": 9}, other: {"bytes_per_s": 10}},
                  {other: {"bytes_per_s": 7}}]) == {one: {"up": 0, "delay_us": 9}, other: {"bytes_per_s": 7}}
    assert set(links_between(["a"], ["a", "b"])) == {one, other}
