"""How fast the disk takes synced writes one after the other: the measure for large values."""

import os
import time

from figures import Figures
from systems import System

FILE_BLOCKS = 256


class Disk(System):
    """Blocks of a value's size to a file that is there already, each followed by fdatasync. The rate is divided by `share`: how often
    a system with copies has to write each value to this disk."""

    def __init__(self, directory, share):
        super().__init__(directory)
        self.share = share

    def start(self):
        pass

    def load(self, settings):
        with open(self.directory / "blocks", "wb") as blocks:
            for _ in range(FILE_BLOCKS):
                blocks.write(os.urandom(settings.value_bytes))
            os.fsync(blocks.fileno())

    def drive(self, settings):
        block, times = os.urandom(settings.value_bytes), []
        fd = os.open(self.directory / "blocks", os.O_WRONLY)
        begin = time.monotonic()
        while time.monotonic() < begin + settings.seconds:
            before = time.monotonic()
            os.pwrite(fd, block, len(times) % FILE_BLOCKS * len(block))
            os.fdatasync(fd)
            times.append(time.monotonic() - before)
        took = time.monotonic() - begin
        os.close(fd)
        times.sort()
        return Figures(per_second=len(times) / took / self.share, p50_ms=times[len(times) // 2] * 1000,
                       p99_ms=times[len(times) * 99 // 100] * 1000)
