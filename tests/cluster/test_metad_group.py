"""metad as a group of three: whatever happens to one of them, clients do not notice, and what was begun is finished."""

import contextlib
import errno
import os
import shutil
import signal
import subprocess
import time

import pynng
import pytest

from counters import Counter, wait_for_rounds
from harness import Background, Client, wait_for
from replicas import Replicas, tag_of

SHARDS = 16
COUNTERS = 4
STOPPED_S = 5


class Group:
    """metad's servers of a cluster."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.replicas = Replicas(cluster)

    def leader(self):
        return self.replicas.metad_leader(self.replicas.know())

    def wait_complete(self):
        self.replicas.wait_metad_complete()

    def change(self, *words, **options):
        return self.cluster.skerry("--metad", self.cluster.metad_address, "admin", "metad", *words, **options)


@pytest.fixture
def cluster(make_cluster):
    return make_cluster(metads=3, shards=SHARDS).start()


@pytest.fixture
def counters(cluster):
    tags = [tag_of(shard, SHARDS) for shard in range(SHARDS)]
    made = [Counter(cluster.address, f"c{i}", tags) for i in range(COUNTERS)]
    for counter in made:
        counter.start()
    wait_for_rounds(made, 1)
    yield made
    for counter in made:
        counter.stop()


def kill(victim):
    victim.kill()


def stop(victim):
    victim.signal(signal.SIGSTOP)


def undo_kill(victim):
    victim.start()


def undo_stop(victim):
    time.sleep(STOPPED_S)  # so long it is gone for the others
    victim.signal(signal.SIGCONT)


def drain_and_add(cluster, group, begun):
    """A node is emptied while `begun` happens, and gets its share back."""
    node_id = group.replicas.id_of(group.replicas.know(), cluster.nodes[0])
    assert group.replicas.change_node(node_id, "drain") is None
    begun()
    def is_empty():
        status = group.replicas.status()
        return status and not any(node_id == replica[0] for shard in status["map"]["shards"] for replica in shard["replicas"])
    wait_for(is_empty, "the node is drained")
    wait_for(lambda: group.replicas.change_node(node_id, "add") is None, "the node is a member again")
    group.replicas.wait_settled()


@pytest.mark.parametrize("fault, undo", [(kill, undo_kill), (stop, undo_stop)])
def test_nobody_notices_that_its_leader_is_gone(cluster, counters, metad_tries, fault, undo):
    group = Group(cluster)
    group.wait_complete()
    group.replicas.wait_in_sync()
    for _ in range(metad_tries):
        victim = group.leader()
        fault(victim)
        wait_for_rounds(counters)
        assert group.leader() is not victim
        undo(victim)
        wait_for_rounds(counters, 1)
    group.replicas.wait_in_sync()


def test_a_leader_that_is_told_to_end_hands_over(cluster, counters):
    """Another leads before it has ended, so that nobody waits for an election."""
    group = Group(cluster)
    group.wait_complete()
    leader = group.leader()
    assert leader.stop() == 0
    said = leader.log.read_text(errors="replace").rsplit('event=leader_hands_over text="it is stopping"', 1)
    assert len(said) == 2 and "event=leader_lost" in said[1]
    leader.start()
    group.wait_complete()


def test_a_shard_fails_over_while_metad_does(cluster, counters):
    group = Group(cluster)
    group.wait_complete()
    group.replicas.wait_in_sync()
    victim, node = group.leader(), group.replicas.leader(0)
    victim.kill()
    node.kill()
    wait_for_rounds(counters)
    victim.start()
    node.start()
    group.replicas.wait_in_sync()


def test_a_drain_goes_on_while_metad_fails_over(make_cluster, request):
    cluster = make_cluster(metads=3, nodes=4, shards=SHARDS).start()
    group = Group(cluster)
    group.wait_complete()
    group.replicas.wait_settled()

    def kill_one():
        victim = group.leader()
        victim.kill()
        assert group.leader() is not victim
        victim.start()
    drain_and_add(cluster, group, kill_one)


def test_data_needs_no_metad(cluster, counters):
    for metad in cluster.metads:
        metad.kill()
    wait_for_rounds(counters)
    for metad in cluster.metads:
        metad.start()
    Group(cluster).wait_complete()


def test_a_server_that_lost_its_disk_is_put_back_by_one_command(cluster, counters):
    group = Group(cluster)
    group.wait_complete()
    victim = cluster.metads[0]
    victim.kill()
    shutil.rmtree(victim.flag("--data-dir"))
    victim.start()
    name = victim.flag("--listen").removeprefix("tcp://")
    assert "metad's servers" in group.change("add", name).stdout
    group.wait_complete()
    other = next(metad for metad in cluster.metads if metad is not victim)
    other.kill()  # the one that came back counts
    wait_for_rounds(counters)
    group.leader()
    other.start()
    group.wait_complete()


def damage_term(raft):
    """As if it had never been in a term, so that it could vote once more in each."""
    for file in raft.glob("metadata*"):
        content = bytearray(file.read_bytes())
        content[16:24] = bytes(8)
        file.write_bytes(content)


def damage_log(raft):
    """In the middle of what is written, with good entries behind it."""
    file = max(raft.glob("open-*"), key=lambda file: len(file.read_bytes().rstrip(b"\0")))
    content = bytearray(file.read_bytes())
    content[len(content.rstrip(b"\0")) // 2] ^= 0x40
    file.write_bytes(content)


def tear_log(raft):
    """Its end is gone."""
    file = max(raft.glob("open-*"), key=lambda file: len(file.read_bytes().rstrip(b"\0")))
    with open(file, "r+b") as opened:
        opened.truncate(4096)


@pytest.mark.parametrize("damage", [damage_term, damage_log, tear_log])
def test_a_damaged_server_says_so_and_stays_out(cluster, counters, damage):
    group = Group(cluster)
    group.wait_complete()
    group.replicas.wait_in_sync()
    for shard in range(SHARDS):  # so that there is something in its log
        record = group.replicas.know()["map"]["shards"][shard]
        group.replicas.hand_over(shard, next(node for node in record["isr"] if node != record["leader"]))
    victim = group.leader()
    victim.kill()
    raft = cluster.directory / victim.name / "raft"
    damage(raft)
    victim.start()
    assert victim.process.wait(30) == 1
    assert str(raft) in victim.last_line(), victim.last_line()
    victim.process = None
    wait_for_rounds(counters)
    assert group.leader() is not victim


@pytest.fixture
def small_disk(tmp_path):
    """Of 16 MiB: metad's log takes 2 MiB at a time, and so much twice ahead."""
    place = tmp_path / "small"
    place.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", place], check=False).returncode != 0:
        pytest.skip("mounting a small disk needs root")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


class Filler(Background):
    """Takes all the room there is, also what becomes free."""

    def __init__(self, path):
        super().__init__()
        self.path = path

    def work(self):
        with open(self.path, "wb", buffering=0) as file:
            while not self.stopping.wait(0.005):
                try:
                    while file.write(bytes(4096)):
                        pass
                except OSError as full:
                    assert full.errno == errno.ENOSPC


def test_a_leader_with_a_full_disk_lets_another_lead(make_cluster, small_disk):
    cluster = make_cluster(metads=3, nodes=9)
    victim = cluster.metads[0]
    victim.flags[victim.flags.index("--data-dir") + 1] = str(small_disk / "metad")
    for metad in cluster.metads:
        metad.start()
    group = Group(cluster)
    group.wait_complete()
    filler = Filler(small_disk / "file")
    filler.start()
    node = {"store_id": b"s" * 16, "node_id": 0, "cluster": 0, "lanes": 1, "host": "h", "frames_address": "tcp://h:1",
            "replication_address": "tcp://h:2", "start": b"s" * 16}
    _, identity = group.replicas.ask_metad("register", "shardd", node)
    claims = [["claim", shard, 1] for shard in range(4096)]  # of shards that are not there: an entry of many kilobytes
    changes = "change", identity["node_id"], identity["incarnation"], b"s" * 16, claims
    assert group.leader() is victim
    with Client(victim.flag("--listen"), timeout_ms=1000) as client:
        def is_full():
            with contextlib.suppress(pynng.exceptions.NNGException):
                error, _ = client.ask(*changes)
                if error is not None and error[0] == "NOT_LEADER" and not victim.said("event=disk_stalled"):
                    leader = group.leader()  # elected for another reason, on a busy machine: until the victim leads again
                    if leader is not victim:
                        leader.stop()
                        leader.start()
            return victim.said("event=disk_stalled")
        wait_for(is_full, "the disk is full")
    wait_for(lambda: victim.said("event=leader_hands_over"), "it lets another lead")
    for _ in range(5):
        wait_for(lambda: group.replicas.demand(*changes) is None, "the others go on")
    assert group.leader() is not victim
    if victim.has_died():  # a new term could not be stored, so that it must not go on
        assert victim.reap() == 1 and victim.said("not_stored"), victim.last_line()
    filler.finish()
    filler.path.unlink()
    if victim.process is None:
        victim.start()
    else:
        wait_for(lambda: victim.said("event=disk_goes_on"), "it goes on where there is room")
    cluster.metads[1].kill()  # it counts again
    wait_for(lambda: group.replicas.demand(*changes) is None, "it and another are enough")
    cluster.kill_all()


def test_one_grows_to_three_without_a_stop(make_cluster):
    cluster = make_cluster(metads=3, shards=SHARDS)
    first, *others = cluster.metads
    at = first.flags.index("--peers")
    peers, first.flags[at:at + 2] = first.flags[at:at + 2], []
    first.start()
    for daemon in [*cluster.nodes, *cluster.gateways]:
        daemon.start()
    group = Group(cluster)
    with Client(cluster.address) as client:
        wait_for(lambda: client.ask("SET", "k", "v", timeout_ms=1000)[0] is None, "it takes writes")
        for metad in others:
            metad.start()
            group.change("add", metad.flag("--listen").removeprefix("tcp://"))
        group.wait_complete()
        first.kill()
        group.leader()
        first.flags += peers
        first.start()
        group.wait_complete()
        assert client("GET", "k") == b"v"
