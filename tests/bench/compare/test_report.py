"""What scripts/bench makes of figures: medians, ratios round by round, and the place in README.md."""

import pytest
import report
from figures import Figures


def rounds(*rates, **others):
    return [{**vars(Figures(per_second=rate)), **others} for rate in rates]


def load(**contestants):
    return {"form": report.FORM, "name": "writes", "title": "Writes", "promise": "none", "keys": 10, "value_bytes": 100, "varied": [], "contestants": list(contestants),
            "made": {"time": "2026-01-01 00:00", "cores": 2, "processor": "a processor", "quick": False, "rounds": 3, "versions": {"Skerry": "1"}},
            "measures": [{"name": "writes", "reads": 0, "in_flight": 64, "connections": 64, "batch": 1, "seconds": 20,
                          "compared": "per_second", "rounds": contestants}]}


def test_ratios_are_of_the_same_round():
    measure = load(skerry=rounds(10, 30, 80), peer=rounds(10, 10, 20))["measures"][0]
    assert report.ratios(measure, "skerry", "peer") == [1, 3, 4]
    assert report.ratio_cells(measure, "skerry", "peer") == ("1.00 / 3.00 / 4.00", "**3.00**")


def test_a_round_that_one_of_them_lacks_has_no_ratio():
    measure = load(skerry=rounds(10, 30), peer=rounds(10))["measures"][0]
    assert report.ratios(measure, "skerry", "peer") == [1]
    assert report.ratio_cells(load(skerry=rounds(10), peer=[])["measures"][0], "skerry", "peer") == ("", "")


def test_errors_and_missing_keys_are_told():
    told = report.load_as_markdown(load(skerry=rounds(10, 20, errors={"TIMEOUT": 2}, missing=3), peer=rounds(1, 1)))
    assert "- skerry: errors: 4 TIMEOUT" in told
    assert "- skerry: 6 reads found nothing" in told
    assert "- peer" not in told


def test_the_table_has_a_row_for_each_peer():
    told = report.readme_table({"writes": load(skerry=rounds(10, 30, 80), etcd=rounds(1, 1, 1), redis=rounds(60, 60, 60), bare=[])})
    rows = [line for line in told.splitlines() if line.startswith("| Writes")]
    assert len(rows) == 2
    assert "skerry: 30/s" in rows[0] and "**30.00**" in rows[0] and "**0.50**" in rows[1]
    assert "2026-01-01, 2 cores" in told


def test_only_what_is_between_the_markers_is_replaced():
    text = f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n"
    once = report.replace_between_markers(text, "new\n")
    assert once == f"before\n{report.BEGIN}\n\nnew\n\n{report.END}\nafter\n"
    assert report.replace_between_markers(once, "new\n") == once
    with pytest.raises(SystemExit):
        report.replace_between_markers("no markers", "new")


def test_results_of_another_form_are_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "FOLDER", tmp_path)
    report.write({"writes": load(skerry=rounds(1)), "reads": {**load(skerry=rounds(1)), "form": report.FORM + 1}}, ["writes", "reads"])
    assert list(report.read()) == ["writes"]
    assert "## writes" in (tmp_path / "results.md").read_text()
