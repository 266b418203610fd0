"""Check what a callback may do to its order."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, strategies as st

from wxpay_async.errors import NotSentError
from wxpay_async.policy.progress import (
    MAX_DONE,
    Claim,
    EndpointProgress,
    Message,
    Obstacle,
    Progress,
    key_of,
    message_of,
    order_key,
)
from wxpay_async.protocol.notify import RefundNotification, TradeNotification
from wxpay_async.protocol.results import TradeState

NOW = 1_763_870_400.0
MINE = Claim("mine", NOW + 20)
OTHERS = Claim("others", NOW + 20)
ORDER = (TradeState.FAILED, TradeState.CLOSED, TradeState.PAID)


def message(state: TradeState = TradeState.PAID, number: str = "1", to: str = "shop") -> Message:
    """Make a callback of an order."""
    return Message(endpoint=to, state=state, identity=f"{number}-{state}")


def claim(progress: Progress, it: Message, by: Claim = MINE, *, now: float = NOW) -> Progress:
    """Begin a callback that nothing is in the way of."""
    after = progress.begin(it, by, now=now)
    assert isinstance(after, Progress)
    return after


def handle(progress: Progress, it: Message) -> Progress:
    """Begin and complete a callback."""
    return claim(progress, it).complete(it, MINE.token)


def test_first_callback_claims_its_order_and_tells_its_state() -> None:
    """Its state is told from now on, and reached when its handler has ended."""
    begun = claim(Progress(), message())

    assert TradeState.PAID is begun.told
    assert EndpointProgress(reached=None, claim=MINE) == begun.endpoints["shop"]
    ended = begun.complete(message(), MINE.token)
    assert EndpointProgress(reached=TradeState.PAID, done=("1-paid",)) == ended.endpoints["shop"]


def test_claim_holds_until_it_runs_out() -> None:
    """No callback of the order is handled beside another one, be it the same or not."""
    begun = claim(Progress(), message(), OTHERS)

    for it in (message(), message(number="2"), message(TradeState.CLOSED)):
        assert Obstacle.BUSY is begun.begin(it, MINE, now=OTHERS.until - 0.001)
        assert MINE == claim(begun, it, now=OTHERS.until).endpoints["shop"].claim


def test_callback_that_is_done_stays_done() -> None:
    """Even while another one of its order is handled."""
    done = claim(handle(Progress(), message(TradeState.CLOSED)), message(), OTHERS)

    assert Obstacle.DONE is done.begin(message(TradeState.CLOSED), MINE, now=NOW)


@pytest.mark.parametrize("reached", ORDER)
@pytest.mark.parametrize("told", ORDER)
def test_states_move_forward(reached: TradeState, told: TradeState) -> None:
    """What is not further is late, at any time."""
    progress = handle(Progress(), message(reached))

    further = ORDER.index(told) > ORDER.index(reached)
    assert (None if further else Obstacle.LATE) is progress.obstacle(
        message(told, number="2"), now=NOW
    )


def test_states_of_refunds_move_forward() -> None:
    """A refund that is made does not fail any more."""
    progress = handle(Progress(), message(TradeState.REFUNDED))

    assert Obstacle.LATE is progress.obstacle(message(TradeState.REFUND_FAILED), now=NOW)


def test_unknown_status_is_handled_once_and_reaches_nothing() -> None:
    """Nobody knows whether it is further, so it is never late."""
    paid = handle(Progress(), message())
    odd = message(TradeState.UNKNOWN)
    progress = handle(paid, odd)

    assert (TradeState.PAID, TradeState.PAID) == (progress.told, progress.endpoints["shop"].reached)
    assert Obstacle.DONE is progress.obstacle(odd, now=NOW)
    assert handle(Progress(), odd).told is None


def test_what_was_told_moves_forward_over_all_endpoints() -> None:
    """A late one takes nothing back."""
    paid = claim(Progress(), message())
    both = claim(paid, message(TradeState.CLOSED, to="books"))

    assert TradeState.PAID is both.told


def test_endpoints_do_not_wait_for_each_other() -> None:
    """Each has its own claim, its own effects and its own state."""
    both = claim(claim(Progress(), message(), OTHERS), message(to="books"))
    ended = both.complete(message(to="books"), MINE.token)

    assert Obstacle.BUSY is ended.obstacle(message(), now=NOW)
    assert Obstacle.DONE is ended.obstacle(message(to="books"), now=NOW)
    assert OTHERS == ended.endpoints["shop"].claim


def test_released_callback_comes_again() -> None:
    """Nothing is reached, and what was told stays."""
    released = claim(Progress(), message()).release(message(), MINE.token)

    assert TradeState.PAID is released.told
    assert released.obstacle(message(), now=NOW) is None


def test_claim_of_another_is_not_released() -> None:
    """Who lost the claim may neither end nor free what its heir does."""
    begun = claim(Progress(), message(), OTHERS)

    assert begun == begun.release(message(), MINE.token)


def test_effect_is_noted_though_its_claim_is_lost() -> None:
    """It has happened; the claim of its heir stays."""
    ended = claim(Progress(), message(), OTHERS).complete(message(), MINE.token)

    assert OTHERS == ended.endpoints["shop"].claim
    assert Obstacle.DONE is ended.obstacle(message(), now=NOW)
    assert Obstacle.DONE is Progress().complete(message(), MINE.token).obstacle(message(), now=NOW)


def test_every_step_may_be_repeated() -> None:
    """Who does not know whether a step was written takes it again."""
    begun = claim(Progress(), message())
    assert begun == begun.begin(message(), MINE, now=MINE.until + 1)
    ended = begun.complete(message(), MINE.token)
    assert ended == ended.complete(message(), MINE.token) == ended.release(message(), MINE.token)


def test_document_stays_small() -> None:
    """The oldest callbacks are forgotten; their states stay reached."""
    progress = Progress()
    for number in range(MAX_DONE + 1):
        progress = handle(progress, message(TradeState.UNKNOWN, number=f"{number:032}"))
    progress = handle(progress, message())

    assert len(progress.encode()) < 2_000
    assert MAX_DONE == len(progress.endpoints["shop"].done)
    assert progress.obstacle(message(TradeState.UNKNOWN, number=f"{1:032}"), now=NOW) is None
    assert Obstacle.DONE is progress.obstacle(
        message(TradeState.UNKNOWN, number=f"{MAX_DONE:032}"), now=NOW
    )


# The document

_states = st.sampled_from(ORDER)
_endpoints = st.builds(
    EndpointProgress,
    reached=st.none() | _states,
    done=st.lists(st.text()).map(tuple),
    claim=st.none() | st.builds(Claim, st.text(), st.floats(0, 1e12)),
)


@given(
    st.builds(Progress, told=st.none() | _states, endpoints=st.dictionaries(st.text(), _endpoints))
)
def test_document_is_read_as_it_was_written(progress: Progress) -> None:
    """In ASCII, whatever an endpoint is called."""
    document = progress.encode()

    assert document.isascii()
    assert progress == Progress.decode(document)


def test_document_stays_the_same() -> None:
    """Stores hold it."""
    progress = handle(claim(Progress(), message(to="books"), OTHERS), message())

    assert (
        '{"told":"paid","endpoints":{'
        '"books":{"reached":null,"claim":{"token":"others","until":1763870420.0}},'
        '"shop":{"reached":"paid","done":["1-paid"]}}}'
    ) == progress.encode()


@pytest.mark.parametrize(
    "document",
    [
        "",
        "{",
        "[]",
        "5",
        "null",
        '"told"',
        "[" * 60_000,
        '{"told": "payed"}',
        '{"told": 5}',
        '{"later": 1}',
        '{"endpoints": []}',
        '{"endpoints": {"shop": []}}',
        '{"endpoints": {"shop": {}}}',
        '{"endpoints": {"shop": {"reached": null, "claim": {}}}}',
        '{"endpoints": {"shop": {"reached": null, "claim": {"token": "t", "until": "soon"}}}}',
        '{"endpoints": {"shop": {"reached": null, "done": 5}}}',
    ],
)
def test_document_that_cannot_be_read_is_an_error_that_says_so(document: str) -> None:
    """It is damaged, or of a later release."""
    with pytest.raises(NotSentError, match="callbacks cannot be read"):
        Progress.decode(document)


def test_state_that_no_callback_tells_is_in_no_way() -> None:
    """A document that says so was not written by this release, and does no harm."""
    odd = Progress.decode('{"told": "awaiting", "endpoints": {"shop": {"reached": "awaiting"}}}')

    assert TradeState.PAID is claim(odd, message()).told


def test_keys_are_as_different_as_what_they_name() -> None:
    """The sender chooses the number; a lone surrogate is a text, too."""
    names = [
        ("k", "trade", "1"),
        ("k", "refund", "1"),
        ("k2", "trade", "1"),
        ("k", "trade", '1"'),
        ("k", 'trade", "1', ""),
        ("k", "trade", "\ud800"),
        ("k", "trade", "订单"),
    ]

    assert len(names) == len({order_key(*name) for name in names})
    assert '["k", "trade", "\\u8ba2\\u5355"]' == order_key("k", "trade", "订单")


def notify(number: str | None = "T-1", status: str = "TRADE_SUCCESS") -> TradeNotification:
    """Make a notification of an order."""
    return TradeNotification(
        out_trade_no="O-1",
        inner_trade_no=number,
        trade_status=status,
        trade_amount=Decimal("1.00"),
        authentic=True,
        fresh=True,
        raw={},
    )


def test_platform_number_and_status_make_a_callback_one() -> None:
    """The sender may choose texts of any length; what is kept of them is short."""
    notifications = [
        notify(),
        notify("T-2"),
        notify(None),
        notify("\ud800" * 9_000),
        notify(status="TRADE_CLOSED"),
    ]
    identities = [message_of(it, "shop").identity for it in notifications]

    assert len(notifications) == len(set(identities))
    assert {32} == {len(identity) for identity in identities}
    assert message_of(notify(), "shop") == message_of(notify(), "shop")


def test_order_and_refund_of_one_number_have_keys_of_their_own() -> None:
    """They are two things."""
    refund = RefundNotification(
        orig_outer_trade_no="O-9",
        out_trade_no="O-1",
        inner_trade_no="T-1",
        refund_status="REFUND_SUCCESS",
        refund_amount=Decimal("1.00"),
        authentic=True,
        fresh=True,
        raw={},
    )

    assert order_key("k", "trade", "O-1") == key_of("k", notify())
    assert order_key("k", "refund", "O-1") == key_of("k", refund)
    assert TradeState.REFUNDED is message_of(refund, "shop").state
