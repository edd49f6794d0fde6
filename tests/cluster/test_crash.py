"""kill -9 in the middle of a stream of writes: what was acknowledged is there, and nothing took effect twice."""

import random

import pynng
import pytest

from harness import Background, Client, wait_for

WRITERS = 4


class Writer(Background):
    """Sets its own keys, each to a number that only grows, and counts with INCR under ids of its own. What is not
    answered is sent again under the same id, so every increment must take effect exactly once."""

    def __init__(self, address, name):
        super().__init__()
        self.client = Client(address, timeout_ms=70000)
        self.prefix = name
        self.acknowledged = {}
        self.increments = 0

    def insist(self, method, *params, number):
        """Until it is done: the id makes a repeat harmless."""
        while True:
            try:
                error, result = self.client.ask(method, *params, id=f"{self.prefix}-{number}", timeout_ms=2000)
            except pynng.exceptions.NNGException:
                continue  # the gateway died under it
            if error is None:
                return result
            assert error[0] in ("UNAVAILABLE", "TIMEOUT", "OVERLOADED"), error

    def work(self):
        number = 0
        while not self.stopping.is_set():
            number += 1
            key = f"{self.prefix}:{number % 50}"
            self.insist("SET", key, str(number), number=2 * number)
            self.acknowledged[key] = number
            counted = self.insist("INCR", f"{self.prefix}:count", number=2 * number + 1)
            self.increments += 1
            assert counted == self.increments, f"count is {counted} after {self.increments} increments"

    def stop(self):
        self.finish()
        self.client.close()


def check(cluster, writers):
    with cluster.client() as client:
        for writer in writers:
            for key, number in writer.acknowledged.items():
                assert int(client("GET", key)) == number, key
            if writer.increments:
                assert int(client("GET", f"{writer.prefix}:count")) == writer.increments


def kill_one_shardd(cluster, chance):
    victim = chance.choice(cluster.nodes)
    victim.kill()
    victim.start()


def kill_gateway(cluster, chance):
    cluster.gateway.kill()
    cluster.gateway.start()


def kill_metad(cluster, chance):
    cluster.metad.kill()
    cluster.metad.start()


def kill_everything(cluster, chance):
    cluster.kill_all()
    for daemon in cluster.daemons():
        daemon.start()


@pytest.mark.parametrize("fault", [kill_one_shardd, kill_gateway, kill_metad, kill_everything])
def test_acknowledged_writes_survive(make_cluster, rounds, fault):
    seed = random.SystemRandom().randrange(1 << 32)
    print("seed", seed)
    chance = random.Random(seed)
    # Small memtables and segments, so that crashes also meet checkpoints and recycled segments.
    cluster = make_cluster(shardd_flags=["--memtable-size", "64KiB", "--segment-size", "1MiB",
                                         "--checkpoint-interval", "300ms"]).start()
    writers = [Writer(cluster.address, f"w{i}") for i in range(WRITERS)]
    for writer in writers:
        writer.start()
    for _ in range(rounds):
        # a random moment, told by progress: some writes after the last fault
        target = sum(w.increments for w in writers) + chance.randrange(1, 200)
        wait_for(lambda: sum(w.increments for w in writers) >= target or any(w.failure for w in writers),
                 "writes go on after a fault")
        fault(cluster, chance)
    wait_for(lambda: all(w.increments > 0 for w in writers), "every writer has written")
    for writer in writers:
        writer.stop()
    cluster.wait_ready()
    check(cluster, writers)
    # and once more from the disks alone
    cluster.kill_all()
    cluster.start()
    check(cluster, writers)


def test_an_id_is_remembered_through_a_restart_of_everything(make_cluster):
    cluster = make_cluster().start()
    twice = [["INCR", ["{n}a"]], ["INCR", ["{n}a"]]]
    with cluster.client() as client:
        assert client("INCR", "n", id="once") == 1
        assert client("INCR", "n", id="once") == 1
        assert client("batch", *twice, id="two") == [[None, 1], [None, 2]]
        assert client("MSET", *[f"{i}" for i in range(20)], id="split") == "OK"
    cluster.kill_all()
    cluster.start()
    with cluster.client() as client:
        assert client("INCR", "n", id="once") == 1
        assert client("batch", *twice, id="two") == [[None, 1], [None, 2]]
        assert client("GET", "n") == b"1"
        assert client("GET", "{n}a") == b"2"


def test_interval_durability_survives_a_process_crash(make_cluster):
    cluster = make_cluster(shardd_flags=["--durability", "interval"]).start()
    with cluster.client() as client:
        for i in range(500):
            client("SET", f"k{i}", str(i))
    cluster.kill_all()
    cluster.start()
    with cluster.client() as client:
        assert all(client("GET", f"k{i}") == str(i).encode() for i in range(500))
