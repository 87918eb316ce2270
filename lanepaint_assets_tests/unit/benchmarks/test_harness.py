"""The contract between benchmarks and whoever reads their figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.harness import Figure, Machine, Outcome, alternating_seconds, as_json, as_table, command_line, report

MACHINE = Machine("Linux x86_64", "Some CPU", 2, 24.0, "3.11.7", {"numpy": "2.4.6"})


def outcome() -> Outcome:
    found = Outcome()
    found.add("road IoU", 0.912345, "1", "higher", target=0.85, baseline=0.76)
    found.add("time", 31.0, "s", "lower", target=20.0)
    found.add("drift", 0.02, "m", "lower")
    found.skip("GPU memory", "no GPU here")
    return found


def test_the_json_form_has_every_field_of_the_contract() -> None:
    record = json.loads(as_json("cpu_engines", MACHINE, outcome()))
    assert record["benchmark"] == "cpu_engines"
    assert record["machine"]["cores"] == 2
    assert record["figures"][0] == {
        "name": "road IoU",
        "value": 0.912345,
        "unit": "1",
        "better": "higher",
        "target": 0.85,
        "baseline": 0.76,
    }
    assert record["figures"][2]["target"] is None
    assert record["skipped"] == [{"name": "GPU memory", "reason": "no GPU here"}]


def test_the_table_says_which_targets_were_missed_and_what_was_skipped() -> None:
    lines = as_table("cpu_engines", MACHINE, outcome()).splitlines()
    rows = {line.split("  ")[0].strip(): line for line in lines}
    assert " met" in rows["road IoU"]
    assert "0.9123" in rows["road IoU"]
    assert ">= 0.85" in rows["road IoU"]
    assert rows["road IoU"].endswith("0.76")
    assert "MISSED" in rows["time"]
    assert "met" not in rows["drift"]
    assert lines[-1] == "skipped GPU memory: no GPU here"
    assert lines[1].index("unit") == rows["time"].index("s", len("time"))


@pytest.mark.parametrize(
    ("value", "better", "target", "met"),
    [
        (0.9, "higher", 0.9, True),
        (0.89, "higher", 0.9, False),
        (20.0, "lower", 20.0, True),
        (20.1, "lower", 20.0, False),
        (1.0, "lower", None, None),
    ],
)
def test_a_target_is_met_when_it_is_reached(value: float, better: str, target: float | None, met: bool | None) -> None:
    assert Figure("figure", value, "1", better, target).met is met  # type: ignore[arg-type]


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_a_number_that_is_none_is_refused_with_the_remedy(broken: float) -> None:
    with pytest.raises(ValueError, match=r"'width' is .*; list it as skipped"):
        Outcome().add("width", broken, "m", "lower")
    with pytest.raises(ValueError, match="baseline of figure"):
        Outcome().add("width", 1.0, "m", "lower", baseline=broken)


def test_a_figure_cannot_be_recorded_twice_nor_measured_and_skipped() -> None:
    found = outcome()
    with pytest.raises(ValueError, match="'time' is recorded twice"):
        found.add("time", 1.0, "s", "lower")
    with pytest.raises(ValueError, match="'time' is recorded twice"):
        found.skip("time", "again")


def test_methods_alternate_and_their_median_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 0.0
    order: list[str] = []
    costs = {"plain": iter([1.0, 9.0, 2.0]), "ours": iter([4.0, 5.0, 90.0])}

    def method(name: str) -> None:
        nonlocal clock
        clock += next(costs[name])
        order.append(name)

    monkeypatch.setattr("benchmarks.harness.perf_counter", lambda: clock)
    seconds = alternating_seconds({name: lambda name=name: method(name) for name in costs}, rounds=3)  # type: ignore[misc]
    assert order == ["plain", "ours"] * 3
    assert seconds == {"plain": 2.0, "ours": 5.0}
    with pytest.raises(ValueError, match="measure nothing"):
        alternating_seconds({"plain": lambda: None}, rounds=0)


def test_the_report_is_printed_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = command_line("cpu_engines", "Measures.").parse_args(["--json", str(tmp_path / "figures.json")])
    report("cpu_engines", outcome(), options.json)
    assert "road IoU" in capsys.readouterr().out
    record = json.loads((tmp_path / "figures.json").read_text())
    assert record["machine"]["cores"] >= 1
    assert record["machine"]["packages"]["lanepaint"]
    assert options.rounds == 3
