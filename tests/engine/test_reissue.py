"""One live credential for an order: when another is issued, and when it is not."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from tests.engine.prepays import LIFE, PrepayPlatform, first_id, make_first_pay, outlive_prepay, tap
from tests.support import replies
from tests.support.clock import NOON
from tests.support.flaky_store import FlakyStore
from tests.support.merchant import OpenShop, Shop
from wxpay_async.engine.reissue import next_request_id
from wxpay_async.errors import (
    AlreadyPaidError,
    InDoubtError,
    NotPaidError,
    OtherPayerError,
    RefusedError,
    WxPayError,
)
from wxpay_async.policy.retry import RetryPolicy
from wxpay_async.policy.states import State
from wxpay_async.protocol.wire import HttpRequest, HttpResponse


@pytest.fixture
def platform() -> PrepayPlatform:
    """A platform that answers."""
    return PrepayPlatform()


@pytest.fixture
def shop(open_shop: OpenShop, platform: PrepayPlatform) -> Shop:
    """A shop that tries each request once."""
    return open_shop(platform, retry=RetryPolicy(attempts=1))


async def test_checkout_twice_returns_the_same_credential(
    shop: Shop, platform: PrepayPlatform
) -> None:
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
    shop: Shop, platform: PrepayPlatform
) -> None:
    """Every 20 minutes another, and each closes the one before."""
    for number in range(1, 6):
        assert f"wx{number}" == await tap(shop)
        assert f"wx{number}" == await tap(shop)
        shop.clock.move(LIFE)

    assert 5 == len(set(platform.issued))
    closed = [await shop.state(request_id) for request_id in platform.issued[:-1]]
    assert [State.REISSUED] * 4 == closed


async def test_checkout_issues_another_credential_when_the_answer_was_lost(
    shop: Shop, platform: PrepayPlatform
) -> None:
    """The first one never arrived; the next is issued within the same call."""
    platform.lost = 1

    assert "wx1" == await tap(shop)
    assert [first_id(shop), next_request_id(shop.gateway.app_key, first_id(shop))] == (
        platform.issued
    )


async def test_checkout_that_loses_every_answer_makes_one_more_payment_a_call(
    shop: Shop, platform: PrepayPlatform
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
    status: str, shop: Shop, platform: PrepayPlatform
) -> None:
    """Whatever became of its credential."""
    await outlive_prepay(shop)
    platform.status = status
    with pytest.raises(AlreadyPaidError):
        await tap(shop)

    assert 1 == len(platform.issued)


async def test_checkout_of_an_order_that_was_closed_says_so(
    shop: Shop, platform: PrepayPlatform
) -> None:
    """No credential can be of any use."""
    await outlive_prepay(shop)
    platform.status = "已关闭"
    with pytest.raises(NotPaidError):
        await tap(shop)


@pytest.mark.parametrize("status", ["风控审核中", ""])
async def test_checkout_issues_nothing_while_the_platform_does_not_say_unpaid(
    status: str, shop: Shop, platform: PrepayPlatform
) -> None:
    """A text that the table does not know proves nothing, nor does no answer."""
    await outlive_prepay(shop)
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
    await outlive_prepay(shop)
    assert "wx2" == await tap(shop, "openid-2")
    with pytest.raises(OtherPayerError):
        await tap(shop)
    shop.clock.move(LIFE)

    assert "wx3" == await tap(shop)


async def test_checkout_for_another_payer_needs_no_wait_when_nobody_got_the_credential(
    shop: Shop, platform: PrepayPlatform
) -> None:
    """The answer to the first payer was lost."""
    platform.lost = 2
    with pytest.raises(InDoubtError):
        await tap(shop)

    assert "wx1" == await tap(shop, "openid-2")


async def test_checkout_after_a_refusal_of_the_configuration_sends_the_same_payment(
    shop: Shop, platform: PrepayPlatform
) -> None:
    """It does not stick, and needs no other id."""
    platform.refusal = replies.no("CO_MSG_0000017")
    with pytest.raises(RefusedError):
        await tap(shop)
    platform.refusal = None

    assert "wx1" == await tap(shop)
    assert [first_id(shop)] == platform.issued


async def test_checkout_after_a_refusal_of_the_payment_repeats_it(
    shop: Shop, platform: PrepayPlatform
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
    platform = PrepayPlatform()
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


async def test_payment_that_is_being_sent_is_not_closed(
    shop: Shop, platform: PrepayPlatform
) -> None:
    """Another process has the claim, and may hand out its credential."""
    platform.lost = 1
    request = make_first_pay(shop, "openid-2")
    with pytest.raises(InDoubtError):
        await shop.gateway.pay(request)
    record = await shop.get_record(first_id(shop))
    claimed = await shop.store.claim(record.key, now=NOON, signed_at=record.signed_at or 0)
    assert claimed is not None
    with pytest.raises(WxPayError):
        await tap(shop)

    assert State.SENDING is await shop.state(first_id(shop))
    assert 1 == len(platform.issued)


async def test_store_that_fails_between_two_payments_leaves_the_order_in_doubt(
    open_shop: OpenShop, platform: PrepayPlatform
) -> None:
    """The order is made, so "not sent" would not be true; of a payment that is resolved neither."""
    store = FlakyStore()
    shop = open_shop(platform, retry=RetryPolicy(attempts=1), store=store)
    await outlive_prepay(shop)
    store.failing.add("load")
    with pytest.raises(InDoubtError):
        await tap(shop)
    with pytest.raises(InDoubtError):
        await shop.gateway.resolve(first_id(shop), reissue=True)


@pytest.mark.parametrize("dead", [False, True], ids=["the store answers", "the store is away"])
async def test_credential_that_comes_after_another_was_issued_is_withheld(
    open_shop: OpenShop, platform: PrepayPlatform, *, dead: bool
) -> None:
    """A process was paused with its request on the way; meanwhile another process went on."""
    store = FlakyStore()
    other = open_shop(platform, store=store)

    async def answer_late(request: HttpRequest) -> object:
        said = platform(request)
        if request.url.endswith("wxminiprogram"):
            other.clock.move(60)
            await store.due(other.gateway.app_key, other.clock.time())
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


async def test_checkout_whose_next_payment_is_refused_is_in_doubt(
    shop: Shop, platform: PrepayPlatform
) -> None:
    """Its first payment was executed, and "refused" would say that nothing was."""
    await outlive_prepay(shop)
    platform.refusal = replies.no("CO_MSG_0000017")
    for _ in range(2):
        with pytest.raises(InDoubtError):
            await tap(shop)
    platform.refusal = None

    assert "wx2" == await tap(shop)


async def test_payment_that_another_process_claims_while_it_is_asked_about_is_not_followed(
    open_shop: OpenShop, platform: PrepayPlatform
) -> None:
    """The other one may get its credential; a second one beside it could be paid as well."""

    async def answer(request: HttpRequest) -> object:
        # The first query is the call's own, the second one comes before the payment is closed.
        if request.url.endswith("query") and len(shop.sent("query")) == 2:
            record = await shop.get_record(first_id(shop))
            await shop.store.claim(record.key, now=shop.clock.time(), signed_at=1)
        return platform(request)

    platform.lost = 1
    shop = open_shop(answer, retry=RetryPolicy(attempts=1))
    with pytest.raises(InDoubtError):
        await tap(shop)

    assert [first_id(shop)] == platform.issued
    assert State.SENDING is await shop.state(first_id(shop))


async def test_credential_lives_from_the_answer_and_not_from_the_signature(
    open_shop: OpenShop, platform: PrepayPlatform
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
