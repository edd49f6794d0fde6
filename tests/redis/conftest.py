import pytest

from servers import Redis, Skerry


@pytest.fixture(scope="module")
def redis(tmp_path_factory):
    server = Redis(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def skerry(tmp_path_factory):
    server = Skerry(tmp_path_factory.mktemp("skerry"))
    yield server
    server.stop()
