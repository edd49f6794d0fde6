"""The figures of one measurement, and what of them the kernel tells: processor time and memory of processes."""

import dataclasses
import os
import pathlib
import time

TICKS = os.sysconf("SC_CLK_TCK")
QUIET_PART = 0.25  # of a core, over all processes: more than any of the systems takes when it has nothing to do
QUIET_S_MAX = 60


@dataclasses.dataclass
class Figures:
    per_second: float
    commands: int = 0  # the processor time is for so many
    p50_ms: float = None
    p99_ms: float = None
    errors: dict = dataclasses.field(default_factory=dict)
    missing: int = 0
    cpu_seconds: float = None
    cpu_per_million: float = None
    cpu_percent: float = None  # of a core; when idle
    private_mb: float = None  # pages of files that no other process has mapped are in it, though the kernel may drop them
    dirty_mb: float = None  # the part of it that it may not
    rss_mb: float = None


def cpu_seconds(pids):
    """Of the processes and of their children that have ended (redis-server forks to rewrite its file)."""
    ticks = 0
    for pid in pids:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += sum(map(int, fields[11:15]))
    return ticks / TICKS


def memory_mb(pids):
    """Private memory, the dirty part of it, and the resident set, each added up."""
    sums = {"Private_Clean": 0, "Private_Dirty": 0, "Private_Hugetlb": 0, "Rss": 0}
    for pid in pids:
        for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            name, _, rest = line.partition(":")
            if name in sums:
                sums[name] += int(rest.split()[0]) / 1024
    dirty = sums["Private_Dirty"] + sums["Private_Hugetlb"]
    return dirty + sums["Private_Clean"], dirty, sums["Rss"]


def children(pid):
    return [int(child) for task in pathlib.Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()]


def wait_until_quiet(pids):
    """What was started or loaded before goes on for a while: checkpoints, rewriting of files."""
    deadline = time.monotonic() + QUIET_S_MAX
    while time.monotonic() < deadline:
        before = cpu_seconds(pids)
        time.sleep(1)
        if cpu_seconds(pids) - before < QUIET_PART:
            return
