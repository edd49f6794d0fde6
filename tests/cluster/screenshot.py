"""Takes the pictures of the status page that README shows: docs/status-page.png, and as a phone shows it docs/status-page-phone.png.

usage: .venv/bin/python tests/cluster/screenshot.py [SECONDS [FOLDER]]

A cluster works for so long (300) under a light load that comes and goes; a node is killed on the way and comes back. pngquant, where it
is installed, makes the pictures small."""

import itertools
import math
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

from browser import Browser
from harness import ROOT, Background, Client, Cluster, ReplyError, wait_for

CLIENTS = 4


class Load(Background):
    def __init__(self, address, number, seconds):
        super().__init__()
        self.address, self.number, self.seconds = address, number, seconds

    def work(self):
        began_s = time.monotonic()
        with Client(self.address) as client:
            for i in itertools.count():
                key = f"user:{self.number}:{i % 5000}"
                try:
                    client("SET", key, "x" * 120, id=f"{self.number}-{i}")
                    client("batch", *[["GET", [key]]] * 3)
                except ReplyError:
                    pass
                tide = 1 + 0.8 * math.sin((time.monotonic() - began_s) / self.seconds * 5 * math.pi + self.number / 4)
                if self.stopping.wait(0.012 / tide):
                    return


def write(path, picture):
    path.write_bytes(picture)
    if shutil.which("pngquant"):
        subprocess.run(["pngquant", "--force", "--output", path, "--speed", "1", "--quality", "70-95", path], check=True)
    print(path, path.stat().st_size, "bytes")


def main(seconds=300.0, folder=ROOT / "docs"):
    folder = pathlib.Path(folder)
    with tempfile.TemporaryDirectory(prefix="skerry_screenshot_") as directory:
        cluster = Cluster(directory, nodes=3, shards=64, metads=3)
        browser = None
        try:
            cluster.start()
            loads = [Load(cluster.address, number, seconds) for number in range(CLIENTS)]
            for load in loads:
                load.start()
            time.sleep(seconds * 0.55)
            cluster.nodes[1].kill()
            time.sleep(seconds * 0.1)
            cluster.nodes[1].start()
            time.sleep(seconds * 0.35)
            browser = Browser(directory)
            browser.resize(1280, 900)
            browser.open(cluster.gateway.flag("--http-listen"))
            wait_for(lambda: browser.run("document.body && document.body.dataset.state") == "well", "all is well")
            time.sleep(4)  # until rates are known
            browser.run("document.querySelectorAll('#shards button')[23].click()")
            write(folder / "status-page.png", browser.picture())
            browser.resize(360, 780, dark=True, scale=2)
            time.sleep(1)
            write(folder / "status-page-phone.png", browser.picture(whole=False))
            for load in loads:
                load.finish()
        finally:
            if browser is not None:
                browser.close()
            cluster.kill_all()


if __name__ == "__main__":
    main(*map(float, sys.argv[1:2]), *sys.argv[2:])
