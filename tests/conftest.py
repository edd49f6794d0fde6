import shutil

import pytest


@pytest.fixture(scope="module")
def module_directory(tmp_path_factory, request):
    """For what the tests of a module share; kept when one of them failed, as the directory of a test is."""
    directory = tmp_path_factory.mktemp("module")
    failed = request.session.testsfailed
    yield directory
    if request.session.testsfailed == failed:
        shutil.rmtree(directory)
