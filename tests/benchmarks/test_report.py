"""What the benchmarks print and write: ratios, limits, tables and files."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import attrs
import pytest

from benchmarks import __main__ as command, report, targets
from benchmarks.figures import FULL, SHORT, Figure, Size
from tests.benchmarks.figures import is_installed, make_figure


def test_ratios_are_taken_round_by_round() -> None:
    """One round in which everything is slow changes no comparison; what is missing makes none."""
    found = {
        ("pay", name): make_figure(name, *samples)
        for name, samples in {
            "x": (10.0, 200.0, 30.0),
            "y": (10.0, 100.0, 10.0),
        }.items()
    }

    assert 2.0 == targets.ratio("pay", "x", "y")(found)
    assert 30.0 == targets.median("pay", "x")(found)
    assert targets.ratio("pay", "x", "z")(found) is None
    assert targets.ratio("stores", "x", "y")(found) is None
    assert targets.median("pay", "z")(found) is None


def test_limit_is_kept_by_what_equals_it() -> None:
    """A limit is kept by what equals it, and missed on its other side."""
    least = targets.Target(name="", unit="", limit=2.0, measure=lambda _: None)
    most = attrs.evolve(least, at_most=True)

    assert [False, True, True] == [least.is_met_by(value) for value in (1.9, 2.0, 2.1)]
    assert [True, True, False] == [most.is_met_by(value) for value in (1.9, 2.0, 2.1)]


def test_table_has_a_heading_for_each_section() -> None:
    """Each section has its heading, names stand to the left and numbers to the right."""
    figures = [
        make_figure("slow", 1.0, 2.5, 7.0),
        make_figure("fast", 1234.5),
        make_figure("a", 0.125, section="b"),
    ]
    expected = """\
figure  median    low   high  unit
[pay]
slow       2.5      1      7  /s
fast     1,234  1,234  1,234  /s
[b]
a        0.125  0.125  0.125  /s"""

    assert expected == report.table(figures)


def test_target_table_says_which_limits_were_kept() -> None:
    """It says which limits were kept and which cannot be, as far as figures are at hand."""
    figures = [
        make_figure("transport alone, aiohttp, asyncio, 64 in flight", 100.0),
        make_figure("the least, MD5, aiohttp, asyncio, 64 in flight", 60.0),
        make_figure("pay, MD5, aiohttp, asyncio, 64 in flight", 48.0),
        make_figure("transport alone, aiohttp, asyncio, 1 in flight", 10_000.0),
        make_figure("pay, MD5, aiohttp, asyncio, 1 in flight", 8_000.0),
    ]
    lines = [" ".join(line.split()) for line in report.target_table(figures).splitlines()]

    assert [
        "target limit measured less unit",
        "pay by MD5, to the least (aiohttp, asyncio, 64 in flight) ≥ 0.85 0.8 times missed",
        "pay by MD5, to its transport alone (aiohttp, asyncio) ≥ 0.5 0.48 0.6 times missed",
        "pay by MD5 alone, to its transport: added (aiohttp, asyncio) ≤ 90 25 µs met",
    ] == lines


@pytest.fixture
def section(monkeypatch: pytest.MonkeyPatch) -> list[Size]:
    """Put a section in the place of `pay` that measures nothing, and notes its sizes."""
    sizes: list[Size] = []

    def run(size: Size) -> Iterator[Figure]:
        sizes.append(size)
        yield make_figure("one", 100.0, 300.0, 200.0)

    module = ModuleType("benchmarks.pay")
    vars(module)["run"] = run
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return sizes


def test_command_prints_tables_and_writes_samples_machine_and_plot(
    section: list[Size], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It prints the tables; samples, machine and plot are written where they should go."""
    results, drawn = tmp_path / "new" / "results.json", tmp_path / "plots" / "results.png"

    command.main(["pay", "--rounds", "3", "--json", str(results), "--plot", str(drawn)])

    assert [Size(rounds=3, seconds=0.5, requests=1_000_000)] == section
    printed = capsys.readouterr()
    assert "\none        200  100   300  /s\n" in printed.out
    assert "pay: one: 200 /s\n" in printed.err
    written = json.loads(results.read_text(encoding="utf-8"))
    assert attrs.asdict(attrs.evolve(FULL, rounds=3)) == written["size"]
    [only] = written["figures"]
    assert ("pay", "one", "/s", 200.0) == tuple(
        only[key] for key in ("section", "name", "unit", "median")
    )
    assert [100.0, 300.0, 200.0] == only["samples"]
    assert {"python", "system", "cpus", "packages"} == {*written["machine"]}
    if is_installed("matplotlib"):
        assert drawn.read_bytes().startswith(b"\x89PNG")
    else:
        assert "left out: the plot" in printed.err


def test_command_in_its_short_form_measures_less(
    section: list[Size], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--short` takes the short form; results go to the folder of the benchmarks by default."""
    monkeypatch.chdir(tmp_path)

    command.main(["pay", "--short", "--seconds", "0.25"])

    assert [attrs.evolve(SHORT, seconds=0.25)] == section
    assert (tmp_path / "benchmarks" / "results.json").exists()


def test_command_without_a_section_takes_every_one(
    section: list[Size], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bare command, as the README prints it, takes them all."""
    monkeypatch.chdir(tmp_path)
    for name in command.SECTIONS:
        monkeypatch.setitem(sys.modules, f"benchmarks.{name}", sys.modules["benchmarks.pay"])

    command.main([])

    assert [FULL] * len(command.SECTIONS) == section


def test_command_with_an_unknown_section_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """It is refused before anything runs, with those that there are."""
    with pytest.raises(SystemExit):
        command.main(["server"])

    assert "invalid choice: 'server'" in capsys.readouterr().err
