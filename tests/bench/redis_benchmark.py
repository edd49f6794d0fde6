"""redis-benchmark against Skerry (three shardd, settings as by default) and against a redis-server with two replicas and
appendfsync always, one after the other on this machine; prints a table. Not a test.

usage: redis_benchmark.py [--requests N] [--clients N] [--tests LIST] [--only skerry|redis]

What each promises when it answers a write: Skerry, that it is on the disks of two of three nodes at least; redis-server, that it is on
its own disk (its replicas get it a moment later)."""

import argparse
import contextlib
import csv
import pathlib
import platform
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "redis"))
from resp import Connection  # noqa: E402
from servers import Redis, Skerry, wait_for  # noqa: E402

PIPELINES = (1, 16)
KEYS = 100000  # different ones


def benchmark(port, options, pipeline, tests):
    """{test: (commands a second, p50 ms, p99 ms)}."""
    done = subprocess.run(["redis-benchmark", "-p", str(port), "-t", tests, "-n", str(options.requests), "-c", str(options.clients),
                           "-P", str(pipeline), "-r", str(KEYS), "--csv"], capture_output=True, text=True, check=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith('"')]
    rows = csv.DictReader(lines)
    return {row["test"].split()[0]: (float(row["rps"]), float(row["p50_latency_ms"]), float(row["p99_latency_ms"])) for row in rows}


def in_sync(port, replicas):
    """All replicas get what the server at `port` writes."""
    connection = Connection(port)
    told = connection.ask(b"INFO", b"replication")
    connection.close()
    return told.count(b"state=online") == replicas


@contextlib.contextmanager
def redis(directory):
    with contextlib.ExitStack() as stack:
        leader = Redis(directory, keeps=True)
        stack.callback(leader.stop)
        for _ in range(2):
            replica = Redis(directory, keeps=True, flags=("--replicaof", f"127.0.0.1 {leader.port}"))
            stack.callback(replica.stop)
        wait_for(lambda: in_sync(leader.port, 2), "both replicas are level")
        yield leader.port


@contextlib.contextmanager
def skerry(directory):
    server = Skerry(directory / "skerry", shards=64)
    try:
        yield server.port
    finally:
        server.stop()


SYSTEMS = {"skerry": skerry, "redis": redis}


def measure(system, options):
    """{(test, pipeline): figures}."""
    (ROOT / "build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="redis-benchmark-", dir=ROOT / "build") as directory:  # on a disk
        with SYSTEMS[system](pathlib.Path(directory)) as port:
            benchmark(port, argparse.Namespace(requests=10000, clients=50), 16, options.tests)  # nothing is cold, and GET finds something
            return {(test, pipeline): figures for pipeline in PIPELINES
                    for test, figures in benchmark(port, options, pipeline, options.tests).items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=100000, help="of each test (100000)")
    parser.add_argument("--clients", type=int, default=50, help="connections (50)")
    parser.add_argument("--tests", default="set,get,lpush,sadd,hset,zadd", help="as of redis-benchmark -t")
    parser.add_argument("--only", choices=SYSTEMS, action="append", help="one of them")
    options = parser.parse_args()
    results = {system: measure(system, options) for system in options.only or SYSTEMS}
    print(f"{options.clients} connections, {options.requests} commands each, {KEYS} keys; {platform.machine()}, "
          f"commands a second (p50 / p99 ms)\n")
    print("| command | pipeline | " + " | ".join(results) + " |\n| --- | --- |" + " --- |" * len(results))
    for test, pipeline in next(iter(results.values())):
        cells = ["{:,.0f} ({:.2f} / {:.2f})".format(*result[test, pipeline]) if (test, pipeline) in result else "-"
                 for result in results.values()]
        print(f"| {test} | {pipeline} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
