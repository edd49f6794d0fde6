"""Whose disk may be emptied, which ends of a node are forgiven, and when a node that leaves is gone."""

import random
import types

import pytest

import kinds
from kinds import ChaosFaults, may_lose


class Chance(random.Random):
    """Always, or never."""

    def __init__(self, answer):
        super().__init__(0)
        self.answer = answer

    def random(self):
        return 0.0 if self.answer else 1.0


def faults_with(isrs, lost=(), daring=False):
    status = {"map": {"shards": [{"isr": isr, "min_isr": 2} for isr in isrs]}}
    replicas = types.SimpleNamespace(id_of=lambda _, node: node)
    return types.SimpleNamespace(status=lambda: status, replicas=replicas, lost_ids=set(lost), chance=Chance(daring))


@pytest.mark.parametrize("isrs, lost, always, daring", [
    ([[1, 2, 3], [3, 2, 1]], [], True, True),
    ([[1, 2, 3], [1, 2]], [], False, True),  # the second shard would be on node 2 alone
    ([[1, 2, 3], [2, 3]], [], True, True),  # node 1 is not in sync there
    ([[1, 2, 3], [1]], [], False, False),  # nobody else has it
    ([[1, 2, 3]], [2], False, True),  # node 2 is in sync by name only: its disk is gone
    ([[1, 2]], [2], False, False),
    ([[1, 2, 3]], [2, 3], False, False),
])
def test_the_last_copy_is_never_emptied(isrs, lost, always, daring):
    assert may_lose(faults_with(isrs, lost), 1) == always
    assert may_lose(faults_with(isrs, lost, daring=True), 1) == daring


def test_nothing_is_emptied_while_metad_does_not_tell():
    faults = faults_with([[1, 2, 3]])
    faults.status = lambda: None
    assert not may_lose(faults, 1)


class Node:
    def __init__(self, code, last):
        self.name = "node"
        self.process = types.SimpleNamespace(returncode=code)
        self.last_line = lambda: last
        self.reaped = False

    def reap(self):
        self.reaped = True


@pytest.mark.parametrize("code, last, kind, forgiven", [
    (2, "shardd: data/log: no space left (offset 0)", None, True),
    (2, "shardd: cannot open data/LOCK: No space left on device", None, True),
    (2, "shardd: data/log: damaged", None, False),
    (1, "event=stopping reason=fault", "sync_error", True),
    (1, "event=stopping reason=fault", "stop_leader", False),
    (1, "event=stopping reason=fault", None, False),
    (2, "shardd: data/log: input/output error (offset 0)", "sync_error", True),
    (2, "shardd: data/log: input/output error (offset 0)", None, False),
    (-6, "event=assertion_failed", "sync_error", False),
    (-6, "shardd: no space left", None, False),
])
def test_which_ends_are_forgiven(tmp_path, code, last, kind, forgiven):
    node = Node(code, last)
    cluster = types.SimpleNamespace(nodes=[node], hosts=types.SimpleNamespace(network=None), metads=[], metad_addresses=[])
    faults = ChaosFaults(cluster, random.Random(0), tmp_path / "log", kinds.KINDS)
    if kind is not None:
        faults.later(10, faults.note(kind, node), print)
    assert faults.forgives(node) == node.reaped == forgiven


def test_a_removed_node_has_ended_for_good(tmp_path):
    node = Node(kinds.REMOVED, "node 4 was removed for ever")
    cluster = types.SimpleNamespace(nodes=[node], hosts=types.SimpleNamespace(network=None), metads=[], metad_addresses=[])
    faults = ChaosFaults(cluster, random.Random(0), tmp_path / "log", kinds.KINDS)
    assert not faults.forgives(node)  # nobody has asked for it
    leaving = faults.leaving[node] = faults.note("leave", nature="members")
    faults.later(0, leaving, print)
    assert faults.may_hit(node) and not faults.may_empty(node)
    assert faults.forgives(node) and node.reaped
    node.process = None
    assert not faults.may_hit(node)
    assert kinds.is_over(faults, leaving, node)
    faults.later(10, faults.note("kill_follower", node), print)  # it was dead when it was removed, and will be started again
    assert not kinds.is_over(faults, leaving, node)
