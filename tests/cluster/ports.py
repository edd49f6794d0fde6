"""Ports on this machine that are free, for daemons that tests and measurements start."""

import os
import random
import socket

PORTS = (10000, 32000)


def port_range():
    """Below those that the kernel gives to outgoing connections: one of these could otherwise have a daemon's port while
    it is down. Each of several processes that run tests at a time has its part."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    size = (PORTS[1] - PORTS[0]) // workers
    return PORTS[0] + worker * size, PORTS[0] + (worker + 1) * size


def is_free(port):
    """Nobody listens on it now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port(offsets=(0,), taken=()):
    """A port so that those at the offsets from it are free, and none of them is in `taken`."""
    first, end = port_range()
    while True:
        port = random.randrange(first - min(offsets), end - max(offsets))
        if all(port + offset not in taken and is_free(port + offset) for offset in offsets):
            return port
