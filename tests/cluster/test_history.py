"""Histories of clients are linearizable, and the judge of it notices when they are not."""

import json
import threading

import pynng
import pytest

import history
from harness import wait_for
from history import Recorder, Worker, Workload, judge, microseconds


def test_a_cluster_without_faults_is_linearizable(shared, tmp_path):
    workload = Workload(shared.address, tmp_path / "history.jsonl").start()
    workload.run_for(3)
    wait_for(lambda: workload.operations() > 500, "enough operations")
    workload.stop()
    print(workload.judge())
    assert workload.recorder.unknown == 0
    lines = read(workload.path)
    assert {line["op"] for line in lines} == {"get", "set", "del", "cas", "incr", "append"}
    assert any(line["op"] == "cas" and line.get("result") == 1 and line["expected"] is not None for line in lines)


@pytest.fixture(scope="module")
def recorded(shared, tmp_path_factory):
    """A good history, as a list of operations."""
    workload = Workload(shared.address, tmp_path_factory.mktemp("recorded") / "history.jsonl", seed=1).start()
    wait_for(lambda: workload.operations() > 1000, "enough operations")
    workload.stop()
    workload.judge()
    return read(workload.path)


def read(path):
    return [json.loads(line) for line in open(path, encoding="utf-8")]


def write(path, operations):
    path.write_text("".join(json.dumps(operation) + "\n" for operation in operations), encoding="utf-8")
    return path


def caught(path, operations, *words):
    with pytest.raises(AssertionError) as told:
        judge(write(path, operations))
    for word in ("result=violation", "not linearizable", *words):
        assert word in str(told.value), word


def of_kind(operations, kind, op):
    """The operations of one kind of keys that were done, in the order of their ends."""
    found = [line for line in operations if f":{kind}:" in line["key"] and line["op"] == op and "end" in line]
    return sorted(found, key=lambda line: line["end"])


def test_a_value_from_nowhere_is_caught(recorded, tmp_path):
    operations = [dict(line) for line in recorded]
    victim = of_kind(operations, "register", "get")[-1]
    victim["result"] = "never written"
    caught(tmp_path / "doctored.jsonl", operations, '"never written" was seen, but nothing wrote it')


def test_a_lost_write_is_caught(recorded, tmp_path):
    """All reads and answers stay; the write that one of them saw is gone."""
    seen = {line["result"] for line in of_kind(recorded, "register", "get")}
    lost = next(line for line in of_kind(recorded, "register", "set") if line["value"] in seen)
    caught(tmp_path / "doctored.jsonl", [line for line in recorded if line is not lost], lost["value"])


def test_a_stale_read_is_caught(recorded, tmp_path):
    """A counter only rises; its last read sees what its first one saw."""
    operations = [dict(line) for line in recorded]
    reads = of_kind(operations, "counter", "get")
    last = reads[-1]
    first = next(line for line in reads if line["key"] == last["key"] and line["result"] is not None)
    assert int(first["result"]) < int(last["result"])
    between = [line for line in of_kind(operations, "counter", "incr")
               if line["key"] == last["key"] and line["begin"] > first["end"] and line["end"] < last["begin"]]
    assert between
    last["result"] = first["result"]
    caught(tmp_path / "doctored.jsonl", operations, last["key"])


def test_a_value_that_is_gone_too_early_is_caught(recorded, tmp_path):
    """As if all that expired should have lived for an hour more."""
    operations = [line | {"expires": line["expires"] + 3_600_000_000} if "expires" in line else line for line in recorded]
    caught(tmp_path / "doctored.jsonl", operations, ":expiring:")


def test_an_increment_done_twice_is_caught(recorded, tmp_path):
    """From one increment on, all that is seen of a counter is too much by its amount."""
    operations = [dict(line) for line in recorded]
    increments = of_kind(operations, "counter", "incr")
    twice = increments[len(increments) // 2]
    threshold = twice["result"]
    for line in operations:
        if line["key"] != twice["key"] or "result" not in line or line["result"] is None:
            continue
        if int(line["result"]) >= threshold:
            line["result"] = type(line["result"])(int(line["result"]) + twice["amount"])
    caught(tmp_path / "doctored.jsonl", operations, twice["key"])


def test_a_write_that_failed_and_was_seen_is_caught(recorded, tmp_path):
    operations = [dict(line) for line in recorded]
    seen = {line["result"] for line in of_kind(operations, "register", "get")}
    liar = next(line for line in of_kind(operations, "register", "set") if line["value"] in seen)
    liar["outcome"] = "failed"
    caught(tmp_path / "doctored.jsonl", operations, liar["value"])
    liar["outcome"] = "unknown"  # which may have happened
    judge(write(tmp_path / "unknown.jsonl", operations))


def test_what_the_judge_cannot_decide_or_read_fails(recorded, tmp_path):
    with pytest.raises(AssertionError, match="result=undecided"):
        judge(write(tmp_path / "history.jsonl", recorded), budget=1)
    (tmp_path / "nonsense").write_text("nonsense\n")
    with pytest.raises(AssertionError, match="nonsense: line 1"):
        judge(tmp_path / "nonsense")
    with pytest.raises(AssertionError, match="No such file"):
        judge(tmp_path / "missing")


# ---- the worker's own care, against a client that answers what it is told ----


class ScriptedClient:
    def __init__(self, script):
        self.script = script  # of [error, result] and exceptions
        self.asked = []
        self.worker = None
        self.closed = 0

    def ask(self, method, *params, **options):
        self.asked.append((method, params, options.get("id")))
        answer = self.script.pop(0)
        if not self.script:
            self.worker.stopping.set()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self):
        self.closed += 1


LOST = pynng.exceptions.Timeout("lost", 5)


def play(tmp_path, kind, op, script, **manners):
    """What one operation asks when it is answered so, and what is written down."""
    recorder = Recorder(tmp_path / "history.jsonl")
    client = ScriptedClient(list(script))
    worker = Worker(7, lambda: client, recorder, [("k", kind)], 1, 100, **manners)
    client.worker = worker
    worker.count = 1
    commands = {"get": ["GET", "k"], "incr": ["INCRBY", "k", 1], "set": ["SET", "k", "v"]}
    arguments = {"get": {}, "incr": {"amount": 1}, "set": {"value": "v"}}
    worker.perform("k", op, commands[op], **arguments[op])
    recorder.close()
    line, = read(tmp_path / "history.jsonl")
    assert line["client"] == 7 and line["key"] == "k" and line["op"] == op and line["begin"] <= microseconds()
    return client, line


def test_the_same_id_until_there_is_an_answer(tmp_path):
    script = [[["UNAVAILABLE", ""], None], LOST, [["OVERLOADED", ""], None], [["DISKFULL", ""], None], [None, 5]]
    client, line = play(tmp_path, "counter", "incr", script)
    assert len(client.asked) == 5 and len(set(client.asked)) == 1 and client.asked[0][2] is not None
    assert client.closed == 1  # a new connection after a lost one
    assert line["result"] == 5 and line["end"] >= line["begin"] and "outcome" not in line


@pytest.mark.parametrize("code", ["TIMEOUT", "FORGOTTEN", "INTERNAL", "DONE"])
def test_an_outcome_that_is_not_known(tmp_path, code):
    client, line = play(tmp_path, "counter", "incr", [[[code, ""], None]])
    assert len(client.asked) == 1
    assert line["outcome"] == "unknown" and "end" not in line and "result" not in line


def test_a_timeout_is_resolved(tmp_path):
    script = [[["TIMEOUT", ""], None], [["UNAVAILABLE", ""], None], [None, 5]]
    client, line = play(tmp_path, "counter", "incr", script, resolves=True)
    assert len(client.asked) == 3 and len(set(client.asked)) == 1
    assert line["result"] == 5
    _, line = play(tmp_path, "counter", "incr", script[:2], resolves=True)  # stopped before it was
    assert line["outcome"] == "unknown"
    client, line = play(tmp_path, "counter", "get", [script[0], [None, b"5"]])  # a read can always be asked again
    assert line["result"] == "5"


@pytest.mark.parametrize("lost", [LOST, [["TIMEOUT", ""], None]])
def test_without_ids_only_what_has_not_happened_is_asked_again(tmp_path, lost):
    client, line = play(tmp_path, "counter", "incr", [[["UNAVAILABLE", ""], None], lost], named=False)
    assert [asked[2] for asked in client.asked] == [None, None]
    assert line["outcome"] == "unknown"
    client, line = play(tmp_path, "counter", "get", [lost, [None, b"5"]], named=False)
    assert line["result"] == "5"


def repeat(tmp_path, script):
    client = ScriptedClient([*script, [None, "not asked for"]])
    client.worker = worker = Worker(7, lambda: client, Recorder(tmp_path / "history.jsonl"), [], 1, 100, True)
    worker.repeat(["INCRBY", "k", 1], "name", 5)
    assert {asked[2] for asked in client.asked} == {"name"}


def test_an_old_write_has_its_old_answer(tmp_path):
    repeat(tmp_path, [LOST, [["TIMEOUT", ""], None], [None, 5]])
    with pytest.raises(AssertionError, match="answered 5 and then done 6"):
        repeat(tmp_path, [[None, 6]])
    with pytest.raises(AssertionError, match="and then unknown"):
        repeat(tmp_path, [[["FORGOTTEN", ""], None]])


def test_the_longest_time_without_a_write(tmp_path, monkeypatch):
    recorder = Recorder(tmp_path / "history.jsonl")
    for op, outcome, now in [("set", "done", 10), ("set", "done", 30), ("get", "done", 60), ("incr", "unknown", 70),
                             ("incr", "done", 90), ("cas", "done", 100)]:
        monkeypatch.setattr(history, "microseconds", lambda: now)
        recorder.begin(1, "k", op)
        recorder.end(1, outcome)
    assert recorder.longest_gap_us == 60  # from 30 to 90
    recorder.close()


@pytest.mark.parametrize("code", ["BADVALUE", "WRONGTYPE", "TOOLARGE"])
def test_what_is_refused_has_not_happened(tmp_path, code):
    _, line = play(tmp_path, "counter", "incr", [[[code, ""], None]])
    assert line["outcome"] == "failed"


def test_stopped_before_there_is_an_answer(tmp_path):
    _, line = play(tmp_path, "register", "set", [[["UNAVAILABLE", ""], None]])
    assert line["outcome"] == "failed"
    _, line = play(tmp_path, "register", "set", [LOST, [["UNAVAILABLE", ""], None]])
    assert line["outcome"] == "unknown"  # the lost one may have happened


def test_a_bad_request_is_a_mistake_of_the_test(tmp_path):
    with pytest.raises(AssertionError):
        play(tmp_path, "register", "set", [[["BADREQUEST", ""], None]])


def test_reads_have_no_id_and_any_bytes(tmp_path):
    client, line = play(tmp_path, "register", "get", [[["UNAVAILABLE", ""], None], [None, b"\xff\x00a"]])
    assert client.asked[0][2] is None
    assert line["result"] == "\xff\x00a"


def test_what_is_in_flight_at_the_end_is_unknown(tmp_path):
    recorder = Recorder(tmp_path / "history.jsonl")
    recorder.begin(1, "k", "set", value="a")
    recorder.begin(2, "k", "get")
    recorder.end(2, "done", None)
    recorder.close()
    lines = read(tmp_path / "history.jsonl")
    assert [line.get("outcome") for line in lines] == [None, "unknown"]
    assert recorder.done == 1 and recorder.unknown == 1
    judge(tmp_path / "history.jsonl")


def test_when_a_value_may_be_gone(tmp_path, monkeypatch):
    recorder = Recorder(tmp_path / "history.jsonl")
    for client, key in enumerate("abc"):
        monkeypatch.setattr(history, "microseconds", lambda: 100)
        recorder.begin(client, key, "set", value=key, life_us=1000)
    monkeypatch.setattr(history, "microseconds", lambda: 107)
    recorder.end(0, "done")
    asked = []

    def early_us(*words):
        asked.append(words)
        return {"a": 0, "b": 300, "c": 9000}[words[0]]

    recorder.close(early_us)
    assert asked == [("a", 100, 107, 1100), ("b", 100, 1100, 1100), ("c", 100, 1100, 1100)]  # nobody knows when b was written
    assert [line["expires"] for line in read(tmp_path / "history.jsonl")] == [1100, 800, 100]
    judge(tmp_path / "history.jsonl")


def test_many_threads_write_whole_lines(tmp_path):
    recorder = Recorder(tmp_path / "history.jsonl")

    def write_many(client):
        for i in range(500):
            recorder.begin(client, f"k{client}", "set", value="x" * 500)
            recorder.end(client, "done")

    threads = [threading.Thread(target=write_many, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    recorder.close()
    assert len(read(tmp_path / "history.jsonl")) == 4000
