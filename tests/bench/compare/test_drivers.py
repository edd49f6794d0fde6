"""The load programs of scripts/bench do what they say they did. How fast is no matter here."""

import dataclasses

import drivers
import pytest
from systems import Redis, Skerry, free_port

SETTINGS = drivers.Settings(keys=1234, value_bytes=100, reads=100, in_flight=4, connections=4, batch=1, whole_batches=False, seconds=0.2)


@pytest.fixture(scope="module")
def redis(tmp_path_factory):
    system = Redis(tmp_path_factory.mktemp("redis"), "always", replicas=1, wait=1)
    system.start()
    system.load(SETTINGS)
    yield system
    system.stop()


def changed(**changes):
    return dataclasses.replace(SETTINGS, **changes)


def test_every_key_is_loaded(redis):
    assert redis.ask(redis.port, b"DBSIZE") == SETTINGS.keys
    value = redis.ask(redis.port, b"GET", b"key:000000001233")
    assert len(value) == SETTINGS.value_bytes


@pytest.mark.parametrize("batch", [1, 16])
@pytest.mark.parametrize("reads", [0, 50, 100])
def test_commands_are_counted(redis, batch, reads):
    def done():
        told = dict(line.split(b":")[:2] for line in redis.ask(redis.port, b"INFO", b"commandstats").split() if b":" in line)
        return [int(told.get(name, b"calls=0").split(b"=")[1].split(b",")[0]) for name in (b"cmdstat_get", b"cmdstat_set", b"cmdstat_wait")]
    before = done()
    figures = redis.drive(changed(batch=batch, reads=reads))
    gets, sets, waits = (b - a for a, b in zip(before, done()))
    assert figures.errors == {} and figures.missing == 0
    assert figures.commands == gets + sets > 0
    assert (gets > 0, sets > 0, waits > 0) == (reads > 0, reads < 100, reads < 100)
    if reads == 0:
        assert waits * batch == sets


def test_refusals_are_told(redis):
    port = redis.start_one(9, ["--replicaof", "127.0.0.1", redis.port])  # a replica takes no writes
    figures = drivers.resp_load(port, changed(reads=0))
    assert figures.errors.keys() <= {"READONLY", "LOADING"} and figures.errors["READONLY"] > 0 and figures.commands == 0


def test_missing_keys_are_told(redis):
    assert drivers.resp_load(redis.port, changed(keys=10 ** 12)).missing > 0


@pytest.mark.parametrize("in_flight, copies", [(1, 1), (64, 1), (1, 2), (64, 2)])
@pytest.mark.parametrize("writes", [False, True])
def test_the_bare_chain_answers(tmp_path, in_flight, copies, writes):
    figures = drivers.bare_chain(free_port(range(12)), 3, tmp_path if writes else None, copies, 1,
                                 changed(in_flight=in_flight, connections=1))
    assert figures.commands > 0 and figures.cpu_seconds > 0 and 0 < figures.p50_ms <= figures.p99_ms
    assert list(tmp_path.iterdir()) == []


def test_skerry_is_loaded_by_both_of_its_protocols(tmp_path):
    system = Skerry(tmp_path)
    try:
        system.start()
        assert len(system.pids()) == 5
        system.load(SETTINGS)
        for figures in (system.drive(SETTINGS), drivers.resp_load(system.resp_port, SETTINGS)):
            assert figures.commands > 0 and figures.errors == {} and figures.missing == 0
    finally:
        system.stop()
