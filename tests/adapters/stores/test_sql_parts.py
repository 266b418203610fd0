"""Portions of rows, and what stands in their statements."""

from __future__ import annotations

from wxpay_async.adapters.stores.sql_parts import cut, pad, read_keys, split, turn


def test_keys_are_split_into_portions_of_500() -> None:
    """None is lost, and their order stays."""
    keys = list(range(1_201))
    portions = list(split(keys))

    assert [500, 500, 201] == [len(portion) for portion in portions]
    assert keys == [key for portion in portions for key in portion]


def test_rows_are_cut_by_their_number_and_by_their_bytes() -> None:
    """A row that is too large for any portion still goes, by itself."""
    small, large = ("k", "r", b"x"), ("k", "r", bytes(600_000))

    assert [500, 1] == [len(portion) for portion in cut([small] * 501)]
    assert [[small, large], [large, small]] == list(cut([small, large, large, small]))
    assert [[("k", "r", bytes(2_000_000))], [small]] == list(
        cut([("k", "r", bytes(2_000_000)), small])
    )


def test_names_are_padded_to_a_power_of_two() -> None:
    """By the last, which changes no result."""
    assert ["a", "b", "c", "c"] == pad(["a", "b", "c"])
    assert ["a"] == pad(["a"])


def test_rows_turn_into_columns() -> None:
    """PostgreSQL takes them as arrays."""
    assert ([1, 3], [2, 4]) == turn([(1, 2), (3, 4)])


def test_keys_are_the_first_columns() -> None:
    """Whatever else a row has."""
    assert {("k", "r")} == read_keys([("k", "r", 5)])
