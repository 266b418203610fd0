"""The names of faults: written as their methods are, each with a place."""

import pytest

from wxpay_async.sandbox.fault_kinds import FaultKind, Place, find_place


@pytest.mark.parametrize("kind", list(FaultKind))
def test_kind_is_named_as_it_is_written(kind: FaultKind) -> None:
    """So that code, files and forms use one name."""
    assert kind.name.lower() == kind.value


def test_places_have_all_kinds() -> None:
    """Thirteen on the way, eleven at the platform, six with callbacks."""
    counts = {place: sum(find_place(kind) is place for kind in FaultKind) for place in Place}
    assert counts == {Place.ARRIVAL: 13, Place.ADMITTED: 11, Place.CALLBACK: 6}
