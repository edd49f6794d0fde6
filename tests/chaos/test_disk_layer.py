"""The layer under a daemon's files: what was synced survives every power loss, what was not may be gone, in part and out of
order, and a disk that is told to be full or to fail says so. A small program does the writing, under the layer."""

import errno
import os
import random
import re
import signal
import subprocess
import sys

import pytest

from disks import LAYER, Disk
from harness import BINARIES

LOSSES = 20  # power losses of a test that looks for what can happen
FEW_LOSSES = 12  # of one in which there are few possibilities
OLD, NEW, NEWER = b"o", b"n", b"w"


@pytest.fixture
def disk(tmp_path):
    return Disk(tmp_path / "data", tmp_path / "journal")


def write(disk, program, **options):
    """Runs a Python program in the disk's directory, which ends as if it were killed."""
    prologue = "import os, signal, sys\nos.chdir(sys.argv[1])\n"
    epilogue = "\nsys.stdout.flush()\nos.kill(os.getpid(), signal.SIGKILL)\n"
    done = subprocess.run(disk.command([sys.executable, "-ISc", prologue + program + epilogue, str(disk.data)]),
                          capture_output=True, text=True, timeout=60, **options)
    assert done.returncode == -signal.SIGKILL, done.stderr
    return done.stdout.split()


def lose_power(disk, seed):
    return disk.lose_power(random.Random(seed))


def content(disk, name="f"):
    path = disk.data / name
    return path.read_bytes() if path.exists() else None


SYNCED_FILE = """
f = os.open("f", os.O_RDWR | os.O_CREAT, 0o644)
os.pwrite(f, b"o" * 4096, 0)
os.fsync(f)
d = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
os.fsync(d)
"""


def outcomes(disk, program, look=content, losses=LOSSES):
    """All that can be seen after a power loss."""
    seen = set()
    for seed in range(losses):
        disk.wipe()
        write(disk, program)
        lose_power(disk, seed)
        seen.add(look(disk))
    return seen


def test_what_was_synced_survives(disk):
    assert outcomes(disk, SYNCED_FILE) == {OLD * 4096}


def test_what_was_not_synced_may_be_gone_torn_and_out_of_order(disk):
    seen = outcomes(disk, SYNCED_FILE + """
os.pwrite(f, b"n" * 4096, 0)
os.pwrite(f, b"w" * 4096, 0)
""")
    assert {OLD * 4096, NEWER * 4096} < seen
    sectors = [{content[i:i + 512] for i in range(0, 4096, 512)} for content in seen]
    assert all(found <= {OLD * 512, NEW * 512, NEWER * 512} for found in sectors)  # a sector is written whole
    assert any(len(found) == 3 for found in sectors)
    assert any(content[:512] == OLD * 512 and content[-512:] == NEWER * 512 for content in seen)


def test_a_write_within_a_sector(disk):
    seen = outcomes(disk, SYNCED_FILE + 'os.pwrite(f, b"n" * 10, 507)\n')
    assert seen == {OLD * 507 + first + second + OLD * (4096 - 517)
                    for first in (OLD * 5, NEW * 5) for second in (OLD * 5, NEW * 5)}


@pytest.mark.parametrize("sync", ["os.fsync(f)", "os.fdatasync(f)", "os.fsync(os.open('f', os.O_RDONLY))"])
def test_each_kind_of_sync(disk, sync):
    assert outcomes(disk, SYNCED_FILE + f'os.pwrite(f, b"n" * 4096, 0)\n{sync}\n') == {NEW * 4096}


def test_writes_that_are_synced_themselves(disk):
    """O_DSYNC covers its own writes and no others."""
    seen = outcomes(disk, SYNCED_FILE + """
os.pwrite(f, b"n" * 512, 0)
s = os.open("f", os.O_WRONLY | os.O_DSYNC)
os.pwrite(s, b"n" * 512, 512)
""")
    assert seen == {first * 512 + NEW * 512 + OLD * 3072 for first in (OLD, NEW)}


def test_a_sync_covers_what_a_dead_process_wrote(disk):
    for seed in range(LOSSES):
        disk.wipe()
        write(disk, SYNCED_FILE + 'os.pwrite(f, b"n" * 4096, 0)\n')
        assert content(disk) == NEW * 4096  # the kernel has it
        write(disk, 'os.fsync(os.open("f", os.O_RDWR))\n')
        lose_power(disk, seed)
        assert content(disk) == NEW * 4096


def test_what_a_dead_process_wrote_may_be_gone(disk):
    seen = set()
    for seed in range(LOSSES):
        disk.wipe()
        write(disk, SYNCED_FILE + 'os.pwrite(f, b"n" * 512, 0)\n')
        write(disk, 'f = os.open("f", os.O_RDWR)\nos.pwrite(f, b"n" * 512, 1024)\n')
        lose_power(disk, seed)
        seen.add((content(disk)[0:1], content(disk)[1024:1025]))
    assert seen == {(a, b) for a in (OLD, NEW) for b in (OLD, NEW)}


def test_killed_in_the_middle_of_a_write(disk):
    """At any moment: the journals are read as far as they are whole."""
    program = SYNCED_FILE + """
print("go", flush=True)
for i in range(1, 1000000):
    os.pwrite(f, b"%08d" % i * 512, 0)
    os.fdatasync(f)
    print(i, flush=True)
"""
    chance = random.Random(1)
    for seed in range(10):
        disk.wipe()
        with subprocess.Popen(disk.command([sys.executable, "-ISc", f"import os\nos.chdir({str(disk.data)!r})\n" + program]),
                              stdout=subprocess.PIPE, text=True) as process:
            told = [process.stdout.readline() for _ in range(chance.randrange(2, 50))]
            process.kill()
            told += process.stdout.readlines()
        synced = int([line for line in told if line.endswith("\n")][-1])
        lose_power(disk, seed)
        numbers = {int(content(disk)[i:i + 8]) for i in range(0, 4096, 8)}
        assert numbers <= {synced, synced + 1, synced + 2}, (synced, numbers)


def test_sizes(disk):
    grown = outcomes(disk, SYNCED_FILE + 'os.pwrite(f, b"n" * 1024, 4096)\n')
    assert OLD * 4096 in grown and OLD * 4096 + NEW * 1024 in grown
    assert any(len(content) == 5120 and b"\0" * 512 in content for content in grown)  # the size came before the bytes
    assert outcomes(disk, SYNCED_FILE + 'os.ftruncate(f, 1000)\n', lambda disk: len(content(disk))) == {1000, 4096}
    assert OLD * 4096 in outcomes(disk, SYNCED_FILE + 'os.ftruncate(f, 1000)\n')
    assert outcomes(disk, SYNCED_FILE + 'os.ftruncate(f, 1000)\nos.fsync(f)\n') == {OLD * 1000}
    assert outcomes(disk, SYNCED_FILE + 'os.open("f", os.O_RDWR | os.O_TRUNC)\n') == {OLD * 4096, b""}


def test_names(disk):
    def names(disk):
        return " ".join(sorted(path.name for path in disk.data.rglob("*")))

    def after(program, look=content):
        return outcomes(disk, program, look, losses=FEW_LOSSES)

    assert after('os.open("f", os.O_CREAT | os.O_RDWR)\n', names) == {"", "f"}
    assert after(SYNCED_FILE, names) == {"f"}
    assert after(SYNCED_FILE + 'os.unlink("f")\n') == {None, OLD * 4096}
    assert after(SYNCED_FILE + 'os.unlink("f")\nos.fsync(d)\n') == {None}
    assert after(SYNCED_FILE + 'os.rename("f", "g")\n', names) == {"f", "g"}
    assert after(SYNCED_FILE + 'os.rename("f", "g")\nos.fsync(d)\n', names) == {"g"}
    assert after('os.mkdir("d")\nos.open("d/f", os.O_CREAT | os.O_RDWR)\n', names) == {"", "d", "d f"}
    replaced = SYNCED_FILE + 'g = os.open("g", os.O_RDWR | os.O_CREAT)\nos.write(g, b"new")\nos.fsync(g)\nos.rename("g", "f")\n'
    assert after(replaced) == {OLD * 4096, b"new"}
    assert after(replaced + "os.fsync(d)\n") == {b"new"}


def test_a_full_disk(disk):
    disk["full"] = 1
    disk["room_bytes"] = 4096 + 100
    told = write(disk, SYNCED_FILE + """
def tell(do, *arguments):
    try:
        print(do(*arguments))
    except OSError as error:
        print(-error.errno)
tell(os.pwrite, f, b"n" * 512, 4096)
tell(os.pwrite, f, b"n" * 512, 4196)
tell(os.pwrite, f, b"n" * 512, 0)
tell(os.posix_fallocate, os.open("f", os.O_RDWR), 0, 4000)
tell(os.open, "g", os.O_CREAT | os.O_RDWR)
tell(os.mkdir, "d")
""")
    assert told[:3] == ["100", str(-errno.ENOSPC), "512"]
    assert told[4:] == [str(-errno.ENOSPC)] * 2
    assert disk["refused_full"] > 0
    disk.heal()
    assert write(disk, 'print(os.pwrite(os.open("f", os.O_RDWR), b"n" * 512, 4196))\n') == ["512"]


@pytest.mark.parametrize("sync", ["fsync", "fdatasync"])
def test_a_failed_sync(disk, sync):
    """What it was for may never be durable, though the next sync succeeds; what is written afterwards is."""
    program = SYNCED_FILE + """
os.pwrite(f, b"n" * 512, 0)
""" + f"""
try:
    os.{sync}(f)
except OSError as error:
    print(-error.errno)
""" + """
os.pwrite(f, b"n" * 512, 512)
os.fsync(f)
"""
    seen = set()
    for seed in range(LOSSES):
        disk.wipe()
        write(disk, SYNCED_FILE)
        disk["syncs_to_fail"] = 1
        program = program.replace(SYNCED_FILE, 'f = os.open("f", os.O_RDWR)\n')
        assert write(disk, program) == [str(-errno.EIO)]
        assert disk["syncs_to_fail"] == 0
        lose_power(disk, seed)
        seen.add(content(disk))
    assert seen == {first * 512 + NEW * 512 + OLD * 3072 for first in (OLD, NEW)}


def test_a_failed_sync_of_what_is_written_again(disk):
    for seed in range(LOSSES):
        disk.wipe()
        write(disk, SYNCED_FILE)
        disk["syncs_to_fail"] = 1
        write(disk, """
f = os.open("f", os.O_RDWR)
os.pwrite(f, b"n" * 512, 0)
try:
    os.fsync(f)
except OSError:
    os.pwrite(f, b"w" * 512, 0)
    os.fsync(f)
""")
        lose_power(disk, seed)
        assert content(disk) == NEWER * 512 + OLD * 3584


def test_a_slow_sync(disk):
    disk["sync_delay_us"] = 200_000
    took, = write(disk, SYNCED_FILE + "import time\nbegin = time.monotonic()\nos.fsync(f)\nprint(time.monotonic() - begin)\n")
    assert float(took) >= 0.2


def test_other_files_are_left_alone(disk, tmp_path):
    disk["full"] = 1
    write(disk, f'os.pwrite(os.open({str(tmp_path / "other")!r}, os.O_RDWR | os.O_CREAT), b"o" * 4096, 0)\n')
    assert (tmp_path / "other").read_bytes() == OLD * 4096
    assert not list(disk.journal.glob("[0-9]*"))


def test_nothing_that_the_daemon_calls_is_forgotten():
    """Every function that changes files, of those in the C library, is one of the layer's or not called."""
    changing = re.compile(r"^(p?writev?2?|pwritev2?|f?truncate|(posix_)?fallocate|f(data)?sync|sync|syncfs|rename(at2?)?"
                          r"|unlink(at)?|remove|rmdir|mkdir(at)?|(sym)?link(at)?|open(at)?|creat|mkstemps?|mkostemps?|tmpfile"
                          r"|copy_file_range|sendfile|splice|fopen|freopen|dup[23]?)(64)?$")
    harmless = {"fopen"}  # of /proc and of a configuration file
    lmdb = next(line.split()[2] for line in run("ldd", BINARIES["shardd"]) if "liblmdb" in line)
    called = {symbol for binary in (BINARIES["shardd"], lmdb) for symbol in symbols(binary, " U ")}
    offered = symbols(LAYER, " T ")
    assert {symbol for symbol in called if changing.match(symbol)} - harmless <= offered
    assert {"pwrite", "fdatasync"} <= called  # the names were understood


def run(*words):
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()


def symbols(binary, kind):
    return {line.split()[-1].split("@")[0] for line in run("nm", "-D", binary) if kind in line}
