"""Mistakes of those who integrate: each is told on one line, with its name and what to do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from tests.support import asking
from tests.support.vectors import KEYS, PRIVATE_KEY, PUBLIC_KEY
from wxpay_async import (
    InvalidRequestError,
    LocalLimiter,
    Md5Signer,
    MemoryTransport,
    MiniProgramPay,
    PayGateway,
    Quota,
    Refund,
    RetryPolicy,
    RsaSigner,
    RsaVerifier,
    Timeouts,
    WxPayError,
    derive_request_id,
)
from wxpay_async.engine.clock import Clock

SECRET = "canary-secret-0123456789"
PASSWORD = "canary-password"
ENVIRONMENT = {"WXPAY_APP_KEY": "k", "WXPAY_APP_SECRET": SECRET}


def refund(**changes: Any) -> Refund:  # noqa: ANN401 - a field's value, right or wrong
    """Make a refund with something wrong in it."""
    fields: dict[str, Any] = {
        "request_id": "r-1",
        "out_trade_no": "R-1",
        "orig_out_trade_no": "O-1",
        "refund_amount": "1.00",
    }
    return Refund(**(fields | changes))


def pay(**changes: Any) -> MiniProgramPay:  # noqa: ANN401 - as above
    """Make a payment with something wrong in it."""
    fields: dict[str, Any] = {
        "request_id": "p-1",
        "pay_token": "token",
        "terminal_payer_id": "openid",
        "app_id": "wx1",
    }
    return MiniProgramPay(**(fields | changes))


def gateway(**changes: Any) -> PayGateway:  # noqa: ANN401 - as above
    """Make a gateway with something wrong in it."""
    return PayGateway("k", Md5Signer(SECRET), **changes)


def from_env(**more: str) -> PayGateway:
    """Make a gateway by settings with something wrong in them."""
    return PayGateway.from_env(ENVIRONMENT | more)


@frozen
class Mistake:
    """One mistake.

    Attributes:
        make: makes it.
        named: what the message names, a field, a setting or a file.
        advice: words of what to do, or of what is allowed.
    """

    make: Callable[[], object]
    named: str
    advice: str


MISTAKES: dict[str, Mistake] = {
    "an amount of another type": Mistake(
        lambda: refund(refund_amount=[1]), "refundAmount", "an amount is Decimal, str or int"
    ),
    "a float as an amount": Mistake(
        lambda: refund(refund_amount=0.1), "refundAmount", "Decimal, str or int, not float"
    ),
    "an amount of three decimal places": Mistake(
        lambda: refund(refund_amount="1.005"), "refundAmount", "at most two decimal places"
    ),
    "a Decimal of three decimal places": Mistake(
        lambda: refund(refund_amount=Decimal("1.005")), "refundAmount", "at most two decimal places"
    ),
    "an amount in cents' place": Mistake(
        lambda: refund(refund_amount=0), "refundAmount", "yuan from 0.01"
    ),
    "an empty requestId": Mistake(lambda: refund(request_id=""), "requestId", "1 to 32 characters"),
    "a UUID as a requestId": Mistake(
        lambda: refund(request_id="0b0f0c1e-7c1a-4f5e-9a55-0123456789ab"),
        "requestId",
        "uuid4().hex does",
    ),
    "a blank in a number": Mistake(lambda: refund(out_trade_no="R 1"), "outTradeNo", "white space"),
    "no openid": Mistake(lambda: pay(terminal_payer_id=None), "terminalPayerId", "a str"),
    "an empty openid": Mistake(lambda: pay(terminal_payer_id=""), "terminalPayerId", "allowed: "),
    "a secret with a line break": Mistake(
        lambda: Md5Signer(f"{SECRET}\n"), "appSecret", "without blanks around it"
    ),
    "a secret of two lines": Mistake(
        lambda: from_env(WXPAY_APP_SECRET=f"{SECRET}\nx"), "WXPAY_APP_SECRET", "the appSecret and"
    ),
    "a secret in quotes": Mistake(
        lambda: from_env(WXPAY_APP_SECRET=f'"{SECRET}"'), "WXPAY_APP_SECRET", "without quotes"
    ),
    "an address without a scheme": Mistake(
        lambda: gateway(base_url="openapi.gongmall.com"), "base_url", "https://host"
    ),
    "no address": Mistake(lambda: gateway(base_url=None), "base_url", "https://host"),
    "plain HTTP to production": Mistake(
        lambda: from_env(WXPAY_BASE_URL="http://openapi.gongmall.com"),
        "WXPAY_BASE_URL",
        "https://host",
    ),
    "a private key as a public one": Mistake(
        lambda: RsaVerifier.from_file(PRIVATE_KEY, any_mode=True),
        "this is a private key",
        "needs the other side's public key",
    ),
    "a public key as a private one": Mistake(
        lambda: RsaSigner.from_file(PUBLIC_KEY, any_mode=True),
        PUBLIC_KEY.name,
        "signing needs the merchant's own private key",
    ),
    "an elliptic-curve key": Mistake(
        lambda: RsaSigner.from_pem((KEYS / "ec.pem").read_bytes()), "elliptic-curve", "needs RSA"
    ),
    "a PEM without its line breaks": Mistake(
        lambda: RsaSigner.from_pem(
            (KEYS / "encrypted-traditional.pem").read_bytes().replace(b"\n", b"")
        ),
        "line breaks are missing",
        "name the key's file",
    ),
    "a PEM without blanks": Mistake(
        lambda: RsaSigner.from_pem(b"".join(PRIVATE_KEY.read_bytes().split())),
        "blanks and line breaks",
        "copy the key's text as it is",
    ),
    "a path as a key": Mistake(
        lambda: RsaSigner.from_pem("merchant.pem"), "too short for a key", "from_file() takes paths"
    ),
    "a key as a path": Mistake(
        lambda: RsaSigner.from_file(PRIVATE_KEY.read_text()), "this is a key", "from_pem() takes"
    ),
    "a text as timeouts": Mistake(
        lambda: Timeouts(connect="5"),  # type: ignore[arg-type] # on purpose
        "connect",
        "seconds, above 0 and finite",
    ),
    "a number as timeouts": Mistake(lambda: gateway(timeouts=30), "timeouts", "Timeouts(...)"),
    "a text as attempts": Mistake(
        lambda: RetryPolicy(attempts="3"),  # type: ignore[arg-type] # on purpose
        "attempts",
        "a whole number, 1 or above",
    ),
    "a store of an unknown kind": Mistake(
        lambda: from_env(WXPAY_STORE_URL=f"mongodb://u:{PASSWORD}@h/db"),
        "WXPAY_STORE_URL",
        "sqlite://",
    ),
    "an address as a store": Mistake(
        lambda: gateway(store=f"postgresql://u:{PASSWORD}@h/db"), "store", "SqlStore(url)"
    ),
    "a quota of another kind": Mistake(
        lambda: from_env(WXPAY_QUOTA_URL=f"http://u:{PASSWORD}@h"), "WXPAY_QUOTA_URL", "redis://"
    ),
    "a quota as a limiter": Mistake(lambda: gateway(limiter=Quota()), "limiter", "LocalLimiter()"),
    "a text as a quota": Mistake(
        lambda: LocalLimiter(Quota(limit="400")),  # type: ignore[arg-type] # on purpose
        "limit",
        "a whole number",
    ),
    "a share above the quota": Mistake(lambda: Quota(batch=401), "batch", "1 to 400"),
    "two ways to sign": Mistake(
        lambda: from_env(WXPAY_PRIVATE_KEY_FILE="merchant.pem"),
        "WXPAY_APP_SECRET, WXPAY_PRIVATE_KEY_FILE",
        "one of WXPAY_APP_SECRET",
    ),
    "no appKey": Mistake(lambda: from_env(WXPAY_APP_KEY=" "), "WXPAY_APP_KEY", "the appKey"),
    "no settings at all": Mistake(
        lambda: PayGateway.from_env({}), "WXPAY_APP_KEY", "one of WXPAY_APP_SECRET"
    ),
    "a proxy without a scheme": Mistake(
        lambda: from_env(WXPAY_PROXY=f"u:{PASSWORD}@h:3128"), "WXPAY_PROXY", "http://host:port"
    ),
    "one hook in place of a list": Mistake(
        lambda: gateway(hooks=print), "hooks", "a list of functions"
    ),
    "a placement that is none": Mistake(
        lambda: gateway(placement="header"), "placement", "body, query"
    ),
}
"""What goes wrong before anything is called."""


def tell(error: Exception) -> str:
    """Return the message, which is one line without a secret."""
    text = str(error)
    assert text.isprintable()
    assert "Attribute(" not in text
    assert SECRET not in text
    assert PASSWORD not in text
    return text


@pytest.mark.parametrize("what", MISTAKES)
def test_mistake_is_told_with_its_name_and_what_to_do(what: str) -> None:
    """On one line, by an error of the package or a TypeError."""
    mistake = MISTAKES[what]
    with pytest.raises((WxPayError, TypeError)) as caught:
        mistake.make()
    text = tell(caught.value)

    assert mistake.named in text
    assert mistake.advice in text


# While it is called


@pytest.fixture
async def opened() -> AsyncIterator[PayGateway]:
    """Open a gateway that sends nothing."""
    async with gateway(transport=MemoryTransport([]), clock=Clock()) as made:
        yield made


Call = Callable[[PayGateway], Awaitable[object]]
CALLS: dict[str, tuple[Call, str, str]] = {
    "a text as a timeout": (
        lambda it: it.query(out_trade_no="1", timeout="30"),  # type: ignore[arg-type] # on purpose
        "timeout: '30' is no number",
        "a finite time of at least 3.0 s",
    ),
    "a timeout that is too short": (
        lambda it: it.query(out_trade_no="1", timeout=1),
        "timeout: 1 s",
        "at least 3.0 s",
    ),
    "two numbers in one query": (
        lambda it: it.query(out_trade_no="1", trade_no="2"),
        "outTradeNo",
        "outTradeNo or tradeNo, one",
    ),
    "a number as an order": (
        lambda it: it.query(out_trade_no=5),  # type: ignore[arg-type] # on purpose
        "outTradeNo",
        "a str, not int",
    ),
    "another operation's request": (
        lambda it: it.pay(refund()),  # type: ignore[arg-type] # on purpose
        "request: got Refund",
        "MiniProgramPay",
    ),
    "a lane that is none": (
        lambda it: it.refund(refund(), lane="nonsense"),  # type: ignore[arg-type] # on purpose
        "lane",
        "Lane.",
    ),
    "a checkout without an openid": (
        lambda it: it.checkout(asking.trade("t-1"), openid="", app_id="wx1"),
        "terminalPayerId",
        "allowed: ",
    ),
}


@pytest.mark.parametrize("what", CALLS)
async def test_mistake_of_a_call_is_told_before_anything_is_sent(
    opened: PayGateway, what: str
) -> None:
    """The transport has no answer: a request would be a failure of another kind."""
    call, named, advice = CALLS[what]
    with pytest.raises((InvalidRequestError, TypeError)) as caught:
        await call(opened)
    text = tell(caught.value)

    assert named in text
    assert advice in text


def test_keys_of_requests_are_texts() -> None:
    """A number that is converted by hand is the same key everywhere."""
    with pytest.raises(TypeError, match="a str, not int"):
        derive_request_id("k", "pay", 5)  # type: ignore[arg-type] # on purpose


def test_key_file_that_others_can_write_is_told_with_the_command(tmp_path: Path) -> None:
    """The command mends it."""
    file = tmp_path / "merchant.pem"
    file.write_bytes(PRIVATE_KEY.read_bytes())
    file.chmod(0o666)
    with pytest.raises(WxPayError) as caught:
        RsaSigner.from_file(file)

    assert f"{file}: other users can write it; run chmod 600" in tell(caught.value)


def test_there_are_at_least_twenty_two_mistakes() -> None:
    """As many as the usual ones."""
    assert len(MISTAKES) + len(CALLS) >= 22
