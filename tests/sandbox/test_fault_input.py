"""Faults from files and forms: what is read, and what is refused with which words."""

import pytest

from wxpay_async.errors import InvalidRequestError
from wxpay_async.sandbox import Fault, FaultKind, Forgery
from wxpay_async.sandbox.fault_input import (
    FaultFile,
    describe_fault,
    describe_ordered,
    list_fields,
    make_fault,
    read_fault_file,
    read_fault_form,
)
from wxpay_async.sandbox.fault_kinds import Place
from wxpay_async.sandbox.fault_queue import Faults

FILE = """
seed = 7

[[fault]]
kind = "drop_after_commit"
operation = "pay"
every = 5

[[fault]]
kind = "delay"
seconds = 0.5
executed = false

[[fault]]
kind = "callback_forged"
forgery = "app-key"
chance = 0.25
"""


def test_file_is_read_as_code_composes_it() -> None:
    """The same names, the same values."""
    assert read_fault_file(FILE) == FaultFile(
        seed=7,
        faults=[
            Fault.drop_after_commit(operation="pay", every=5),
            Fault.delay(seconds=0.5, executed=False),
            Fault.callback_forged(forgery=Forgery.APP_KEY, chance=0.25),
        ],
    )
    assert read_fault_file("") == FaultFile(faults=[])


@pytest.mark.parametrize(
    ("text", "field", "words"),
    [
        ("seed = ", "", "no TOML"),
        ("sed = 7", "sed", "seed, fault"),
        ('seed = "7"', "seed", "a whole number"),
        ("seed = true", "seed", "a whole number"),
        ("fault = 7", "fault", "[[fault]]"),
        ("fault = [7]", "fault", "[[fault]]"),
        ("[[fault]]", "fault 1, kind", "delay, drop_before_commit"),
        ('[[fault]]\nkind = "drip"\n[[fault]]\nkind = "explode"', "fault 2, kind", "drip"),
        ('[[fault]]\nkind = "drip"\nsecond = 1', "fault 1, second", "seconds, operation, times"),
        ('[[fault]]\nkind = "drip"\ncopies = 3', "fault 1, copies", "seconds, operation"),
        ('[[fault]]\nkind = "drip"\nseconds = "1"', "fault 1, seconds", "0 or more"),
        ('[[fault]]\nkind = "callback_lost"\noperation = "pay"', "fault 1, operation", "times"),
        ("[[fault]]\nkind = 7", "fault 1, kind", "delay"),
        ("fault = [" + "{kind = 'reset'}," * 1001 + "]", "fault", "1000 at most"),
    ],
)
def test_file_that_is_wrong_is_refused_with_field_and_allowed_values(
    text: str, field: str, words: str
) -> None:
    """So that its author can correct it without reading anything else."""
    with pytest.raises(InvalidRequestError) as refused:
        read_fault_file(text)
    assert refused.value.field == field
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("form", "fault"),
    [
        (
            {"kind": "reset", "executed": "false", "every": "3"},
            Fault.reset(executed=False, every=3),
        ),
        ({"kind": "reset", "executed": "", "seconds": ""}, Fault.reset()),
        ({"kind": "delay", "seconds": "1.5", "times": "2"}, Fault.delay(seconds=1.5, times=2)),
        ({"kind": "error", "code": "CO_MSG_000003"}, Fault.error(code="CO_MSG_000003")),
        ({"kind": "callback_doubled", "copies": "3"}, Fault.callback_doubled(copies=3)),
    ],
)
def test_form_is_read_as_code_composes_it(form: dict[str, str], fault: Fault) -> None:
    """Its texts become numbers and flags; what is empty is left out."""
    assert read_fault_form(form) == fault


@pytest.mark.parametrize(
    ("form", "field"),
    [
        ({"kind": ""}, "kind"),
        ({"kind": "reset", "every": "often"}, "every"),
        ({"kind": "reset", "chance": "nan"}, "chance"),
        ({"kind": "reset", "executed": "maybe"}, "executed"),
        ({"kind": "reset", "token": "x"}, "token"),
        ({"kind": "_make"}, "kind"),
    ],
)
def test_form_that_is_wrong_is_refused_with_its_field(form: dict[str, str], field: str) -> None:
    """Nothing is ordered by it."""
    with pytest.raises(InvalidRequestError) as refused:
        read_fault_form(form)
    assert refused.value.field == field
    assert refused.value.allowed


@pytest.mark.parametrize("kind", list(FaultKind))
def test_description_of_a_fault_makes_it_again(kind: FaultKind) -> None:
    """So what is listed can be ordered."""
    for changes in ({}, {"times": 3, "after": 2}, {"every": 4}):
        fault = getattr(Fault, kind)(**changes)
        described = describe_fault(fault)
        assert make_fault(described) == fault
        assert set(described) <= {"kind", *list_fields(kind)}


def test_ordered_fault_is_described_with_what_it_met() -> None:
    """For a program that lists them."""
    faults = Faults()
    faults.inject(Fault.delay(seconds=1, every=2))
    for _ in range(3):
        faults.take(Place.ARRIVAL, "pay")
    (ordered,) = faults.list_ordered()
    assert describe_ordered(ordered) == {
        "number": 1,
        "kind": "delay",
        "seconds": 1,
        "executed": True,
        "every": 2,
        "seen": 3,
        "happened": 1,
    }
