"""The pictures of the documents show what the code does."""

from __future__ import annotations

import re

import pytest

from tests.support.drawings import FOLDER, draw_layers, draw_states, make_files, read_layers
from wxpay_async.policy.states import TRANSITIONS

both_languages = pytest.mark.parametrize("language", [0, 1], ids=["English", "Chinese"])


@pytest.mark.parametrize("name", make_files())
def test_drawing_in_the_folder_is_the_one_that_is_drawn(name: str) -> None:
    """`python -m tests.support.drawings` writes them."""
    assert make_files()[name] == (FOLDER / name).read_text(encoding="utf-8")


@both_languages
def test_states_are_drawn_with_every_step_and_no_other(language: int) -> None:
    """Each arrow, and the note about a reissue, names the steps that it stands for."""
    groups = re.findall(r'data-steps="([^"]+)"', draw_states(language))
    drawn = sorted(step for group in groups for step in group.split(", "))

    assert drawn == sorted(
        f"{state} {event} {after}" for (state, event), after in TRANSITIONS.items()
    )


@both_languages
def test_layers_are_drawn_as_the_contract_has_them(language: int) -> None:
    """In the same order, and those of one row side by side."""
    boxes = re.findall(r'y="(\d+)"[^>]* data-layer="(\w+)"', draw_layers(language))
    rows: dict[str, list[str]] = {}
    for y, name in boxes:
        rows.setdefault(y, []).append(name)

    assert read_layers() == list(rows.values())
