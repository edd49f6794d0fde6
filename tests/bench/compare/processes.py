"""Processes that this one starts, and ends by their own id whatever happens; waiting for a state."""

import contextlib
import ctypes
import os
import pathlib
import signal
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[3]
PATH = os.environ["PATH"] + ":/usr/sbin"  # nutcracker is there
PATIENCE_S = 120
STOP_S = 40
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)


class Failed(Exception):
    """What was to be measured did not do what was asked of it."""


def wait_for(condition, what, alive=(), patience_s=PATIENCE_S):
    """Polls until the condition answers something true, and returns that. The processes in `alive` must go on."""
    deadline = time.monotonic() + patience_s
    while True:
        with contextlib.suppress(OSError):
            result = condition()
            if result:
                return result
        for process in alive:
            process.check()
        if time.monotonic() > deadline:
            raise Failed(f"never came true: {what}")
        time.sleep(0.05)


def die_with(parent):
    """In the child: it ends when whoever measures is killed, and gets no Ctrl-C, so that all end in order."""
    os.setpgid(0, 0)
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(1)


class Process:
    def __init__(self, command, log):
        self.command = [str(word) for word in command]
        self.log = pathlib.Path(log)
        parent = os.getpid()
        self.log_start = self.log.stat().st_size if self.log.exists() else 0
        with open(self.log, "ab") as output:
            self.child = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                                          env={**os.environ, "PATH": PATH}, preexec_fn=lambda: die_with(parent))
        self.pid = self.child.pid

    def said(self):
        return self.log.read_bytes()[self.log_start:].decode(errors="replace")

    def check(self):
        if self.child.poll() is not None:
            raise Failed(f"{self.command[0]} ended with {self.child.returncode}: {self.said()[-1000:]}")

    def stop(self):
        self.child.terminate()
        try:
            self.child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()


def run(command):
    """What a program that ends by itself printed; it is ended when this one is interrupted."""
    command = [str(word) for word in command]
    parent = os.getpid()
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                             env={**os.environ, "PATH": PATH}, preexec_fn=lambda: die_with(parent))
    try:
        output, errors = child.communicate()
    except BaseException:
        child.kill()
        child.wait()
        raise
    return child.returncode, output, errors
