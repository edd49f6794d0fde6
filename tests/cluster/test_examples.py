"""The programs of examples/, built as examples/README.md says and run: all tell the same story.

Where a tool chain is not there, is too old, or its registry cannot be reached, the example is skipped; scripts/test
says so in its summary."""

import os
import re
import shutil
import subprocess
import sys

import msgpack
import pynng
import pytest

from harness import PATIENCE_S, ROOT, Background, Client, free_ports

EXAMPLES = ROOT / "examples"
STORY = ["SET: OK", "GET: hello", "GET of a missing key: nil", "batch: OK, 5, BADVALUE", "INCR: 42",
         "INCR with the same id: 42", "INCR of a text: BADVALUE"]
DOWNLOAD_S = 120
BUILD_S = 240
TOKEN = "a token, which these clusters do not want"


class Example:
    """tools: name and least version, asked by which words. fetch: what downloads libraries."""

    def __init__(self, run, tools=(), fetch=None, build=None):
        self.run = run
        self.tools = tools
        self.fetch = fetch
        self.build = build


ALL = {
    "python": Example([sys.executable, "hello.py"]),
    "c": Example(["./hello"], [("cc", (0, 0), "--version")],
                 build=["cc", "-Wall", "-Wextra", "-Werror", "-o", "hello", "hello.c", "-lnng", "-lmsgpackc"]),
    "go": Example(["./hello"], [("go", (1, 19), "version")], ["go", "mod", "download"],
                  ["go", "build", "-o", "hello", "."]),
    "javascript": Example(["node", "hello.mjs"], [("node", (18, 0), "--version"), ("npm", (8, 0), "--version")],
                          ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline",
                           "--fetch-retries=1"]),
    "rust": Example(["target/debug/skerry-hello"], [("cargo", (1, 85), "--version"), ("cc", (0, 0), "--version")],
                    ["cargo", "fetch", "--locked"], ["cargo", "build", "--locked", "--offline"]),
}
# What a fetch that fails says if the example is to blame, and not the network.
NOT_THE_NETWORK = re.compile(r"checksum|EINTEGRITY|in sync|--locked|go\.sum|updates to go\.mod")


def run(command, directory, environment, patience_s):
    return subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, timeout=patience_s)


def skip_without(language, tool, least, word):
    if shutil.which(tool) is None:
        pytest.skip(f"examples/{language}: no {tool}")
    said = subprocess.run([tool, word], capture_output=True, text=True, timeout=PATIENCE_S).stdout
    version = re.search(r"(\d+)\.(\d+)", said)
    if version is None or tuple(map(int, version.groups())) < least:
        pytest.skip(f"examples/{language}: {tool} is not {'.'.join(map(str, least))} or later: {said.strip()}")


def fetch_or_skip(language, directory, environment):
    command = ALL[language].fetch
    words = f"examples/{language}: {' '.join(command[:3])}"
    try:
        done = run(command, directory, environment, DOWNLOAD_S)
    except subprocess.TimeoutExpired:
        pytest.skip(f"{words} took over {DOWNLOAD_S} s")
    if done.returncode != 0:
        assert not NOT_THE_NETWORK.search(done.stderr), done.stderr
        told = [line for line in done.stderr.splitlines() if "error" in line] or [done.stderr]
        pytest.skip(f"{words} failed: {told[0].strip()[:200]}")


def build(language, directory):
    example = ALL[language]
    for tool in example.tools:
        skip_without(language, *tool)
    shutil.copytree(EXAMPLES / language, directory, ignore=shutil.ignore_patterns("node_modules", "target"))
    environment = {**os.environ, "GOTOOLCHAIN": "local", "CARGO_TARGET_DIR": str(directory / "target")}
    if example.fetch:
        fetch_or_skip(language, directory, environment)
    if example.build:
        done = run(example.build, directory, environment, BUILD_S)
        assert done.returncode == 0, done.stderr


def story_of(language, directory, address, **environment):
    done = run([*ALL[language].run, address], directory, {**os.environ, **environment}, PATIENCE_S)
    assert done.returncode == 0, done
    return done.stdout.splitlines()


class Trouble(Background):
    """Stands between an example and the gateway. The first request of each method goes wrong in its own way."""

    def __init__(self, gateway):
        super().__init__()
        self.address = f"tcp://127.0.0.1:{free_ports(1)[0]}"
        self.gateway = gateway
        self.requests = []  # bytes, as they came
        self.socket = pynng.Rep0(listen=self.address, recv_timeout=100)

    def methods(self):
        return [msgpack.unpackb(request)[2] for request in self.requests]

    def work(self):
        with Client(self.gateway) as client:
            while not self.stopping.is_set():
                try:
                    message = self.socket.recv_msg()
                except pynng.Timeout:
                    continue
                self.on_request(client, message)

    def on_request(self, client, message):
        request = msgpack.unpackb(message.bytes)
        method, options = request[2], request[4]
        is_first = method not in self.methods()
        self.requests.append(message.bytes)
        assert options.pop("token") == TOKEN
        if is_first and method in ("GET", "batch"):  # not done
            code = "UNAVAILABLE" if method == "GET" else "OVERLOADED"
            self.socket.send(msgpack.packb([1, request[1], [code, "made up"], None]))
            return
        reply = client.raw(msgpack.packb(request))
        if is_first and method == "SET":  # done, and the reply is lost
            message.pipe.close()
        elif is_first and method == "INCR":  # done, and nobody knows
            self.socket.send(msgpack.packb([1, request[1], ["TIMEOUT", "made up"], None]))
        else:
            self.socket.send(reply)

    def close(self):
        self.finish(PATIENCE_S)
        self.socket.close()


@pytest.mark.parametrize("language", ALL)
def test_an_example(language, shared, tmp_path):
    directory = tmp_path / language
    build(language, directory)
    assert story_of(language, directory, shared.address, SKERRY_TOKEN="") == STORY

    trouble = Trouble(shared.address)
    trouble.start()
    try:
        story = story_of(language, directory, trouble.address, SKERRY_TOKEN=TOKEN)
    finally:
        trouble.close()
    assert story == STORY
    assert trouble.methods() == ["SET"] * 2 + ["GET"] * 3 + ["batch"] * 2 + ["INCR"] * 4
    for method in ("SET", "GET", "batch", "INCR"):  # the second is the first again, under the same id
        first = trouble.methods().index(method)
        assert trouble.requests[first] == trouble.requests[first + 1], method
    ids = {msgpack.unpackb(request)[4]["id"] for request in trouble.requests}
    assert len(ids) == 6  # of SET, two GETs, batch, INCR, INCR of a text


def test_every_example_is_known():
    assert {path.name for path in EXAMPLES.iterdir() if path.is_dir()} == ALL.keys()
