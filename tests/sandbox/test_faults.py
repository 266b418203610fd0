"""The queues of what shall go wrong."""

import pytest

from wxpay_async.sandbox.faults import CallbackFault, Faults, Forgery, ReplyFault, ReplyFaultKind

PAY, QUERY = "/api/instant/pay/wxminiprogram", "/api/instant/query"


def test_nothing_goes_wrong_unasked() -> None:
    """Without a word everything behaves."""
    faults = Faults()
    assert faults.next_reply(PAY) is None
    assert faults.next_callback() == CallbackFault()


def test_replies_in_order() -> None:
    """One mishap strikes one call, the first first; each can be named as text."""
    faults = Faults()
    faults.spoil("drop", executed=False)
    faults.spoil(ReplyFaultKind.DELAY, seconds=2)
    taken = [faults.next_reply(PAY) for _ in range(3)]
    assert taken == [
        ReplyFault(ReplyFaultKind.DROP, executed=False),
        ReplyFault(ReplyFaultKind.DELAY, seconds=2),
        None,
    ]
    assert faults.struck == {"drop": 1, "delay": 1}


def test_replies_of_one_path() -> None:
    """A mishap for a path lets other paths pass, and later mishaps strike them."""
    faults = Faults()
    faults.spoil("reset", path=QUERY)
    faults.spoil("truncated", path=QUERY)
    assert faults.next_reply(PAY) is None
    faults.spoil("drop")
    taken = [faults.next_reply(path) for path in (PAY, QUERY, QUERY, QUERY)]
    assert [fault and fault.mishap for fault in taken] == ["drop", "reset", "truncated", None]


@pytest.mark.parametrize(
    "ask",
    [
        lambda faults: faults.spoil("explode"),
        lambda faults: faults.spoil("delay", seconds=-1),
        lambda faults: faults.spoil("delay", seconds=float("inf")),
        lambda faults: faults.spoil("delay", seconds=float("nan")),
        lambda faults: faults.double(copies=0),
        lambda faults: faults.reorder(1),
        lambda faults: faults.late(-1),
        lambda faults: faults.pause(float("nan")),
        lambda faults: faults.pause(float("inf")),
        lambda faults: faults.forge("blue"),
    ],
)
def test_what_cannot_go_wrong(ask) -> None:  # noqa: ANN001 - a parameter of the test
    """What is misspelt or impossible is refused at once, and nothing is queued."""
    faults = Faults()
    with pytest.raises(ValueError, match=r".+"):
        ask(faults)
    assert faults.next_callback() == CallbackFault()
    assert faults.next_reply(PAY) is None


def test_mischief_combines() -> None:
    """Each kind strikes the next callbacks by itself."""
    faults = Faults()
    faults.double(2, copies=3)
    faults.reorder(3)
    faults.late(60)
    faults.pause(5)
    faults.forge("amount")
    assert [faults.next_callback() for _ in range(4)] == [
        CallbackFault(copies=3, held=True, stale=60, pause=5, forgery=Forgery.AMOUNT),
        CallbackFault(copies=3, held=True),
        CallbackFault(turns=True),
        CallbackFault(),
    ]
