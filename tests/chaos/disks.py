"""The disk of a daemon, which fails as it is told: disk_layer.c sees everything that is written, and what no sync has made
durable may be undone when the daemon is dead, as a power loss does."""

import collections
import mmap
import os
import pathlib
import shutil
import struct

from harness import BUILD

LAYER = BUILD / "tests" / "chaos" / "disk_layer.so"
SECTOR = 512  # what a disk writes whole
# struct control
CONTROL_BYTES = 4096
FIELDS = {"full": ("I", 0), "syncs_to_fail": ("I", 4), "sync_delay_us": ("I", 8), "room_bytes": ("Q", 16),
          "writes": ("Q", 24), "syncs": ("Q", 32), "syncs_failed": ("Q", 40), "refused_full": ("Q", 48)}
# struct record
RECORD = struct.Struct("<IIQQQQQQQ")
MAGIC, TRAILER = 0x52444B53, 0x656E6420206F6B21
WRITE, SYNCED, SYNCED_ONE, SYNC_FAILED = range(4)

Record = collections.namedtuple("Record", "kind sequence upto offset bytes size_before size_after kept")
Change = collections.namedtuple("Change", "what sequence path other")


class Disk:
    """Under `data`, with its journals in `journal`; both are made."""

    def __init__(self, data, journal):
        self.data = pathlib.Path(data).resolve()
        self.journal = pathlib.Path(journal).resolve()
        self.data.mkdir(parents=True, exist_ok=True)
        (self.journal / "grave").mkdir(parents=True, exist_ok=True)
        with open(self.journal / "control", "w+b") as control:
            control.truncate(CONTROL_BYTES)
            self.control = mmap.mmap(control.fileno(), CONTROL_BYTES)

    def command(self, words):
        """What runs the command on this disk."""
        return ["env", f"LD_PRELOAD={LAYER}", f"SKERRY_DISK_DATA={self.data}", f"SKERRY_DISK_JOURNAL={self.journal}", *words]

    def __getitem__(self, name):
        kind, at = FIELDS[name]
        return struct.unpack_from(kind, self.control, at)[0]

    def __setitem__(self, name, value):
        kind, at = FIELDS[name]
        struct.pack_into(kind, self.control, at, value)

    def heal(self):
        for name in ("full", "syncs_to_fail", "sync_delay_us"):
            self[name] = 0

    def is_suspect(self):
        """As the node has noted itself (shardd/identity.h)."""
        identity = self.data / "IDENTITY"
        return identity.exists() and "suspect 1" in identity.read_text()

    def wipe(self):
        """Another disk, empty. Nobody may use it."""
        shutil.rmtree(self.data)
        self.data.mkdir()
        self.forget()

    def forget(self):
        for left in [*self.journal.glob("[0-9]*"), *(self.journal / "grave").iterdir()]:
            left.unlink()
        (self.journal / "names").unlink(missing_ok=True)

    # ---- power loss ----

    def lose_power(self, chance, odds=None):
        """Undoes some of what is not durable; the rest is durable from now on. Nobody may use it. `odds`: how much of it, 0
        to 1. Tells how much there was and how much of it was undone, as (changes of sectors and sizes, undone, changes
        of names, undone)."""
        if odds is None:
            odds = chance.choice([0.0, 1.0, chance.random()])
        counts = [0, 0, 0, 0]
        for path in self.files():
            journal = self.journal / str(path.stat().st_ino)
            if journal.exists():
                undo_writes(path, read_records(journal), chance, odds, counts)
        self.undo_names(chance, odds, counts)
        self.forget()
        return tuple(counts)

    def files(self):
        """Once each."""
        found = {}
        for top in (self.data, self.journal / "grave"):
            for directory, _, names in os.walk(top):
                for name in names:
                    path = pathlib.Path(directory) / name
                    found.setdefault(path.stat().st_ino, path)
        return list(found.values())

    def undo_names(self, chance, odds, counts):
        """File systems write changes of names in their order: the last ones are lost."""
        changes = pending_changes(self.journal / "names")
        lost = sum(chance.random() < odds for _ in changes)
        counts[2] += len(changes)
        counts[3] += lost
        for change in reversed(changes[len(changes) - lost:]):
            self.undo_name(change)

    def undo_name(self, change):
        """What was noted and then not done changes nothing."""
        path = self.at(change.path)
        grave = self.journal / "grave" / str(change.sequence)
        if change.what == "create":
            path.unlink(missing_ok=True)
        elif change.what == "mkdir":
            shutil.rmtree(path, ignore_errors=True)
        elif change.what == "unlink" and grave.exists() and not path.exists():
            os.link(grave, path)
        elif change.what == "rename" and not path.exists() and self.at(change.other).exists():
            os.rename(self.at(change.other), path)
            if grave.exists():
                os.link(grave, self.at(change.other))

    def at(self, path):
        return self.data / path.lstrip("/")


def pending_changes(path):
    changes = []
    text = path.read_text() if path.exists() else ""
    for line in text.split("\n")[:-1]:  # a torn last line was of a change that was not made
        what, sequence, *paths = line.split(" ")
        sequence = int(sequence)
        if what == "synced":
            changes = [change for change in changes
                       if change.sequence > sequence or os.path.dirname(change.path).rstrip("/") != paths[0].rstrip("/")]
        else:
            changes.append(Change(what, sequence, paths[0], paths[1] if len(paths) > 1 else ""))
    return changes


def read_records(path):
    """Up to a torn one."""
    content = path.read_bytes()
    at = 0
    records = []
    while at + RECORD.size <= len(content):
        magic, kind, sequence, upto, offset, size, before, after, kept_bytes = RECORD.unpack_from(content, at)
        at += RECORD.size
        end = at + kept_bytes
        if magic != MAGIC or content[end:end + 8] != struct.pack("<Q", sequence ^ TRAILER):
            break
        records.append(Record(kind, sequence, upto, offset, size, before, after, content[at:end]))
        at = end + 8
    return records


def sort_writes(records):
    """Those that a sync has made durable, and the others."""
    durable, pending, doomed = [], [], []
    for record in records:
        if record.kind == WRITE:
            pending.append(record)
            continue
        if record.kind == SYNCED_ONE:
            covered = [write for write in pending if write.sequence == record.upto]
        else:
            covered = [write for write in pending if write.sequence <= record.upto]
        (doomed if record.kind == SYNC_FAILED else durable).extend(covered)
        pending = [write for write in pending if write not in covered]
    return durable, sorted(pending + doomed, key=lambda write: write.sequence)


def sectors_of(write):
    return range(write.offset // SECTOR, -(-(write.offset + write.bytes) // SECTOR))


def put_back(write, begin, content):
    """Into a sector that begins there, what it had before that write."""
    low, high = max(begin, write.offset), min(begin + SECTOR, write.offset + write.bytes)
    old = write.kept[low - write.offset:high - write.offset].ljust(high - low, b"\0")
    content[low - begin:high - begin] = old


def choose_undone(writes, floor, chance, odds):
    """Of writes to one place, the last ones, those that a durable one came after excepted."""
    free = [write for write in writes if write.sequence > floor]
    if not free or chance.random() >= odds:
        return []
    return free if odds == 1.0 else free[chance.randrange(len(free)):]


def cuts_off(write):
    """A file that gets shorter loses its end at once or not at all, unlike bytes that are written."""
    return write.size_after < write.size_before


def undo_writes(path, records, chance, odds, counts):
    durable, others = sort_writes(records)
    with open(path, "r+b") as file:
        undo_bytes(file, durable, others, chance, odds, counts)
        undo_sizes(file, durable, others, chance, odds, counts)


def undo_bytes(file, durable, others, chance, odds, counts):
    sectors, floors = collections.defaultdict(list), collections.Counter()
    for write in others:
        for sector in sectors_of(write) if not cuts_off(write) else ():
            sectors[sector].append(write)
    for write in durable:
        for sector in sectors_of(write):
            if sector in sectors:
                floors[sector] = max(floors[sector], write.sequence)
    size = os.fstat(file.fileno()).st_size
    for sector, writes in sectors.items():
        undone = choose_undone(writes, floors[sector], chance, odds)
        counts[0] += 1
        counts[1] += bool(undone)
        begin = sector * SECTOR
        if undone and begin < size:
            content = bytearray(os.pread(file.fileno(), SECTOR, begin).ljust(SECTOR, b"\0"))
            for write in reversed(undone):
                put_back(write, begin, content)
            os.pwrite(file.fileno(), content[:size - begin], begin)


def undo_sizes(file, durable, others, chance, odds, counts):
    resizes = [write for write in others if write.size_before != write.size_after]
    floor = max((write.sequence for write in durable if write.size_before != write.size_after), default=0)
    undone = choose_undone(resizes, floor, chance, odds)
    counts[0] += len(resizes)
    counts[1] += len(undone)
    for write in reversed(undone):
        file.truncate(write.size_before)
        if cuts_off(write):
            os.pwrite(file.fileno(), write.kept, write.offset)
