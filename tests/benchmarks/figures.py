"""Make figures, and tell what is installed."""

from __future__ import annotations

import importlib.util

from benchmarks.figures import Figure


def make_figure(name: str, *samples: float, section: str = "pay") -> Figure:
    """Make a figure without measuring."""
    return Figure(section=section, name=name, unit="/s", samples=samples)


def is_installed(*packages: str) -> bool:
    """Tell whether all of them are."""
    return all(importlib.util.find_spec(package) for package in packages)
