"""The programs that load a system: each takes the same settings and returns figures."""

import csv
import dataclasses
import json

from figures import Figures
from processes import ROOT, Failed, run

BUILD = ROOT / "build" / "release"
SKERRY = BUILD / "cli" / "skerry"
RESP_LOAD = BUILD / "tests" / "bench" / "resp_load"
BARE_CHAIN = BUILD / "tests" / "bench" / "bare_chain"
ETCD_LOAD = ROOT / "build" / "bench" / "etcd_load"
BENCHMARK_WARM_UP = 20000  # commands, from which redis-benchmark's number for a time is reckoned


@dataclasses.dataclass(frozen=True)
class Settings:
    keys: int
    value_bytes: int
    reads: int  # percent
    in_flight: int  # requests at once
    connections: int
    batch: int  # commands in a request
    whole_batches: bool  # of a mixed load: all of a request are reads, or all writes
    seconds: float

    def flags(self):
        """As all of our own load programs have them."""
        return ["--keys", self.keys, "--value-size", self.value_bytes, "--reads", self.reads, "--connections", self.connections,
                "--batch", self.batch, "--duration", f"{round(self.seconds * 1000)}ms"]


def figures_of(output, reads):
    """Of the line that our load programs print. Latencies are those of reads, if there were any."""
    told = json.loads(output)
    kind = told["reads" if reads else "writes"]
    return Figures(per_second=told["per_second"], commands=told["reads"]["count"] + told["writes"]["count"],
                   p50_ms=kind.get("p50_us", 0) / 1000, p99_ms=kind.get("p99_us", 0) / 1000, errors=told["errors"],
                   missing=told["missing"], cpu_seconds=told.get("cpu_seconds"))


def run_own(command, settings):
    code, output, errors = run(command)
    if code not in (0, 1) or not output.startswith("{"):  # 1: some commands were answered with an error, which are counted
        raise Failed(f"{command[0]}: {errors[-1000:]}")
    return figures_of(output, settings.reads > 0)


def skerry_bench(gateway, settings, load=False):
    whole = ["--whole-batches"] if settings.whole_batches else []
    return run_own([SKERRY, "bench", "--gateway", gateway, "--json", "--in-flight", settings.in_flight, *settings.flags(), *whole,
                    *(["--load"] if load else [])], settings)


def resp_load(port, settings, wait=0, load=False):
    """Each connection has one request under way, so there are as many connections as requests at once."""
    return run_own([RESP_LOAD, "--port", port, "--wait", wait, *settings.flags(), *(["--load"] if load else [])],
                   settings)


def etcd_load(endpoints, settings, load=False):
    return run_own([ETCD_LOAD, "--endpoints", ",".join(endpoints), "--in-flight", settings.in_flight, *settings.flags(),
                    *(["--load"] if load else [])], settings)


def bare_chain(port, servers, write_directory, copies, warm_up, settings):
    writes = ["--write", write_directory] if write_directory is not None else []
    return run_own([BARE_CHAIN, "--port", port, "--servers", servers, *writes, "--copies", copies, "--in-flight", settings.in_flight,
                    "--connections", settings.connections, "--warm-up", f"{round(warm_up * 1000)}ms",
                    "--duration", f"{round(settings.seconds * 1000)}ms"],
                   dataclasses.replace(settings, reads=0 if writes else 100))


def redis_benchmark_once(port, settings, commands):
    test = "get" if settings.reads else "set"
    code, output, errors = run(["redis-benchmark", "-p", port, "-t", test, "-n", commands, "-c", settings.connections,
                                "-P", settings.batch, "-r", settings.keys, "-d", settings.value_bytes, "--csv"])
    rows = list(csv.DictReader(line for line in output.splitlines() if line.startswith('"')))
    if code != 0 or len(rows) != 1:
        raise Failed(f"redis-benchmark: {output[-500:]} {errors[-500:]}")
    row = rows[0]
    return Figures(per_second=float(row["rps"]), commands=commands, p50_ms=float(row["p50_latency_ms"]),
                   p99_ms=float(row["p99_latency_ms"]))


def redis_benchmark(port, settings):
    """It takes a number of commands and no time: as many as a short run promises for the time."""
    rate = redis_benchmark_once(port, settings, BENCHMARK_WARM_UP).per_second
    figures = redis_benchmark_once(port, settings, max(BENCHMARK_WARM_UP, round(rate * settings.seconds)))
    figures.commands += BENCHMARK_WARM_UP
    return figures
