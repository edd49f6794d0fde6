"""The programs that README shows are the files of examples/, which test_examples.py runs; what its first screen shows happens."""

import re
import shlex
import subprocess

import pytest

from harness import BINARIES, ROOT
from test_resp import endpoint


@pytest.mark.parametrize("language, path", [("python", "python/hello.py"), ("c", "c/hello.c")])
def test_readme_shows_the_example(language, path):
    shown = re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / "README.md").read_text(), re.S | re.M)
    assert shown == [(ROOT / "examples" / path).read_text()]


def test_the_first_screen_happens(shared):
    """A key that is written by one door is read by the others, word for word but for the ports."""
    shown = re.search(r"^```\n(\$ redis-cli .*?)^```$", (ROOT / "README.md").read_text(), re.S | re.M).group(1)
    host, port = endpoint(shared)
    here = {"redis-cli": ["redis-cli", "-h", host, "-p", str(port)],
            "build/release/cli/skerry": [str(BINARIES["skerry"]), "--gateway", shared.address]}
    for command, answer in re.findall(r"^\$ (.*)\n((?:[^$].*\n)+)", shown, re.M):
        words = shlex.split(command, comments=True)
        words = here.get(words[0], words[:1]) + words[1:]
        words = [word.replace("http://127.0.0.1:7480", shared.gateway.flag("--http-listen")) for word in words]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout.strip()) == (0, answer.strip()), done.stderr
