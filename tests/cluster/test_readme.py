"""The programs that README shows are the files of examples/, which test_examples.py runs."""

import re

import pytest

from harness import ROOT


@pytest.mark.parametrize("language, path", [("python", "python/hello.py"), ("c", "c/hello.c")])
def test_readme_shows_the_example(language, path):
    shown = re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / "README.md").read_text(), re.S | re.M)
    assert shown == [(ROOT / "examples" / path).read_text()]
