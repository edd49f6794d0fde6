"""What README shows is run as it stands there, but for the address."""

import re
import subprocess
import sys

from harness import ROOT


def block(language):
    return re.search(rf"```{language}\n(.*?)```", (ROOT / "README.md").read_text(), re.S).group(1)


def test_the_python_client(shared):
    program = block("python").replace("tcp://127.0.0.1:7400", shared.address)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["OK", "hello from Python"]


def test_the_c_client(shared, tmp_path):
    source = tmp_path / "hello.c"
    source.write_text(block("c").replace("tcp://127.0.0.1:7400", shared.address))
    binary = tmp_path / "hello"
    built = subprocess.run(["cc", "-Wall", "-Werror", "-o", binary, source, "-lnng", "-lmsgpackc"], capture_output=True,
                           text=True)
    assert built.returncode == 0, built.stderr
    for count in (1, 2):
        done = subprocess.run([binary], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and done.stdout == f"[1, 1, nil, {count}]", done
