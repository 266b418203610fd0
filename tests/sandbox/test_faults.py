"""Faults as values: what each method makes, and what is refused."""

from collections.abc import Callable

import pytest

from wxpay_async.errors import InvalidRequestError
from wxpay_async.sandbox import Fault, FaultKind, Forgery, RateLimit, Says
from wxpay_async.sandbox.fault_kinds import Place


@pytest.mark.parametrize("kind", list(FaultKind))
def test_each_kind_has_a_method_of_its_name(kind: FaultKind) -> None:
    """It makes a fault of this kind, which happens once, and describes it in its docstring."""
    method = getattr(Fault, kind)
    fault = method()
    assert fault.kind is kind
    assert fault.times == (None if kind is FaultKind.CLOCK_OFF else 1)
    assert method.__doc__.endswith(".")


def test_fault_of_every_or_chance_has_no_end() -> None:
    """Unless `times` gives it one."""
    assert Fault.reset(every=5).times is None
    assert Fault.reset(chance=0.5).times is None
    assert Fault.reset(every=5, times=2).times == 2
    assert Fault.clock_off(times=1).times == 1


def test_names_stand_for_their_members() -> None:
    """So that a file, a form and code make equal faults."""
    assert Fault.rate_limited(variant="page_429") == Fault.rate_limited(variant=RateLimit.PAGE_429)
    assert Fault.query_lies(says="paid") == Fault.query_lies(says=Says.PAID)
    assert Fault.callback_forged(forgery="twice").forgery is Forgery.TWICE


@pytest.mark.parametrize(
    ("make", "field", "allowed"),
    [
        (lambda: Fault(kind="explode"), "kind", "delay, drop_before_commit"),
        (lambda: Fault.delay(operation="payment"), "operation", "trade, pay, query, refund"),
        (lambda: Fault.callback_lost(operation="pay"), "operation", "nothing for a callback"),
        (lambda: Fault.delay(seconds=-1), "seconds", "0 or more"),
        (lambda: Fault.delay(seconds=float("inf")), "seconds", "0 or more"),
        (lambda: Fault.delay(seconds=float("nan")), "seconds", "0 or more"),
        (lambda: Fault.delay(seconds="5"), "seconds", "0 or more"),
        (lambda: Fault.reset(executed="yes"), "executed", "True, False"),
        (lambda: Fault.reset(times=0), "times", "1 to 1000000"),
        (lambda: Fault.reset(times=True), "times", "1 to 1000000"),
        (lambda: Fault.reset(every=0), "every", "1 to 1000000"),
        (lambda: Fault.reset(every=1.5), "every", "whole number"),
        (lambda: Fault.reset(after=-1), "after", "0 to 1000000"),
        (lambda: Fault.reset(chance=1.1), "chance", "0 to 1"),
        (lambda: Fault.error(code="NONSENSE"), "code", "CO_MSG_ or GM_API_BUS_"),
        (lambda: Fault.error(code=7), "code", "CO_MSG_ or GM_API_BUS_"),
        (lambda: Fault.unknown_status(text=""), "text", "64 characters"),
        (lambda: Fault.rate_limited(variant="blue"), "variant", "envelope, envelope_429"),
        (lambda: Fault.query_lies(says="blue"), "says", "absent, awaiting, paid"),
        (lambda: Fault.callback_doubled(copies=0), "copies", "1 to 100"),
        (lambda: Fault.callback_reordered(size=1), "size", "2 to 100"),
        (lambda: Fault.callback_forged(forgery="blue"), "forgery", "signature, unsigned"),
    ],
)
def test_fault_of_a_wrong_field_is_refused(
    make: Callable[[], Fault], field: str, allowed: str
) -> None:
    """The refusal names the field and what it may hold."""
    with pytest.raises(InvalidRequestError) as refused:
        make()
    assert refused.value.field == field
    assert allowed in refused.value.allowed


def test_each_kind_has_a_place() -> None:
    """What happens on the way, what the platform says, and what becomes of callbacks."""
    places = {kind: getattr(Fault, kind)().place for kind in FaultKind}
    assert places[FaultKind.CLOCK_OFF] is Place.ARRIVAL
    assert places[FaultKind.ERROR] is Place.ADMITTED
    assert places[FaultKind.QUERY_LIES] is Place.ADMITTED
    assert places[FaultKind.CALLBACK_LOST] is Place.CALLBACK
