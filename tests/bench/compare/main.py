"""Measures Skerry beside its peers on this machine, one after the other in rounds A B A B, and writes build/bench/results.md and .json.
`scripts/bench` installs and builds what it needs."""

import argparse
import dataclasses
import datetime
import fcntl
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

import report
from drivers import Settings
from figures import Figures, cpu_seconds, memory_mb, wait_until_quiet
from load_table import LOADS
from processes import PATH, ROOT, Failed

DATA = ROOT / "build" / "bench" / "data"  # on the disk, as the sources are
QUICK_S, QUICK_KEYS_MAX, QUICK_ROUNDS = 3, 100_000, 2
DEFAULT_S, DEFAULT_ROUNDS = 20, 3
WARM_UP_S = 3


# ---- one measurement ----

def watch(seconds):
    time.sleep(seconds)
    return Figures(per_second=0)


def take(system, settings):
    """Figures of one measurement, after a warm-up that is not counted."""
    idle = settings.in_flight == 0
    pids = system.pids()
    if idle:
        time.sleep(settings.seconds)  # what is done once in a while after a load is done by then
    elif not system.WARMS_UP:
        system.drive(dataclasses.replace(settings, seconds=min(WARM_UP_S, settings.seconds)))
    wait_until_quiet(pids)
    before, begin = cpu_seconds(pids), time.monotonic()
    figures = watch(settings.seconds) if idle else system.drive(settings)
    took = time.monotonic() - begin
    if system.pids() != pids:
        raise Failed("a process of the system ended meanwhile")
    if pids:
        figures.cpu_seconds = cpu_seconds(pids) - before
        figures.cpu_percent = 100 * figures.cpu_seconds / took
        figures.private_mb, figures.dirty_mb, figures.rss_mb = memory_mb(pids)
    if figures.cpu_seconds is not None and figures.commands > 0:
        figures.cpu_per_million = figures.cpu_seconds / figures.commands * 1e6
    return figures


def tell(figures):
    cells = [f"{report.number(figures.per_second)}/s", f"p50 {report.ms(figures.p50_ms)} ms", f"p99 {report.ms(figures.p99_ms)} ms"] \
        if figures.p50_ms is not None else []
    if figures.cpu_per_million is not None:
        cells.append(f"CPU {figures.cpu_per_million:.1f} s per million")
    if figures.cpu_percent is not None:
        cells.append(f"{figures.cpu_percent:.1f} % of a core")
    if figures.private_mb is not None:
        cells.append(f"private {figures.private_mb:.0f} MB (dirty {figures.dirty_mb:.0f})")
    if figures.errors:
        cells.append(f"errors {figures.errors}")
    if figures.missing:
        cells.append(f"missing {figures.missing}")
    return ", ".join(cells)


# ---- one load ----

class Run:
    """A load's rounds: every contestant in turn is started on its directory, measured and stopped; its data stays until the end."""

    def __init__(self, load, contestants, options, progress):
        self.load, self.contestants, self.options, self.progress = load, contestants, options, progress
        self.systems = {each.name: each.system(self.directory(each)) for each in contestants}
        self.loaded = set()

    def directory(self, contestant):
        return DATA / re.sub(r"[^a-z0-9]+", "-", f"{self.load.name} {contestant.name}".lower())

    def settings(self, measure, contestant):
        options, wanted = self.options, {**dataclasses.asdict(measure), "keys": self.load.keys, **contestant.changes}
        keys = min(wanted["keys"], QUICK_KEYS_MAX) if options.quick else wanted["keys"]
        return Settings(keys=keys, value_bytes=self.load.value_bytes, reads=wanted["reads"], in_flight=wanted["in_flight"],
                        connections=wanted["connections"], batch=wanted["batch"], whole_batches=wanted["whole_batches"],
                        seconds=options.seconds or wanted["seconds"] or DEFAULT_S)

    def bring_up(self, contestant, system):
        """Started on loaded data, in the first round as in the others: what a bulk load leaves in a process is in no figure. But what is
        measured fresh is as the load left it."""
        if self.load.fresh:
            system.wipe()
        system.start()
        if contestant.name in self.loaded and not self.load.fresh:
            return
        system.load(dataclasses.replace(self.settings(self.load.measures[0], contestant), reads=100, in_flight=64, connections=8, batch=1,
                                        seconds=0.1))
        self.loaded.add(contestant.name)
        wait_until_quiet(system.pids())
        if not self.load.fresh:
            system.stop()
            system.start()

    def one_turn(self, contestant, result):
        system = self.systems[contestant.name]
        try:
            self.bring_up(contestant, system)
            for measure, row in zip(self.load.measures, result["measures"]):
                figures = take(system, self.settings(measure, contestant))
                row["rounds"][contestant.name].append(dataclasses.asdict(figures))
                self.progress(f"{self.load.name}, {measure.name}: {contestant.name}", tell(figures))
        finally:
            system.stop()

    def described(self):
        varied = sorted({name for each in self.contestants for name in each.changes})
        measures = []
        for measure in self.load.measures:
            settings = self.settings(measure, self.contestants[0])
            measures.append({**dataclasses.asdict(measure), "seconds": settings.seconds,
                             "rounds": {each.name: [] for each in self.contestants}})
        keys = self.settings(self.load.measures[0], self.contestants[0]).keys
        return {"form": report.FORM, "name": self.load.name, "title": self.load.title, "promise": self.load.promise, "keys": keys,
                "value_bytes": self.load.value_bytes, "varied": varied, "contestants": [each.name for each in self.contestants], "measures": measures,
                "made": how_made(self.options)}

    def rounds(self, results, order):
        result = results[self.load.name] = self.described()
        try:
            for _ in range(self.options.rounds):
                for contestant in self.contestants:
                    self.one_turn(contestant, result)
                    report.write(results, order)
        finally:
            for contestant in self.contestants:
                shutil.rmtree(self.directory(contestant), ignore_errors=True)


# ---- what it was made with ----

def first_line(command, pattern):
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, "PATH": PATH})
    except OSError:
        return "?"
    found = re.search(pattern, done.stdout + done.stderr)
    return found[1] if found else "?"


def how_made(options):
    processor = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    return {"time": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M"),
            "cores": len(os.sched_getaffinity(0)), "processor": processor[1] if processor else "?", "quick": options.quick,
            "rounds": options.rounds, "versions": {
                "Skerry": first_line(["git", "describe", "--always", "--dirty"], r"(\S+)"),
                "Redis": first_line(["redis-server", "--version"], r"v=(\S+)"),
                "etcd": first_line(["etcd", "--version"], r"etcd Version: (\S+)"),
                "nutcracker": first_line(["nutcracker", "--version"], r"nutcracker-(\S+)")}}


# ---- the command line ----

def parse():
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--list", action="store_true", help="name the loads and who is in them")
    parser.add_argument("--only", action="append", metavar="LOAD", help="this one, or several with commas; results of others stay")
    parser.add_argument("--systems", metavar="PART,...", help="of the contestants the first, and those whose names have one of these in them")
    parser.add_argument("--rounds", type=int, help=f"({DEFAULT_ROUNDS})")
    parser.add_argument("--seconds", type=float, help=f"of each measurement, in place of {DEFAULT_S} or what the load says")
    parser.add_argument("--quick", action="store_true",
                        help=f"{QUICK_ROUNDS} rounds of {QUICK_S} s, {QUICK_KEYS_MAX:,} keys at most: to see that it runs")
    parser.add_argument("--readme", action="store_true", help="measure nothing; write the table in README.md from the results there are")
    parser.add_argument("--check", action="store_true", help=argparse.SUPPRESS)  # only these words
    options = parser.parse_args()
    names = [load.name for load in LOADS]
    options.only = [name for names_ in options.only or [",".join(names)] for name in names_.split(",")]
    for name in options.only:
        if name not in names:
            parser.error(f"no load is called {name}; there are {', '.join(names)}")
    options.rounds = options.rounds or (QUICK_ROUNDS if options.quick else DEFAULT_ROUNDS)
    options.seconds = options.seconds or (QUICK_S if options.quick else None)
    return options


def chosen(load, options):
    if options.systems is None:
        return load.contestants
    parts = options.systems.lower().split(",")
    return tuple(each for i, each in enumerate(load.contestants) if i == 0 or any(part in each.name.lower() for part in parts))


def show_list():
    for load in LOADS:
        print(f"{load.name:18} {load.title}\n{'':18} promise: {load.promise}\n"
              f"{'':18} {'; '.join(each.name for each in load.contestants)}")


def make_progress(total):
    begin, done = time.monotonic(), 0

    def progress(what, told):
        nonlocal done
        done += 1
        print(f"[{done}/{total}, {time.monotonic() - begin:.0f} s] {what}: {told}", flush=True)
    return progress


def measure_all(options):
    order, results = [load.name for load in LOADS], report.read()
    loads = [(load, chosen(load, options)) for load in LOADS if load.name in options.only]
    progress = make_progress(options.rounds * sum(len(load.measures) * len(contestants) for load, contestants in loads))
    failed = []
    for load, contestants in loads:
        try:
            Run(load, contestants, options, progress).rounds(results, order)
        except Failed as failure:
            failed.append(load.name)
            print(f"{load.name} failed: {failure}", flush=True)
    print("\n" + report.as_markdown({name: results[name] for name in options.only if name in results}))
    print(f"These tables and those of earlier runs: {report.FOLDER.relative_to(ROOT)}/results.md"
          + (f"; failed: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


def only_one():
    """Two at a time would measure each other."""
    report.FOLDER.mkdir(parents=True, exist_ok=True)
    lock = open(report.FOLDER / "lock", "w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit("another scripts/bench is running here")
    return lock


def main():
    options = parse()
    if options.check:
        return 0
    if options.list:
        show_list()
        return 0
    if options.readme:
        report.write_readme(report.read())
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where a shell that runs it in the background has it ignored
    lock = only_one()
    shutil.rmtree(DATA, ignore_errors=True)  # of a run that was killed
    try:
        return measure_all(options)
    except KeyboardInterrupt:
        print("interrupted; what was measured by then is in the results", flush=True)
        return 130
    finally:
        shutil.rmtree(DATA, ignore_errors=True)
        lock.close()


if __name__ == "__main__":
    sys.exit(main())
