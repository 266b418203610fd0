"""One live credential for an order: when another is issued, and when it is not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count
from typing import Any
from urllib.parse import parse_qs

import pytest

from tests.support import asking, replies
from tests.support.clock import NOON
from tests.support.flaky_store import FlakyStore
from tests.support.merchant import OpenShop, Shop
from tests.support.platform import Json
from wxpay_async.engine.reissue import next_request_id
from wxpay_async.errors import (
    AlreadyPaidError,
    DuplicateRequestError,
    InDoubtError,
    NotPaidError,
    NotSentError,
    OtherPayerError,
    RefusedError,
    WxPayError,
)
from wxpay_async.policy.retry import RetryPolicy
from wxpay_async.policy.states import State
from wxpay_async.protocol.idempotency_key import derive_request_id
from wxpay_async.protocol.wire import HttpRequest, HttpResponse

LIFE = 20 * 60.0
APP = "wx9236b1e84ffbf10a"


class Platform:
    """Creates orders and prepays; each prepay has a number of its own.

    Attributes:
        lost: how many of the next answers to `pay` get lost, after the prepay was made.
        status: what a query says.
        refusal: what `pay` is told in place of a prepay.
        unreachable: whether no connection to `pay` comes about.
        issued: the requestIds of the prepays that were made.
    """

    def __init__(self) -> None:
        self.lost, self.status, self.refusal = 0, "待付款", None
        self.unreachable = False
        self.issued: list[str] = []
        self._numbers: Iterator[int] = count(1)

    def __call__(self, request: HttpRequest) -> Json | WxPayError:
        """Answer one request."""
        if request.url.endswith("query"):
            return replies.order(self.status)
        return replies.created() if request.url.endswith("trade") else self._pay(request)

    def _pay(self, request: HttpRequest) -> Json | WxPayError:
        if self.unreachable:
            return NotSentError("refused")
        if self.refusal is not None:
            return self.refusal
        request_id = read_request_id(request)
        if request_id in self.issued:
            return replies.no("GM_API_BUS_0000015", "requestId重复")
        self.issued.append(request_id)
        if self.lost:
            self.lost -= 1
            return InDoubtError("reset")
        number = f"wx{next(self._numbers)}"
        changes = {"requestId": request_id, "prepayId": number, "extPackage": f"prepay_id={number}"}
        return replies.prepay(**changes)


def read_request_id(request: HttpRequest) -> str:
    """Return the requestId of a payment that went out."""
    content: dict[str, str] = json.loads(parse_qs(request.body.decode())["bizContent"][0])
    return content["requestId"]


@pytest.fixture
def platform() -> Platform:
    """A platform that answers."""
    return Platform()


@pytest.fixture
def shop(open_shop: OpenShop, platform: Platform) -> Shop:
    """A shop that tries each request once."""
    return open_shop(platform, retry=RetryPolicy(attempts=1))


async def tap(shop: Shop, openid: str = "openid-1", **changes: Any) -> str:  # noqa: ANN401 - checkout's
    """Tap "pay"; return the prepayId."""
    result = await shop.gateway.checkout(asking.trade(), openid=openid, app_id=APP, **changes)
    return result.prepay_id


def first_id(shop: Shop) -> str:
    """Return the requestId of the order's first payment."""
    return derive_request_id(shop.gateway.app_key, "pay", "trade-1")


async def test_checkout_twice_returns_the_same_credential(shop: Shop, platform: Platform) -> None:
    """A second tap opens the same dialogue."""
    assert await tap(shop) == await tap(shop) == "wx1"
    assert 1 == len(platform.issued)


@pytest.mark.parametrize(
    ("seconds", "expected"), [(19 * 60 + 30, "wx1"), (LIFE - 1, "wx1"), (LIFE, "wx2")]
)
async def test_checkout_issues_another_credential_when_the_first_is_dead(
    seconds: float, expected: str, shop: Shop
) -> None:
    """In its last minute the first is handed out: two could both be paid."""
    await tap(shop)
    shop.clock.move(seconds)

    assert expected == await tap(shop)


async def test_checkout_goes_on_for_as_long_as_the_order_can_be_paid(
    shop: Shop, platform: Platform
) -> None:
    """Every 20 minutes another, and each closes the one before."""
    for number in range(1, 6):
        assert f"wx{number}" == await tap(shop)
        assert f"wx{number}" == await tap(shop)
        shop.clock.move(LIFE)

    assert 5 == len(set(platform.issued))
    closed = [await shop.state(request_id) for request_id in platform.issued[:-1]]
    assert [State.REISSUED] * 4 == closed


async def test_first_id_answers_with_the_result_of_the_next_one(shop: Shop) -> None:
    """It is closed for good: nothing is sent of it, and it opens the credential that lives."""
    await tap(shop)
    shop.clock.move(LIFE)
    await tap(shop)
    outcome = await shop.gateway.resolve(first_id(shop))
    result = await shop.gateway.pay(
        asking.pay(first_id(shop), terminal_payer_id="openid-1", app_id=APP, out_trade_no="O-1")
    )

    assert ("ok", "wx2") == (outcome.kind, outcome.unwrap().prepay_id)
    assert ("wx2", True) == (result.prepay_id, result.replayed)


async def test_checkout_issues_another_credential_when_the_answer_was_lost(
    shop: Shop, platform: Platform
) -> None:
    """Nobody holds the first one; within the same call."""
    platform.lost = 1

    assert "wx1" == await tap(shop)
    assert [first_id(shop), next_request_id(shop.gateway.app_key, first_id(shop))] == (
        platform.issued
    )


async def test_checkout_that_loses_every_answer_makes_one_more_payment_a_call(
    shop: Shop, platform: Platform
) -> None:
    """An outage must not make payments without end; the next call goes on where it stopped."""
    platform.lost = 3
    with pytest.raises(InDoubtError):
        await tap(shop)

    assert 2 == len(platform.issued)
    with pytest.raises(InDoubtError):
        await tap(shop)
    assert "wx1" == await tap(shop)
    assert len(platform.issued) == len(set(platform.issued)) == 4


@pytest.mark.parametrize("status", ["支付成功", "已退款"])
async def test_checkout_of_an_order_that_was_paid_says_so(
    status: str, shop: Shop, platform: Platform
) -> None:
    """Whatever became of its credential."""
    await tap(shop)
    shop.clock.move(LIFE)
    platform.status = status
    with pytest.raises(AlreadyPaidError):
        await tap(shop)

    assert 1 == len(platform.issued)


async def test_checkout_of_an_order_that_was_closed_says_so(shop: Shop, platform: Platform) -> None:
    """No credential can be of any use."""
    await tap(shop)
    shop.clock.move(LIFE)
    platform.status = "已关闭"
    with pytest.raises(NotPaidError):
        await tap(shop)


@pytest.mark.parametrize("status", ["风控审核中", ""])
async def test_checkout_issues_nothing_while_the_platform_does_not_say_unpaid(
    status: str, shop: Shop, platform: Platform
) -> None:
    """A text that the table does not know proves nothing, nor does no answer."""
    await tap(shop)
    shop.clock.move(LIFE)
    platform.status = status
    with pytest.raises(InDoubtError) as caught:
        await tap(shop)

    assert (InDoubtError, True) == (type(caught.value), caught.value.retryable)
    assert 1 == len(platform.issued)


async def test_checkout_for_another_payer_waits_for_the_death_of_the_credential(shop: Shop) -> None:
    """Two that live could both be paid; it says until when."""
    await tap(shop)
    shop.clock.move(60)
    with pytest.raises(OtherPayerError) as caught:
        await tap(shop, "openid-2")

    assert datetime.fromtimestamp(NOON + LIFE, UTC) == caught.value.retry_at
    assert "wx1" == await tap(shop)  # the first payer still has it
    shop.clock.move(LIFE - 60)
    assert "wx2" == await tap(shop, "openid-2")


async def test_checkout_of_the_first_payer_waits_for_the_second(shop: Shop) -> None:
    """What followed its own payment is another's; a credential of the other is no use to it."""
    await tap(shop)
    shop.clock.move(LIFE)
    assert "wx2" == await tap(shop, "openid-2")
    with pytest.raises(OtherPayerError):
        await tap(shop)
    shop.clock.move(LIFE)

    assert "wx3" == await tap(shop)


async def test_checkout_for_another_payer_needs_no_wait_when_nobody_got_the_credential(
    shop: Shop, platform: Platform
) -> None:
    """The answer to the first payer was lost."""
    platform.lost = 2
    with pytest.raises(InDoubtError):
        await tap(shop)

    assert "wx1" == await tap(shop, "openid-2")


async def test_checkout_after_a_refusal_of_the_configuration_sends_the_same_payment(
    shop: Shop, platform: Platform
) -> None:
    """It does not stick, and needs no other id."""
    platform.refusal = replies.no("CO_MSG_0000017")
    with pytest.raises(RefusedError):
        await tap(shop)
    platform.refusal = None

    assert "wx1" == await tap(shop)
    assert [first_id(shop)] == platform.issued


async def test_checkout_after_a_refusal_of_the_payment_repeats_it(
    shop: Shop, platform: Platform
) -> None:
    """It is final for this payer; another payer may be accepted."""
    platform.refusal = replies.no("GM_API_BUS_0000099", "付款人受限")
    for _ in range(2):
        with pytest.raises(RefusedError, match="付款人受限"):
            await tap(shop)
    platform.refusal = None
    with pytest.raises(RefusedError, match="付款人受限"):
        await tap(shop)

    assert "wx1" == await tap(shop, "openid-2")


async def test_checkout_whose_clock_jumped_ahead_keeps_the_credential(open_shop: OpenShop) -> None:
    """It is dead by our clock only: by the platform's `Date` it lives."""
    platform = Platform()
    date = datetime.fromtimestamp(NOON + 60, UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")

    def answer(request: HttpRequest) -> object:
        said = platform(request)
        if isinstance(said, WxPayError):
            return said
        return HttpResponse(200, json.dumps(said).encode(), {"date": date})

    shop = open_shop(answer, retry=RetryPolicy(attempts=1))
    await tap(shop)
    shop.clock.move(LIFE + 60)

    assert "wx1" == await tap(shop)
    assert 1 == len(platform.issued)


async def test_payment_that_is_being_sent_is_not_closed(shop: Shop, platform: Platform) -> None:
    """Another process has the claim, and may hand out its credential."""
    platform.lost = 1
    request = asking.pay(
        first_id(shop), terminal_payer_id="openid-2", app_id=APP, out_trade_no="O-1"
    )
    with pytest.raises(InDoubtError):
        await shop.gateway.pay(request)
    record = await shop.entry(first_id(shop))
    claimed = await shop.store.claim(record.key, now=NOON, signed_at=record.signed_at or 0)
    assert claimed is not None
    with pytest.raises(WxPayError):
        await tap(shop)

    assert State.SENDING is await shop.state(first_id(shop))
    assert 1 == len(platform.issued)


async def test_store_that_fails_between_two_payments_leaves_the_order_in_doubt(
    open_shop: OpenShop, platform: Platform
) -> None:
    """The order is made, so "not sent" would not be true; of a payment that is resolved neither."""
    store = FlakyStore()
    shop = open_shop(platform, retry=RetryPolicy(attempts=1), store=store)
    await tap(shop)
    shop.clock.move(LIFE)
    store.failing.add("load")
    with pytest.raises(InDoubtError):
        await tap(shop)
    with pytest.raises(InDoubtError):
        await shop.gateway.resolve(first_id(shop), reissue=True)


async def test_resolve_with_reissue_goes_on_after_the_next_credential_died(
    shop: Shop, platform: Platform
) -> None:
    """The person comes back 21 minutes later, twice."""
    platform.lost = 1
    with pytest.raises((InDoubtError, DuplicateRequestError)):
        await shop.gateway.pay(asking.pay(out_trade_no="O-1"))
    found = []
    for _ in range(3):
        outcome = await shop.gateway.resolve("pay-1", reissue=True)
        found.append((outcome.kind, outcome.unwrap().prepay_id))
        shop.clock.move(LIFE + 60)

    assert [("ok", "wx1"), ("ok", "wx2"), ("ok", "wx3")] == found


async def test_pay_after_a_reissue_issues_no_second_credential(
    shop: Shop, platform: Platform
) -> None:
    """The first id answers with what was issued in its place."""
    platform.lost = 1
    request = asking.pay(out_trade_no="O-1")
    with pytest.raises(InDoubtError):
        await shop.gateway.pay(request)
    second = (await shop.gateway.resolve("pay-1", reissue=True)).unwrap()
    again = await shop.gateway.pay(request)

    assert second.prepay_id == again.prepay_id
    assert 2 == len(platform.issued)


@pytest.mark.parametrize("dead", [False, True], ids=["the store answers", "the store is away"])
async def test_credential_that_comes_after_another_was_issued_is_withheld(
    open_shop: OpenShop, platform: Platform, *, dead: bool
) -> None:
    """A process was paused with its request on the way; meanwhile another process went on."""
    store = FlakyStore()
    other = open_shop(platform, store=store)

    async def answer_late(request: HttpRequest) -> object:
        said = platform(request)
        if request.url.endswith("wxminiprogram"):
            other.clock.move(60)
            await store.sweep(other.gateway.app_key, other.clock.time())
            found.append(await tap(other))
            if dead:
                store.failing.add("load")
        return said

    found: list[str] = []
    shop = open_shop(answer_late, store=store)
    if dead:
        with pytest.raises(InDoubtError):
            await tap(shop)
    else:
        found.append(await tap(shop, timeout=120))

    assert {"wx2"} == set(found)
    assert 2 == len(platform.issued)


async def test_closed_payment_whose_next_one_cannot_be_sent_is_in_doubt(
    shop: Shop, platform: Platform
) -> None:
    """The first one was executed, so "not sent" would not be true of it."""
    platform.lost = 1
    request = asking.pay(out_trade_no="O-1")
    with pytest.raises(InDoubtError):
        await shop.gateway.pay(request)
    platform.unreachable = True
    outcome = await shop.gateway.resolve("pay-1", reissue=True)
    again = await shop.gateway.resolve("pay-1", reissue=True)
    looked_at = await shop.gateway.resolve("pay-1")
    with pytest.raises(InDoubtError):
        await shop.gateway.pay(request)

    assert ["in_doubt"] * 3 == [outcome.kind, again.kind, looked_at.kind]
    assert State.REISSUED is await shop.state("pay-1")
    platform.unreachable = False
    assert "wx1" == (await shop.gateway.pay(request)).prepay_id


async def test_closed_payment_whose_store_is_away_is_in_doubt(
    open_shop: OpenShop, platform: Platform
) -> None:
    """What followed it cannot be looked up, which proves nothing of it."""
    store = FlakyStore()
    shop = open_shop(platform, retry=RetryPolicy(attempts=1), store=store)
    await tap(shop)
    shop.clock.move(LIFE)
    await tap(shop)
    store.failing.add("load")
    request = asking.pay(
        first_id(shop), terminal_payer_id="openid-1", app_id=APP, out_trade_no="O-1"
    )
    with pytest.raises(InDoubtError):
        await shop.gateway.pay(request)


@pytest.mark.parametrize("code", ["CO_MSG_0000017", "GM_API_BUS_0000099"])
async def test_closed_payment_whose_next_one_is_refused_is_in_doubt(
    code: str, shop: Shop, platform: Platform
) -> None:
    """The refusal speaks of the next one; the first one was executed, though nobody can pay it."""
    platform.lost = 1
    request = asking.pay(out_trade_no="O-1")
    with pytest.raises(InDoubtError):
        await shop.gateway.pay(request)
    platform.refusal = replies.no(code, "no")
    outcome = await shop.gateway.resolve("pay-1", reissue=True)
    looked_at = await shop.gateway.resolve("pay-1")
    with pytest.raises(InDoubtError) as caught:
        await shop.gateway.pay(request)

    assert ["in_doubt"] * 2 == [outcome.kind, looked_at.kind]
    assert code == caught.value.code
    assert "pay-1" == caught.value.request_id


async def test_closed_payment_of_an_order_that_ended_says_so(
    shop: Shop, platform: Platform
) -> None:
    """That is true of the first one as well: nothing was paid, and nothing can be."""
    platform.lost = 1
    with pytest.raises(InDoubtError):
        await shop.gateway.pay(asking.pay(out_trade_no="O-1"))
    assert "ok" == (await shop.gateway.resolve("pay-1", reissue=True)).kind
    shop.clock.move(LIFE)
    platform.status = "已关闭"
    outcome = await shop.gateway.resolve("pay-1", reissue=True)

    assert ("refused", NotPaidError) == (outcome.kind, type(outcome.error))


async def test_checkout_whose_next_payment_is_refused_is_in_doubt(
    shop: Shop, platform: Platform
) -> None:
    """Its first payment was executed, and "refused" would say that nothing was."""
    await tap(shop)
    shop.clock.move(LIFE)
    platform.refusal = replies.no("CO_MSG_0000017")
    for _ in range(2):
        with pytest.raises(InDoubtError):
            await tap(shop)
    platform.refusal = None

    assert "wx2" == await tap(shop)


async def test_payment_that_another_process_claims_while_it_is_asked_about_is_not_followed(
    open_shop: OpenShop, platform: Platform
) -> None:
    """The other one may get its credential; a second one beside it could be paid as well."""

    async def answer(request: HttpRequest) -> object:
        # The first query is the call's own, the second one comes before the payment is closed.
        if request.url.endswith("query") and len(shop.sent("query")) == 2:
            record = await shop.entry(first_id(shop))
            await shop.store.claim(record.key, now=shop.clock.time(), signed_at=1)
        return platform(request)

    platform.lost = 1
    shop = open_shop(answer, retry=RetryPolicy(attempts=1))
    with pytest.raises(InDoubtError):
        await tap(shop)

    assert [first_id(shop)] == platform.issued
    assert State.SENDING is await shop.state(first_id(shop))


async def test_credential_lives_from_the_answer_and_not_from_the_signature(
    open_shop: OpenShop, platform: Platform
) -> None:
    """The platform made it at some moment between the two: the later one counts."""

    def answer_slowly(request: HttpRequest) -> object:
        if request.url.endswith("wxminiprogram"):
            shop.clock.move(8)
        return platform(request)

    shop = open_shop(answer_slowly, retry=RetryPolicy(attempts=1))
    await tap(shop)
    shop.clock.move(LIFE - 1)
    assert "wx1" == await tap(shop)
    shop.clock.move(1)
    assert "wx2" == await tap(shop)
