import pytest

from servers import Redis, Skerry


@pytest.fixture(scope="module")
def redis(module_directory):
    server = Redis(module_directory)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def skerry(module_directory):
    server = Skerry(module_directory)
    yield server
    server.stop()
