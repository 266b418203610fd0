"""The short form of the quota harness: an hour of virtual time, and the limiters it must catch."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest


def _harness() -> object:
    path = Path(__file__).with_name("quota.py")
    spec = importlib.util.spec_from_file_location("wxpay_chaos_quota", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


harness = _harness()


@pytest.mark.parametrize("profile", harness.PROFILES)
def test_interval_log_keeps_and_uses_the_quota(profile: str) -> None:
    """In an hour no platform can count over 400 in any 60 s, and 98.5 % of the quota is used."""
    figures = harness.simulate("interval", profile, hours=1.0, seed=1)

    assert 400 == figures.peak
    assert figures.use >= 0.985


@pytest.mark.parametrize("profile", harness.PROFILES)
@pytest.mark.parametrize("limiter", ["sending-log", "token-bucket", "gcra"])
def test_other_limiters_are_caught(limiter: str, profile: str) -> None:
    """The harness sees that they exceed the quota; the first is our own with its rule broken."""
    figures = harness.simulate(limiter, profile, hours=0.1, seed=1)

    assert figures.peak > 400
    assert not figures.held


@pytest.mark.parametrize(("limiter", "status"), [("interval", 0), ("sending-log", 1)])
def test_exit_status_is_the_verdict(
    limiter: str, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """The script tells a machine what it shows to people."""
    arguments = ["--hours", "0.2", "--profile", "constant", "--limiter", limiter, "--seed", "5"]

    assert status == harness.main(arguments)
    assert "seed 5" in capsys.readouterr().out


def test_peak_counts_both_ends_of_the_window() -> None:
    """Two calls exactly 60 s apart share a window; the slightest bit more, and they do not."""
    assert 2 == harness.peak([(0.0, 0.0), (60.0, 60.0)])
    assert 1 == harness.peak([(0.0, 0.0), (60.001, 60.001)])
    assert 2 == harness.peak([(0.0, 0.002), (60.001, 61.0)])
    assert 0 == harness.peak([])
