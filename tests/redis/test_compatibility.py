"""docs/redis-compatibility.md is what the command table says."""

import pytest

import compatibility


def test_page_is_up_to_date():
    assert compatibility.main(["--check"]) == 0


def test_differences_of_missing_commands_are_refused():
    with pytest.raises(AssertionError):
        compatibility.state_of("GEOADD", {"GET": ""}, {"GEOADD": "somehow"})


def test_states():
    table, differences = {"GET": "", "DEL": ""}, {"DEL": "somehow"}
    assert [compatibility.state_of(name, table, differences) for name in ("GET", "DEL", "XADD")] == ["yes", "differs: somehow", "no"]
